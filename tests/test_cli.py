"""The command line, over a data folder of its own: the same services, one line for an error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from panel import __version__
from panel.cli import main
from panel.engines.fake.world import world
from panel.engines.types import PowerState
from panel.models.holding import held

pytestmark = pytest.mark.slow


class Cli:
    """Runs ``openidcs`` in this process, as a shell would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PANEL_DATA_FOLDER": str(folder), "PANEL_FAKE_ENGINE": "1"}

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        return CliRunner().invoke(main, list(arguments), input=stdin, env=self.environment | environment)

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """What it prints; it must succeed."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def fails(self, *arguments: str, **environment: str) -> str:
        """The one line that it prints when it fails."""
        result = self.run(*arguments, **environment)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("Error: ")
        return lines[0]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    before = structlog.get_config()
    yield Cli(tmp_path / "data")
    structlog.configure(**before)


def test_version_and_help(cli: Cli) -> None:
    assert cli.ok("--version") == f"openidcs, version {__version__}\n"
    for arguments in ([], ["serve"], ["migrate"], ["token"], ["host", "add"], ["image"], ["config", "load"]):
        assert "Usage: " in cli.ok(*arguments, "--help")
    assert not cli.folder.exists(), "asking for help makes nothing"


def test_migrate_twice(cli: Cli) -> None:
    assert "0001_initial" in cli.ok("migrate")
    assert cli.ok("migrate") == "Nothing to apply.\n"


def test_token(cli: Cli) -> None:
    first = cli.ok("token", "show").strip()
    assert cli.ok("token", "show").strip() == first
    second = cli.ok("token", "reset").strip()
    assert second != first
    assert len(second.splitlines()) == 1, "a script reads it from standard output"
    assert cli.ok("token", "show").strip() == second
    assert "is set" in cli.ok("token", "set", "my-own-token")
    assert cli.ok("token", "show").strip() == "my-own-token"
    cli.ok("token", "set", stdin="from-standard-input\n")
    assert cli.ok("token", "show").strip() == "from-standard-input"
    assert "8 to 256" in cli.fails("token", "set", "short")


def test_hosts(cli: Cli) -> None:
    assert cli.ok("host", "list").split() == ["NAME", "ENGINE", "ADDRESS", "HEALTH", "VERSION"]
    added = cli.ok("host", "add", "h1", "--engine", "fake", "--address", "w", "--option", "vms=3", "--user", "u")
    assert "Added h1: Fake 1.0 on w." in added
    assert "Note: This host is imaginary" in added
    listed = cli.ok("host", "list").splitlines()[1].split()
    assert listed[:4] == ["h1", "fake", "w", "unknown"]
    assert "Fake 1.0 on w: 16 CPUs" in cli.ok("host", "test", "h1")
    assert "There is a host h1 already." in cli.fails("host", "add", "h1", "--engine", "fake")
    assert "There is no host h9." in cli.fails("host", "test", "h9")
    assert "refuses" in cli.fails("host", "add", "h2", "--engine", "fake", "--option", "behaviour=refusing")
    assert "server_name" in cli.fails("host", "add", "a b", "--engine", "fake")
    wrong = cli.run("host", "add", "h3", "--engine", "abacus")
    assert wrong.exit_code == 2
    wrong = cli.run("host", "add", "h3", "--engine", "fake", "--option", "novalue")
    assert wrong.exit_code == 2
    assert "NAME=VALUE" in wrong.output


def test_the_fake_engine_is_offered_only_when_asked_for(cli: Cli) -> None:
    assert "engine_type" in cli.fails("host", "add", "h1", "--engine", "fake", PANEL_FAKE_ENGINE="0")


def test_images(cli: Cli) -> None:
    cli.ok("host", "add", "h1", "--engine", "fake")
    assert "Debian 12" in cli.ok("image", "list", "--host", "h1")
    assert "There is no host local." in cli.fails("image", "list")


def test_save_and_load(cli: Cli, tmp_path: Path) -> None:
    assert "Save first" in cli.fails("config", "load")
    cli.ok("host", "add", "h1", "--engine", "fake", "--option", "server_pass=host-secret")
    assert "configuration.json" in cli.ok("config", "save")
    saved = cli.folder / "configuration.json"
    assert [host["name"] for host in json.loads(saved.read_text())["hosts"]] == ["h1"]
    assert "host-secret" not in saved.read_text()
    elsewhere = tmp_path / "backup.json"
    cli.ok("config", "save", str(elsewhere))
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    assert cli.ok("config", "load", str(elsewhere)) == "Loaded 1 hosts and 0 VMs.\n"
    elsewhere.write_text("{}")
    assert "backup.json is not a saved configuration" in cli.fails("config", "load", str(elsewhere))
    assert "cannot be written" in cli.fails("config", "save", str(tmp_path / "no" / "folder" / "x.json"))
    elsewhere.write_bytes(saved.read_bytes())
    other = Cli(tmp_path / "other")
    assert "another secret.key" in other.fails("config", "load", str(elsewhere))


def test_backup_and_restore(cli: Cli, tmp_path: Path) -> None:
    token = cli.ok("token", "show")
    cli.ok("host", "add", "h1", "--engine", "fake", "--option", "server_pass=host-secret")
    file = tmp_path / "panel.gz"
    assert "Keep a copy of secret.key" in cli.ok("backup", str(file))
    cli.ok("token", "reset")
    cli.ok("host", "add", "h2", "--engine", "fake")
    assert cli.run("restore", str(file), stdin="n\n").exit_code == 1
    assert "h2" in cli.ok("host", "list")
    assert "Restored " in cli.ok("restore", "--yes", str(file))
    assert cli.ok("token", "show") == token
    assert [line.split()[0] for line in cli.ok("host", "list").splitlines()] == ["NAME", "h1"]
    file.write_bytes(b"no backup")
    assert "panel.gz is not a backup of a panel." in cli.fails("restore", "--yes", str(file))
    moved = f"sqlite://{tmp_path}/moved.sqlite3"
    assert "Copied and compared" in cli.ok("migrate-to", moved)
    assert "is not empty" in cli.fails("migrate-to", moved)
    assert "uses already" in cli.fails("migrate-to", f"sqlite://{cli.folder}/panel.sqlite3")
    assert "Copied" not in cli.fails("migrate-to", "postgres://nobody:very-secret@127.0.0.1:1/x")
    assert "very-secret" not in cli.fails("migrate-to", "postgres://nobody:very-secret@127.0.0.1:1/x")


def test_a_second_process_on_sqlite_is_refused(cli: Cli) -> None:
    cli.ok("token", "show")
    with held(f"sqlite://{cli.folder}/panel.sqlite3"):
        assert f"Another process ({os.getpid()}) serves this database already." in cli.fails("serve")
        cli.ok("token", "show")


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PANEL_PORT", "many", "port"),
        ("PANEL_DATABASE_URL", "mysql://a:b@localhost/x", "sqlite:// or postgres://"),
        ("PANEL_DATABASE_URL", "postgres://nobody:x@127.0.0.1:1/x", "cannot be migrated"),
        ("PANEL_DATABASE_URL", "sqlite:///proc/nowhere/x.sqlite3", "cannot be migrated"),
        ("PANEL_DATA_FOLDER", "/proc/nowhere", "secret.key cannot be used"),
    ],
)
def test_what_is_set_wrong_is_one_line(cli: Cli, variable: str, value: str, named: str) -> None:
    assert named in cli.fails("token", "show", **{variable: value})


def test_a_key_that_others_can_read(cli: Cli) -> None:
    cli.ok("token", "show")
    (cli.folder / "secret.key").chmod(0o644)
    assert "chmod 600" in cli.fails("token", "show")


def test_adding_a_host_changes_nothing_on_it(cli: Cli) -> None:
    cli.ok("host", "add", "h1", "--engine", "fake", "--address", "w", "--option", "vms=1")
    assert [vm.state for vm in world("w").vms.values()] == [PowerState.RUNNING]
