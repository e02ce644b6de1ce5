"""The form that makes a VM, as typed: its suggestions, its problems, and the same request for the API."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from panel import web
from panel.engines.types import NicMode
from panel.errors import PanelError
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Network, Nic, Pool
from panel.pages.families import family, suggested_disk
from panel.pages.forms import Form
from panel.pages.words import NIC_MODES, say
from panel.services.engines import capabilities
from panel.services.spaces import spaces_of
from panel.services.specs import LIMITS, NicRequest, VmRequest

SIZES = ("cpu_num", "ram_num", "hdd_num")
NAMES = ("vm_uuid", "vm_name", "host", "os_name", *SIZES, "net_mode", "mac_addr", "os_pass", "ssh_keys", *LIMITS)
DEFAULTS: Mapping[str, object] = dict.fromkeys((*NAMES, "suggested", "images_of", "form_key", "left", "retype"), "") | {
    "net_mode": NicMode.NAT,
    "start": "1",
}
PASSWORD = "CHANGE-THIS-PASSWORD"  # noqa: S105 - stands in examples for the one that was typed


class NewVmForm(Form):
    """A VM that is wanted, as typed. ``warnings`` are beside a field that is not wrong."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        super().__init__(given, DEFAULTS)
        self.warnings: dict[str, str] = {}
        self.readable = True  # numbers are numbers: there is a request to show
        self.followed = False  # sizes were suggested anew
        if not self.value("form_key"):
            self.default("form_key", secrets.token_urlsafe(12))

    def warning(self, name: str) -> str | None:
        """What is remarkable about a field that is not wrong."""
        return None if self.error(name) else self.warnings.get(name)

    def give_back(self) -> None:
        """The page is made anew: a password that was typed is not in it, which must be said until it is typed again."""
        if self.value("os_pass"):
            self.default("os_pass", "")
            self.default("retype", "1")

    @property
    def retype(self) -> bool:
        """Whether a password was typed once, and the field is empty now."""
        return bool(self.value("retype")) and not self.value("os_pass")

    def follow(self, image: HostImage | None) -> None:
        """Sizes that are empty in a new form, or still as suggested for another image, become what suits this one."""
        known = family(image)
        fitting = (known.cpu_count, known.memory_mib, suggested_disk(known, image.virtual_gib if image else 0.0))
        before = self.value("suggested").split()
        for place, (name, number) in enumerate(zip(SIZES, fitting, strict=True)):
            if not self.sent or (len(before) == len(SIZES) and self.value(name).strip() == before[place]):
                self.default(name, str(number))
        self.default("suggested", " ".join(str(number) for number in fitting))
        self.followed = self.value("suggested").split() != before

    @property
    def first(self) -> str | None:
        """The first field that is wrong, where the reader goes on."""
        return next((name for name in NAMES if name in self.errors), None)

    def number(self, name: str) -> float:
        """A size as far as it is one."""
        text = self.value(name).strip()
        return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0.0

    @property
    def limited(self) -> bool:
        """Whether there is something to see among the limits."""
        return any(self.value(name).strip() for name in LIMITS)

    def read(self) -> VmRequest:
        """What the form asks for. What cannot be read is noted as an error."""
        name = self.text("vm_uuid", required=True)
        sizes = {size: self.integer(size) for size in SIZES}
        mode = self.choice("net_mode", NicMode)
        limits = {limit: self.integer(limit) for limit in LIMITS if self.value(limit).strip()}
        self.readable = not any(self.error(number) for number in (*SIZES, *LIMITS))
        return VmRequest(
            name=name,
            title=self.text("vm_name"),
            os_name=self.text("os_name"),
            cpu_count=sizes["cpu_num"],
            memory_mib=sizes["ram_num"],
            disk_gib=sizes["hdd_num"],
            nics=(NicRequest("eth0", NicMode(mode) if mode in set(NicMode) else NicMode.NAT, self.text("mac_addr")),),
            password=self.secret("os_pass") or None,
            ssh_keys=tuple(self.value("ssh_keys").splitlines()),
            limits=limits,
            start=self.checked("start"),
        )

    def take_all(self, errors: Iterable[PanelError]) -> None:
        """Put each error beside its field; what is about no field is about the host."""
        for error in errors:
            self.take(error, NAMES, {"nic_all": "net_mode", "": "host"})

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget what is wrong with other fields: the reader has not been there yet."""
        shown = set(names)
        self.errors = {name: text for name, text in self.errors.items() if name in shown}


def api_body(wanted: VmRequest) -> dict[str, Any]:
    """The same request as the JSON of ``POST /api/client/create``. A password is not told."""
    nics = {nic.name: {"net_mode": str(nic.mode)} | ({"mac_addr": nic.mac} if nic.mac else {}) for nic in wanted.nics}
    body = {
        "vm_uuid": wanted.name,
        "vm_name": wanted.title,
        "os_name": wanted.os_name,
        "cpu_num": wanted.cpu_count,
        "ram_num": wanted.memory_mib,
        "hdd_num": wanted.disk_gib,
        "nic_all": nics,
        "os_pass": PASSWORD if wanted.password else "",
        "ssh_keys": [key.strip() for key in wanted.ssh_keys if key.strip()] or "",
        **wanted.limits,
        "start": wanted.start,
    }
    return {name: value for name, value in body.items() if value != ""}


def as_json(wanted: VmRequest) -> str:
    """The body, to be read and copied."""
    return json.dumps(api_body(wanted), indent=2, ensure_ascii=False)


def as_curl(host: Host, wanted: VmRequest) -> str:
    """The whole request for a shell that has the token in ``$TOKEN``."""
    url = web.public_url(web.url("api.create_vm", hs_name=host.name))
    lines = (
        f"curl -X POST {shlex.quote(url)}",
        '-H "Authorization: Bearer $TOKEN"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(as_json(wanted))}",
    )
    return " \\\n  ".join(lines)


async def network_words(host: Host, mode: NicMode) -> str:
    """How the interface is connected, and where its address comes from."""
    word = say(NIC_MODES[mode])
    if capabilities(host.engine).why_not("networks") is not None:
        return word
    network: Network | None = await web.services().addresses.network_of(host.id, Nic(mode=mode, network=""))
    pools = await Pool.filter(network_id=network.id) if network else []
    spaces = spaces_of(network, pools) if network else []
    if not spaces:
        return say(_("{network}: DHCP decides about its address"), network=word)
    subnets = ", ".join(str(space.subnet) for space in spaces)
    return say(_("{network}: a free address of {subnets}"), network=word, subnets=subnets)
