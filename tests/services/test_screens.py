"""Pictures of screens: one for all who ask, few at once, small, and no waiting for ever."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from panel.engines.common.pictures import jpeg, png, thumbnail
from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineFailure, EngineTimeout
from panel.models import Vm
from panel.security import PANEL
from panel.services import screens
from panel.services.container import Services
from tests.pages.conftest import alpha, vm_named

__all__ = ["alpha"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures were being taken, each time that one was begun."""
    running = 0
    seen: list[int] = []
    original = FakeEngine.screenshot

    async def counting(self: FakeEngine, ref: str, width: int) -> bytes:
        nonlocal running
        running += 1
        seen.append(running)
        try:
            await asyncio.sleep(0.05)
            return await original(self, ref, width)
        finally:
            running -= 1

    monkeypatch.setattr(FakeEngine, "screenshot", counting)
    return seen


async def test_many_who_ask_get_one_picture(services: Services, alpha: FakeWorld, counted: list[int]) -> None:
    vm = await vm_named("vm-0001")
    pictures = await asyncio.gather(*(services.screens.take(PANEL, vm) for _each in range(20)))
    assert len({picture.number for picture in pictures}) == 1
    assert (await services.screens.take(PANEL, vm)).number == pictures[0].number, "some seconds old is new enough"
    assert counted == [1]


async def test_few_at_once(services: Services, alpha: FakeWorld, counted: list[int]) -> None:
    vms = await Vm.filter(state=PowerState.RUNNING).prefetch_related("host").limit(10)
    await asyncio.gather(*(services.screens.take(PANEL, vm) for vm in vms))
    assert len(counted) == 10
    assert max(counted) <= screens.AT_ONCE


async def test_who_goes_away_spoils_nothing(services: Services, alpha: FakeWorld, counted: list[int]) -> None:
    """The first one to ask is cancelled; the second one gets the picture."""
    vm = await vm_named("vm-0001")
    first = asyncio.create_task(services.screens.take(PANEL, vm))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(services.screens.take(PANEL, vm))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).data
    assert counted == [1]


async def test_a_hung_host_is_given_up(services: Services, alpha: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not asked again at once."""
    monkeypatch.setattr(screens, "TAKE_SECONDS", 0.2)
    alpha.behaviour = Behaviour(manner=Manner.HUNG, only=frozenset({"screenshot"}))
    vm = await vm_named("vm-0001")
    with pytest.raises(EngineTimeout):
        await services.screens.take(PANEL, vm)
    alpha.behaviour = None
    with pytest.raises(EngineTimeout):
        await services.screens.take(PANEL, vm)
    monkeypatch.setattr(screens, "FRESH_SECONDS", 0.0)
    assert (await services.screens.take(PANEL, vm)).data


async def test_off_is_not_asked(services: Services, alpha: FakeWorld, counted: list[int]) -> None:
    with pytest.raises(Conflict):
        await services.screens.take(PANEL, await vm_named("vm-0004"))
    assert counted == []


async def test_what_is_large_becomes_a_jpeg(
    services: Services, alpha: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen full of noise."""

    async def noise(_self: FakeEngine, _ref: str, width: int) -> bytes:
        return png(Image.effect_noise((width, 200), 100).convert("RGB"), width)

    monkeypatch.setattr(FakeEngine, "screenshot", noise)
    picture = await services.screens.take(PANEL, await vm_named("vm-0001"))
    assert picture.mime == "image/jpeg"
    assert len(picture.data) < screens.MOST_BYTES
    assert Image.open(io.BytesIO(picture.data)).size == (320, 200)


def test_thumbnails() -> None:
    """Of a PPM; smaller, never larger; nonsense, other formats and giants are refused."""
    ppm = b"P6\n640 400\n255\n" + bytes(640 * 400 * 3)
    assert Image.open(io.BytesIO(thumbnail(ppm, 320))).size == (320, 200)
    assert Image.open(io.BytesIO(thumbnail(ppm, 5000))).size == (640, 400)
    gif = io.BytesIO()
    Image.new("RGB", (4, 4)).save(gif, "GIF")
    for bad in (b"", b"P6\n640 400\n255\n" + bytes(100), b"nonsense", gif.getvalue(), b"P6\n99999 99999\n255\n"):
        with pytest.raises(EngineFailure):
            thumbnail(bad, 320)
    assert len(jpeg(thumbnail(ppm, 320), 20_000)) < 20_000
