"""The certificate by which a host knows the panel.

Made of ``HostConnection.seed``, so that it is the same whenever it is needed and lies nowhere: a trust token that was spent in a
connection test need not be spent again when the host is saved. Ed25519, whose signatures are always the same, keeps the
certificate the same to the byte: Incus and LXD trust it by its fingerprint.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
FROM, UNTIL = datetime(2024, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)
SERIAL = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str = field(repr=False)

    @property
    def body(self) -> str:
        """The certificate's DER in base64: what the API takes, on one line."""
        found = _BLOCK.search(self.certificate)
        return "".join(found[2].split()) if found else ""

    def load(self, context: ssl.SSLContext) -> None:
        """Show it to whoever asks. OpenSSL reads files only: this one is in memory and has no name."""
        descriptor = os.memfd_create("openidcs")
        try:
            os.write(descriptor, (self.certificate + self.key).encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except ssl.SSLError:
            raise bad_pair() from None
        finally:
            os.close(descriptor)


def own_pair(seed: bytes) -> Pair:
    """The panel's own pair for a host."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OpenIDCS panel")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(SERIAL)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, None)
    )
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(certificate.public_bytes(Encoding.PEM).decode(), written.decode())


def is_pair(secret: str) -> bool:
    """Whether the secret is meant to be a certificate or a key, not a token."""
    return "-----BEGIN" in secret


def read_pair(secret: str) -> Pair:
    """An operator's own pair. A form's field may have made one line of it.

    Raises:
        InvalidInput: field ``server_pass``.
    """
    blocks = {name: "".join(body.split()) for name, body in _BLOCK.findall(secret)}
    key = next((name for name in blocks if name.endswith("PRIVATE KEY")), "")
    if "CERTIFICATE" not in blocks or not key or key.startswith("ENCRYPTED"):
        raise bad_pair()
    return Pair(_pem("CERTIFICATE", blocks["CERTIFICATE"]), _pem(key, blocks[key]))


def bad_pair() -> InvalidInput:
    """What is wrong with an operator's pair."""
    return InvalidInput(
        _("{field} must be a trust token, or a certificate with its unencrypted key (PEM, both)."), field="server_pass"
    )


def token_fingerprint(secret: str) -> str:
    """The fingerprint of the server that made a trust token; empty when the secret is none (a trust password)."""
    try:
        found = re.search(rb'"fingerprint":\s*"([0-9a-fA-F]{64})"', base64.b64decode(secret, validate=True))
    except ValueError:
        return ""
    return found[1].decode().upper() if found else ""


def _pem(name: str, body: str) -> str:
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])
