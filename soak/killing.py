"""``kill -9`` at random moments under creates, powers, changes, deletes, forwards and consoles: nothing lost, nothing doubled, no
task left running, forwards converge, and the log explains.

The truth is the host's on one side (here the fake engine's file ``world.json``, in ``soak/libvirt.py`` libvirt), the panel's
database on the other, and between them what the clients were told before the kill.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from soak.report import Report
from soak.stand import SMALL, stand
from soak.wire import ASK_PICTURE, Login, console, frame, greet, payload
from tests.process import PanelProcess

WORKERS = 4
DELAY = 0.05  # seconds that each call to the host takes: long enough to die in
SETTLE_SECONDS = 60.0
MOST_EMPTY = 10  # kills, after which a run that did nothing ends
VM_PATH = "/api/client/detail/host1"


@dataclass(slots=True)
class Promise:
    """What a client was told of one VM. ``there``: True or False, or None while nobody knows (the answer never came).

    ``forwards``: by id, the outer port of those that were confirmed. ``unsure``: forwards that may have been added.
    """

    there: bool | None = False
    running: bool | None = False
    cpu_count: int | None = None
    forwards: dict[int, int] = field(default_factory=dict)
    unsure: int = 0


@dataclass(slots=True)
class Tally:
    """How much was done."""

    kills: int = 0
    done: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, str] = field(default_factory=dict)  # id: what it was for


@dataclass(frozen=True, slots=True)
class Real:
    """A VM as it is on the host. ``cpu_count``: at its next start."""

    state: str
    cpu_count: int


@dataclass(frozen=True, slots=True)
class Fire:
    """What is killed, and what the truth is.

    Attributes:
        eye: a VM that runs all the time: its console is looked at.
        body: of a create, besides name, password and start.
        truth: the VMs of the host by name, and what is wrong there in itself.
        longest: seconds between two kills, at most.
    """

    panel: PanelProcess
    eye: str
    body: dict[str, Any]
    truth: Callable[[], tuple[dict[str, Real], list[str]]]
    longest: float = 4.0


class Cut(Exception):
    """The panel died before it answered."""


class Worker:
    """Works on VMs of its own, one after the other, and remembers what it was told."""

    def __init__(self, fire: Fire, names: Sequence[str], chance: random.Random, tally: Tally) -> None:
        self.panel, self.chance, self.tally = fire.panel, chance, tally
        self.body = fire.body
        self.promises = {name: Promise() for name in names}

    async def work(self) -> None:
        """Until the panel dies."""
        async with httpx2.AsyncClient(base_url=self.panel.url, trust_env=False, timeout=90) as client:
            try:
                while True:
                    await self._step(client, *self.chance.choice(list(self.promises.items())))
            except Cut:
                return

    async def _step(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        if not promise.there:
            await self._create(client, name, promise)
            return
        todo = self.chance.choice((self._power, self._power, self._forward, self._forward, self._unforward, self._update,
                                   self._delete))  # fmt: skip
        await todo(client, name, promise)

    async def _ask(self, client: httpx2.AsyncClient, what: str, method: str, path: str, body: Any = None) -> Any:
        """The data of a success, None for a refusal (which a busy VM may give); ``Cut`` when the panel died."""
        headers = {"Authorization": f"Bearer {self.panel.token}"}
        try:
            answer = await client.request(method, path, json=body, headers=headers)
        except (httpx2.HTTPError, OSError):
            self.tally.cut[what] += 1
            raise Cut from None
        envelope = answer.json()
        if answer.status_code != 200:
            assert answer.status_code in {404, 409}, f"{what}: {envelope}"
            return None
        self.tally.done[what] += 1
        data = envelope["data"]
        if task_id := data.get("task_id"):
            self.tally.tasks[task_id] = what
        return data

    async def _create(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        start = self.chance.random() < 0.5
        promise.there, promise.running, promise.cpu_count = None, None, None
        body = self.body | {"vm_uuid": name, "start": start, "os_pass": "guest-pw"}
        data = await self._ask(client, "create", "POST", "/api/client/create/host1?wait=60", body)
        if data and data["status"] == "succeeded":
            promise.there, promise.running, promise.cpu_count = True, start, 1
        elif data is None:  # it was there: what was begun before the kill is finished
            promise.there = True

    async def _power(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        action = self.chance.choice(("start", "stop"))
        promise.running = None
        data = await self._ask(client, "power", "POST", f"/api/client/powers/host1/{name}?wait=60", {"action": action})
        if data and data["status"] == "succeeded":
            promise.running = action == "start"

    async def _update(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        count = self.chance.randint(1, 4)
        promise.cpu_count = None
        data = await self._ask(client, "update", "PUT", f"/api/client/update/host1/{name}?wait=60", {"cpu_num": count})
        if data and data["status"] == "succeeded":
            promise.cpu_count = count

    async def _delete(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        promise.there = None
        data = await self._ask(client, "delete", "DELETE", f"/api/client/delete/host1/{name}?wait=60")
        if data and data["status"] == "succeeded":
            self.promises[name] = Promise()
        elif data is None:
            promise.there = True

    async def _forward(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        body = {"protocol": "tcp", "external_port": 0, "internal_port": self.chance.randint(1, 9999)}
        promise.unsure += 1
        data = await self._ask(client, "forward", "POST", f"/api/client/natadd/host1/{name}", body)
        promise.unsure -= 1
        if data:
            promise.forwards[data["id"]] = data["external_port"]

    async def _unforward(self, client: httpx2.AsyncClient, name: str, promise: Promise) -> None:
        listed = await self._ask(client, "list", "GET", f"/api/client/natget/host1/{name}")
        if not listed or not listed["rules"]:
            return
        rule = self.chance.choice(listed["rules"])
        known = rule["id"] in promise.forwards
        promise.forwards.pop(rule["id"], None)
        promise.unsure += 1  # gone, or still there when the answer does not come
        path = f"/api/client/natdel/host1/{name}/{rule['rule_index']}?id={rule['id']}"
        if await self._ask(client, "unforward", "DELETE", path):
            promise.unsure -= 1 if known else 2


async def look(fire: Fire, chance: random.Random, tally: Tally) -> None:
    """Open one console after the other and ask for pictures, until the panel dies."""
    try:
        async with Login(fire.panel) as login:
            while True:
                async with console(fire.panel, fire.eye, await login.ticket(fire.eye)) as wire:
                    await greet(wire)
                    for _ in range(chance.randint(1, 5)):
                        await wire.send(frame(ASK_PICTURE))
                        await payload(wire, 1000)
                    tally.done["console"] += 1
    except (httpx2.HTTPError, OSError, AssertionError, asyncio.IncompleteReadError, TimeoutError):
        tally.cut["console"] += 1


async def run(folder: Path, seconds: float, seed: int) -> Report:
    """Kill until the time is up, check after each kill."""
    report = Report("killing")
    with stand(folder, vms=1) as panel:
        panel.ok("PUT", "/api/server/update/host1", {"behaviour": "slow", "delay": str(DELAY)})
        names = [[f"w{number}-{index}" for index in range(2)] for number in range(WORKERS)]
        await kill(Fire(panel, "vm-0001", SMALL, lambda: imaginary(panel)), names, report, seconds, random.Random(seed))
    return report


async def kill(
    fire: Fire, names: Sequence[Sequence[str]], report: Report, seconds: float, chance: random.Random
) -> None:
    """``names``: of each worker, its VMs."""
    panel, tally = fire.panel, Tally()
    ends = time.monotonic() + seconds
    workers = [Worker(fire, its, chance, tally) for its in names]
    while not enough(tally) or time.monotonic() < ends:
        jobs = [asyncio.create_task(worker.work()) for worker in workers]
        jobs += [asyncio.create_task(look(fire, chance, tally)) for _ in range(2)]
        await asyncio.sleep(chance.uniform(0.1, fire.longest))
        panel.kill()
        tally.kills += 1
        for trouble in await asyncio.gather(*jobs, return_exceptions=True):
            if trouble is not None:
                report.hold("answers under load make sense", False, repr(trouble))
        panel.start()
        problems = await settled(fire, workers, tally)
        if problems:
            report.hold(f"after kill {tally.kills}", False, "; ".join(problems[:5]))
            break
    before, trace, after = panel.log.read_text("utf-8", "replace").partition("Traceback")
    report.hold(f"{tally.kills} kills: rows, host and promises agree", not report.broken)
    done = ", ".join(f"{count} {what}" for what, count in sorted(tally.done.items()))
    cut = ", ".join(f"{count} {what}" for what, count in sorted(tally.cut.items()))
    report.hold("work was done", bool(tally.done["create"] and tally.done["forward"]), done)
    report.hold("work was cut", sum(tally.cut.values()) > 0, cut)
    report.hold("no traceback in the log", not trace, f"{before[-500:]}{trace}{after[:6000]}" if trace else "")


def enough(tally: Tally) -> bool:
    """Whether a run says anything: two kills, and something done and cut; or that will not come."""
    worked = tally.done["create"] and tally.done["forward"] and tally.cut
    return tally.kills >= 2 and (bool(worked) or tally.kills >= MOST_EMPTY)


async def settled(fire: Fire, workers: list[Worker], tally: Tally) -> list[str]:
    """Wait until the panel has settled; then all that is wrong."""
    panel = fire.panel
    ends, problems = time.monotonic() + SETTLE_SECONDS, ["not looked at"]
    while problems and time.monotonic() < ends:
        await asyncio.sleep(0.2)
        if panel.ok("GET", "/api/system/statis")["tasks_running"] == 0:
            problems = [*check_rows(panel, tally), *check_world(fire, workers)]
    for worker in workers:
        learn(fire, worker)
    return problems


def rows(panel: PanelProcess, query: str) -> list[Any]:
    """Read the panel's database beside it."""
    with closing(sqlite3.connect(f"file:{panel.folder}/data/panel.sqlite3?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(query).fetchall()


def check_rows(panel: PanelProcess, tally: Tally) -> list[str]:
    """What the database must say of itself: whole, nothing doubled, every task ended with words."""
    wrong = {
        "rows without their parent": "PRAGMA foreign_key_check",
        "a task holds a lock, or has not ended": "SELECT id, kind, status FROM task WHERE lock IS NOT NULL OR ended_at IS NULL",
        "a task ended without a word": "SELECT id FROM task WHERE message IS NULL OR message = 'null'",
        "a secret outlived its task": "SELECT id FROM task WHERE params != '' AND status NOT IN ('failed', 'cancelled')",
        "a task has no line in its log": "SELECT id FROM task WHERE id NOT IN (SELECT task_id FROM task_line)",
        "a VM is half made": "SELECT name FROM vm WHERE creating",
        "a name is there twice": "SELECT name FROM vm GROUP BY host_id, name HAVING count(*) > 1",
        "an address is given twice": "SELECT ip FROM address GROUP BY ip HAVING count(*) > 1",
        "an outer port is given twice": (
            "SELECT a.id, b.id FROM forward a JOIN forward b ON a.id < b.id AND a.protocol = b.protocol"
            " AND a.external_start <= b.external_end AND b.external_start <= a.external_end"
        ),
        "a forward does not hold": "SELECT id, state, problem FROM forward WHERE state != 'applied'",
        "an interrupted task is not in the log": (
            "SELECT id FROM task t WHERE status = 'interrupted' AND NOT EXISTS"
            " (SELECT 1 FROM log_entry l WHERE l.action = t.kind AND l.at >= t.ended_at)"
        ),
    }
    problems = [f"{name}: {found[:3]}" for name, query in wrong.items() if (found := rows(panel, query))]
    ended = dict(rows(panel, "SELECT id, status FROM task"))
    lost = [what for task_id, what in tally.tasks.items() if task_id not in ended]
    return [*problems, *([f"confirmed tasks are gone: {lost}"] if lost else [])]


def imaginary(panel: PanelProcess) -> tuple[dict[str, Real], list[str]]:
    """The truth of the fake engine."""
    state = json.loads((panel.folder / "world.json").read_text())
    there = Counter(vm["name"] for vm in state["vms"])
    problems = [f"{name} is on the host {count} times" for name, count in there.items() if count > 1]
    owners = {vm["ref"] for vm in state["vms"]}
    if orphans := [disk["path"] for disk in state["disks"] if disk["owner"] not in owners]:
        problems.append(f"disks of nobody: {orphans}")
    bare = [vm["name"] for vm in state["vms"] if vm["ref"] not in {disk["owner"] for disk in state["disks"]}]
    macs = Counter(nic["mac"] for vm in state["vms"] for nic in vm["nics"])
    problems += [f"{name} has no disk" for name in bare] + [f"MAC {mac} twice" for mac, n in macs.items() if n > 1]
    real = {vm["name"]: Real(vm["state"], vm["pending"].get("cpu_count", vm["cpu_count"])) for vm in state["vms"]}
    return real, problems


def check_world(fire: Fire, workers: list[Worker]) -> list[str]:
    """What is on the host, against the rows and against what the clients were told."""
    panel = fire.panel
    seen, problems = fire.truth()
    listed = {name for (name,) in rows(panel, "SELECT name FROM vm")}
    if set(seen) != listed:
        problems.append(f"host and rows differ: {set(seen) ^ listed}")
    for worker in workers:
        for name, promise in worker.promises.items():
            problems += broken_promises(panel, name, promise, seen.get(name))
    return problems


def broken_promises(panel: PanelProcess, name: str, promise: Promise, vm: Real | None) -> list[str]:
    """What was confirmed and is not so."""
    if promise.there is not None and promise.there != (vm is not None):
        return [f"{name} was confirmed as {'there' if promise.there else 'gone'}, and is not"]
    if vm is None:
        return []
    problems = []
    (row,) = rows(panel, f"SELECT id, state FROM vm WHERE name = '{name}'")
    if row[1] != vm.state:
        problems.append(f"{name} is {vm.state}, shown as {row[1]}")
    if promise.running is not None and promise.running != (vm.state == "running"):
        problems.append(f"{name} was confirmed as {'running' if promise.running else 'stopped'}, and is {vm.state}")
    if promise.cpu_count not in {None, vm.cpu_count}:
        problems.append(f"{name} was confirmed with {promise.cpu_count} CPUs, and has {vm.cpu_count}")
    forwards = dict(rows(panel, f"SELECT id, external_start FROM forward WHERE vm_id = {row[0]}"))
    if lost := {key: port for key, port in promise.forwards.items() if forwards.get(key) != port}:
        problems.append(f"{name} lost forwards {lost}")
    if len(forwards) > len(promise.forwards) + promise.unsure:
        problems.append(f"{name} has {len(forwards)} forwards, of which {len(promise.forwards)} were confirmed")
    return problems


def learn(fire: Fire, worker: Worker) -> None:
    """What nobody was told is as it is now."""
    panel, (state, _problems) = fire.panel, fire.truth()
    for name, promise in list(worker.promises.items()):
        vm = state.get(name)
        if vm is None:
            worker.promises[name] = Promise()
            continue
        forwards = rows(
            panel, f"SELECT f.id, external_start FROM forward f JOIN vm ON vm.id = vm_id WHERE name = '{name}'"
        )
        worker.promises[name] = Promise(True, vm.state == "running", vm.cpu_count, dict(forwards))
        promise.unsure = 0
