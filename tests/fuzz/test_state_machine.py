"""Any order of requests, with crashes in between, over the API and the fake engine: rows, host and answers stay one truth.

A crash here ends the panel in the middle of its tasks, which get no chance to finish, and begins another one on the same
database. The host lives on, as hosts do. ``soak.killing`` does it with ``kill -9`` and real processes.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from panel.app import create_app
from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import reset_worlds, world
from panel.models import Address, Forward, Task, TaskStatus, Vm
from panel.models.database import close_database, migrate, open_database
from panel.services.container import Services
from panel.settings import Settings
from tests.api.kit import make_host, small
from tests.conftest import ApiClient

NAMES = st.sampled_from(["a", "b", "c"])
WAIT = 10.0


class Machine(RuleBasedStateMachine):
    """``there``: name -> whether it runs, as the answers said; None while a crash leaves it open."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="openidcs-machine-"))
        shutil.copyfile(self.template, self.folder / "panel.sqlite3")
        reset_worlds()
        self.there: dict[str, bool | None] = {}
        self.forwards: dict[str, set[int]] = {}

    def do(self, work: Awaitable[Any]) -> Any:
        """Run in the machine's loop."""

        async def run() -> Any:
            return await work

        return self.runner.run(run())

    @initialize()
    def begin(self) -> None:
        """A panel with one host."""
        self.do(self._start(first=True))

    async def _start(self, *, first: bool = False) -> None:
        self.app = create_app(Settings(data_folder=self.folder, fake_engine=True, observe_seconds=60))
        services: Services = self.app.extensions["panel"]
        if first:
            await open_database(services.settings.database)
            await services.access.ensure_token()
            await close_database()
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.app.test_app())
        self.services = services
        self.api = ApiClient(self.app.test_client(), await services.access.token())
        if first:
            await make_host(self.api, "host1")

    async def _crash(self) -> None:
        """End with whatever is at work, and begin again."""
        await self.stack.aclose()
        await self._start()
        async with asyncio.timeout(WAIT):
            while await Task.filter(ended_at=None).exists():
                await asyncio.sleep(0.01)

    # -- what anybody may ask -------------------------------------------------------------------------------------

    @rule(name=NAMES, start=st.booleans())
    def create(self, name: str, start: bool) -> None:
        """Works when the name is free, is refused when not."""
        status, answer = self.do(self.api("POST", f"/api/client/create/host1?wait={WAIT}", small(name, start=start)))
        if name in self.there:
            assert status == 409, answer
        else:
            assert (status, answer["data"] and answer["data"]["status"]) == (200, "succeeded"), answer
            self.there[name], self.forwards[name] = start, set()

    @rule(name=NAMES, action=st.sampled_from(["start", "stop", "reset"]))
    def power(self, name: str, action: str) -> None:
        """Follows the state."""
        status, answer = self.do(self.api("POST", f"/api/client/powers/host1/{name}?wait={WAIT}", {"action": action}))
        running = self.there.get(name)
        if name not in self.there:
            assert status == 404, answer
        elif (action == "start") == running:
            assert status == 409, answer
        else:
            assert status == 200, answer
            self.there[name] = action != "stop"

    @rule(name=NAMES, port=st.integers(1, 65535))
    def forward(self, name: str, port: int) -> None:
        """Gets an outer port that nobody else has."""
        body = {"protocol": "tcp", "external_port": 0, "internal_port": port}
        status, answer = self.do(self.api("POST", f"/api/client/natadd/host1/{name}", body))
        if name not in self.there:
            assert status == 404, answer
        elif status == 200:
            taken = set().union(*self.forwards.values())
            assert answer["data"]["external_port"] not in taken
            self.forwards[name].add(answer["data"]["external_port"])
        else:
            assert status in {400, 409}, answer

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        """All of it goes."""
        status, answer = self.do(self.api("DELETE", f"/api/client/delete/host1/{name}?wait={WAIT}"))
        assert status == (200 if name in self.there else 404), answer
        self.there.pop(name, None)
        self.forwards.pop(name, None)

    # -- crashes --------------------------------------------------------------------------------------------------

    @rule()
    def crash(self) -> None:
        """Between requests: nothing changes."""
        self.do(self._crash())

    @precondition(lambda self: len(self.there) < 3)
    @rule(name=NAMES, moment=st.sampled_from([0.0, 0.002, 0.01, 0.03]))
    def crash_in_a_create(self, name: str, moment: float) -> None:
        """It is there whole, or not at all."""
        if name in self.there:
            return
        self._in_the_middle("POST", "/api/client/create/host1?wait=0", small(name), moment)
        if self.do(Vm.exists(name=name)):
            self.there[name], self.forwards[name] = False, set()

    @rule(name=NAMES, moment=st.sampled_from([0.0, 0.002, 0.01, 0.03]))
    def crash_in_a_delete(self, name: str, moment: float) -> None:
        """What was begun is finished."""
        if name not in self.there:
            return
        self._in_the_middle("DELETE", f"/api/client/delete/host1/{name}?wait=0", None, moment)
        if not self.do(Vm.exists(name=name)):
            del self.there[name], self.forwards[name]

    def _in_the_middle(self, method: str, path: str, body: Any, moment: float) -> None:
        async def cut() -> None:
            world("host1").behaviour = Behaviour(manner=Manner.SLOW, delay=0.01)
            status, answer = await self.api(method, path, body)
            assert status == 200, answer
            await asyncio.sleep(moment)
            world("host1").behaviour = None
            await self._crash()

        self.do(cut())

    # -- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def one_truth(self) -> None:
        """Rows, host and what was answered agree; nothing is double, half made or left at work."""
        if not hasattr(self, "api"):
            return
        self.do(self._agree())

    async def _agree(self) -> None:
        here = world("host1")
        names = sorted(vm.name for vm in here.vms.values())
        assert names == sorted(self.there) == sorted(await Vm.all().values_list("name", flat=True))
        assert {disk.owner for disk in here.disks.values()} <= set(here.vms), "a disk of nobody"
        assert not await Vm.filter(creating=True).exists()
        assert not await Task.exclude(lock=None).exists()
        for vm in here.vms.values():
            assert (vm.state == "running") == self.there[vm.name], vm.name
            rows = await Forward.filter(vm__name=vm.name).values_list("external_start", flat=True)
            assert set(rows) == self.forwards[vm.name]
        addresses = await Address.all().values_list("ip", flat=True)
        assert len(addresses) == len(set(addresses))
        ended = await Task.exclude(status__in=[TaskStatus.QUEUED, TaskStatus.RUNNING]).filter(message=None).count()
        assert ended == 0, "an end without a word"

    def teardown(self) -> None:
        """Stop the panel, remove its folder."""
        if hasattr(self, "stack"):
            self.do(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)
        reset_worlds()


@pytest.mark.slow
def test_any_order_of_requests_and_crashes(tmp_path: Path) -> None:
    template = tmp_path / "panel.sqlite3"
    asyncio.run(migrate(f"sqlite://{template}"))
    machine = type("Seeded", (Machine,), {"template": template})
    case = machine.TestCase
    case.settings = settings(
        max_examples=12, stateful_step_count=15, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    case().runTest()
