"""A VM that is not there is NotFound, whatever is asked of it; delete alone is content."""

from __future__ import annotations

from uuid import uuid4

import pytest

from panel.engines.base import Engine
from panel.errors import NotFound

from .kit import CALLS, contract

OF_THE_HOST = {"images", "image_urls", "image_files", "networks", "native_forwards", "events", "host_load"}
OF_ONE_VM = sorted(set(CALLS) - {"create", "delete"} - OF_THE_HOST)
REFS = ["uuid", "", "not-a-uuid", "../../x", "' or 1=1", "\0", "名"]


@pytest.mark.parametrize("ref", REFS, ids=repr)
@contract()
async def test_inspect(engine: Engine, ref: str) -> None:
    with pytest.raises(NotFound):
        await engine.inspect(str(uuid4()) if ref == "uuid" else ref)


@pytest.mark.parametrize("name", OF_ONE_VM)
@contract()
async def test_every_call(engine: Engine, name: str) -> None:
    if engine.capabilities.why_not(name) is not None:
        return  # test_undeclared_is_refused holds this one
    for ref in REFS:
        with pytest.raises(NotFound):
            await CALLS[name](engine, str(uuid4()) if ref == "uuid" else ref)
