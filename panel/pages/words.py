"""The panel's own words (states, actions, fields, tasks) in the reader's language, also where messages carry them as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panel import web
from panel.engines.registry import engine_class
from panel.engines.types import BootDevice, EngineKind, NicMode, PowerAction
from panel.i18n import Text, gettext
from panel.i18n import gettext_noop as _
from panel.services.texts import unpack

STATES: dict[str, str] = {
    "running": _("Running"),
    "stopped": _("Stopped"),
    "suspended": _("Suspended"),
    "crashed": _("Crashed"),
    "unknown": _("Unknown"),
    "missing": _("Missing"),
    "creating": _("Creating"),
    "online": _("Online"),
    "unreachable": _("Unreachable"),
    "disabled": _("Disabled"),
    "queued": _("Waiting"),
    "succeeded": _("Done"),
    "failed": _("Failed"),
    "cancelled": _("Cancelled"),
    "interrupted": _("Interrupted"),
}
ACTIONS: dict[PowerAction, tuple[str, str]] = {
    PowerAction.START: (_("Start"), "player-play"),
    PowerAction.SHUTDOWN: (_("Shut down"), "power"),
    PowerAction.RESUME: (_("Resume"), "player-play"),
    PowerAction.SUSPEND: (_("Suspend"), "player-pause"),
    PowerAction.RESET: (_("Reset"), "rotate-clockwise"),
    PowerAction.STOP: (_("Force off"), "player-stop"),
}
SAID: dict[PowerAction, str] = {
    PowerAction.START: _("Starting {name}."),
    PowerAction.SHUTDOWN: _("Asked {name} to shut down."),
    PowerAction.RESUME: _("Resuming {name}."),
    PowerAction.SUSPEND: _("Suspending {name}."),
    PowerAction.RESET: _("Resetting {name}."),
    PowerAction.STOP: _("Forcing {name} off."),
}
CONFIRM: dict[PowerAction, str] = {
    PowerAction.STOP: _("{name} is cut off at once, like pulling the plug. What it has not written to disk is lost."),
    PowerAction.RESET: _("{name} restarts at once, like pressing reset. What it has not written to disk is lost."),
}
NIC_MODES: dict[NicMode, str] = {NicMode.NAT: _("NAT"), NicMode.BRIDGE: _("Bridge")}
BOOT: dict[BootDevice, str] = {
    BootDevice.DISK: _("Disk"),
    BootDevice.CDROM: _("CD drive"),
    BootDevice.NETWORK: _("Network"),
}
FIELDS: dict[str, str] = {
    "vm_uuid": _("Name"),
    "vm_name": _("Title"),
    "os_name": _("Image"),
    "cpu_num": _("CPUs"),
    "ram_num": _("Memory"),
    "hdd_num": _("Disk"),
    "os_pass": _("Password"),
    "ssh_keys": _("SSH public keys"),
    "password": _("Password"),
    "token": _("Access token"),
    "server_name": _("Name"),
    "engine_type": _("Engine"),
    "mac_addr": _("MAC address"),
    "external_port": _("External port"),
    "internal_port": _("VM port"),
    "internal_ip": _("Address"),
    "ip_address": _("Address"),
    "interface": _("Interface"),
    "ip4_addr": _("Address"),
    "ip6_addr": _("Address"),
    "count": _("Count"),
    "domain": _("Domain"),
    "target_port": _("VM port"),
    "target_ip": _("Address"),
    "ssl_enabled": _("https"),
    "certificate": _("Certificate chain"),
    "private_key": _("Private key"),
    "url": _("URL"),
    "checksum": _("Checksum"),
    "checksum_url": _("URL of a checksum file"),
    "protocol": _("Protocol"),
    "title": _("Title"),
    "name": _("Name"),
    "tag": _("Tag"),
    "tags": _("Tags"),
    "notes": _("Notes"),
    "cpu_count": _("CPUs"),
    "memory_mib": _("Memory"),
    "disk_gib": _("Disk"),
    "iso": _("CD drive"),
    "boot": _("Boot order"),
    "snapshot": _("Name"),
    "speed_u": _("Rate from the VM"),
    "speed_d": _("Rate to the VM"),
    "flu_num": _("Traffic a month"),
    "nat_num": _("Port forwards"),
    "web_num": _("Domains"),
}
LEVELS: dict[str, str] = {"info": _("Information"), "warning": _("Warning"), "error": _("Error")}
SOURCES: dict[str, str] = {"page": _("Page"), "api": _("API"), "cli": _("Command line"), "panel": _("Panel")}


def state_word(state: str) -> str:
    """A state of a VM, host or task."""
    return gettext(STATES.get(state, state))


def action_word(action: str) -> str:
    """A power action."""
    return gettext(ACTIONS[PowerAction(action)][0]) if action in set(PowerAction) else action


def field_word(name: str) -> str:
    """A field of a form or of a VM. ``nic_all.eth0.mac_addr`` is known by its last part."""
    return gettext(FIELDS.get(name, FIELDS.get(name.rpartition(".")[2], name)))


def task_word(kind: str) -> str:
    """What a kind of task does."""
    known = web.services().tasks.kinds.get(kind)
    return gettext(known.title) if known else kind


def asked_word(kind: str, sealed: str, result: Mapping[str, Any] | None) -> str:
    """What a task was asked for (``TaskService.asked``)."""
    return localised(web.services().tasks.asked(kind, sealed, result)).translate()


def boot_word(device: str) -> str:
    """What a VM starts from."""
    return gettext(BOOT[BootDevice(device)]) if device in set(BootDevice) else device


def nic_word(mode: NicMode | None) -> str:
    """How an interface is connected."""
    return gettext(NIC_MODES[mode]) if mode else "–"


def source_word(source: str) -> str:
    """The door that a request came through."""
    return gettext(SOURCES.get(source, source))


def level_word(level: str) -> str:
    """How grave an entry of the log is."""
    return gettext(LEVELS.get(level, level))


def engine_word(kind: EngineKind) -> str:
    """An engine's name."""
    return gettext(engine_class(kind).title)


WORDS = {"state": state_word, "action": action_word, "field": field_word, "kind": task_word}


def localised(text: Text, labels: Mapping[str, str] | None = None) -> Text:
    """``text`` with the words among its values translated, small inside a sentence; ``labels`` name the fields of the form at
    hand, as they stand there.
    """
    params: dict[str, object] = dict(text.params)
    for key, value in params.items():
        if key == "field" and labels and str(value) in labels:
            params[key] = labels[str(value)]
        elif key in WORDS:
            word = WORDS[key](str(value))
            params[key] = word if key == "field" or text.msgid.startswith(f"{{{key}}}") else word[:1].lower() + word[1:]
        elif key == "fields":
            params[key] = ", ".join(field_word(word) for word in str(value).split(", "))
        elif key == "possible":
            params[key] = ", ".join(action_word(word) for word in str(value).split(", "))
    return Text(text.msgid, params)


def told(stored: Mapping[str, Any] | None) -> str:
    """A stored message in the reader's language; empty when there is none."""
    text = unpack(stored)
    return localised(text).translate() if text else ""


def say(message: str, /, **params: object) -> str:
    """``message`` (a msgid with ``{placeholders}``) in the reader's language."""
    return Text(message, params).translate()
