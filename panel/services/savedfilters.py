"""Filters of the VM list that somebody named, to come back to."""

from __future__ import annotations

from collections.abc import Mapping

from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _
from panel.models import SavedFilter
from panel.security import Actor, Permission
from panel.services.names import check_title

MOST = 30  # filters of one actor
LONGEST_NAME = 40  # characters


class SavedFilterService:
    """Keeps each actor's filters, by name."""

    async def of(self, actor: Actor) -> list[SavedFilter]:
        """The actor's filters, by name. One query."""
        return await SavedFilter.filter(actor=actor.name).order_by("name").limit(MOST)

    async def save(self, actor: Actor, name: str, query: Mapping[str, str]) -> SavedFilter:
        """Keep a filter; one of the same name is replaced. ``query``: what stands in the list's address.

        Raises:
            InvalidInput: the name is empty or too long, or nothing is filtered.
            Conflict: there are too many.
        """
        actor.require(Permission.VIEW)
        name = check_title(name, "name")
        if not 1 <= len(name) <= LONGEST_NAME:
            raise InvalidInput(_("{field} must be 1 to {most} characters."), field="name", most=LONGEST_NAME)
        if not query:
            raise InvalidInput(_("Nothing is filtered or sorted. Choose a filter first, then save it."))
        others = SavedFilter.filter(actor=actor.name).exclude(name=name)
        if await others.count() >= MOST:
            raise Conflict(_("At most {most} filters are kept. Delete one first."), most=MOST)
        row, _made = await SavedFilter.update_or_create(actor=actor.name, name=name, defaults={"query": dict(query)})
        return row

    async def delete(self, actor: Actor, filter_id: int) -> None:
        """Forget one of the actor's filters. One that is gone already is as wanted."""
        await SavedFilter.filter(id=filter_id, actor=actor.name).delete()
