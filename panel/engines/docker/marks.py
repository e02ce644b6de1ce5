"""The panel's marks: labels on what it makes, and notes of what changes later.

Labels of a container cannot change while it lives (and no container of the panel's is ever made anew), nor has the daemon a place
for addresses that are reserved for somebody who is not there yet. Both are kept as notes: empty volumes of the host whose labels
say it. They are few, survive the panel, and ``docker volume ls --filter label=openidcs.note`` shows them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from panel.engines.docker.client import Client, Json
from panel.errors import InvalidInput, NotFound
from panel.i18n import gettext_noop as _

REF, TITLE, NICS = "openidcs.ref", "openidcs.title", "openidcs.nics"
NOTE, KEY, NUMBER, VALUE = "openidcs.note", "openidcs.key", "openidcs.number", "openidcs.value"
LONGEST_TITLE = 200


class Kind(StrEnum):
    """What a note is about, and what its key is."""

    TITLE = "title"  # by ref
    LIMITS = "limits"  # by ref: {"cpu": 2, "memory": 512}; where the daemon forgets them
    RESERVED = "reserved"  # by network and MAC: ["10.78.0.9"]
    LEASED = "leased"  # by network and MAC: the address that a VM has kept from a reservation that is no more


@dataclass(frozen=True, slots=True)
class Mark:
    """What the labels of a container of the panel's say. ``nics``: (name, network, mode, MAC, address) each."""

    ref: str
    title: str
    nics: tuple[tuple[str, str, str, str, str], ...] = ()

    def labels(self) -> dict[str, str]:
        """As labels."""
        return {REF: self.ref, TITLE: self.title, NICS: json.dumps(self.nics)}


def mark_of(labels: Any) -> Mark | None:
    """None for a container that the panel did not make."""
    if not isinstance(labels, dict) or not labels.get(REF):
        return None
    try:
        rows = json.loads(labels.get(NICS) or "[]")
        nics = tuple((str(a), str(b), str(c), str(d).lower(), str(e)) for a, b, c, d, e in rows)
    except (ValueError, TypeError):
        nics = ()
    return Mark(str(labels[REF]), str(labels.get(TITLE, "")), nics)


def check_title(title: str | None) -> None:
    """``InvalidInput`` for what a label would not keep as it is."""
    if title is None:
        return
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in title):
        raise InvalidInput(_("A title is one line without control characters."), field="vm_name")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(_("A title has at most {most} characters."), field="vm_name", most=LONGEST_TITLE)


@dataclass(frozen=True, slots=True)
class Note:
    """One note. Of several with one kind and key the one with the highest number holds."""

    kind: Kind
    key: str
    number: int
    value: Any
    volume: str


class Notes:
    """The notes of one host."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = asyncio.Lock()

    async def all(self) -> dict[tuple[Kind, str], Note]:
        """Those that hold, by kind and key; one call."""
        found: dict[tuple[Kind, str], Note] = {}
        for note in await self._read():
            known = found.get((note.kind, note.key))
            if known is None or known.number < note.number:
                found[note.kind, note.key] = note
        return found

    async def write(self, kind: Kind, key: str, value: Any) -> None:
        """Let this hold; None: nothing. The old one goes after the new one is there."""
        async with self._lock:
            old = [note for note in await self._read() if (note.kind, note.key) == (kind, key)]
            if value is not None:
                if old and max(old, key=lambda note: note.number).value == value:
                    return
                number = max((note.number for note in old), default=0) + 1
                digest = hashlib.sha256(f"{kind} {key} {number}".encode()).hexdigest()[:24]
                labels = {NOTE: kind.value, KEY: key, NUMBER: str(number), VALUE: json.dumps(value)}
                await self._client.post("volumes/create", {"Name": f"openidcs-note-{digest}", "Labels": labels})
            await self._drop(old)

    async def forget(self, kinds: Iterable[Kind], keys: Iterable[str]) -> None:
        """Nothing of these holds any more."""
        wanted = {(kind, key) for kind in kinds for key in keys}
        async with self._lock:
            await self._drop([note for note in await self._read() if (note.kind, note.key) in wanted])

    async def _drop(self, notes: Iterable[Note]) -> None:
        for note in notes:
            try:
                await self._client.delete(f"volumes/{quote(note.volume, safe='')}")
            except NotFound:
                continue

    async def _read(self) -> list[Note]:
        told = await self._client.get("volumes", filters=json.dumps({"label": [NOTE]}))
        volumes = (told or {}).get("Volumes") or ()
        return [note for note in map(_note, volumes) if note is not None]


def _note(volume: Json) -> Note | None:
    labels = volume.get("Labels") or {}
    try:
        kind, number, value = Kind(labels[NOTE]), int(labels[NUMBER]), json.loads(labels[VALUE])
        return Note(kind, labels[KEY], number, value, str(volume["Name"]))
    except (KeyError, ValueError):
        return None


def at(network: str, mac: str) -> str:
    """The key of what is noted of a MAC on a network."""
    return f"{network} {mac.lower()}"
