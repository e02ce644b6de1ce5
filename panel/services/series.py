"""Series of measurements, packed: two bytes a value, in rings of chunks. Nothing here knows the database.

A value is kept as the logarithm of 1 + value in 16 bits: 0 to 2 TiB/s within 0.03 %, and one code for "not known".
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import expm1, isfinite, log1p
from struct import Struct, unpack

FIELDS = (
    "cpu_percent",
    "memory_used_mib",
    "disk_read_bytes_per_second",
    "disk_write_bytes_per_second",
    "net_rx_bytes_per_second",
    "net_tx_bytes_per_second",
)
HIGHEST = 2.0**41
CODES = 65534  # 0 is a gap, 1 is zero, 65535 is HIGHEST
SCALE = CODES / log1p(HIGHEST)
POINT = Struct(f"<{len(FIELDS)}H")
GAP = bytes(POINT.size)

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How finely a series is kept: a point each ``step`` seconds for ``keep`` seconds, ``chunk`` seconds in a row."""

    step: int
    keep: int
    chunk: int

    @property
    def slots(self) -> int:
        """Rows of the ring: those that are whole, and the one being filled."""
        return self.keep // self.chunk + 1

    @property
    def chunk_bytes(self) -> int:
        return self.chunk // self.step * POINT.size

    def chunk_of(self, moment: int) -> int:
        """Where the chunk of a moment begins."""
        return moment - moment % self.chunk

    def slot_of(self, moment: int) -> int:
        """Which row of the ring a moment is in."""
        return moment // self.chunk % self.slots


HOUR, DAY = 3600, 86400
FINE = Resolution(step=10, keep=HOUR, chunk=600)
MIDDLE = Resolution(step=60, keep=DAY, chunk=HOUR)
COARSE = Resolution(step=900, keep=90 * DAY, chunk=DAY // 2)
RESOLUTIONS = (FINE, MIDDLE, COARSE)


def encode(values: Values) -> bytes:
    """A point: one value for each of ``FIELDS``, None where it is not known."""
    return POINT.pack(*(_code(value) for value in values))


def decode(points: bytes | bytearray) -> dict[str, list[float | None]]:
    """The values of points that follow one another, by field."""
    codes, table = _codes(points), _table()
    return {
        field: [_rounded(table[code]) if code else None for code in codes[column :: len(FIELDS)]]
        for column, field in enumerate(FIELDS)
    }


def decode_one(points: bytes | bytearray, field: str) -> list[float | None]:
    """The values of one field of points that follow one another."""
    table = _table()
    return [_rounded(table[code]) if code else None for code in _codes(points)[FIELDS.index(field) :: len(FIELDS)]]


def mean(points: bytes | bytearray) -> bytes:
    """One point for many: of each field the average of what is known."""
    codes, table = _codes(points), _table()
    averages: list[float | None] = []
    for column in range(len(FIELDS)):
        known = [table[code] for code in codes[column :: len(FIELDS)] if code]
        averages.append(sum(known) / len(known) if known else None)
    return encode(averages)


def patch(chunk: bytearray, resolution: Resolution, points: Mapping[int, bytes]) -> None:
    """Write points, by the moment at which they begin, into the chunk that they belong to."""
    for moment, point in points.items():
        place = moment % resolution.chunk // resolution.step * POINT.size
        chunk[place : place + POINT.size] = point


def roll_up(chunk: bytearray, source: Resolution, target: Resolution, moments: set[int]) -> dict[int, bytes]:
    """The points of ``target`` that begin at ``moments``, from the chunk of ``source`` that has all of each."""
    size = target.step // source.step * POINT.size
    made = {}
    for moment in moments:
        place = moment % source.chunk // source.step * POINT.size
        made[moment] = mean(chunk[place : place + size])
    return made


def _code(value: float | None) -> int:
    if value is None or not isfinite(value):
        return 0
    return 1 + round(log1p(min(max(value, 0.0), HIGHEST)) * SCALE)


def _codes(points: bytes | bytearray) -> tuple[int, ...]:
    return unpack(f"<{len(points) // 2}H", points)


@cache
def _table() -> array[float]:
    """What each code stands for."""
    return array("d", (expm1(max(0, code - 1) / SCALE) for code in range(CODES + 2)))


def _rounded(value: float) -> float:
    """To four digits: what is kept is no more exact, and the rest would be most of an answer's weight."""
    return round(float(f"{value:.4g}"), 2)
