"""Clients that are slow, endless, deep, long or do not speak the protocol: refused clearly, held in little memory, and nobody
else notices."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from soak.report import Report
from soak.stand import bounded, ordinary, stand
from soak.wire import Login, connected, console, frame, greet, head, pour
from tests.process import PanelProcess

MIB = 2**20
SLOW_MIB, BODY_MIB, HEAD_MIB, FRAMES_MIB = 60.0, 24.0, 24.0, 24.0
UPLOAD = "/api/client/upload"  # asks for no token
POWER = "/api/client/powers/host1/vm-0001"


async def run(folder: Path, seconds: float, seed: int) -> Report:
    """All of them, against one panel. With less than 60 s there are fewer and smaller ones."""
    report = Report("hostile")
    short = seconds < 60
    with stand(folder, vms=2) as panel:
        await slow_clients(panel, report, count=300 if short else 2000, seconds=5 if short else seconds * 0.6)
        await large_bodies(panel, report, (64 if short else 1024) * MIB)
        await deep_json(panel, report)
        await long_heads(panel, report)
        await malformed_frames(panel, report, random.Random(seed), 20 if short else 200)
    return report


async def slow_clients(panel: PanelProcess, report: Report, *, count: int, seconds: float) -> None:
    """A byte a second, of a head that never ends or of a body."""
    refused: list[int] = []

    async def dawdle(number: int) -> None:
        await asyncio.sleep(number % 50 / 50)
        start = head(panel, "POST", UPLOAD, "Content-Length: 100000", token=False) if number % 2 else b"GET /"
        try:
            async with connected(panel) as wire:
                await wire.send(start)
                while not wire.reader.at_eof():
                    await wire.send(b"a")
                    await asyncio.sleep(1)
                refused.append(number)
        except OSError:
            refused.append(number)

    name = f"{count} slow clients"
    with bounded(panel, report, name, SLOW_MIB):
        async with ordinary(panel, report, name):
            clients = [asyncio.create_task(dawdle(number)) for number in range(count)]
            await asyncio.sleep(seconds)
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    if seconds > 30:
        report.hold("slow heads are given up", len(refused) >= count // 2, f"{len(refused)} of {count}")


async def large_bodies(panel: PanelProcess, report: Report, total: int) -> None:
    """With and without its length announced, with and without a token."""
    with bounded(panel, report, f"bodies of {total // MIB} MiB", BODY_MIB):
        async with ordinary(panel, report, "large bodies"):
            for path in (UPLOAD, POWER, "/login"):
                for chunked in (False, True):
                    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
                    kind = "Content-Type: " + (
                        "application/x-www-form-urlencoded" if path == "/login" else "application/json"
                    )
                    async with connected(panel) as wire:
                        await wire.send(head(panel, "POST", path, length, kind))
                        pouring = asyncio.create_task(pour(wire, total, chunked=chunked))
                        status = await wire.status(30)
                        pouring.cancel()
                        await asyncio.gather(pouring, return_exceptions=True)
                    way = "chunked" if chunked else "announced"
                    report.hold(f"{total // MIB} MiB {way} to {path} is 413", status == 413, status)


async def deep_json(panel: PanelProcess, report: Report) -> None:
    """Nested deeper than any parser's stack, and just deep enough for some."""
    with bounded(panel, report, "nested JSON", BODY_MIB):
        for depth in (900, 970, 1000, 1020, 10_000, 200_000):
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
                body = b'{"action":' + opening * depth + b"1" + closing * depth + b"}"
                if len(body) >= MIB:
                    continue
                async with connected(panel) as wire:
                    await wire.send(head(panel, "POST", POWER, f"Content-Length: {len(body)}") + body)
                    status = await wire.status(20)
                report.hold(f"JSON nested {depth} deep ({opening.decode()}) is 400", status == 400, status)


async def long_heads(panel: PanelProcess, report: Report) -> None:
    """One long line, many lines, a long address, a head without end; and a head of a usual size."""
    lines = {
        "a header of 1 MiB": head(panel, "GET", "/login", "X: " + "a" * MIB),
        "20,000 headers": head(panel, "GET", "/login", *(f"X-{number}: {'a' * 40}" for number in range(20_000))),
        "an address of 1 MiB": head(panel, "GET", "/login?" + "a" * MIB),
        "a cookie of 1 MiB": head(panel, "GET", "/hosts", "Cookie: openidcs_session=" + "a" * MIB),
        "a websocket with a header of 1 MiB": head(
            panel,
            "GET",
            "/console/host1/vm-0001/socket",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "X: " + "a" * MIB,
        ),
    }
    with bounded(panel, report, "long heads", HEAD_MIB):
        async with ordinary(panel, report, "long heads"):
            for name, data in lines.items():
                async with connected(panel) as wire:
                    writing = asyncio.create_task(wire.send(data))
                    status = await wire.status(20)
                    report.hold(f"{name} is 431", status == 431, status)
                    report.hold(f"{name} ends the connection", await wire.ended(10))
                    await asyncio.gather(writing, return_exceptions=True)
            async with connected(panel) as wire:
                await wire.send(head(panel, "GET", "/login", "Cookie: other=" + "a" * 12_000))
                report.hold("a head of 12 kB is served", (status := await wire.status(20)) == 200, status)


BROKEN = (
    b"\x82\x05hello",  # not masked
    b"\xc2\x80\x00\x00\x00\x00",  # compressed, which was not agreed on
    b"\x83\x80\x00\x00\x00\x00",  # no such opcode
    b"\x80\x80\x00\x00\x00\x00",  # goes on with nothing
    b"\x89\xfe\x01\x00" + bytes(260),  # a ping of 256 bytes
    b"\x09\x80\x00\x00\x00\x00",  # a ping in pieces
    b"\x82\xff" + b"\xff" * 8 + bytes(4),  # a length of 2^64 - 1
    b"\x81\x85\x00\x00\x00\x00hello",  # text
    b"\x88\x81\x00\x00\x00\x00\x01",  # a close with half a code
)


async def malformed_frames(panel: PanelProcess, report: Report, chance: random.Random, count: int) -> None:
    """Each way to break RFC 6455, and noise: each ends its console, and no other."""
    with bounded(panel, report, "malformed frames", FRAMES_MIB):
        async with Login(panel) as login, console(panel, "vm-0001", await login.ticket("vm-0001")) as witness:
            await greet(witness)
            left = 0
            noise = [chance.randbytes(chance.randint(20, 400)) for _ in range(count)]
            for data in (*BROKEN, *noise):
                async with console(panel, "vm-0001", await login.ticket("vm-0001")) as wire:
                    await greet(wire)
                    await wire.send(data + frame(b"\x03"))
                    if data in BROKEN:
                        left += not await wire.ended(10)
            report.hold(f"{len(BROKEN)} ways to break the protocol end the console", left == 0, f"{left} went on")
            await witness.send(frame(b"\x03\x00" + b"\x00\x00\x00\x00\x01\x40\x00\xc8"))
            async with asyncio.timeout(10):
                seen = await witness.reader.readexactly(1000)
            report.hold("a console beside them goes on", len(seen) == 1000)
