"""The errors of the panel: each has an HTTP status and a message that names the mend.

Engines, services and gateways raise these; the edge (``api``, ``pages``, ``console``, ``cli``) renders them once.
A library's own exception never reaches a reader: only an engine's ``client.py`` translates its vendor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from panel.i18n import Text


class PanelError(Exception):
    """Base of all. ``PanelError("No host {name}.", name="a")`` keeps message and values apart for translation.

    Attributes:
        status: the HTTP status, which is also ``code`` in the API's envelope.
        text: what happened and what would mend it.
        field: the request field at fault, when there is one.
    """

    status = 500
    title = "Internal error"

    def __init__(self, message: str, /, *, field: str | None = None, **params: object) -> None:
        self.text = Text(message, {"field": field, **params} if field else params)
        self.field = field
        super().__init__(str(self.text))


class InvalidInput(PanelError):
    """The request is wrong: 400, with the field and the mend.

    Attributes:
        beside: what is wrong with other fields of the same request.
    """

    status = 400
    title = "Invalid input"
    beside: tuple[InvalidInput, ...] = ()


class Problems:
    """What is wrong with the fields of one request, told all at once: each field is looked at within ``noted``."""

    def __init__(self) -> None:
        self._found: list[InvalidInput] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep an ``InvalidInput`` instead of ending with it."""
        try:
            yield
        except InvalidInput as error:
            self._found.append(error)

    def tell(self) -> None:
        """Raise the first that was found, the others ``beside`` it; nothing when all is well."""
        if self._found:
            first, *others = self._found
            first.beside = tuple(others)
            raise first


class Unauthorized(PanelError):
    """Nobody, or nobody we know: 401."""

    status = 401
    title = "Unauthorized"


class Forbidden(PanelError):
    """Known, but not allowed (also a missing CSRF token or a foreign Origin): 403."""

    status = 403
    title = "Forbidden"


class NotFound(PanelError):
    """The thing does not exist: 404."""

    status = 404
    title = "Not found"


class Conflict(PanelError):
    """The state of the thing forbids it, or someone else is at it: 409."""

    status = 409
    title = "Conflict"


class Taken(Conflict):
    """Somebody else has the one place there is: 423. Taking over ends his."""

    status = 423
    title = "In use"


class Unsupported(Conflict):
    """The engine, or this host, cannot do it: 409 with the reason."""

    title = "Not supported"


class TooLarge(PanelError):
    """More than we take: 413."""

    status = 413
    title = "Too large"


class TooManyRequests(PanelError):
    """Slow down: 429. ``retry_after`` is in seconds."""

    status = 429
    title = "Too many requests"

    def __init__(self, message: str, /, *, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message, seconds=retry_after)


class DatabaseAway(PanelError):
    """The panel's own database does not answer: 503. It is asked again by whoever asks again."""

    status = 503
    title = "Not available now"


class HostUnreachable(PanelError):
    """The hypervisor does not answer, or refuses us: 503."""

    status = 503
    title = "Host unreachable"


class CertificateRefused(HostUnreachable):
    """The host's TLS certificate is not one that we trust, until an operator accepts it: 503, with its fingerprint.

    Attributes:
        fingerprint: SHA-256 of the certificate that the host shows, as ``AB:CD:...``.
    """

    title = "Certificate not trusted"

    def __init__(self, message: str, /, *, fingerprint: str, **params: object) -> None:
        self.fingerprint = fingerprint
        super().__init__(message, field="fingerprint", fingerprint=fingerprint, **params)


class EngineTimeout(HostUnreachable):
    """The hypervisor took longer than the call allows: 503."""

    title = "Timed out"


class StorageFull(PanelError):
    """There is no room for what has to be stored: 507."""

    status = 507
    title = "No room"


class FetchFailed(PanelError):
    """What a URL leads to could not be had: 502."""

    status = 502
    title = "Download failed"


class EngineFailure(PanelError):
    """The hypervisor answered with an error that is none of the above: 500, with its reason in our words."""

    status = 500
    title = "The hypervisor failed"


class ConfigError(PanelError):
    """The panel's own settings, data folder or saved configuration is wrong."""

    status = 500
    title = "Configuration error"
