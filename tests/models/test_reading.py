"""What requests only read takes a connection of its own: it sees what was committed, and never waits for who writes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from quart import Quart
from tortoise import connections
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction

from panel.models import Setting
from panel.models.reading import READER, reading

PANEL = Path(__file__).parents[2] / "panel"


async def test_it_sees_what_was_committed_and_only_that(app: Quart) -> None:
    await Setting.create(key="a", value="1")
    with reading():
        assert await Setting.get(key="a").values_list("value", flat=True) == "1"
    written, read = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with in_transaction("default"):
            await Setting.filter(key="a").update(value="2")
            with reading():
                assert await Setting.get(key="a").values_list("value", flat=True) == "2", "a transaction sees its own"
            written.set()
            await read.wait()

    job = asyncio.create_task(write())
    await written.wait()
    async with asyncio.timeout(10):
        with reading():
            assert await Setting.get(key="a").values_list("value", flat=True) == "1", "not yet committed, and no wait"
    read.set()
    await job
    with reading():
        assert await Setting.get(key="a").values_list("value", flat=True) == "2"


async def test_writing_within_is_seen_at_once(app: Quart) -> None:
    with reading():
        row = await Setting.create(key="b", value="1")
        row.value = "2"
        await row.save()
        assert await Setting.get(key="b").values_list("value", flat=True) == "2"
        await Setting.filter(key="b").delete()
        assert not await Setting.exists(key="b")


async def test_the_reader_cannot_write(app: Quart) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        await connections.get(READER).execute_query("DELETE FROM setting")


def test_every_transaction_names_its_connection() -> None:
    """With two connections, Tortoise must be told which."""
    wrong = [
        str(path.relative_to(PANEL))
        for path in PANEL.rglob("*.py")
        if re.search(r"\b(in_transaction\(\)|@atomic\(\))", path.read_text(encoding="utf-8"))
    ]
    assert wrong == [], 'write in_transaction("default")'
