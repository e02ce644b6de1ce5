"""What is refused before a VM is made, in the same words on every engine that has no rules of its own."""

from __future__ import annotations

import re

from panel.engines.capabilities import Capabilities
from panel.engines.types import VmChange
from panel.errors import Conflict, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
TAKEN = frozenset({"current", "pending"})  # which Proxmox means the VM itself by
MOST_CPUS = 512
LEAST_MEMORY_MIB = 16


def check_name(name: str) -> None:
    """``InvalidInput`` for a name that is no identifier."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            _("The name {name} is not usable. Use letters, digits, dot, underscore and hyphen."),
            field="vm_uuid",
            name=repr(name),
        )


def check_snapshot(name: str) -> None:
    """``InvalidInput`` for what not every hypervisor takes as a snapshot's name. Source: Proxmox's ``pve-configid``."""
    if not SNAPSHOT.fullmatch(name) or name in TAKEN:
        raise InvalidInput(
            _("A snapshot's name has 2 to 40 letters, digits, hyphens and underscores, the first a letter, and is not current "
              "or pending."),
            field="snapshot",
        )  # fmt: skip


def no_snapshot(name: str) -> NotFound:
    """There is none of this name."""
    return NotFound(_("The VM has no snapshot {name}."), name=name)


def snapshot_there(name: str) -> Conflict:
    """There is one of this name."""
    return Conflict(_("The VM has a snapshot {name} already. Choose another name."), name=name)


def check_sizes(cpu_count: int | None, memory_mib: int | None) -> None:
    """``InvalidInput`` for a CPU count or memory that no VM has; None is not checked."""
    if cpu_count is not None and not 1 <= cpu_count <= MOST_CPUS:
        raise InvalidInput(_("A VM has 1 to {most} CPUs."), field="cpu_num", most=MOST_CPUS)
    if memory_mib is not None and memory_mib < LEAST_MEMORY_MIB:
        raise InvalidInput(_("A VM has at least 16 MiB of memory."), field="ram_num")


def check_able(able: Capabilities, change: VmChange) -> None:
    """``Unsupported`` for a part of a change that the engine does not declare."""
    for name, wanted in (("iso", change.iso), ("boot_order", change.boot)):
        if wanted is not None:
            able.require(name)
