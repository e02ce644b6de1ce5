"""The panel's places: what the left navigation shows, and what the command palette can go to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _


@dataclass(frozen=True, slots=True)
class Place:
    """A page without parameters. ``key``: the ``current_page`` of the page; ``label``: a msgid; ``icon``: of the sprite."""

    key: str
    endpoint: str
    label: str
    icon: str

    @property
    def title(self) -> str:
        """Its name in the reader's language."""
        return gettext(self.label)

    @property
    def url(self) -> str:
        """Its address."""
        return web.url(self.endpoint)


PLACES = (
    Place("dashboard", "pages.dashboard", _("Dashboard"), "layout-dashboard"),
    Place("vms", "pages.vms", _("Virtual machines"), "device-desktop"),
    Place("hosts", "pages.hosts", _("Hosts"), "server"),
    Place("network", "pages.forwards", _("Network"), "network"),
    Place("tasks", "pages.tasks", _("Tasks"), "list-check"),
    Place("logs", "pages.logs", _("Logs"), "history"),
    Place("settings", "pages.settings", _("Settings"), "settings"),
    Place("docs", "pages.docs", _("API docs"), "book"),
)
WITHIN = (
    Place("network", "pages.domains", _("Domains"), "world"),
    Place("network", "pages.addresses", _("Addresses"), "network"),
)


@web.add_global
def places() -> Sequence[Place]:
    """What the left navigation shows."""
    return PLACES
