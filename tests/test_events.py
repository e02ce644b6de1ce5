"""Publish and subscribe: nobody blocks, and a slow listener costs only what exists."""

from __future__ import annotations

import asyncio

import pytest

from panel.events import EventBus, TaskChanged, VmChanged


async def test_a_listener_who_does_not_read_is_bounded() -> None:
    bus = EventBus()
    with bus.subscribe() as slow:
        for number in range(100_000):
            bus.publish(VmChanged(number % 50, 1))
        assert len(slow._waiting) == 50
        seen = [await slow.get() for _ in range(50)]
        assert [event.vm_id for event in seen if isinstance(event, VmChanged)] == list(range(50)), "oldest first"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow.get(), 0.01)


async def test_everyone_hears_everything_from_then_on() -> None:
    bus = EventBus()
    bus.publish(VmChanged(0, 0))
    with bus.subscribe() as one, bus.subscribe() as two:
        waiting = asyncio.create_task(one.get())
        await asyncio.sleep(0)
        bus.publish(TaskChanged("t", ended=False))
        bus.publish(TaskChanged("t", ended=True))
        assert await waiting == TaskChanged("t", ended=False)
        assert await one.get() == TaskChanged("t", ended=True), "an end is not swallowed by a move"
        heard = []
        async for event in two:
            heard.append(event)
            if len(heard) == 2:
                break
        assert heard == [TaskChanged("t", ended=False), TaskChanged("t", ended=True)]
    bus.publish(VmChanged(1, 1))
    assert not one._waiting, "who left hears nothing"
