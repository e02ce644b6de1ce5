"""A panel to measure: seeded, started as a process of its own, asked over one kept connection."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.process import free_port

START_SECONDS = 120.0
IDLE = 60.0
Seed = list[tuple[str, int, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``wall`` and ``cpu``: milliseconds of the server, ``seen``: those of the client."""

    status: int
    body: bytes
    headers: dict[str, str]
    wall: float
    cpu: float
    seen: float


class Site:
    """A panel with these hosts. Use as a context; ``asgi`` serves it with the clock, else as users do.

    Observation is as in production (every 5 s) unless ``settings`` say otherwise.
    """

    def __init__(self, hosts: Seed, *, clock: bool = True, **settings: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._clock = clock
        self.port = free_port()
        self.environment = os.environ | {
            "PANEL_DATA_FOLDER": self._folder.name,
            "PANEL_PORT": str(self.port),
            "PANEL_FAKE_ENGINE": "1",
            **{f"PANEL_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = Path(self._folder.name) / "panel.log"
        self._asked = time.monotonic()
        self.token = self._seed(hosts)
        self.cookie = ""

    def _seed(self, hosts: Seed) -> str:
        command = [sys.executable, "-m", "benchmarks.seed"]
        done = subprocess.run(
            command, input=json.dumps(hosts), env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def __enter__(self) -> Site:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> float:
        """Start it; seconds until the first answer."""
        command = (
            [sys.executable, "-m", "benchmarks.server"] if self._clock else [sys.executable, "-m", "panel", "serve"]
        )
        began = time.perf_counter()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        while time.perf_counter() < began + START_SECONDS:
            if self._process.poll() is not None:
                break
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self.get("/login")
            except ConnectionError:
                time.sleep(0.01)
            else:
                took = time.perf_counter() - began
                self._cpu_at_start = self._cpu()
                self._log_in()
                return took
        self.stop()
        raise RuntimeError(f"The panel did not start: {self.log.read_text(encoding='utf-8')}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=120)
        self._process = None

    def restart(self) -> tuple[float, float]:
        """Kill it, start it again: seconds until the first answer, and CPU seconds until then."""
        assert self._process is not None
        self._process.kill()  # what it would write at its end takes long, and is not what is measured
        self._process.wait(timeout=30)
        wall = self.start()
        return wall, self._cpu_at_start

    def resident(self) -> float:
        """MiB of memory."""
        assert self._process is not None
        text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def _cpu(self) -> float:
        """CPU seconds that the process has used."""
        assert self._process is not None
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def until_seen(self, host: str, seconds: float = 60) -> None:
        """Wait until a host was looked at."""
        deadline = time.perf_counter() + seconds
        while not json.loads(self.api("GET", f"/api/server/status/{host}").body)["data"]["seen_at"]:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{host} was not looked at within {seconds:g} s.")
            time.sleep(0.1)

    def _log_in(self) -> None:
        answer = self.ask("POST", "/login", json.dumps({"token": self.token}), {"Content-Type": "application/json"})
        found = re.search(r"openidcs_session=([^;]+)", answer.headers["set-cookie"])
        assert found, answer
        self.cookie = f"openidcs_session={found[1]}"

    def ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request."""
        began = time.perf_counter()
        if time.monotonic() - self._asked > IDLE:  # the server ends a connection that idles for 75 s
            self._connection.close()
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        self._asked = time.monotonic()
        content = response.read()
        seen = 1000 * (time.perf_counter() - began)
        told = {name.lower(): value for name, value in response.getheaders()}
        numbers = [float(text) for text in re.findall(r"dur=([\d.]+)", told.get("server-timing", ""))] or [seen, seen]
        return Answer(response.status, content, told, numbers[0], numbers[1], seen)

    def get(self, path: str) -> Answer:
        """A page, as a browser gets it."""
        return self.good("GET", path, None, {"Cookie": self.cookie, "Accept": "text/html", "Accept-Encoding": "gzip"})

    def api(self, method: str, path: str, body: Any = None) -> Answer:
        """A call of the API."""
        text = None if body is None else json.dumps(body)
        return self.good(method, path, text, {"Authorization": f"Bearer {self.token}"})

    def good(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        """``ask``, and the answer must be a success."""
        answer = self.ask(method, path, body, headers)
        assert answer.status in {200, 303}, (path, answer)
        return answer

    def told(self, *, reset: bool = False) -> dict[str, float]:
        """What the clock counted since the last reset."""
        found: dict[str, float] = json.loads(self.ask("GET", "/_bench?reset" if reset else "/_bench").body)
        return found

    def until_observed(self, hosts: int, rounds: int = 1, seconds: float = 120) -> dict[str, float]:
        """Wait until ``hosts`` were looked at ``rounds`` times each, on average, since the last reset."""
        deadline = time.perf_counter() + seconds
        while (told := self.told())["hosts"] < hosts or told["rounds"] < rounds * hosts:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"Not observed within {seconds:g} s: {told}")
            time.sleep(0.25)
        return told


def hosts_of(count: int, vms: int) -> Seed:
    """``count`` good fake hosts with ``vms`` VMs each: ``h001``, ``h002``..."""
    return [(f"h{number:03}", vms, {}) for number in range(1, count + 1)]
