"""A thousand consoles, of which a tenth is never read: each is held in little memory, and whoever looks goes on seeing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from soak.report import Report
from soak.stand import bounded, ordinary, stand
from soak.wire import ASK_CORNER, ASK_PICTURE, CORNER, Login, Wire, console, frame, greet, payload
from tests.process import PanelProcess

VMS = 20
ASKED = 40  # pictures that who never reads has asked for: 10 MiB
EACH_KIB, FAKE_KIB = (
    300,
    450,
)  # the panel's own part of a console; and what the fake VM's side, in the same process, holds of it
FLOW_SECONDS = 60.0


async def run(folder: Path, seconds: float, _seed: int) -> Report:
    """Open them, keep them for a while, close them."""
    report = Report("consoles")
    count = 100 if seconds < 60 else 1000
    with stand(folder, vms=VMS) as panel:
        name = f"{count} consoles, {count // 10} of them never read"
        with bounded(panel, report, name, count * EACH_KIB / 1024 + count // 10 * FAKE_KIB / 1024 + 40):
            async with Login(panel) as login, ordinary(panel, report, name):
                await crowd(panel, login, report, count, seconds / 2)
    return report


async def crowd(panel: PanelProcess, login: Login, report: Report, count: int, seconds: float) -> None:
    """``count`` viewers; each tenth asks for pictures and takes none."""
    ready, leave = asyncio.Semaphore(20), asyncio.Event()
    pictures, deaf, troubles = [0] * count, 0, list[str]()
    arrived = 0

    async def view(number: int) -> None:
        nonlocal arrived, deaf
        vm = f"vm-{1 + number % 3:04}"  # the first three run
        try:
            async with ready:
                wire_manager = console(panel, vm, await login.ticket(vm))
                wire = await wire_manager.__aenter__()
                await greet(wire)
            arrived += 1
            try:
                if number % 10 == 0:
                    deaf += 1
                    await ask_and_ignore(wire)
                    await leave.wait()
                else:
                    await watch(wire, number, pictures, leave)
            finally:
                await wire_manager.__aexit__(None, None, None)
        except (OSError, AssertionError, asyncio.IncompleteReadError, TimeoutError) as error:
            troubles.append(f"{type(error).__name__}: {error}"[:100])

    viewers = [asyncio.create_task(view(number)) for number in range(count)]
    ends = time.monotonic() + FLOW_SECONDS + count / 20
    while arrived + len(troubles) < count and time.monotonic() < ends:
        await asyncio.sleep(0.1)
    report.hold(f"{count} consoles open", arrived == count, f"{arrived} opened, {deaf} of them deaf {troubles[:3]}")
    before = sum(pictures)
    memory = panel.memory_mib()
    await asyncio.sleep(seconds)
    report.hold(
        "who reads goes on seeing", sum(pictures) > before, f"{sum(pictures) - before} pictures in {seconds:.0f} s"
    )
    unseen = [number for number in range(count) if number % 10 and not pictures[number]]
    report.hold("each who reads has seen something", not unseen, f"{len(unseen)} have not")
    grown = panel.memory_mib() - memory
    report.hold("memory stands still while they look", grown < 30, f"{grown:+.0f} MiB, {memory:.0f} before")
    leave.set()
    await asyncio.gather(*viewers, return_exceptions=True)


async def ask_and_ignore(wire: Wire) -> None:
    """Ask for many pictures, and read none of them."""
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(ASKED):
        wire.writer.write(frame(ASK_PICTURE))


async def watch(wire: Wire, number: int, pictures: list[int], leave: asyncio.Event) -> None:
    """A picture every few seconds, until all leave."""
    while not leave.is_set():
        await wire.send(frame(ASK_CORNER))
        await payload(wire, CORNER)
        pictures[number] += 1
        await asyncio.sleep(2 + number % 7)
