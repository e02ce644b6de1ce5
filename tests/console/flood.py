"""One flood in a process of its own, so that its memory is its own: ``python -m tests.console.flood WHICH ROAD FOLDER``.

``down``: the VM pushes and the browser does not read; ``up``: the browser pushes and the VM does not read; ``tiny``: the
browser pushes one-byte messages. Prints JSON: how much was pushed before it stood still, and how the memory grew.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from panel.models.database import close_database, migrate, open_database
from tests.console.browser import dial, fresh, read
from tests.console.kit import limit_stalls, make_panel, rss_mib, screen, serve

TOTAL = 300 * 2**20
PIECE = bytes(64 * 1024)
TINY = Frame(Opcode.BINARY, b"x").serialize(mask=True)
MANY = 500
SETTLED = 1.5  # seconds without progress: every buffer on the way is full


class Pushed:
    """How much went out of the pushing side."""

    def __init__(self) -> None:
        self.bytes = 0

    async def settle(self) -> None:
        """Wait until it stands still, or all is out."""
        last = -1
        while last != self.bytes and self.bytes < TOTAL:
            last = self.bytes
            await asyncio.sleep(SETTLED)


async def flood(which: str, road: str, folder: Path) -> dict[str, float]:
    """Run it."""
    url = f"sqlite://{folder / 'panel.sqlite3'}"
    await migrate(url)
    await open_database(url)
    panel = await make_panel(folder)
    pushed = Pushed()
    patch = pytest.MonkeyPatch()
    limit_stalls(patch, browser=60.0, vm=5.0)

    async def vm(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"RFB 003.008\n")
        while which == "down" and pushed.bytes < TOTAL:
            writer.write(PIECE)
            await writer.drain()
            pushed.bytes += len(PIECE)
        await asyncio.sleep(600)

    async def push(socket: Any) -> None:
        while (
            which == "tiny" and pushed.bytes < TOTAL
        ):  # many in one write: it is the panel's work that is looked at, not the client's
            socket.transport.write(TINY * MANY)
            await socket.drain()
            pushed.bytes += MANY
        while pushed.bytes < TOTAL:
            await socket.send(PIECE)
            pushed.bytes += len(PIECE)

    async with screen(patch, vm), serve(panel.app, road) as place:
        async with dial(panel, place, await fresh(panel), max_queue=1, close_timeout=0.1) as socket:
            await read(socket, 12)
            before = rss_mib()
            sender = asyncio.create_task(push(socket) if which != "down" else asyncio.sleep(0))
            await pushed.settle()
            grown = rss_mib() - before
            sender.cancel()
            socket.transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(8):
                while panel.consoles.open_count:
                    await asyncio.sleep(0.05)
        left = panel.consoles.open_count
        await panel.services.pool.close()
    await panel.consoles.stop()
    await close_database()
    return {"pushed_mib": pushed.bytes / 2**20, "grown_mib": grown, "left": left}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(flood(sys.argv[1], sys.argv[2], Path(sys.argv[3])))) + "\n")
