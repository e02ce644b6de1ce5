"""How busy VMs are: the samples of VMware's simulator, in one call for all that run, and what a vCenter may answer instead."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim, vmodl

from panel.engines.types import Load, PowerAction
from panel.engines.vsphere import load
from tests.contract.kit import Recorder, by_ref

from .test_vsphere import Host, host, spec

__all__ = ["host"]  # the fixture
KEYS = {1: ("cpu_percent", "", 0.01), 2: ("disk_read", "*", 1024.0), 3: ("net_rx", "", 1024.0)}


def series(key: int, instance: str, *values: int) -> Any:
    named = vim.PerformanceManager.MetricId(counterId=key, instance=instance)
    return vim.PerformanceManager.IntSeries(id=named, value=list(values))


def test_disks_are_summed_and_what_is_not_known_is_none() -> None:
    found = [
        series(1, "", 1, 2550),
        series(2, "scsi0:0", 3),
        series(2, "scsi0:1", 4),
        series(2, "sata0:0", -1),
        series(3, "", -1),
    ]
    assert load.read(found, KEYS) == Load(cpu_percent=25.5, disk_read=7 * 1024.0)
    assert load.read([*found, series(2, "", 5)], KEYS) == Load(cpu_percent=25.5, disk_read=5 * 1024.0)
    assert load.read([series(9, "", 1)], KEYS) is None
    assert load.read([], KEYS) is None


@pytest.mark.live
async def test_one_call_for_all_that_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = host.engine()
    made = [spec(image=None) for _ in range(3)]
    for one in made:
        await engine.create(one, Recorder())
    for one in made[:2]:
        await engine.power(one.ref, PowerAction.START, Recorder())
    await engine.observe()
    session = await engine._client._connected()
    calls: list[str] = []
    real = session.stub.InvokeMethod

    def counted(mo: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(info.wsdlName)
        return real(mo, info, *args, **kwargs)

    monkeypatch.setattr(session.stub, "InvokeMethod", counted)
    seen = await by_ref(engine)
    assert calls == ["RetrievePropertiesEx", "QueryPerf"]
    for one in made[:2]:
        found = seen[one.ref].load
        assert found is not None
        assert found.cpu_percent is not None
        assert 0 < found.cpu_percent <= 100
        assert found.net_rx is not None
        assert found.net_rx > 1024, "bytes, and vSphere tells KiB"
    assert seen[made[2].ref].load is None
    for one in made:
        await engine.delete(one.ref, one.name, Recorder())
    await engine.close()


@pytest.mark.live
async def test_one_that_goes_away_meanwhile_hides_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = host.engine()
    made = [spec(image=None) for _ in range(3)]
    for one in made:
        await engine.create(one, Recorder())
    await engine.observe()
    session = await engine._client._connected()
    moids = [host.world.vm(one.ref)._moId for one in made]
    real, asked = session.stub.InvokeMethod, []

    def answers(mo: Any, info: Any, args: Any, *rest: Any) -> Any:
        """As a vCenter does, which answers for none when one is gone; vcsim answers for it too."""
        if info.wsdlName == "QueryPerf":
            asked.append(len(args[0]))
            if any(one.entity._moId == moids[1] for one in args[0]):
                raise vmodl.fault.ManagedObjectNotFound(obj=session.vm(moids[1]))
        return real(mo, info, args, *rest)

    monkeypatch.setattr(session.stub, "InvokeMethod", answers)
    found = await engine._client.call(lambda used: load.loads(used, moids))
    assert (sorted(found), asked) == (sorted([moids[0], moids[2]]), [3, 2])
    monkeypatch.setattr(load, "PAGE", 1)
    asked.clear()
    assert len(await engine._client.call(lambda used: load.loads(used, moids))) == 2
    assert asked == [1, 1, 1]
    for one in made:
        await engine.delete(one.ref, one.name, Recorder())
    await engine.close()
