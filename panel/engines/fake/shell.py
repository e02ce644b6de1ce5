"""The terminal of a fake VM: a line discipline like a tty's, and a shell with the few commands that tests and visitors need."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable

from panel.engines.consoletypes import TextSize

CHECK_SECONDS = 0.2
PIECE = 4096
INTERRUPT, END, ESCAPE, CR, NL = 0x03, 0x04, 0x1B, 0x0D, 0x0A
ERASE = (0x08, 0x7F)
HELP = "cat  clear  echo TEXT  exit  help  sha256sum  stty [-]echo | size  yes"


class Shell:
    """One viewer's connection to one VM's shell. ``running`` false ends it."""

    def __init__(self, name: str, size: TextSize, running: Callable[[], bool]) -> None:
        self.name = name
        self.size = size
        self.running = running
        self._echo = True
        self._input = bytearray()
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "cat": self._cat,
            "clear": lambda _rest: self._show("\x1b[H\x1b[2J"),
            "echo": lambda rest: self._show(re.sub("['\"]", "", rest) + "\n"),
            "help": lambda _rest: self._show(HELP + "\n"),
            "sha256sum": self._sha256sum,
            "stty": self._stty,
            "yes": self._yes,
        }

    async def resize(self, size: TextSize) -> None:
        """What ``stty size`` tells from now on."""
        self.size = size

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side ends, or the VM does."""
        self._reader, self._writer = reader, writer
        talk = asyncio.create_task(self._talk())
        try:
            while not talk.done() and self.running():
                await asyncio.wait({talk}, timeout=CHECK_SECONDS)
        finally:
            talk.cancel()
            writer.close()

    async def _talk(self) -> None:
        try:
            await self._show(f"\x1b[1m{self.name}\x1b[0m is imaginary, and so is its shell. Try: help\n")
            while True:
                await self._show(f"\x1b[32mroot@{self.name}\x1b[0m:~# ")
                line = await self._line()
                if line is None or (words := line.decode(errors="replace").strip()) == "exit":
                    await self._show("exit\n")
                    return
                name, _space, rest = words.partition(" ")
                if name:
                    await self._commands.get(name, lambda _rest, name=name: self._unknown(name))(rest.strip())
        except (OSError, EOFError):
            return

    async def _unknown(self, name: str) -> None:
        await self._show(f"sh: {name}: not found\n")

    async def _cat(self, _rest: str) -> None:
        while line := await self._line():
            await self._show(line)

    async def _sha256sum(self, _rest: str) -> None:
        digest = hashlib.sha256()
        while line := await self._line():
            digest.update(line)
        await self._show(f"{digest.hexdigest()}  -\n")

    async def _stty(self, rest: str) -> None:
        if rest == "size":
            await self._show(f"{self.size.rows} {self.size.columns}\n")
        elif rest in {"echo", "-echo"}:
            self._echo = rest == "echo"
        else:
            await self._show(f"stty: invalid argument '{rest}'\n")

    async def _yes(self, _rest: str) -> None:
        """A flood, until Ctrl+C."""
        while INTERRUPT not in self._input:
            more = asyncio.create_task(self._reader.read(PIECE))
            try:
                while not more.done():
                    await self._show("y\n" * 1000)
            finally:
                more.cancel()
            self._input = bytearray(_or_end(more.result()))
        del self._input[: self._input.index(INTERRUPT) + 1]
        await self._show("^C\n")

    async def _line(self) -> bytes | None:
        """A line with its end, edited and echoed as a tty does; what was typed before Ctrl+D, None when that is nothing.
        Ctrl+C gives an empty line."""
        line = bytearray()
        echo = bytearray()
        while True:
            if not self._input:
                await self._show(bytes(echo))
                echo.clear()
                self._input.extend(_or_end(await self._reader.read(PIECE)))
            byte = self._input.pop(0)
            if byte in {CR, NL}:
                await self._show(bytes(echo) + (b"\n" if self._echo else b""))
                return bytes(line) + b"\n"
            if byte == INTERRUPT:
                await self._show(bytes(echo) + b"^C\n")
                return b""
            if byte == END:
                await self._show(bytes(echo))
                return bytes(line) or None
            if byte in ERASE:
                echo += _erase(line) if self._echo else b""
            elif byte == ESCAPE:  # an arrow or function key: nothing to do with it
                await self._skip_sequence()
            else:
                line.append(byte)
                echo += bytes([byte]) if self._echo else b""

    async def _skip_sequence(self) -> None:
        """Leave out what follows an Escape, as far as it came with it."""
        if bytes(self._input[:1]) in {b"[", b"O"}:
            del self._input[0]
            while self._input and not 0x40 <= self._input.pop(0) <= 0x7E:
                pass

    async def _show(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self._writer.write(data.replace(b"\n", b"\r\n"))
        await self._writer.drain()
        await asyncio.sleep(0)  # a flood leaves others their turn


def _or_end(data: bytes) -> bytes:
    if not data:
        raise EOFError
    return data


def _erase(line: bytearray) -> bytes:
    """Take the last character off ``line``; what wipes it off the screen."""
    if not line:
        return b""
    while len(line) > 1 and line[-1] & 0xC0 == 0x80:
        line.pop()
    line.pop()
    return b"\b \b"
