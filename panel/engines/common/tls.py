"""Trust in a host's TLS certificate: the machine's authorities vouch for it, or an operator has accepted it by its fingerprint.

Pinning happens inside the handshake, so that nothing is sent to a host whose certificate is another. A context made here serves
every library that takes an ``ssl.SSLContext`` (httpx2, websockets, asyncio, plain sockets).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from contextlib import suppress
from typing import Any

from panel.engines.types import HostField
from panel.errors import CertificateRefused, InvalidInput
from panel.i18n import gettext_noop as _

FINGERPRINT = "fingerprint"
FINGERPRINT_FIELD = HostField(
    FINGERPRINT,
    _("Certificate fingerprint"),
    _(
        "SHA-256 of the host's own certificate, when no authority vouches for it. Leave it empty: the connection test shows "
        "it, and asks whether to accept it."
    ),
)
LOOK_SECONDS = 5.0
_HEX = re.compile(r"[0-9A-F]{64}")


class PinMismatchError(ssl.SSLError):
    """The host shows another certificate than the accepted one. ``shown`` is its fingerprint."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        super().__init__("the certificate is not the accepted one")


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, as ``openssl x509 -fingerprint -sha256`` writes it."""
    digest = hashlib.sha256(certificate).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, 64, 2))


def read_fingerprint(text: str) -> str:
    """A fingerprint as people type it (colons, spaces, ``sha256:``, any case), in our form; empty stays empty.

    Raises:
        InvalidInput: it is no SHA-256 fingerprint.
    """
    bare = re.sub(r"[\s:]", "", re.sub(r"(?i)^\s*sha-?256( fingerprint)?\s*[:=]", "", text)).upper()
    if not bare:
        return ""
    if not _HEX.fullmatch(bare):
        raise InvalidInput(
            _("{field} must be a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons."),
            field=FINGERPRINT,
        )
    return ":".join(bare[at : at + 2] for at in range(0, 64, 2))


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self.context, self.getpeercert(binary_form=True))


class _PinnedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self.context, self.getpeercert(binary_form=True))


class PinnedContext(ssl.SSLContext):
    """Trusts exactly one certificate, whoever signed it, whatever its names and dates."""

    sslobject_class = _PinnedObject
    sslsocket_class = _PinnedSocket
    fingerprint: str

    def __new__(cls, fingerprint: str) -> PinnedContext:
        """For a fingerprint in our form."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE
        self.fingerprint = fingerprint
        return self


def _check(context: ssl.SSLContext, certificate: bytes | None) -> None:
    assert isinstance(context, PinnedContext)
    shown = fingerprint_of(certificate or b"")
    if shown != context.fingerprint:
        raise PinMismatchError(shown)


def client_context(fingerprint: str = "") -> ssl.SSLContext:
    """A context that trusts the accepted certificate, or without one what the machine's authorities vouch for."""
    return PinnedContext(fingerprint) if fingerprint else ssl.create_default_context()


async def shown_fingerprint(host: str, port: int) -> str:
    """The fingerprint of what a host shows; sends nothing but the handshake. Empty when there is no handshake to be had."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, TimeoutError):  # ssl.SSLError is an OSError
        async with asyncio.timeout(LOOK_SECONDS):
            _reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            found: Any = writer.get_extra_info("ssl_object")
            return fingerprint_of(found.getpeercert(binary_form=True) or b"")
        finally:
            writer.transport.abort()
    return ""


def refused(name: str, shown: str, *, changed: bool, reason: str = "") -> CertificateRefused:
    """Why a certificate is not trusted, and what the operator can do."""
    if changed:
        return CertificateRefused(
            _(
                "Host {host} shows another certificate than the one that was accepted. Either it was renewed, or somebody stands "
                "between. Compare the host's own with {fingerprint} (SHA-256); accept that one if they are equal."
            ),
            host=name,
            fingerprint=shown,
        )
    return CertificateRefused(
        _(
            "No authority that this machine trusts vouches for the certificate of host {host} ({reason}). Compare the host's own "
            "with {fingerprint} (SHA-256); accept it if they are equal."
        ),
        host=name,
        fingerprint=shown,
        reason=reason or "not verifiable",
    )
