"""The form of a host: its fields are those that its engine declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from panel import web
from panel.engines.common.tls import FINGERPRINT
from panel.engines.registry import engine_class
from panel.engines.types import EngineKind, HostField
from panel.errors import CertificateRefused, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import AtLimit, Host
from panel.pages.forms import Form
from panel.services.engines import secret_options
from panel.services.hosts import COLUMNS, NETWORK, HostRequest

ACCEPT = "accept"  # the button that accepts a certificate; its value is the fingerprint
SECRET = "server_pass"  # noqa: S105 - the name of a field
NETWORK_LABELS = {
    "ports_start": _("First port"),
    "ports_close": _("Last port"),
    "outside": _("External address"),
    "at_limit": _("When its traffic is used up"),
    "at_limit_mbit": _("Slowed to"),
}


class EngineForm(Form):
    """A host's settings, as typed."""

    def __init__(self, kind: EngineKind, *, host: Host | None = None, given: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.host = host
        self.declared: tuple[HostField, ...] = engine_class(kind).fields
        self.names = ("server_name", "engine_type", *(item.name for item in self.declared))
        labels = {item.name: gettext(item.label) for item in self.declared}
        labels |= {"server_name": gettext(_("Name")), "engine_type": gettext(_("Engine"))}
        self.offered = ""
        """The fingerprint of a certificate that the operator may accept."""
        given = accepted(given)
        held = {item.name: _held(item, host) for item in self.declared}
        super().__init__(given, held | {"server_name": host.name if host else ""}, labels)
        if given is None:
            return
        for item in self.declared:
            if item.required and not self.kept(item) and not self.value(item.name).strip():
                self.fail(item.name, _("This is needed."))

    def kept(self, item: HostField) -> bool:
        """Whether an empty field leaves what is stored: a secret that is never shown."""
        if not item.secret or self.host is None:
            return False
        return bool(self.host.secret if item.name == SECRET else self.host.options.get(item.name))

    @property
    def brief(self) -> bool:
        """Whether only the result of the connection test is shown, not the fields."""
        return web.is_htmx()

    def take(self, error: PanelError, fields: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        """See ``Form``. A certificate that is not trusted is offered for acceptance, above the form."""
        if isinstance(error, CertificateRefused) and error.fingerprint:
            self.offered = error.fingerprint
            fields = ()
        super().take(error, fields, aliases)

    def request(self) -> HostRequest:
        """What the form asks for. A secret that is left empty stays as it is."""
        values = {item.name: self.secret(item.name) if item.secret else self.text(item.name) for item in self.declared}
        columns: dict[str, Any] = {column: values.pop(wire) for wire, column in COLUMNS.items() if wire in values}
        secret = values.pop(SECRET, "") or None
        values = {name: value for name, value in values.items() if value or name not in secret_options(self.kind)}
        return HostRequest(engine=self.kind, secret=secret, options=values, **columns)


def accepted(given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """What was typed, with the certificate that was accepted by its button; that tests the connection again."""
    if given is None or not given.get(ACCEPT):
        return given
    return {**given, FINGERPRINT: given[ACCEPT], "test": "1"}


class NetworkForm(Form):
    """A host's network settings, as typed."""

    def __init__(self, host: Host, given: Mapping[str, str] | None = None) -> None:
        held = {name: getattr(host, name) for name in NETWORK}
        for name in ("report_only", "strict_reports"):
            held[name] = "1" if held[name] else ""
        labels = {name: gettext(label) for name, label in NETWORK_LABELS.items()}
        super().__init__(given, held, labels)

    def request(self) -> HostRequest:
        """What the form asks for."""
        at_limit = self.choice("at_limit", list(AtLimit))
        return HostRequest(
            ports_start=self.integer("ports_start"),
            ports_close=self.integer("ports_close"),
            outside=self.text("outside"),
            report_only=self.checked("report_only"),
            strict_reports=self.checked("strict_reports"),
            at_limit=AtLimit(at_limit) if at_limit in set(AtLimit) else None,
            at_limit_mbit=self.integer("at_limit_mbit"),
        )


def _held(item: HostField, host: Host | None) -> str:
    if item.secret:
        return ""
    if host is None:
        return item.default
    if item.name in COLUMNS:
        return str(getattr(host, COLUMNS[item.name]))
    return host.options.get(item.name, item.default)
