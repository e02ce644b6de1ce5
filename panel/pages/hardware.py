"""A VM's hardware: what it is made of, what waits for its next start, and the forms that change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quart import Response

from panel import web
from panel.engines.types import BootDevice, VmChange
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.pages.filters import gib, mib, size
from panel.pages.forms import Form
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with
from panel.pages.words import boot_word, field_word, say
from panel.security import Actor
from panel.services.engines import capabilities

SOON = 3.0  # seconds
SIZES = ("vm_name", "cpu_num", "ram_num", "hdd_num")
PLACES = ("boot_1", "boot_2", "boot_3")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that can be changed: what it is now, and what it will be from the next start on (None: the same)."""

    field: str
    label: str
    now: str
    later: str | None


def hardware_path(host: str, vm: str) -> str:
    """A VM's hardware."""
    return web.url("pages.vm", host=host, vm=vm, tab="hardware")


def hardware_facts(vm: Vm) -> list[Fact]:
    """What the VM is made of, in words."""
    seen = vm.hardware or {}
    values = {
        "cpu_count": vm.cpu_count,
        "memory_mib": vm.memory_mib,
        "disk_gib": vm.disk_gib,
        "iso": seen.get("iso"),
        "boot": seen.get("boot", []),
    }
    planned = vm.planned or {}
    return [
        Fact(name, field_word(name), _shown(name, value), _shown(name, planned[name]) if name in planned else None)
        for name, value in values.items()
    ]


def _shown(name: str, value: Any) -> str:
    if name == "memory_mib":
        return str(mib(value))
    if name == "disk_gib":
        return str(gib(value))
    if name == "iso":
        return gettext(_("no drive")) if value is None else value or gettext(_("empty"))
    if name == "boot":
        return ", ".join(boot_word(word) for word in value) or "–"
    return str(value)


def hardware_context(vm: Vm) -> dict[str, Any]:
    """What the tab shows, with its forms as they are shown first."""
    held = _iso(vm)
    listed = [(iso["name"], f"{iso['name']} · {size(iso['size_bytes'])}") for iso in vm.host.isos or ()]
    if held and held not in {name for name, _label in listed}:
        listed.append((held, held))
    kinds = [(str(kind), boot_word(kind)) for kind in BootDevice]
    return {
        "facts": hardware_facts(vm),
        "isos": [("", gettext(_("Empty"))), *listed],
        "no_isos": not vm.host.isos,
        "kinds": kinds,
        "update": sizes_form(vm),
        "sized": capabilities(vm.host.engine).disk_size,
        "iso": iso_form(vm),
        "boot": boot_form(vm),
    }


def sizes_form(vm: Vm, given: Any = None) -> Form:
    """The form of title and sizes: what they are, or will be from the next start on."""
    planned = vm.planned or {}
    held = {
        "vm_name": vm.title,
        "cpu_num": planned.get("cpu_count", vm.cpu_count),
        "ram_num": planned.get("memory_mib", vm.memory_mib),
        "hdd_num": round(vm.disk_gib),
    }
    return Form(given, held)


def iso_form(vm: Vm, given: Any = None) -> Form:
    """The form of the CD drive."""
    return Form(given, {"iso": _iso(vm)})


def boot_form(vm: Vm, given: Any = None) -> Form:
    """The form of the boot order, one field for each place."""
    return Form(given, dict(zip(PLACES, [*_boot(vm), "", "", ""], strict=False)))


def _iso(vm: Vm) -> str:
    return str((vm.planned or {}).get("iso", (vm.hardware or {}).get("iso")) or "")


def _boot(vm: Vm) -> list[str]:
    return list((vm.planned or {}).get("boot", (vm.hardware or {}).get("boot", [])))


@post("/hosts/<host>/vms/<vm>/update", "vm_update", hardware_path)
async def vm_update(actor: Actor, host: str, vm: str) -> Response:
    """Change title, CPUs, memory or the size of the disk."""
    row = await web.services().vms.get(host, vm)
    form, held = sizes_form(row, await form_data()), sizes_form(row)
    title, cpu, memory = form.text("vm_name", required=True), form.integer("cpu_num"), form.integer("ram_num")
    disk = form.integer("hdd_num") if capabilities(row.host.engine).disk_size else int(held.value("hdd_num"))
    change = VmChange(
        title=title if title != row.title else None,
        cpu_count=cpu if str(cpu) != held.value("cpu_num") else None,
        memory_mib=memory if str(memory) != held.value("ram_num") else None,
        disk_gib=disk if str(disk) != held.value("hdd_num") else None,
    )
    return await _change(actor, row, change, form, SIZES, "update")


@post("/hosts/<host>/vms/<vm>/iso", "vm_iso", hardware_path)
async def vm_iso(actor: Actor, host: str, vm: str) -> Response:
    """Put a CD into the drive, or eject it."""
    row = await web.services().vms.get(host, vm)
    form = iso_form(row, await form_data())
    wanted = form.text("iso")
    change = VmChange(iso=wanted if wanted != _iso(row) else None)
    return await _change(actor, row, change, form, ("iso",), "iso")


@post("/hosts/<host>/vms/<vm>/boot", "vm_boot", hardware_path)
async def vm_boot(actor: Actor, host: str, vm: str) -> Response:
    """Choose what the VM starts from."""
    row = await web.services().vms.get(host, vm)
    form = boot_form(row, await form_data())
    for place in PLACES:
        form.choice(place, ["", *BootDevice])
    order = () if form.errors else tuple(BootDevice(word) for place in PLACES if (word := form.value(place)))
    change = VmChange(boot=order if list(order) != _boot(row) else None)
    return await _change(actor, row, change, form, PLACES, "boot")


async def _change(actor: Actor, vm: Vm, change: VmChange, form: Form, fields: tuple[str, ...], name: str) -> Response:
    """Begin the change of a form, or give the form back. The tab then tells what became of it."""
    if not form.errors:
        path = hardware_path(vm.host.name, vm.name)
        if change == VmChange():
            return done(path, gettext(_("Nothing was changed.")))
        try:
            task = await web.services().vms.update(actor, vm, change)
            await web.services().tasks.wait(task.id, SOON)  # most are done by then, and the forms show it
        except PanelError as error:
            form.take(error, fields, {"boot": "boot_1"})
        else:
            return done(path, say(_("Changing {name}."), name=vm.title or vm.name))
    return await vm_page_with(vm, "hardware", status=400, **{name: form})
