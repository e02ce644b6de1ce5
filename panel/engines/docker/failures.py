"""What a daemon refuses, and why it cannot be reached, in our words. Docker and Podman say the same with other sentences."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

from panel.engines.common.ssh import short
from panel.engines.common.tls import PinMismatchError, refused, shown_fingerprint
from panel.engines.docker.address import Place, Way
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

_NO_CONTAINER = ("no such container", "no container with", "no such exec", "no such object")
_NO_IMAGE = (
    "no such image", "image not known", "manifest unknown", "pull access denied", "repository does not exist",
    "initializing source", "unable to find image", "requested access to the resource is denied", "not found: manifest",
)  # fmt: skip
_NAME_TAKEN = ("is already in use by", "name is already in use")
_ADDRESS_TAKEN = ("address already in use", "is already allocated")
_NOT_TLS = ("wrong_version_number", "http_request", "record layer failure", "packet length too long")
_OUR_CERTIFICATE = ("certificate_required", "certificate required", "bad_certificate", "bad certificate", "unknown_ca",
                    "unknown ca", "decrypt_error")  # fmt: skip


def refusal(host: str, status: int, message: str) -> PanelError:
    """An answer of 400 and more."""
    reason, said = short(message), message.lower()
    if "http request to an https server" in said:
        return HostUnreachable(_("Host {host} speaks TLS. Write tcp:// instead of http:// (server_addr)."), host=host)
    if any(words in said for words in _NAME_TAKEN):
        return Conflict(_("A container of that name exists already: {reason}"), reason=reason)
    if any(words in said for words in _ADDRESS_TAKEN):
        return Conflict(_("The VM's address is in use by another container: {reason}"), reason=reason)
    if any(words in said for words in _NO_IMAGE):
        return InvalidInput(
            _("{field}: host {host} cannot get the image: {reason}"), field="os_name", host=host, reason=reason
        )
    if status == 404 and any(words in said for words in _NO_CONTAINER):
        return NotFound(_("Host {host} has no such container: {reason}"), host=host, reason=reason)
    if "no space left on device" in said:
        return EngineFailure(_("The disk of host {host} is full: {reason}"), host=host, reason=reason)
    if "cannot allocate memory" in said or "device or resource busy" in said:
        return Conflict(_("The VM uses more than that now: {reason}. Free some inside it, or stop it."), reason=reason)
    if status == 409:
        return Conflict(_("Host {host} refuses that now: {reason}"), host=host, reason=reason)
    if status == 404:
        return NotFound(_("Host {host} has no such thing: {reason}"), host=host, reason=reason)
    if status in {401, 403} and "docker" not in said:
        return HostUnreachable(_("Host {host} does not let us do that: {reason}"), host=host, reason=reason)
    return EngineFailure(_("Host {host} refuses: {reason}. Look at the daemon's log there."), host=host, reason=reason)


async def unreachable(place: Place, host: str, error: BaseException) -> PanelError:
    """Why there is no connection."""
    causes = list(_causes(error))
    codes = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if place.way is Way.SOCKET:
        return _no_socket(place.path, host, codes)
    for cause in causes:
        if isinstance(cause, PinMismatchError):
            return refused(host, cause.shown, changed=True)
        if isinstance(cause, ssl.SSLCertVerificationError):
            shown = await shown_fingerprint(place.host, place.port)
            if shown:
                return refused(host, shown, changed=False, reason=getattr(cause, "verify_message", "") or "")
    said = " ".join(str(cause) for cause in causes).lower()
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        if any(words in said for words in _OUR_CERTIFICATE):
            return _our_certificate(host)
        if any(words in said for words in _NOT_TLS):
            return HostUnreachable(
                _("Host {host} answers without TLS. Check the port (2376 is usual), or switch TLS on there (tlsverify)."),
                host=host,
            )  # fmt: skip
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return HostUnreachable(_("The name of host {host} is not known. Check server_addr."), host=host)
    if errno.ECONNREFUSED in codes:
        return HostUnreachable(
            _("Host {host} refuses the connection. Check the port, and that its API runs and listens there."), host=host
        )
    if place.way is Way.TLS and ("disconnected" in said or errno.ECONNRESET in codes):
        return _our_certificate(host)
    return HostUnreachable(
        _("Host {host} cannot be reached ({reason}). Check its address and the network."),
        host=host, reason=_reason(causes),
    )  # fmt: skip


def remote_socket(place: Place, host: str, found: str) -> HostUnreachable:
    """What SSH found at the daemon's socket: ``missing``, ``denied`` or ``there``."""
    if found == "missing":
        return HostUnreachable(
            _("Host {host} has no socket {path}. Start Docker there, or give the path behind the host: ssh://HOST/PATH "
              "(Podman's is /run/podman/podman.sock)."),
            host=host, path=place.path,
        )  # fmt: skip
    if found == "denied":
        return HostUnreachable(
            _("Our SSH user on host {host} may not use {path}. Put it into the group docker there, or log in as root."),
            host=host, path=place.path,
        )  # fmt: skip
    return HostUnreachable(
        _("Nobody answers behind {path} on host {host}. See that the daemon runs there, and that its sshd allows "
          "AllowStreamLocalForwarding."),
        host=host, path=place.path,
    )  # fmt: skip


def _our_certificate(host: str) -> HostUnreachable:
    return HostUnreachable(
        _(
            "Host {host} does not take our certificate. Give it cert.pem and key.pem that its own authority signed (tls_folder)."
        ),
        host=host,
    )


def _no_socket(path: str, host: str, codes: set[int | None]) -> HostUnreachable:
    if errno.ENOENT in codes or errno.ENOTDIR in codes:
        return HostUnreachable(
            _("There is no socket {path} on this machine. Start Docker (systemctl start docker) or Podman (systemctl start "
              "podman.socket, then /run/podman/podman.sock), or correct the path (server_addr)."),
            path=path,
        )  # fmt: skip
    if errno.EACCES in codes or errno.EPERM in codes:
        return HostUnreachable(
            _("The panel's user may not use {path}. Put it into the group that owns the socket (usermod -aG docker USER) and "
              "start the panel again. Whoever may use this socket is as good as root on the machine."),
            path=path,
        )  # fmt: skip
    if errno.ECONNREFUSED in codes:
        return HostUnreachable(
            _("Nobody listens at {path}. Start the daemon (systemctl start docker, or podman.socket)."), path=path
        )
    return HostUnreachable(
        _("Host {host} answers, but not as Docker does, or it broke off ({path}). Look at the daemon's log."),
        host=host, path=path,
    )  # fmt: skip


def _reason(causes: list[BaseException]) -> str:
    codes = [cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno and cause.errno > 0]
    return os.strerror(codes[-1]) if codes else type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        own = getattr(one, "os_error", None) or getattr(one, "certificate_error", None)
        waiting.extend(cause for cause in (one.__cause__, one.__context__, own) if isinstance(cause, BaseException))
