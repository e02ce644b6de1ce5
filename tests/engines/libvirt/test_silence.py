"""A libvirt that does not answer: the task says so while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import libvirt
import pytest

from panel.engines.libvirt import power
from panel.engines.libvirt.client import Client, Lane
from panel.engines.types import PowerAction
from panel.errors import EngineTimeout


class Told:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        self.steps.append(message.format(**params))

    async def warn(self, message: str, /, **params: object) -> None:
        raise AssertionError(message)


class Slow:
    """A client of one domain, whose calls of the slow lane take ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.state = libvirt.VIR_DOMAIN_RUNNING
        self.left = 0  # calls that nobody waits for any more

    async def domain(
        self, _ref: str, call: Callable[[Any], Any], *, seconds: float = 1, lane: Lane = Lane.QUICK
    ) -> Any:
        if lane is not Lane.SLOW:
            return self.state
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(self.seconds)
        except TimeoutError:
            raise EngineTimeout("The host did not answer.") from None
        except asyncio.CancelledError:
            self.left += 1
            raise
        self.state = libvirt.VIR_DOMAIN_SHUTOFF
        return None


async def stop(client: Slow, told: Told) -> None:
    await power.act(cast(Client, client), "ref", PowerAction.STOP, told, shutdown_seconds=1, press_seconds=1)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SILENT_SECONDS", 0.1)


async def test_an_answer_in_time_needs_no_words() -> None:
    told = Told()
    await stop(Slow(0), told)
    assert told.steps == ["Asking libvirt to stop the VM"]


async def test_silence_is_told_and_the_answer_still_counts() -> None:
    told, client = Told(), Slow(0.3)
    await stop(client, told)
    assert told.steps[1:] == ["libvirt has not answered for 0 s; the panel waits for 60 s"]
    assert client.left == 0


async def test_silence_ends_in_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "OTHER_SECONDS", 0.3)
    told = Told()
    with pytest.raises(EngineTimeout):
        await stop(Slow(60), told)
    assert len(told.steps) == 2


async def test_who_is_cancelled_leaves_nobody_waiting() -> None:
    client = Slow(60)
    job = asyncio.ensure_future(stop(client, Told()))
    await asyncio.sleep(0.2)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await asyncio.sleep(0)
    assert client.left == 1
