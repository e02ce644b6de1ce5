"""The short form of each survival run, with a fixed seed. ``make soak`` runs them for longer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from soak.__main__ import SHARES

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

SECONDS = {"hostile": 10.0, "consoles": 4.0, "clock": 0.0, "fulldisk": 0.0, "killing": 5.0, "libvirt": 5.0}


@pytest.mark.parametrize("name", SHARES)
async def test_nothing_breaks(tmp_path: Path, name: str) -> None:
    report = await import_module(f"soak.{name}").run(tmp_path / "panel", SECONDS[name], 1)
    assert not report.broken, report.table()
    assert len(report.lines) > 3
