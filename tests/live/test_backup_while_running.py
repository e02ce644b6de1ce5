"""A backup of a panel that runs, and what a second process and a restore are told meanwhile: real processes, one database."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.process import PanelProcess

pytestmark = pytest.mark.live


def refusal(panel: PanelProcess, *arguments: str) -> str:
    """What a command says that must fail."""
    with pytest.raises(subprocess.CalledProcessError) as failure:
        panel.cli(*arguments)
    return str(failure.value.stderr)


def test_backup_restart_restore(tmp_path: Path) -> None:
    panel = PanelProcess(tmp_path, fake_engine="1")
    panel.start()
    try:
        for name in ("h1", "h2"):
            panel.ok(
                "POST", "/api/server/create", {"server_name": name, "engine_type": "FakeEngine", "server_addr": name}
            )
        file = tmp_path / "panel.gz"
        assert "Saved " in panel.cli("backup", str(file))
        panel.ok("DELETE", "/api/server/delete/h2")
        for command in (("serve",), ("restore", "--yes", str(file))):
            assert "serves this database already" in refusal(panel, *command)
        assert len(panel.ok("GET", "/api/server/detail")["hosts"]) == 1, "the first one serves on"
        panel.kill()
        assert "Restored " in panel.cli("restore", "--yes", str(file))
        panel.start()
        assert len(panel.ok("GET", "/api/server/detail")["hosts"]) == 2
        panel.until("/api/server/detail/h2", lambda host: host["health"] == "online")
    finally:
        panel.kill()
