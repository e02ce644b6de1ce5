"""Tags and notes: what operators write on VMs, to find them again and to tell one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tortoise.transactions import in_transaction

from panel.errors import NotFound
from panel.events import EventBus, VmChanged
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Vm, VmTag
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.names import check_notes, check_tags
from panel.services.whole import whole

MOST_KNOWN = 200  # tags that a choice offers


class LabelService:
    """Writes the tags and notes of VMs."""

    def __init__(self, events: EventBus, audit: AuditLog) -> None:
        self._events = events
        self._audit = audit

    @whole
    async def write(self, actor: Actor, vm: Vm, tags: Iterable[str], notes: str) -> bool:
        """Let these be the VM's tags and notes. False when they were so already.

        Raises:
            InvalidInput: ``tags`` or ``notes`` cannot be so; says which and why.
            NotFound: the VM is gone by now.
        """
        actor.require(Permission.MANAGE)
        wanted, text = check_tags(tags, "tags"), check_notes(notes, "notes")
        before = (await tags_of([vm.id])).get(vm.id, ())
        if (before, vm.notes) == (tuple(wanted), text):
            return False
        async with in_transaction("default"):
            if not await Vm.filter(id=vm.id).update(notes=text):
                raise NotFound(_("There is no VM {name} on host {host}."), name=vm.name, host=vm.host.name)
            await set_tags(vm.id, wanted)
        vm.notes = text
        message = Text(_("Tags: {tags}. Notes: {count} characters."),
                       {"tags": ", ".join(wanted) or "–", "count": len(text)})  # fmt: skip
        await self._audit.write(actor, "vm.labels", "vm", f"{vm.host.name}/{vm.name}", message)
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return True

    def read(self, tag: str) -> str:
        """A tag as it is kept. ``InvalidInput`` when it is none."""
        return check_tags([tag], "tag")[0]

    @whole
    async def tag(self, actor: Actor, vm: Vm, tag: str, *, on: bool) -> bool:
        """Put a tag on a VM, or take it off; its others stay. False when that was so already.

        Raises:
            InvalidInput: ``tag`` is none, or the VM has too many then.
            NotFound: the VM is gone by now.
        """
        actor.require(Permission.MANAGE)
        wanted = self.read(tag)
        async with in_transaction("default"):
            if await Vm.filter(id=vm.id).select_for_update().first() is None:
                raise NotFound(_("There is no VM {name} on host {host}."), name=vm.name, host=vm.host.name)
            before = (await tags_of([vm.id])).get(vm.id, ())
            after = [one for one in before if one != wanted] + [wanted] * on
            if set(after) == set(before):
                return False
            await set_tags(vm.id, check_tags(after, "tag"))
        message = Text(_("Added the tag {tag}.") if on else _("Removed the tag {tag}."), {"tag": wanted})
        await self._audit.write(actor, "vm.labels", "vm", f"{vm.host.name}/{vm.name}", message)
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return True


async def set_tags(vm_id: int, tags: Sequence[str]) -> None:
    """Let a VM have these tags, which are normal, and no others. The caller holds the transaction."""
    await VmTag.filter(vm_id=vm_id).exclude(name__in=tags).delete()
    await VmTag.bulk_create([VmTag(vm_id=vm_id, name=name) for name in tags], ignore_conflicts=True)


async def tags_of(vm_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The tags of VMs, in order. VMs without are left out. One query."""
    found: dict[int, tuple[str, ...]] = {}
    for vm_id, name in await VmTag.filter(vm_id__in=vm_ids).order_by("name").values_list("vm_id", "name"):
        found[vm_id] = (*found.get(vm_id, ()), name)
    return found


async def known_tags() -> list[str]:
    """All tags that any VM has, in order, as far as a choice can offer them. One query."""
    names = VmTag.all().distinct().order_by("name").limit(MOST_KNOWN)
    return [str(name) for name in await names.values_list("name", flat=True)]
