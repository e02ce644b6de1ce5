"""Certificates that operators bring: read, and checked before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _
from panel.services.domains import covers

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
MOST_CERTIFICATES = 10  # of a chain

BROKEN = (  # what the library says of a certificate that it cannot read
    ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Upload:
    """A pair that fits. ``chain`` and ``private_key`` are PEM, written anew: nothing but certificates, each once and
    before that of its issuer, and one key (PKCS #8)."""

    names: tuple[str, ...]
    issuer: str
    expires_at: datetime
    chain: str
    private_key: str = field(repr=False)


def read_upload(chain: str, private_key: str, domain: str, at: datetime) -> Upload:
    """Check that key and certificate belong together and are good for ``domain`` now (``at``).

    Raises:
        InvalidInput: they are not, with the field at fault. The message never quotes a key.
    """
    key = _read_key(private_key)
    certificates = _read_chain(chain)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    ours = key.public_key().public_bytes(DER, spki)
    own = next((one for one in certificates if one.public_key().public_bytes(DER, spki) == ours), None)
    if own is None:
        raise InvalidInput(_("{field} does not belong to the certificate."), field="private_key")
    names = _names(own)
    if not any(covers(name, domain) for name in names):
        raise InvalidInput(
            _("{field} is not for {domain}, but for: {known}."),
            field="certificate", domain=domain, known=", ".join(names[:10]) or "-",
        )  # fmt: skip
    expires = own.not_valid_after_utc
    if expires <= at:
        raise InvalidInput(_("{field} expired on {date}."), field="certificate", date=f"{expires:%Y-%m-%d}")
    if own.not_valid_before_utc > at:
        date = f"{own.not_valid_before_utc:%Y-%m-%d}"
        raise InvalidInput(_("{field} is not valid before {date}."), field="certificate", date=date)
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = "".join(one.public_bytes(PEM).decode() for one in _in_order(own, certificates))
    return Upload(tuple(names), _issuer(own), expires, text, pem.decode())


def _read_key(text: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(text.strip().encode(), password=None)
    except TypeError:
        raise InvalidInput(_("{field} has a password. Bring it without one."), field="private_key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(_("{field} must be a private key in PEM."), field="private_key") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise InvalidInput(_("{field} must be an RSA, ECDSA or Ed25519 key."), field="private_key")
    return key


def _read_chain(text: str) -> Sequence[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text.strip().encode())
        for one in found:
            _parts = one.public_key(), one.subject, one.issuer  # read now: these raise too
    except BROKEN:
        raise InvalidInput(_("{field} must be a chain of certificates in PEM."), field="certificate") from None
    if len(found) > MOST_CERTIFICATES:
        raise InvalidInput(_("{field} has more than {most} certificates."), field="certificate", most=MOST_CERTIFICATES)
    return found


def _in_order(own: x509.Certificate, certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """As TLS wants them: each is followed by its issuer's; those that nothing leads to come last."""
    ordered, left = [own], [one for one in dict.fromkeys(certificates) if one != own]
    while left:
        above = next((one for one in left if one.subject == ordered[-1].issuer), left[0])
        left.remove(above)
        ordered.append(above)
    return ordered


def _names(own: x509.Certificate) -> list[str]:
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *BROKEN):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _issuer(own: x509.Certificate) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in own.issuer.get_attributes_for_oid(kind):
            return str(attribute.value)[:255]
    return ""
