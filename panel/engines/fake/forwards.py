"""The forwards that an imaginary hypervisor makes itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from panel.engines.fake.world import FakeWorld
from panel.engines.hosttypes import NativeForward
from panel.i18n import Text
from panel.i18n import gettext_noop as _


async def change_forwards(
    world: FakeWorld, remove: Sequence[NativeForward], add: Sequence[NativeForward]
) -> dict[NativeForward, Text]:
    """See ``Engine.change_forwards``."""
    for one in remove:
        await asyncio.sleep(0)
        if world.forwards.get(one.place) == one:
            del world.forwards[one.place]
    refused: dict[NativeForward, Text] = {}
    for one in add:
        await asyncio.sleep(0)
        known = world.forwards.get(one.place)
        if one.port in world.busy:
            refused[one] = Text(_("The fake host's own programs have port {port}."), {"port": one.port})
        elif known is not None and not known.mark and known.target != one.target:
            refused[one] = Text(_("The fake host leads port {port} elsewhere already."), {"port": one.port})
        else:
            world.forwards[one.place] = one
    world.save()
    return refused
