"""A line the size of a word: the CPU of a VM over the last hour, drawn on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panel.i18n import gettext_noop as _
from panel.pages.filters import percent
from panel.pages.words import say

POINTS = 20
STEP, HEIGHT = 3, 14  # of a point to the next, and from 0 to 100 %


@dataclass(frozen=True, slots=True)
class Spark:
    """``path``: the ``d`` of an SVG path in a box of 57 x 14; ``label``: the same in words."""

    path: str
    label: str


def spark_of(minutes: Sequence[float | None]) -> Spark | None:
    """The line of percentages at equal distances, a multiple of ``POINTS`` of them. None when none is known."""
    each = len(minutes) // POINTS
    means = [_mean(minutes[first : first + each]) for first in range(0, len(minutes), each)]
    known = [value for value in minutes if value is not None]
    if not known:
        return None
    label = say(_("CPU in the last hour: {low} to {high}"), low=percent(min(known)), high=percent(max(known)))
    return Spark(_path(means), label)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _path(values: Sequence[float | None]) -> str:
    """Steps from point to point, which compress well; a gap begins a new line, a point alone is a dot."""
    pieces: list[str] = []
    last: int | None = None
    for place, value in enumerate(values):
        if value is None:
            last = None
            continue
        y = round(HEIGHT * (1 - min(max(value, 0.0), 100.0) / 100))
        pieces.append(f"M{place * STEP} {y}h0" if last is None else f"l{STEP} {y - last}")
        last = y
    return "".join(pieces)
