"""Events between processes: what is told, and what is not understood."""

from __future__ import annotations

import orjson
import pytest

from panel.events import Event, EventBus, SessionEnded, TaskChanged, VmChanged
from panel.models.notify import MOST_BYTES
from panel.services.relay import MOST_WAITING, Relay, payloads


def test_many_events_fit_into_payloads() -> None:
    events: list[Event] = [VmChanged(number, 7) for number in range(3000)]
    events += [TaskChanged("t" * 32, ended=True), SessionEnded("测" * 60)]
    told: list[Event] = []
    for payload, within in payloads("me", events):
        assert len(payload.encode()) <= MOST_BYTES
        assert len(orjson.loads(payload)["events"]) == len(within)
        told += within
    assert told == events


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


async def test_what_others_tell_arrives(bus: EventBus) -> None:
    relay = Relay("postgres://nobody", "me", bus)
    heard: list[Event] = []
    bus.arrivals.append(heard.append)
    with bus.subscribe() as subscription:
        for payload, _events in payloads("you", [VmChanged(1, 2), TaskChanged("a", ended=False)]):
            relay._hear(payload)
        assert await subscription.get() == VmChanged(1, 2)
        assert await subscription.get() == TaskChanged("a", ended=False)
    assert heard == [VmChanged(1, 2), TaskChanged("a", ended=False)]


@pytest.mark.parametrize(
    "payload",
    ["", "[]", "{}", '{"from": "me", "events": [["VmChanged", 1, 2]]}', '{"from": "you", "events": [["VmChanged", 1]]}',
     '{"from": "you", "events": [["Later", 1]]}', '{"from": "you", "events": [[]]}', '{"from": "you", "events": 7}'],
    ids=["empty", "list", "object", "own", "too-few", "unknown", "nameless", "number"],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(bus: EventBus, payload: str) -> None:
    heard: list[Event] = []
    bus.arrivals.append(heard.append)
    Relay("postgres://nobody", "me", bus)._hear(payload)
    assert heard == []


def test_memory_is_bounded_while_nobody_listens(bus: EventBus) -> None:
    relay = Relay("postgres://nobody", "me", bus)
    for number in range(2 * MOST_WAITING + 10):
        relay._take(VmChanged(number, 1))
    assert len(relay._waiting) <= MOST_WAITING + 1
