"""What an engine can do: typed, frozen, default off. Pages, API, docs and the contract suite all read this."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from panel.engines.types import PowerAction
from panel.errors import Unsupported
from panel.i18n import gettext_noop as _


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Each field off unless the engine honours it. ``reasons`` says why not, and what would mend it, by field name.

    Attributes:
        power: the actions that the engine honours.
        create, update, delete: the life of a VM.
        update_live: CPU or memory of a running VM change without a restart, where the guest allows it.
        console: the screen (VNC).
        text_console: a terminal: a shell in a container, or a serial port.
        password: sets a password inside the running guest.
        scan: VMs that others made are listed and can be adopted.
        images: VMs are made from named images of the host.
        networks: networks are listed, and their DHCP gives a MAC the addresses that the panel reserves for it.
        events: changes are told at once; without, they show within one round of observation.
    """

    power: frozenset[PowerAction] = frozenset()
    create: bool = False
    update: bool = False
    update_live: bool = False
    delete: bool = False
    console: bool = False
    text_console: bool = False
    password: bool = False
    scan: bool = False
    images: bool = False
    networks: bool = False
    events: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    def why_not(self, name: str) -> str | None:
        """None when ``name`` (a field, or ``power.start``) is there; else the reason, in English (a msgid)."""
        head, _dot, action = name.partition(".")
        there = action in self.power if head == "power" else bool(getattr(self, name))
        if there:
            return None
        return self.reasons.get(name) or self.reasons.get(head) or _("This engine cannot do it.")

    def require(self, name: str) -> None:
        """Raise ``Unsupported`` unless ``name`` is there."""
        reason = self.why_not(name)
        if reason is not None:
            raise Unsupported(reason)

    def as_dict(self) -> dict[str, object]:
        """For the API and the docs: ``{"create": true, "power": ["start", ...], ...}``."""
        result: dict[str, object] = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in {"power", "reasons"}
        }
        result["power"] = sorted(self.power)
        return result
