"""Programs in a running container, by the daemon's exec."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from panel.engines.docker.client import Client, Json, Streams, container
from panel.errors import EngineTimeout, PanelError
from panel.i18n import gettext_noop as _

RUN_SECONDS = 20.0
MOST_OUTPUT_BYTES = 64 * 1024
ROOT = "0"  # by its number: an image need not have names


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended, and what it wrote (both streams together)."""

    code: int
    output: str


async def begin(
    client: Client, ref: str, command: list[str], *, tty: bool, env: tuple[str, ...] = (), user: str = ROOT
) -> str:
    """Prepare a program; its number. An empty ``user`` is the image's own. ``Conflict`` when the container does not run."""
    body: Json = {
        "Cmd": command, "Tty": tty, "Env": list(env), "AttachStdin": True, "AttachStdout": True, "AttachStderr": True,
        "User": user,
    }  # fmt: skip
    return str((await client.post(container(ref, "/exec"), body))["Id"])


async def attach(client: Client, number: str, *, tty: bool) -> Streams:
    """Start it. Without ``tty`` its output comes in frames (``unframed``)."""
    return await client.hijack(f"exec/{number}/start", {"Detach": False, "Tty": tty})


async def run(client: Client, ref: str, command: list[str], stdin: str = "") -> Ran:
    """Run a program to its end. What it reads is neither in its arguments nor in its environment: others would see it there."""
    number = await begin(client, ref, command, tty=False)
    reader, writer = await attach(client, number, tty=False)
    said = b""
    try:
        async with asyncio.timeout(RUN_SECONDS):
            writer.write(stdin.encode())
            await writer.drain()
            while (part := await reader.read(8192)) and len(said) < MOST_OUTPUT_BYTES:
                said += part
    except TimeoutError:
        raise EngineTimeout(
            _("A program in the container did not end within {seconds} s."), seconds=round(RUN_SECONDS)
        ) from None
    except OSError:
        pass  # it broke off: its end says how it went
    finally:
        client.dropped(writer)
        writer.transport.abort()
    return Ran(await _code(client, number), unframed(said).decode(errors="replace"))


async def start_quietly(client: Client, ref: str, command: list[str]) -> None:
    """Start a program and let it be; when that fails, so be it."""
    with suppress(PanelError):
        number = await begin(client, ref, command, tty=False)
        await client.post(f"exec/{number}/start", {"Detach": True, "Tty": False})


async def _code(client: Client, number: str) -> int:
    """The program's exit code: a moment after its output has ended."""
    for _try in range(20):
        seen = await client.get(f"exec/{number}/json")
        if not seen.get("Running"):
            return int(seen.get("ExitCode") or 0)
        await asyncio.sleep(0.05)
    return -1


def unframed(data: bytes) -> bytes:
    """What is in a stream of frames: a type, three zeros, the length in 4 bytes, then so many bytes. Source: the API's reference,
    "Attach to a container". What is no frame is passed as it is: some errors come so."""
    found, at = b"", 0
    while at < len(data):
        if len(data) - at < 8 or data[at] > 2 or data[at + 1 : at + 4] != b"\0\0\0":
            return found + data[at:]
        size = int.from_bytes(data[at + 4 : at + 8])
        found += data[at + 8 : at + 8 + size]
        at += 8 + size
    return found
