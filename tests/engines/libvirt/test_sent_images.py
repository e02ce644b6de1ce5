"""What tells an image that is on its way, and where the holes of a file are."""

from __future__ import annotations

from pathlib import Path

from panel.engines.libvirt.imageput import _section
from panel.engines.libvirt.images import mark_name, unfinished


def test_marks() -> None:
    mark = mark_name("a.b.qcow2", "ab12")
    assert unfinished([mark, "a.b.qcow2", ".coming.zz.x.img", ".coming.ab", "x.coming.ab.y.img"]) == {"a.b.qcow2"}


def test_holes(tmp_path: Path) -> None:
    """Data and holes follow one another to the end, and together are the whole file."""
    file, mib = tmp_path / "disk.img", 1024**2
    with file.open("wb") as opened:
        opened.seek(mib)
        opened.write(b"x" * mib)
        opened.truncate(3 * mib)
    found, at = [], 0
    with file.open("rb") as opened:
        while at < 3 * mib:
            data, length = _section(opened.fileno(), at, 3 * mib)
            assert length > 0
            found.append((data, length))
            at += length
    assert at == 3 * mib
    assert sum(length for data, length in found if data) >= mib
    assert file.stat().st_blocks * 512 < 3 * mib
    assert (found[0][0], found[-1][0]) == (False, False)
