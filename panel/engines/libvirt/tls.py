"""The way to a libvirt over TLS or TCP: whether anything answers there, and why TLS failed. Blocking functions: worker threads.

libvirt waits for a silent port without an end, and of most failures it says "Failed to verify peer's certificate". So a port is
tried before libvirt gets it (``knock``), and after a failure the handshake is done again by OpenSSL, which tells why
(``explain``). Whether a host is trusted libvirt alone decides: what is found here only puts its refusal into words.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509

from panel.engines.libvirt.pki import Files, certificate_names, checked_files, name_of
from panel.errors import HostUnreachable

TLS_PORT, TCP_PORT = 16514, 16509  # https://libvirt.org/remote.html#listening-ports
_PORTS = {"qemu+tls": TLS_PORT, "qemu+tcp": TCP_PORT}
KNOCK_SECONDS = 5.0
EXPLAIN_SECONDS = 3.0
_LET_IN = b"\x01"  # libvirtd's first byte to a client whose certificate it takes (virNetClientSetTLSSession)
# What every client asks first, REMOTE_PROC_AUTH_LIST: length, program, version, procedure, call, serial, status
# (https://libvirt.org/kbase/internals/rpc.html, remote_protocol.x)
_HOW_TO_LOG_IN = struct.pack(">7I", 28, 0x20008086, 1, 66, 0, 0, 0)
_SYSTEM_AUTHORITY = Path("/etc/pki/CA/cacert.pem")
_SYSTEM_FILES = Path("/etc/pki/libvirt")
_FIELD = "server_addr"
# X509_V_ERR_... of OpenSSL's x509_vfy.h
_NOT_YET, _ENDED = 9, 10
_OTHER_NAME = frozenset({62, 64})
_NO_AUTHORITY = frozenset({2, 7, 18, 19, 20, 21})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"})


@dataclass(frozen=True, slots=True)
class Way:
    """Where a URI leads. ``host`` is what the panel calls it; ``files`` are those of TLS, None for plain TCP."""

    host: str
    address: str
    port: int
    files: Files | None


def way_of(uri: str, host: str) -> Way | None:
    """The way of a ``qemu+tls`` or ``qemu+tcp`` URI; None for every other."""
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        return None
    files = None
    if parts.scheme == "qemu+tls":
        given = (item.partition("=") for item in parts.query.split("&"))
        # not by parse_qs: to libvirt a plus is a plus
        files = files_of(next((unquote(value) for name, _, value in given if name == "pkipath"), ""))
    return Way(host, parts.hostname or "localhost", parts.port or _PORTS[parts.scheme], files)


def files_of(pkipath: str) -> Files:
    """The files that libvirt takes: those in ``pkipath``; or root's, and another user's own where they are there
    (virNetTLSContextLocateCredentials)."""
    if pkipath:
        folder = Path(pkipath)
        return Files(folder / "cacert.pem", folder / "clientcert.pem", folder / "clientkey.pem", folder)
    authority = _SYSTEM_AUTHORITY
    certificate, key = _SYSTEM_FILES / "clientcert.pem", _SYSTEM_FILES / "private" / "clientkey.pem"
    if os.geteuid() != 0:
        own = Path("~/.pki/libvirt").expanduser()
        if (own / "cacert.pem").exists():
            authority = own / "cacert.pem"
        if (own / "clientcert.pem").exists() and (own / "clientkey.pem").exists():
            certificate, key = own / "clientcert.pem", own / "clientkey.pem"
    return Files(authority, certificate, key, None)


def knock(way: Way) -> None:
    """Try whether anything answers, to TLS or in libvirt's own words. ``HostUnreachable`` says what does not; what answers
    wrongly is left to libvirt."""
    until = time.monotonic() + KNOCK_SECONDS
    with _connected(way, until) as plain:
        try:
            if way.files is None:
                plain.settimeout(max(0.1, until - time.monotonic()))
                plain.sendall(_HOW_TO_LOG_IN)
                plain.recv(1)
            else:
                with _shaken(way, plain, until, verify=False):
                    pass
        except TimeoutError:
            raise _silent(way) from None
        except OSError:
            return  # ssl.SSLError is one


def _silent(way: Way) -> HostUnreachable:
    if way.files is None:
        return HostUnreachable(
            "Host {host}: port {port} of {address} takes connections, but answers nothing. Check that libvirtd runs there, and "
            "that the address names its TCP port (16509 unless changed).",
            field=_FIELD, host=way.host, port=way.port, address=way.address,
        )  # fmt: skip
    return HostUnreachable(
        "Host {host}: port {port} of {address} takes connections, but answers nothing to TLS. Check that libvirtd runs there, "
        "and that the address names its TLS port (16514 unless changed).",
        field=_FIELD, host=way.host, port=way.port, address=way.address,
    )  # fmt: skip


def _connected(way: Way, until: float) -> socket.socket:
    """A connection. The time is shared among the addresses of the name."""
    try:
        found = socket.getaddrinfo(way.address, way.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise HostUnreachable(
            "Host {host}: nobody knows the name {address}. Check the address, and the name servers of the panel's machine.",
            field=_FIELD, host=way.host, address=way.address,
        ) from None  # fmt: skip
    problem: OSError = TimeoutError()
    for index, (family, kind, protocol, _name, place) in enumerate(found):
        plain = socket.socket(family, kind, protocol)
        plain.settimeout(max(0.1, (until - time.monotonic()) / (len(found) - index)))
        try:
            plain.connect(place)
        except OSError as error:
            plain.close()
            problem = error
        else:
            return plain
    raise _no_connection(way, problem)


def _no_connection(way: Way, problem: OSError) -> HostUnreachable:
    where: dict[str, object] = {"host": way.host, "port": way.port, "address": way.address}
    if isinstance(problem, ConnectionRefusedError):
        if way.files is None:
            return HostUnreachable(
                "Host {host}: nothing listens on port {port} of {address}. Let libvirtd listen there (listen_tcp), or write its "
                "port into the address.",
                field=_FIELD, **where,
            )  # fmt: skip
        return HostUnreachable(
            "Host {host}: nothing listens on port {port} of {address}. Let libvirtd listen for TLS there (libvirtd-tls.socket, "
            "or listen_tls), or write its port into the address.",
            field=_FIELD, **where,
        )  # fmt: skip
    if isinstance(problem, TimeoutError):
        return HostUnreachable(
            "Host {host}: {address} does not answer on port {port}. Check the address, the network and the firewalls between.",
            field=_FIELD, **where,
        )  # fmt: skip
    return HostUnreachable(
        "Host {host}: {address} cannot be reached: {reason}. Check the address and the network.",
        field=_FIELD, reason=problem.strerror or type(problem).__name__, **where,
    )  # fmt: skip


def explain(way: Way, *, login: bool) -> HostUnreachable | None:
    """Why libvirt could not connect; None when nothing is found wrong here. ``login``: libvirt says that it failed."""
    if way.files is None:
        return _no_login(way) if login else None
    if (told := checked_files(way.files, way.host)) is not None:
        return told
    until = time.monotonic() + EXPLAIN_SECONDS
    try:
        with _connected(way, until) as plain, _shaken(way, plain, until, verify=True) as secured:
            return _welcome(way, secured) or (_no_login(way) if login else None)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(way, error.verify_code, error.verify_message)
    except ssl.SSLError as error:
        no_tls = error.reason in _NO_TLS or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return _no_tls(way) if no_tls else None
    except (ConnectionResetError, BrokenPipeError):
        return _no_tls(way)
    except (HostUnreachable, OSError):
        return None


@contextlib.contextmanager
def _shaken(way: Way, plain: socket.socket, until: float, *, verify: bool) -> Iterator[ssl.SSLSocket]:
    """TLS over ``plain``, with our certificate where there is one."""
    assert way.files is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = verify, ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # the strength of keys is not what is asked here
    if verify:
        context.load_verify_locations(way.files.authority)
    with contextlib.suppress(OSError, ValueError):  # none, or one that is no good: libvirt says so
        context.load_cert_chain(way.files.certificate, way.files.key, password="")
    plain.settimeout(max(0.1, until - time.monotonic()))
    with context.wrap_socket(plain, server_hostname=way.address) as secured:
        yield secured


def _welcome(way: Way, secured: ssl.SSLSocket) -> HostUnreachable | None:
    """Whether the host takes our certificate: libvirtd looks at it after the handshake."""
    assert way.files is not None
    try:
        if secured.recv(1) == _LET_IN:
            return None
    except TimeoutError:
        return None
    except OSError:
        pass  # an alert, or a connection that was broken off
    own = way.files.read_certificate()
    if own is None:
        return HostUnreachable(
            "Host {host} asks for a certificate, and the panel's machine has none: there is no {path}. Put a client certificate "
            "and its key there, signed by the authority that libvirtd trusts.",
            field=_FIELD, host=way.host, path=str(way.files.certificate),
        )  # fmt: skip
    return HostUnreachable(
        "Host {host} refuses the panel's certificate ({name}). It must be signed by the authority that libvirtd trusts there "
        "(ca_file), be valid by the host's clock, and be named in tls_allowed_dn_list where there is one.",
        field=_FIELD, host=way.host, name=name_of(own.subject),
    )  # fmt: skip


def _no_login(way: Way) -> HostUnreachable:
    if way.files is None:
        return HostUnreachable(
            "Host {host} asks for a login (SASL), and the panel has none for libvirt. Use qemu+tls; or set auth_tcp to none "
            "there, in a network that you trust.",
            field=_FIELD, host=way.host,
        )  # fmt: skip
    return HostUnreachable(
        "Host {host} asks for a login (SASL) after TLS, and the panel has none for libvirt. Set auth_tls to none there: the "
        "certificate is the login.",
        field=_FIELD, host=way.host,
    )  # fmt: skip


def _no_tls(way: Way) -> HostUnreachable:
    return HostUnreachable(
        "Host {host}: port {port} of {address} does not speak TLS. Check that the address names libvirtd's TLS port (16514 "
        "unless changed).",
        field=_FIELD, host=way.host, port=way.port, address=way.address,
    )  # fmt: skip


def _untrusted(way: Way, code: int, reason: str) -> HostUnreachable:
    """Why the host's certificate is not taken, by OpenSSL's ``code``."""
    assert way.files is not None
    shown = _shown(way)
    if shown is not None and code == _ENDED:
        return HostUnreachable(
            "The certificate of host {host} was good until {date}. Renew it there, and restart libvirtd.",
            field=_FIELD, host=way.host, date=f"{shown.not_valid_after_utc:%Y-%m-%d}",
        )  # fmt: skip
    if shown is not None and code == _NOT_YET:
        return HostUnreachable(
            "The certificate of host {host} is good from {date} on. Compare the clocks of both machines.",
            field=_FIELD, host=way.host, date=f"{shown.not_valid_before_utc:%Y-%m-%d}",
        )  # fmt: skip
    if shown is not None and code in _OTHER_NAME:
        return HostUnreachable(
            "The certificate of host {host} is for {names}, not for {address}. Write one of its names into the address, or make "
            "the host a certificate that names {address}.",
            field=_FIELD, host=way.host, names=", ".join(certificate_names(shown)) or "-", address=way.address,
        )  # fmt: skip
    if shown is not None and code in _NO_AUTHORITY:
        return HostUnreachable(
            "The certificate of host {host} was signed by {issuer}, and the authority in {path} on the panel's machine is "
            "another. Put the certificate of the host's authority there.",
            field=_FIELD, host=way.host, issuer=name_of(shown.issuer), path=str(way.files.authority),
        )  # fmt: skip
    return HostUnreachable(
        "The certificate of host {host} is not accepted: {reason}. Make the host another.",
        field=_FIELD, host=way.host, reason=reason,
    )  # fmt: skip


def _shown(way: Way) -> x509.Certificate | None:
    """The certificate that the host shows."""
    until = time.monotonic() + EXPLAIN_SECONDS
    with (
        contextlib.suppress(OSError, ValueError, HostUnreachable),
        _connected(way, until) as plain,
        _shaken(way, plain, until, verify=False) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    return None
