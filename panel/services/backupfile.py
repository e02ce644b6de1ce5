"""The file of a backup: gzip over lines of JSON, so that ``zcat`` shows what is in it.

The first line is the head, then a line for each table (``{"table": "host"}``) followed by one for each of its rows, then the
foot, which has the number of rows and a digest for each table: a file that was cut or changed is noticed before a row of it
is used.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from panel.errors import ConfigError
from panel.models.dump import Digest, Row

FORMAT = 1
LONGEST_LINE = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a backup says of itself: which panel made it and when (ISO 8601), a text sealed with the key that its secrets are
    sealed with, and that key where it was asked for."""

    version: str
    made_at: str
    sealed: str
    key: str = ""


class Writer:
    """Writes head, tables and rows; ``backup_writer`` adds the foot."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digests: dict[str, Digest] = {}

    def line(self, value: Any) -> None:
        """One line."""
        self._stream.write(orjson.dumps(value) + b"\n")

    def table(self, name: str) -> Digest:
        """Rows that follow are of this table."""
        self.line({"table": name})
        return self.digests.setdefault(name, Digest())


@contextmanager
def backup_writer(path: Path, head: Head) -> Iterator[Writer]:
    """A new file, readable by its owner only, that is there whole at the end of the block, or not at all.

    Raises:
        ConfigError: it cannot be written; says why.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as stream:
                writer = Writer(stream)  # type: ignore[arg-type]
                writer.line(
                    {
                        "openidcs_backup": FORMAT,
                        **{name: getattr(head, name) for name in Head.__slots__ if getattr(head, name)},
                    }
                )
                yield writer
                writer.line(
                    {"end": {name: {"rows": it.rows, "digest": it.value} for name, it in writer.digests.items()}}
                )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            "{path} cannot be written: {reason}.", path=path.name, reason=error.strerror or "?"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_head(path: Path) -> Head:
    """What the file says of itself, without looking at the rest.

    Raises:
        ConfigError: it is no backup, or one that a newer panel made.
    """
    first = next(_lines(path), None)
    if not isinstance(first, dict) or "openidcs_backup" not in first:
        raise ConfigError("{path} is not a backup of a panel.", path=path.name)
    if first["openidcs_backup"] != FORMAT:
        raise ConfigError("{path} was made by a newer panel. Update this one first.", path=path.name)
    known = {name: value for name, value in first.items() if name in Head.__slots__ and isinstance(value, str)}
    try:
        return Head(**known)
    except TypeError as error:
        raise ConfigError("{path} is not a backup of a panel.", path=path.name) from error


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(table, row) for every row.

    Raises:
        ConfigError: the file was cut or changed.
    """
    table = ""
    digests: dict[str, Digest] = {}
    lines = _lines(path)
    next(lines, None)
    for line in lines:
        if isinstance(line, dict) and set(line) == {"end"}:
            found = {name: {"rows": it.rows, "digest": it.value} for name, it in digests.items()}
            if line["end"] == found and next(lines, None) is None:
                return
            break
        if isinstance(line, dict) and set(line) == {"table"}:
            table = str(line["table"])
            digests.setdefault(table, Digest())
        elif isinstance(line, list) and table and len(line) == 1 and isinstance(line[0], dict):
            digests[table].add(line[0])
            yield table, line[0]
        else:
            break
    raise ConfigError("{path} is damaged: it was cut or changed after it was made.", path=path.name)


def _lines(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                yield orjson.loads(line)
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise ConfigError(
                "{path} cannot be read: {reason}.", path=path.name, reason=error.strerror or "?"
            ) from error
        raise ConfigError("{path} is not a backup of a panel.", path=path.name) from error
    except (EOFError, zlib.error, orjson.JSONDecodeError) as error:
        raise ConfigError("{path} is damaged: it was cut or changed after it was made.", path=path.name) from error
