"""A panel of a test's own, as a real process on a loopback port: started, killed, started again."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from panel.security import SecretBox

SEALED_TOKEN = "SELECT value FROM setting WHERE key = 'access_token'"
START_SECONDS = 120.0  # of a machine that is busy


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def proxy_settings() -> dict[str, str]:
    """Settings of a panel that serves domains on ports of its own, with certificates by an authority of its own."""
    ports = {"proxy_http_port": str(free_port()), "proxy_https_port": str(free_port())}
    return {"proxy": "1", "acme_directory": "internal", **ports}


def mortal() -> list[str]:
    """A command that runs another one until this process ends, however it ends: a panel that outlives its tests makes their
    networks again. Only of the main thread: to the kernel, what another thread started ends with that thread."""
    return ["setpriv", "--pdeathsig", "KILL"] if threading.current_thread() is threading.main_thread() else []


@cache
def _empty_database() -> Path:
    """An SQLite database of today's schema, made once in each process of a test run."""
    folder = Path(tempfile.mkdtemp(prefix="openidcs-empty-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "panel", "migrate"]
    environment = os.environ | {"PANEL_DATA_FOLDER": str(folder)}
    subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    return folder / "panel.sqlite3"


class PanelProcess:
    """``openidcs serve`` with a data folder of its own.

    Attributes:
        makes_database: it makes its database itself, which takes as long again as all else of a start.
    """

    module = "panel"
    makes_database = False

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "panel.log"
        self.settings = settings
        self._environment = os.environ | {
            "PANEL_DATA_FOLDER": str(folder / "data"),
            "PANEL_PORT": str(self.port),
            "PANEL_OBSERVE_SECONDS": "1",
            **{f"PANEL_{name.upper()}": value for name, value in settings.items()},
        }
        self.within: tuple[str, ...] = ()  # a command that runs the panel, as "nice" does
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def under(self, **variables: str) -> None:
        """Environment variables for all starts from now on."""
        self._environment = self._environment | variables

    @contextlib.contextmanager
    def changed(self, **settings: str) -> Iterator[None]:
        """Other settings for starts within."""
        before = self._environment
        self._environment = before | {f"PANEL_{name.upper()}": value for name, value in settings.items()}
        yield
        self._environment = before

    def cli(self, *arguments: str) -> str:
        """Run ``openidcs ...`` on the same data folder; its output."""
        command = [sys.executable, "-m", "panel", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.strip()

    def start(self) -> None:
        """Start and wait for the first answer."""
        self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*mortal(), *self.within, sys.executable, "-m", self.module, "serve"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log.read_text()
            try:
                httpx2.get(self.url + "/login", timeout=2)
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        else:
            self.kill()
            raise AssertionError(f"The panel did not answer: {self.log.read_text()}")
        self.token = SecretBox.open(self._data).unseal(self._sealed_token())

    def _prepare(self) -> None:
        """An empty database, unless there is one, or it is another one."""
        data = self._data
        if self.makes_database or "PANEL_DATABASE_URL" in self._environment or data.exists():
            return
        data.mkdir(mode=0o700, parents=True)
        shutil.copyfile(_empty_database(), data / "panel.sqlite3")

    def _sealed_token(self) -> str:
        """The access token, as the database has it: ``openidcs token show`` would take as long as the panel."""
        with contextlib.closing(sqlite3.connect(self._data / "panel.sqlite3")) as rows:
            return str(rows.execute(SEALED_TOKEN).fetchone()[0])

    @property
    def _data(self) -> Path:
        return Path(self._environment["PANEL_DATA_FOLDER"])

    @property
    def pid(self) -> int | None:
        """The process's id, while it runs."""
        return self._process.pid if self._process is not None else None

    def memory_mib(self) -> float:
        """What it has in memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        self._end(signal.SIGKILL)

    def stop(self) -> float:
        """SIGINT, as Ctrl-C; how many seconds it took to end."""
        began = time.monotonic()
        self._end(signal.SIGINT)
        return time.monotonic() - began

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=15)
        self._process = None

    def api(self, method: str, path: str, body: Any = None, *, timeout: float = 120) -> tuple[int, dict[str, Any]]:
        """Call the API with the token: (status, envelope)."""
        answer = httpx2.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout,
        )
        envelope: dict[str, Any] = answer.json()
        assert envelope["code"] == answer.status_code
        return answer.status_code, envelope

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer that must be a success."""
        status, envelope = self.api(method, path, body)
        assert status == 200, envelope
        return envelope["data"]

    def seen_anew(self, host: str) -> None:
        """Wait until a host was looked at from now on; in the first look after a start its images are listed too."""
        path = f"/api/server/status/{host}"
        before = self.ok("GET", path)["seen_at"]
        self.until(path, lambda status: status["health"] == "online" and status["seen_at"] != before)

    def until(self, path: str, good: Any, seconds: float = 60) -> Any:
        """Read ``path`` until ``good(data)`` holds; the data."""
        deadline = time.monotonic() + seconds
        data = None
        while time.monotonic() < deadline:
            data = self.ok("GET", path)
            if good(data):
                return data
            time.sleep(0.2)
        raise AssertionError(f"{path} did not become as wanted within {seconds} s: {data}")
