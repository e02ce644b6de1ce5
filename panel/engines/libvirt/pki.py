"""The certificates and the key of this machine with which libvirt speaks TLS: whether they are there, and fit. Blocking.

Nothing of what is in a file but names and dates is told.
"""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from panel.errors import HostUnreachable

_FIELD = "server_addr"
_LARGEST = 1024 * 1024  # bytes of a file that is looked at
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Files:
    """Where libvirt looks. ``folder`` is the URI's ``pkipath``, when it has one."""

    authority: Path
    certificate: Path
    key: Path
    folder: Path | None

    def read_certificate(self) -> x509.Certificate | None:
        """Our own certificate; None without one that can be read."""
        with contextlib.suppress(OSError, ValueError):
            return x509.load_pem_x509_certificates(_read(self.certificate))[0]
        return None


def checked_files(files: Files, host: str) -> HostUnreachable | None:
    """What is wrong with them, or None. No certificate of our own at all is right: some hosts ask for none."""
    try:
        _check(files, host)
    except HostUnreachable as error:
        return error
    return None


def _check(files: Files, host: str) -> None:
    authorities = _certificates(files.authority, files, host)
    for certificate in authorities:
        _check_dates(certificate, files.authority, host)
    if _is_absent(files.certificate) and _is_absent(files.key):
        return
    own = _certificates(files.certificate, files, host)
    _check_dates(own[0], files.certificate, host)
    _check_key(own[0], files, host)
    if not any(_signed(own[0], by) for by in (*authorities, *own[1:])):
        raise HostUnreachable(
            "The certificate {path} on the panel's machine was signed by {issuer}, not by the authority in {authority}, and "
            "libvirt takes no such. Put one of that authority there to reach host {host}.",
            field=_FIELD, path=str(files.certificate), issuer=name_of(own[0].issuer), authority=str(files.authority), host=host,
        )  # fmt: skip


def _certificates(path: Path, files: Files, host: str) -> list[x509.Certificate]:
    data = _contents(path, files, host)
    with contextlib.suppress(ValueError):
        return x509.load_pem_x509_certificates(data)
    raise HostUnreachable(
        "{path} on the panel's machine holds no certificate (PEM), which host {host} is reached with.",
        field=_FIELD, path=str(path), host=host,
    )  # fmt: skip


def _check_dates(certificate: x509.Certificate, path: Path, host: str) -> None:
    moment = datetime.now(UTC)
    if moment > certificate.not_valid_after_utc:
        raise HostUnreachable(
            "The certificate {path} on the panel's machine was good until {date}. Renew it to reach host {host}.",
            field=_FIELD, path=str(path), date=f"{certificate.not_valid_after_utc:%Y-%m-%d}", host=host,
        )  # fmt: skip
    if moment < certificate.not_valid_before_utc:
        raise HostUnreachable(
            "The certificate {path} on the panel's machine is good from {date} on. Compare clocks to reach host {host}.",
            field=_FIELD, path=str(path), date=f"{certificate.not_valid_before_utc:%Y-%m-%d}", host=host,
        )  # fmt: skip


def _check_key(certificate: x509.Certificate, files: Files, host: str) -> None:
    try:
        key = load_pem_private_key(_contents(files.key, files, host), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise HostUnreachable(
            "{path} on the panel's machine holds no private key (PEM, without a password), which host {host} is reached with.",
            field=_FIELD, path=str(files.key), host=host,
        ) from None  # fmt: skip
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise HostUnreachable(
            "The key {path} on the panel's machine is not that of the certificate {certificate}. Put the right one there to "
            "reach host {host}.",
            field=_FIELD, path=str(files.key), certificate=str(files.certificate), host=host,
        )  # fmt: skip


def _contents(path: Path, files: Files, host: str) -> bytes:
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise HostUnreachable(
            "The panel's user {user} cannot read {path}, which host {host} is reached with: {reason}. Give it the right to.",
            field=_FIELD, user=_user(), path=str(path), host=host, reason=error.strerror or type(error).__name__,
        ) from None  # fmt: skip
    if files.folder is None:
        raise HostUnreachable(
            "There is no {path} on the panel's machine, which host {host} is reached with. Put it there, or name another folder "
            "in the address (?pkipath=/FOLDER).",
            field=_FIELD, path=str(path), host=host,
        )  # fmt: skip
    if not files.folder.is_dir():
        raise HostUnreachable(
            "There is no folder {path} on the panel's machine: pkipath in the address of host {host} names it. It must hold "
            "cacert.pem, clientcert.pem and clientkey.pem.",
            field=_FIELD, path=str(files.folder), host=host,
        )  # fmt: skip
    raise HostUnreachable(
        "There is no {path} on the panel's machine, which host {host} is reached with. The folder of pkipath must hold "
        "cacert.pem, clientcert.pem and clientkey.pem.",
        field=_FIELD, path=str(path), host=host,
    )  # fmt: skip


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST)


def _is_absent(path: Path) -> bool:
    """Whether there is surely none; one that cannot be looked at is not absent."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "-"


def name_of(name: x509.Name) -> str:
    """A distinguished name on one line, as libvirt's tls_allowed_dn_list takes it (``C=GB,O=Example,CN=panel``)."""
    return _short(",".join(part.rfc4514_string() for part in name.rdns))


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """What a certificate is for: its alternative names, else its common name."""
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found: Iterable[object] = (*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress))
        return [_short(str(name)) for name in found][:_MOST_NAMES]
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [_short(str(item.value)) for item in common]


def _short(text: str) -> str:
    """What others wrote, on one line of at most 100 characters."""
    line = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return line[:97] + "..." if len(line) > 100 else line
