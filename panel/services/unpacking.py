"""Packed images: xz, gzip and bzip2, known by their first bytes and unpacked as a stream.

A packed file is foreign, and small beside what it may become: what is written has a limit, what is in memory too, and the room of
the disk is looked at again and again. Zeros become holes, so that a raw disk takes what is in it.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _
from panel.services.imagefiles import check_room, too_large, unwritable
from panel.services.taskcontext import TaskContext

MIB = 1024**2
PIECE = MIB  # bytes that are read, and bytes that come of them, at once
ROOM_EVERY = 256 * MIB  # bytes between two looks at the free room of the disk
MEMORY = 192 * MIB  # for xz; its highest preset takes 65 MiB
MAGIC = {b"\xfd7zXZ\x00": "xz", b"\x1f\x8b\x08": "gz", b"BZh": "bz2"}
LONGEST = max(map(len, MAGIC))
SUFFIXES = frozenset(f".{kind}" for kind in MAGIC.values())
HOLE = bytes(64 * 1024)

Tell = Callable[[int, int], Awaitable[None]]


class _Stream(Protocol):
    """What unpacks one stream, as ``lzma`` and ``bz2`` have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """One member of a gzip file. zlib keeps what it did not take; the others keep it inside."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _new(kind: str) -> _Stream:
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY)
    return _Gzip() if kind == "gz" else bz2.BZ2Decompressor()


def unpacked_name(name: str) -> str:
    """What a file is called when it is unpacked: ``disk.img`` of ``disk.img.xz``; any other name as it is."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES and path.stem else name


async def packed_as(file: Path, shown: str) -> str | None:
    """``xz``, ``gz`` or ``bz2``, by the first bytes; None for what is none of them. ``InvalidInput`` when it cannot be read."""
    try:
        head = await asyncio.to_thread(_head, file)
    except OSError as error:
        raise InvalidInput(_("{path} cannot be read: {reason}."), path=shown, reason=error.strerror) from error
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(LONGEST)


async def unpack(packed: Path, target: Path, kind: str, shown: str, field: str, most: int, tell: Tell) -> None:
    """Write what is in ``packed`` to ``target``, which is removed again when that fails.

    Args:
        shown: what messages call the file; ``field``: where it was named.
        most: bytes that may come of it.
        tell: is told, now and then, the bytes read and the bytes that came of them.

    Raises:
        InvalidInput: it is damaged, cut off, or wants more memory than ``MEMORY``.
        TooLarge: more came of it than ``most``.
        Conflict: the disk is full.
    """
    try:
        with packed.open("rb") as source, target.open("wb") as sink:
            await _Unpacking(source, sink, kind, shown, field, most).run(target.parent, tell)
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
        _remove(target)
        if isinstance(error, OSError) and error.errno is not None:  # without one, it is bz2 that speaks of the file
            raise unwritable(shown, error) from error
        raise InvalidInput(
            _("{field}: {path} cannot be unpacked: it is no whole {kind} file, or needs more than {most} MiB of memory."),
            field=field, path=shown, kind=kind, most=MEMORY // MIB,
        ) from error  # fmt: skip
    except BaseException:
        _remove(target)
        raise


class _Unpacking:
    def __init__(self, source: IO[bytes], sink: IO[bytes], kind: str, shown: str, field: str, most: int) -> None:
        self._source, self._sink, self._kind = source, sink, kind
        self._shown, self._field, self._most = shown, field, most
        self._stream = _new(kind)
        self._waiting = b""  # read, and not given to a stream yet
        self._done = 0

    async def run(self, folder: Path, tell: Tell) -> None:
        looked = 0
        check_room(folder, 0)
        while await self._piece():
            if self._done > self._most:
                raise too_large(self._shown, self._done, self._most)
            if self._done - looked >= ROOM_EVERY:
                looked = self._done
                check_room(folder, 0)
            await tell(self._source.tell(), self._done)
        self._sink.truncate(self._done)  # a hole at the end is part of it

    async def _piece(self) -> bool:
        work = asyncio.ensure_future(asyncio.to_thread(self._step))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:  # the thread writes; its files are closed when it has ended
            await asyncio.wait([work])
            raise

    def _step(self) -> bool:
        """Unpack at most one piece; whether there is more. ``EOFError`` when the file ends too early."""
        if self._stream.eof and not self._next_stream():
            return False
        if self._stream.needs_input and not self._waiting:
            self._waiting = self._source.read(PIECE)
            if not self._waiting:
                raise EOFError
        data, self._waiting = self._waiting, b""
        self._put(self._stream.decompress(data, PIECE))
        return True

    def _next_stream(self) -> bool:
        """A file may be several streams, one after the other, with zeros between and after them."""
        rest = self._stream.unused_data
        while not rest.lstrip(b"\0"):
            rest = self._source.read(PIECE)
            if not rest:
                return False
        self._waiting = rest.lstrip(b"\0")
        self._stream = _new(self._kind)
        return True

    def _put(self, data: bytes) -> None:
        for start in range(0, len(data), len(HOLE)):
            part = data[start : start + len(HOLE)]
            if part == HOLE[: len(part)]:
                self._sink.seek(len(part), 1)
            else:
                self._sink.write(part)
        self._done += len(data)


def unpacking_told(context: TaskContext, shown: str, percent: int = 97) -> Tell:
    """Tells a task, at most once a second, how far unpacking is; the bar stands at ``percent`` meanwhile."""
    told = time.monotonic()

    async def tell(read: int, done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 1.0:
            told = time.monotonic()
            await context.progress(
                _("Unpacking {name}: {done} MiB of {read} MiB"),
                percent=percent,
                name=shown,
                done=done // MIB,
                read=read // MIB,
            )

    return tell


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
