"""The first start of a panel makes its database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process import PanelProcess

pytestmark = pytest.mark.live


def test_it_takes_no_more_memory_than_the_next(tmp_path: Path) -> None:
    """What the making took went with the process that did it."""
    panel = PanelProcess(tmp_path)
    panel.makes_database = True
    panel.start()
    first = panel.memory_mib()
    assert panel.log.read_text().count("Database: applied") == 1
    assert panel.log.read_text().count("Access token (shown once") == 1
    panel.stop()
    panel.start()
    assert first < 1.15 * panel.memory_mib()
    assert panel.log.read_text().count("Database: applied") == 1
    panel.stop()
