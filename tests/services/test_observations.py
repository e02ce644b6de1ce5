"""Writing down what was seen: rates, what is missing, what nobody knows, and telling only what changed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.engines.types import Load, NicMode, NicObservation, PowerState, VmObservation
from panel.events import EventBus, Subscription, VmChanged
from panel.models import Host, Nic, Vm
from panel.services import observations as module
from panel.services.cleaning import cleaned, one_line
from panel.services.clock import now
from panel.services.container import Services
from panel.services.following import Follower
from panel.services.names import MAC
from panel.services.observations import Observations

SEEN = VmObservation(
    "r1", "vm-1", "Title", PowerState.RUNNING, 2, 1024, 10.0,
    nics=(NicObservation("vnet0", "52:54:00:00:00:01", NicMode.NAT, "nat", ("10.0.0.5",)),),
    cpu_seconds=100.0, memory_used_mib=300, disk_read_bytes=1000, disk_write_bytes=2000, net_rx_bytes=10, net_tx_bytes=20,
)  # fmt: skip


class Clock:
    """``time.monotonic`` that a test turns."""

    def __init__(self) -> None:
        self.now = time.monotonic() + 1000

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
async def host(services: Services) -> Host:
    """A host that nobody observes, with one VM."""
    row = await Host.create(name="h", engine="fake", enabled=False)
    await Vm.create(host=row, name="vm-1", ref="r1", cpu_count=1, memory_mib=1)
    return row


class Rounds:
    """Rounds of observation, and what they told."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self.bus = EventBus()
        self.observations = Observations(self.bus)
        self.host = host
        self.clock = clock

    async def see(self, *seen: VmObservation, after: float = 5.0, began: float | None = None) -> tuple[Vm, bool]:
        """One round; the VM, and whether news of it were told."""
        self.clock.now += after
        with self.bus.subscribe() as told:
            await self.observations.apply_round(self.host, seen, self.clock.now if began is None else began)
            return await Vm.get(name="vm-1"), waiting(told)


def waiting(told: Subscription) -> bool:
    return any(isinstance(event, VmChanged) for event in told._waiting)


@pytest.fixture
def rounds(host: Host, clock: Clock) -> Rounds:
    return Rounds(host, clock)


async def test_rates_are_differences(rounds: Rounds) -> None:
    vm, news = await rounds.see(SEEN)
    assert news
    assert (vm.state, vm.cpu_count, vm.memory_mib, vm.disk_gib, vm.title) == ("running", 2, 1024, 10.0, "Title")
    assert (vm.cpu_percent, vm.rates) == (None, {}), "one look has no rate"
    later = replace(
        SEEN, cpu_seconds=105.0, disk_read_bytes=6000, disk_write_bytes=2000, net_rx_bytes=60, net_tx_bytes=5
    )
    vm, news = await rounds.see(later)
    assert news
    assert vm.cpu_percent == 50.0, "5 s of CPU time in 5 s, on 2 CPUs"
    assert vm.rates == {"disk_read": 1000.0, "disk_write": 0.0, "net_rx": 10.0}, "a counter that fell has no rate"
    vm, _news = await rounds.see(replace(later, cpu_seconds=1.0))
    assert vm.cpu_percent is None
    vm, _news = await rounds.see(replace(later, cpu_seconds=1001.0))
    assert vm.cpu_percent == 100.0, "never above"


async def test_an_answer_that_waits_to_be_written_is_as_old_as_it_is(rounds: Rounds) -> None:
    """The panel is busy: what a host said is written down five seconds later."""
    await rounds.see(SEEN)
    asked, asked_at = rounds.clock.now + 10, now()
    vm, _news = await rounds.see(replace(SEEN, cpu_seconds=110.0, net_rx_bytes=1010), after=15.0, began=asked)
    assert vm.cpu_percent == 50.0, "ten seconds of two processors within ten seconds, whenever that is computed"
    assert vm.rates["net_rx"] == 100.0
    assert asked_at - timedelta(seconds=5.5) < vm.seen_at < now() - timedelta(seconds=4.5), "when it was asked"


@pytest.mark.parametrize("moment", ["before it is written", "while it is written"])
async def test_what_an_action_found_is_not_undone_by_a_round(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A round that saw the disk before it grew is still being stored when the action writes down its new size."""
    await rounds.see(SEEN)
    vm, store, waits = await Vm.get(name="vm-1"), module.write_changes, rounds.observations._courtesy.give_way
    acting: list[asyncio.Task[None]] = []

    async def act() -> None:
        rounds.clock.now += 0.1
        acting.append(asyncio.create_task(rounds.observations.apply_one(vm, replace(SEEN, disk_gib=51.0))))
        await asyncio.wait(acting, timeout=0.2)

    async def writing(*args: Any) -> None:
        if moment == "while it is written":
            await act()
        await store(*args)

    async def waiting_for_others() -> None:
        await waits()
        if not acting and moment == "before it is written" and looked:
            await act()
        looked.append(True)

    looked: list[bool] = []
    monkeypatch.setattr(module, "write_changes", writing)
    monkeypatch.setattr(rounds.observations._courtesy, "give_way", waiting_for_others)
    await rounds.see(replace(SEEN, disk_gib=50.0))
    await asyncio.gather(*acting)
    assert acting
    assert (await Vm.get(name="vm-1")).disk_gib == 51.0


async def test_what_another_process_found_is_not_undone_by_a_round(
    services: Services, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the action is another process' than the round: that hears of it before it writes."""
    nothing: Any = None
    parts = services.nodes, nothing, services.pool, services.observer, rounds.observations, nothing, nothing
    Follower(*parts, rounds.bus)
    await rounds.see(SEEN)
    vm, waits, looked = await Vm.get(name="vm-1"), rounds.observations._courtesy.give_way, []

    async def waiting_for_others() -> None:
        await waits()
        if looked:
            rounds.clock.now += 0.1
            await Vm.filter(id=vm.id).update(disk_gib=51.0)
            rounds.bus.arrive(VmChanged(vm.id, vm.host_id))
        looked.append(True)

    monkeypatch.setattr(rounds.observations._courtesy, "give_way", waiting_for_others)
    await rounds.see(replace(SEEN, disk_gib=50.0))
    assert (await Vm.get(name="vm-1")).disk_gib == 51.0
    assert len(looked) > 1


async def test_rates_that_the_hypervisor_tells_are_taken(rounds: Rounds) -> None:
    told = replace(SEEN, cpu_seconds=None, load=Load(12.34, 1024.0, 0.0, 5.06, None))
    vm, news = await rounds.see(told)
    assert news
    assert vm.cpu_percent == 12.3, "one look is enough"
    assert vm.rates == {"disk_read": 1024.0, "disk_write": 0.0, "net_rx": 5.1}
    vm, _news = await rounds.see(replace(told, load=Load(50.0)), after=0.01)
    assert (vm.cpu_percent, vm.rates) == (50.0, {})
    nothing = replace(
        SEEN, cpu_seconds=None, disk_read_bytes=None, disk_write_bytes=None, net_rx_bytes=None, net_tx_bytes=None
    )
    vm, _news = await rounds.see(nothing)
    vm, _news = await rounds.see(nothing)
    assert (vm.cpu_percent, vm.rates) == (None, {})
    assert cleaned(replace(told, load=Load(float("nan"), -1.0, float("inf"), 1.0))).load == Load(None, None, None, 1.0)
    assert cleaned(replace(told, load=Load(170.0))).load == Load(100.0)


async def test_two_looks_close_together_keep_the_rate(rounds: Rounds) -> None:
    await rounds.see(SEEN)
    vm, _news = await rounds.see(replace(SEEN, cpu_seconds=105.0))
    before = vm.cpu_percent
    vm, _news = await rounds.see(replace(SEEN, cpu_seconds=105.1), after=0.01)
    assert vm.cpu_percent == before


async def test_a_vm_that_stopped_has_no_rates(rounds: Rounds) -> None:
    await rounds.see(SEEN)
    await rounds.see(replace(SEEN, cpu_seconds=105.0))
    await Vm.all().update(pending=["cpu_count"])
    vm, news = await rounds.see(replace(SEEN, state=PowerState.STOPPED, cpu_seconds=None))
    assert news
    assert (vm.cpu_percent, vm.rates, vm.pending) == (None, {}, [])


async def test_only_what_changed_is_told(rounds: Rounds) -> None:
    stopped = replace(SEEN, state=PowerState.STOPPED)
    first, _news = await rounds.see(stopped)
    second, news = await rounds.see(stopped)
    assert not news
    assert second.seen_at is not None
    assert first.seen_at is not None
    assert second.seen_at > first.seen_at, "but when it was seen is kept"
    assert second.state_since == first.state_since


async def test_missing_is_not_stopped(rounds: Rounds) -> None:
    await rounds.see(SEEN)
    vm, news = await rounds.see()
    assert news
    assert (vm.state, vm.known_state, vm.cpu_percent, vm.agent) == ("missing", "missing", None, None)
    _vm, news = await rounds.see()
    assert not news
    vm, _news = await rounds.see(SEEN)
    assert vm.state == "running"


async def test_a_vm_that_is_being_made_is_left_alone(rounds: Rounds) -> None:
    await Vm.all().update(creating=True)
    vm, news = await rounds.see()
    assert (vm.state, news) == ("unknown", False)


async def test_a_lost_host_makes_states_unknown_and_keeps_the_last(rounds: Rounds) -> None:
    seen, _news = await rounds.see(SEEN)
    await rounds.observations.host_lost(rounds.host)
    vm = await Vm.get(name="vm-1")
    assert (vm.state, vm.known_state, vm.seen_at) == ("unknown", "running", seen.seen_at)
    assert (vm.cpu_percent, vm.rates) == (None, {})


async def test_a_round_that_began_before_an_action_does_not_undo_it(rounds: Rounds) -> None:
    await rounds.see(replace(SEEN, state=PowerState.STOPPED))
    began = rounds.clock.now
    rounds.clock.now += 1
    vm = await Vm.get(name="vm-1")
    await rounds.observations.apply_one(vm, SEEN)
    vm, news = await rounds.see(replace(SEEN, state=PowerState.STOPPED), began=began)
    assert (vm.state, news) == ("running", False)
    vm, _news = await rounds.see(replace(SEEN, state=PowerState.STOPPED))
    assert vm.state == "stopped", "a later round counts again"


async def test_interfaces_follow_what_is_there(rounds: Rounds) -> None:
    await rounds.see(SEEN)
    nic = await Nic.get()
    assert (nic.name, nic.mac, nic.mode, nic.addresses) == ("eth0", "52:54:00:00:00:01", "nat", ["10.0.0.5"])
    other = NicObservation("x", "52:54:00:00:00:02", NicMode.BRIDGE, "br0")
    _vm, news = await rounds.see(replace(SEEN, nics=(*SEEN.nics, other, other)))
    assert news
    assert await Nic.all().order_by("name").values_list("name", "mac") == [
        ("eth0", "52:54:00:00:00:01"),
        ("eth1", "52:54:00:00:00:02"),
    ]
    assert (await Nic.get(name="eth0")).id == nic.id, "a known interface keeps its row"
    await rounds.see(replace(SEEN, nics=(other,)))
    assert await Nic.all().values_list("name", flat=True) == ["eth1"]


async def test_nonsense_becomes_not_known(rounds: Rounds) -> None:
    await rounds.see(SEEN)
    for disk in (inf, -inf, nan, -1.0, 1e300):
        await see_nonsense(rounds, disk)


async def see_nonsense(rounds: Rounds, disk: float) -> None:
    bad = replace(
        SEEN, disk_gib=disk, memory_mib=-5, cpu_count=2**70, memory_used_mib=2**62, net_rx_bytes=-1, cpu_seconds=nan,
        title="a\nb\x07\u202ec" + "x" * 300, nics=(NicObservation("", "not-a-mac", None, "", ("999.1.2.3",)),),
    )  # fmt: skip
    vm, _news = await rounds.see(bad)
    assert (vm.disk_gib, vm.memory_mib, vm.cpu_count, vm.memory_used_mib) == (10.0, 0, 2**31 - 1, None)
    assert vm.title.startswith("a bcxxx")
    assert len(vm.title) == 200


numbers = st.one_of(st.none(), st.integers(), st.floats())
texts = st.text(max_size=40)
nics = st.lists(
    st.builds(
        NicObservation,
        texts,
        st.one_of(texts, st.just("52:54:00:00:00:0A")),
        st.none(),
        texts,
        st.tuples(st.one_of(texts, st.just("fe80::1%eth0/64"))),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(
    texts, texts, st.integers(), st.integers(), st.one_of(st.none(), st.floats()), st.one_of(st.none(), st.floats()),
    st.one_of(st.none(), st.integers()), nics,
)  # fmt: skip
def test_whatever_is_seen_can_be_stored(
    title: str, os_name: str, cpu: int, memory: int, disk: float | None, seconds: float | None, count: int | None,
    seen: list[NicObservation],
) -> None:  # fmt: skip
    observation = VmObservation(
        "r", "n", title, PowerState.RUNNING, cpu, memory, disk, tuple(seen), os_name, seconds, count, count, count,
        count, count,
    )  # fmt: skip
    clean = cleaned(observation)
    assert cleaned(clean) == clean, "cleaning twice changes nothing"
    assert 0 <= clean.cpu_count < 2**31
    assert 0 <= clean.memory_mib < 2**31
    assert clean.disk_gib is None or 0 <= clean.disk_gib <= 1e9
    assert clean.memory_used_mib is None or 0 <= clean.memory_used_mib < 2**31
    assert "\n" not in clean.title
    assert len(clean.title) <= 200
    macs = [nic.mac for nic in clean.nics]
    assert len(set(macs)) == len(macs)
    assert all(MAC.fullmatch(mac) for mac in macs)


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_one_line_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line == line.strip()
    assert line.splitlines() in ([], [line])
