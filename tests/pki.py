"""An authority as libvirt wants it, with the certificates that it signs, in folders as libvirt reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.certs import Made, ec_key

GOOD = (-1.0, 90.0)  # days from now
ENDED = (-90.0, -1.0)
COMING = (1.0, 90.0)


def _name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_encipherment=not signs, key_cert_sign=signs, crl_sign=signs,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """``new`` makes one; ``server`` and ``client`` are signed by it."""

    own: Made

    @classmethod
    def new(cls, title: str = "Test authority", days: tuple[float, float] = GOOD) -> Authority:
        key = ec_key()
        builder = _begun(title, _name(title), key, days, signs=True)
        return cls(Made(builder.sign(key, hashes.SHA256()), key))

    def server(self, *names: str, days: tuple[float, float] = GOOD) -> Made:
        """For a host of these names and addresses."""
        return self._signed(names[0], names, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def client(self, title: str = "panel", days: tuple[float, float] = GOOD) -> Made:
        """For somebody who connects."""
        return self._signed(title, (), ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _signed(
        self, title: str, names: tuple[str, ...], purpose: x509.ObjectIdentifier, days: tuple[float, float]
    ) -> Made:
        key = ec_key()
        builder = _begun(title, self.own.certificate.subject, key, days, signs=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        return Made(builder.sign(self.own.key, hashes.SHA256()), key)


def _begun(
    title: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[float, float], *, signs: bool
) -> x509.CertificateBuilder:
    moment = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(title))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment + timedelta(days=days[0]))
        .not_valid_after(moment + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
        .add_extension(_usage(signs=signs), critical=True)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(folder: Path, authority: Made | None, own: Made | None, who: str = "client") -> Path:
    """``cacert.pem``, ``clientcert.pem`` and ``clientkey.pem`` in a folder, which is made; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if authority is not None:
        (folder / "cacert.pem").write_text(authority.pem)
    if own is not None:
        (folder / f"{who}cert.pem").write_text(own.pem)
        (folder / f"{who}key.pem").write_text(own.key_pem)
    return folder
