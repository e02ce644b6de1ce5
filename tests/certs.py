"""Certificates for tests, made here and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def dsa_key() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(1024)


def key_pem(key: Key | dsa.DSAPrivateKey, password: str = "", *, old: bool = False) -> str:
    """A key as PKCS #8, or as OpenSSL wrote it of old."""
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        how = serialization.BestAvailableEncryption(password.encode())
    shape = serialization.PrivateFormat.TraditionalOpenSSL if old else serialization.PrivateFormat.PKCS8
    return key.private_bytes(PEM, shape, how).decode()


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)

    @property
    def secrets(self) -> list[str]:
        """What of its key must be read nowhere: the lines of its PEM."""
        return [line for line in self.key_pem.splitlines() if len(line) > 20 and "-----" not in line]


def made(
    *names: str,
    title: str = "own",
    by: Made | None = None,
    key: Key | None = None,
    days: tuple[float, float] = (-1, 90),
    at: datetime | None = None,
) -> Made:
    """A certificate for ``names`` (alternative names; none: it has none), from ``by`` or from itself, good from and until so
    many days from ``at``."""
    key = key or ec_key()
    moment = at or datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment + timedelta(days=days[0]))
        .not_valid_after(moment + timedelta(days=days[1]))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    signer = by.key if by else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Made(builder.sign(signer, digest), key)


def chain(*parts: Made) -> str:
    """Several certificates as one text."""
    return "".join(part.pem for part in parts)


def authorities() -> Sequence[Made]:
    """A root and what is below it."""
    root = made(title="Root")
    return root, made(title="Intermediate", by=root)
