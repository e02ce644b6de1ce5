"""Text consoles: which port, whose login, what the vendor's proxy refuses."""

from __future__ import annotations

import pytest

from panel.engines.consoletypes import TextSize
from panel.errors import Conflict, EngineFailure, HostUnreachable
from tests.contract.kit import Recorder
from tests.contract.terminal import terminal

from .kit import USER, Double, machine, spec


@pytest.mark.parametrize("user", ["", USER])
async def test_a_vm_made_here_has_a_serial_port(double: Double, user: str) -> None:
    engine = double.engine(user) if user else double.engine()
    wanted = spec(start=True)
    await engine.create(wanted, Recorder())
    assert machine(double, wanted.ref).config["serial0"] == "socket"
    if user:
        double.door.token, kept = "", double.door.token
    try:
        async with terminal(engine, wanted.ref) as shown:
            await shown.until("[#$] ?")
            await shown.run("echo 机", "机")
    finally:
        if user:
            double.door.token = kept
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_a_templates_own_port_is_kept_and_none_is_told(double: Double) -> None:
    template = double.world.add("with-serial", gib=1, template=True)
    template.config["serial1"] = "socket"
    engine, wanted = double.engine(), spec(image="with-serial", start=True)
    await engine.create(wanted, Recorder())
    vm = machine(double, wanted.ref)
    assert "serial0" not in vm.config
    async with terminal(engine, wanted.ref) as shown:
        await shown.until("[#$] ?")
    vm.config["serial1"] = "/dev/ttyS0"
    with pytest.raises(Conflict, match="serial port"):
        await engine.text_console(wanted.ref)
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()
    double.world.destroy(template)


async def test_a_refusal_is_told(double: Double) -> None:
    engine, wanted = double.engine(), spec(start=True)
    await engine.create(wanted, Recorder())
    target = await engine.text_console(wanted.ref)
    double.door.missing.add("VM.Console")
    with pytest.raises(HostUnreachable, match=r"VM\.Console on /vms/"):
        await target.open(TextSize(), False)
    double.door.missing.clear()
    vm = machine(double, wanted.ref)
    vm.status = "stopped"
    with pytest.raises(EngineFailure, match="terminal"):
        await target.open(TextSize(), False)
    vm.status = "running"
    await (await target.open(TextSize(), False)).close()
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()
