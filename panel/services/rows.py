"""Rows that may have gone while something slow was awaited."""

from __future__ import annotations

from typing import TypeVar

from tortoise.models import Model

from panel.errors import NotFound
from panel.i18n import gettext_noop as _
from panel.models import Vm

Row = TypeVar("Row", bound=Model)


async def read_again(kind: type[Row], row_id: int, vm: Vm) -> Row:
    """A VM's row as it is now. ``NotFound``: it has gone, and its VM with it."""
    found = await kind.get_or_none(id=row_id)
    if found is None:
        raise NotFound(_("There is no VM {name} on host {host}."), name=vm.name, host=vm.host.name)
    return found
