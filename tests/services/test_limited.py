"""The engines' time limit loses no cancellation."""

from __future__ import annotations

import asyncio

import pytest

from panel.errors import EngineTimeout
from panel.services.engines import limited


async def test_a_cancellation_that_comes_with_the_answer() -> None:
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await limited(answered, 5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    answered.set_result(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_does_not_come() -> None:
    with pytest.raises(EngineTimeout):
        await limited(asyncio.Event().wait(), 0.01)
