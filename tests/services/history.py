"""A made-up history, laid into a database as the panel would have written it."""

from __future__ import annotations

from collections.abc import Iterator
from math import sin

from panel.services.series import RESOLUTIONS, encode, patch

Row = tuple[int, int, int, bytes]  # step_seconds, slot, start, points


def point(moment: int) -> bytes:
    """A busy afternoon."""
    wave = 1 + sin(moment / 300)
    return encode((40 * wave, 200 + 100 * wave, 3e5 * wave, 1e5, 2e6 * wave, 4e5 * (2 - wave)))


def rows(now: int, gap: range = range(0)) -> Iterator[Row]:
    """Full rings of all resolutions up to ``now``; ``gap``: seconds before now that were not measured."""
    for resolution in RESOLUTIONS:
        chunks: dict[int, bytearray] = {}
        first = now // resolution.step * resolution.step - resolution.keep
        for moment in range(first, now, resolution.step):
            if now - moment not in gap:
                start = resolution.chunk_of(moment)
                chunk = chunks.setdefault(start, bytearray(resolution.chunk_bytes))
                patch(chunk, resolution, {moment: point(moment)})
        for start, chunk in chunks.items():
            yield resolution.step, resolution.slot_of(start), start, bytes(chunk)
