"""Background work waits for requests, a little, and one piece after the other."""

from __future__ import annotations

import asyncio

from panel.courtesy import Courtesy


async def test_it_waits_until_the_answer_is_there() -> None:
    courtesy, order = Courtesy(), list[str]()

    async def work(name: str) -> None:
        await courtesy.give_way()
        order.append(name)

    with courtesy.serving():
        jobs = [asyncio.create_task(work(name)) for name in ("one", "two")]
        for _ in range(3):
            await asyncio.sleep(0)
        order.append("answer")
    await asyncio.gather(*jobs)
    assert order == ["answer", "one", "two"]


async def test_it_does_not_wait_for_ever() -> None:
    courtesy = Courtesy()
    async with asyncio.timeout(5):
        with courtesy.serving():
            for _ in range(3):
                await courtesy.give_way()


async def test_a_request_that_waits_itself_is_not_waited_for() -> None:
    courtesy = Courtesy()
    async with asyncio.timeout(5):
        with courtesy.serving():
            async with courtesy._turn:  # a piece at work, which holds up the next one
                while courtesy._served:
                    await asyncio.sleep(0.01)
            assert courtesy._idle.is_set()
        with courtesy.serving(), courtesy.serving():
            pass
        assert courtesy._idle.is_set()


async def test_who_gives_up_holds_up_nobody() -> None:
    courtesy = Courtesy()
    with courtesy.serving():
        job = asyncio.create_task(courtesy.give_way())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        job.cancel()
    async with asyncio.timeout(10):
        await courtesy.give_way()
