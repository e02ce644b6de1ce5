"""Packed series: what goes in comes out, averages are averages, gaps stay gaps, rings have an end."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.services.series import (
    COARSE,
    FIELDS,
    FINE,
    GAP,
    HIGHEST,
    MIDDLE,
    POINT,
    RESOLUTIONS,
    Resolution,
    decode,
    encode,
    mean,
    patch,
    roll_up,
)

VALUE = st.none() | st.floats(0, HIGHEST)
POINTS = st.lists(st.tuples(*[VALUE] * len(FIELDS)), min_size=1, max_size=15)


def near(found: float | None, wanted: float | None) -> bool:
    """Within the 0.03 % of 1 + value that the code promises, and the rounding of what is shown."""
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) <= 8e-4 * (1 + wanted) + (0.006 if wanted < 1001 else 0.6)


@given(POINTS)
def test_what_goes_in_comes_out(points: list[tuple[float | None, ...]]) -> None:
    columns = decode(b"".join(map(encode, points)))
    for place, field in enumerate(FIELDS):
        assert all(map(near, columns[field], (point[place] for point in points)))


@pytest.mark.parametrize(
    ("value", "stored"),
    [(0.0, 0.0), (100.0, 100.0), (-5.0, 0.0), (1e30, HIGHEST), (nan, None), (inf, None), (None, None)],
)
def test_edges(value: float | None, stored: float | None) -> None:
    assert near(decode(encode([value] * len(FIELDS)))["cpu_percent"][0], stored)


@given(POINTS)
def test_a_mean_is_the_average_of_what_is_known(points: list[tuple[float | None, ...]]) -> None:
    columns = decode(mean(b"".join(map(encode, points))))
    for place, field in enumerate(FIELDS):
        known = [value for point in points if (value := point[place]) is not None]
        wanted = sum(known) / len(known) if known else None
        found = columns[field][0]
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            assert abs(found - wanted) <= 11e-4 * (1 + wanted) + 0.6


def test_gaps_stay_gaps() -> None:
    assert encode([None] * len(FIELDS)) == GAP == mean(GAP * 6)
    assert all(values == [None] for values in decode(GAP).values())


@given(st.data())
def test_roll_ups_read_exactly_their_stretch(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from([(FINE, MIDDLE), (MIDDLE, COARSE)]))
    start = source.chunk * data.draw(st.integers(0, 10**6))
    moments = st.integers(0, source.chunk // source.step - 1).map(lambda place: start + place * source.step)
    values = data.draw(st.dictionaries(moments, st.floats(0, 100)))
    chunk = bytearray(source.chunk_bytes)
    patch(chunk, source, {moment: encode([value] * len(FIELDS)) for moment, value in values.items()})
    wanted = {moment - moment % target.step for moment in values}
    made = roll_up(chunk, source, target, wanted)
    assert set(made) == wanted
    for begins, point in made.items():
        inside = [value for moment, value in values.items() if begins <= moment < begins + target.step]
        found = decode(point)["net_tx_bytes_per_second"][0]
        assert found is not None
        assert abs(found - sum(inside) / len(inside)) < 0.07


@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=lambda resolution: f"{resolution.step}s")
def test_rings_keep_all_they_promise(resolution: Resolution) -> None:
    """At any moment the rows of the ring are different ones, and reach back far enough."""
    for now in range(0, resolution.chunk * 3, resolution.step * 7):
        starts = {resolution.chunk_of(moment) for moment in range(now - resolution.keep, now + 1, resolution.chunk)}
        starts.add(resolution.chunk_of(now))
        assert len({resolution.slot_of(start) for start in starts}) == len(starts) <= resolution.slots


def test_each_chunk_holds_whole_points_of_the_next() -> None:
    for source, target in ((FINE, MIDDLE), (MIDDLE, COARSE)):
        assert source.chunk % target.step == target.step % source.step == 0
    assert sum(r.slots * r.chunk_bytes for r in RESOLUTIONS) < 128 * 1024
    assert POINT.size == 2 * len(FIELDS)
