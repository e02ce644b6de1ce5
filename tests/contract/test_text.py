"""The text console: a shell that answers, loses nothing, knows its size, and ends with its VM."""

from __future__ import annotations

import asyncio
import hashlib
import re

import pytest

from panel.engines.base import Engine
from panel.engines.consoletypes import TextSize, TextStream
from panel.engines.types import PowerAction, VmSpec
from panel.errors import Conflict, Taken, Unsupported

from .conftest import Make
from .kit import Recorder, contract
from .providers import Rig
from .terminal import terminal

PASTE_BYTES = 100 * 1024


@contract("create", "text_console")
async def test_a_shell_answers_and_again(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    for number in range(2):
        async with terminal(engine, booted.ref) as shown:
            await rig.enter_shell(shown, booted)
            await shown.run(f"echo once{number}", f"once{number}")


@contract("create", "text_console")
async def test_characters_survive_being_cut(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    async with terminal(engine, booted.ref) as shown:
        await rig.enter_shell(shown, booted)
        for byte in "echo 虚拟🖥é".encode():
            await shown.type(bytes([byte]))
        await shown.type("\r")
        await shown.until("(?s)虚拟🖥é.*虚拟🖥é")


@contract("create", "text_console")
async def test_a_long_paste_loses_nothing(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    """In lines, as a terminal holds no more than 4096 bytes of one."""
    text = b"".join(b"%07d %s\n" % (number, b"x" * 70) for number in range(PASTE_BYTES // 79 + 1))
    async with terminal(engine, booted.ref) as shown:
        await rig.enter_shell(shown, booted)
        await shown.run("stty -echo", "")
        await shown.type("sha256sum\r")
        for start in range(0, len(text), 4096):
            await shown.type(text[start : start + 4096].replace(b"\n", b"\r"))
        await shown.type(b"\x04")
        try:
            await shown.until(hashlib.sha256(text).hexdigest(), 60)
        finally:
            await shown.run("stty echo", "")


@contract("create", "text_console")
async def test_its_size(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    async with terminal(engine, booted.ref, TextSize(101, 31)) as shown:
        await rig.enter_shell(shown, booted)
        if (await engine.text_console(booted.ref)).resizes:
            await shown.run("stty size", "31 101")
        await shown.stream.resize(TextSize(99, 43))
        if (await engine.text_console(booted.ref)).resizes:
            await shown.run("stty size", "43 99")
        await shown.run("echo fine", "fine")


@contract("create", "text_console")
async def test_a_flood_is_left_and_interrupted(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    target = await engine.text_console(booted.ref)
    async with terminal(engine, booted.ref) as shown:
        await rig.enter_shell(shown, booted)
        await shown.type("yes\r")
        await shown.until("y\r\ny\r\n")
    stream = await target.open(TextSize(), False)
    try:
        async with asyncio.timeout(30):
            # The flood, or the prompt of a shell that can be interrupted now: one that is still greeting would end.
            await _read_until(stream, rb"y\r\ny\r\n|[#$] ")
            await stream.write(b"\x03")
            await stream.write(b"\recho af''ter\r")
            await _read_until(stream, b"after")
    finally:
        await stream.close()


async def _read_until(stream: TextStream, pattern: bytes) -> None:
    seen = b""
    while not re.search(pattern, seen):
        piece = await stream.read()
        assert piece, f"the console ended after {seen[-500:]!r}"
        seen = (seen + piece)[-200_000:]


@contract("create", "text_console")
async def test_closing_ends_what_waits(engine: Engine, booted: VmSpec) -> None:
    stream = await (await engine.text_console(booted.ref)).open(TextSize(), True)
    reading = asyncio.create_task(_read_to_end(stream))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await stream.close()
        await stream.close()
        await asyncio.wait({reading})
    with pytest.raises(OSError):
        await stream.write(b"x")


async def _read_to_end(stream: TextStream) -> None:
    try:
        while await stream.read():
            pass
    except OSError:
        return


@contract("create", "text_console", "power.stop", "power.start")
async def test_it_ends_with_the_vm(engine: Engine, make: Make, rig: Rig) -> None:
    ref = (await make(image=rig.image, disk_gib=4, start=True)).ref
    async with terminal(engine, ref) as shown:
        await engine.power(ref, PowerAction.STOP, Recorder())
        await shown.until_end()
    with pytest.raises(Conflict) as caught:
        await engine.text_console(ref)
    assert not isinstance(caught.value, Unsupported)
    assert "start it" in str(caught.value).lower()


@contract("create", "text_console")
async def test_somebody_else_is_asked_for_or_both_look(engine: Engine, booted: VmSpec) -> None:
    """Where only one can look, the second is told, and may take over; elsewhere both have theirs."""
    async with terminal(engine, booted.ref) as first:
        try:
            async with terminal(engine, booted.ref):
                assert not first.ended
        except Taken:
            async with terminal(engine, booted.ref, take_over=True) as second:
                await first.until_end()
                assert not second.ended
