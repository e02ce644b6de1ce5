"""Power: what is asked is checked against the state, done, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import libvirt

from panel.engines.common.power import GOAL, refuse
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.observe import AGENT_ANSWER_SECONDS, power_state
from panel.engines.types import PowerAction, PowerState, Reporter
from panel.errors import EngineTimeout, NotFound, PanelError

START_SECONDS = 120.0  # a start may make room in memory first
OTHER_SECONDS = 60.0  # a process that does not die takes libvirt half a minute
SILENT_SECONDS = 10.0  # without an answer, after which the operator is told
AGENT_CALL_SECONDS = 90.0  # libvirt itself waits up to 60 s for the guest to act
AGENT_GRACE_SECONDS = 10.0
POLL_SECONDS = 0.25


async def read_state(client: Client, ref: str) -> PowerState:
    """The power state now. ``NotFound`` when there is no such VM."""
    return power_state(await client.domain(ref, lambda domain: int(domain.state()[0])))


async def act(
    client: Client, ref: str, action: PowerAction, report: Reporter, *, shutdown_seconds: float, press_seconds: float
) -> None:
    """Do ``action`` and return when it is so; see ``Engine.power``."""
    state = await read_state(client, ref)
    refuse(action, state)
    if action is PowerAction.SHUTDOWN:
        await report.step("Asking the guest to shut down")
        await _Shutdown(client, ref, shutdown_seconds, press_seconds).run()
        return
    await report.step("Asking libvirt to {action} the VM", action=action)
    limit = START_SECONDS if action is PowerAction.START else OTHER_SECONDS
    telling = asyncio.get_running_loop().create_task(_tell_of_silence(report, limit))
    try:
        await client.domain(ref, lambda domain: _do(domain, action), seconds=limit, lane=Lane.SLOW)
    finally:
        telling.cancel()
        await asyncio.wait({telling})
    if not await reaches(client, ref, GOAL[action], limit):
        raise EngineTimeout("The VM did not follow within {seconds} s. Look at its console.", seconds=round(limit))


async def _tell_of_silence(report: Reporter, limit: float) -> None:
    """Say that libvirt has not answered yet: a stop may be what somebody looks at."""
    await asyncio.sleep(SILENT_SECONDS)
    await report.step(
        "libvirt has not answered for {seconds} s; the panel waits for {limit} s",
        seconds=round(SILENT_SECONDS),
        limit=round(limit),
    )


def _do(domain: Any, action: PowerAction) -> None:
    if action is PowerAction.START:
        domain.create()
    elif action is PowerAction.STOP:
        domain.destroy()
    elif action is PowerAction.SUSPEND:
        domain.suspend()
    elif action is PowerAction.RESET:
        domain.reset(0)
    elif domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


async def reaches(client: Client, ref: str, goal: PowerState, seconds: float) -> bool:
    """Wait until the VM is in state ``goal``; False when it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = await read_state(client, ref)
        except NotFound:
            if goal is PowerState.STOPPED:  # a transient VM ends with its power
                return True
            raise
        if state is goal:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)


class _Shutdown:
    """Asks a guest to shut down: its agent first, then the power button, pressed again and again: a guest that is booting
    does not hear it yet."""

    def __init__(self, client: Client, ref: str, seconds: float, press_seconds: float) -> None:
        self._client = client
        self._ref = ref
        self._seconds = seconds
        self._press_seconds = press_seconds

    async def run(self) -> None:
        """Return when the VM is off. ``EngineTimeout`` when it is not in time."""
        agent = await self._ask_agent()
        pressing = asyncio.get_running_loop().create_task(self._press(AGENT_GRACE_SECONDS if agent else 0))
        try:
            if not await reaches(self._client, self._ref, PowerState.STOPPED, self._seconds):
                raise EngineTimeout(
                    "The guest did not shut down within {seconds} s. It may still do so, or stop the VM.",
                    seconds=round(self._seconds),
                )
        finally:
            for task in (agent, pressing):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    async def _ask_agent(self) -> asyncio.Task[None] | None:
        config = await self._client.domain(self._ref, lambda domain: read_domain(domain.XMLDesc(0)))
        if not config.agent_connected:
            return None
        return asyncio.get_running_loop().create_task(self._agent())

    async def _agent(self) -> None:
        with contextlib.suppress(PanelError):  # the power button follows
            await self._client.domain(self._ref, _agent_shutdown, seconds=AGENT_CALL_SECONDS, lane=Lane.AGENT)

    async def _press(self, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            with contextlib.suppress(PanelError):
                await self._client.domain(
                    self._ref, lambda domain: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                )
            await asyncio.sleep(self._press_seconds)


def _agent_shutdown(domain: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(AGENT_ANSWER_SECONDS)
    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
