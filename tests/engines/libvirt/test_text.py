"""The backlog of a serial console: what a guest floods is bounded, and what was dropped is told."""

from __future__ import annotations

from panel.engines.libvirt.text import BACKLOG_BYTES, PIECE, Backlog


def drain(backlog: Backlog) -> bytes:
    pieces = []
    while piece := backlog.take():
        assert len(piece) <= PIECE
        pieces.append(piece)
    return b"".join(pieces)


def test_what_is_read_in_time_is_whole() -> None:
    backlog = Backlog()
    backlog.put(bytes(range(256)) * 512)
    assert drain(backlog) == bytes(range(256)) * 512
    assert backlog.take() == b""


def test_a_flood_loses_its_oldest_lines_and_says_so() -> None:
    backlog = Backlog()
    lines = [b"%06d\n" % number for number in range(200_000)]
    for start in range(0, len(lines), 5000):
        backlog.put(b"".join(lines[start : start + 5000]))
    seen = drain(backlog)
    notice, _, rest = seen.partition(b"bytes were not shown ...]\r\n")
    assert len(rest) <= BACKLOG_BYTES
    assert rest.startswith(lines[-len(rest) // 7])
    assert rest.endswith(lines[-1])
    assert int(notice.split()[-1]) + len(rest) == 7 * len(lines)
