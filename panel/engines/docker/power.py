"""Power: the daemon's own words, waited for. ``SHUTDOWN`` sends the signal that the image asks for, and never kills."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from panel.engines.common.power import GOAL, refuse
from panel.engines.docker.client import Client, Json, container
from panel.engines.docker.view import STATES, Found, Viewer
from panel.engines.types import PowerAction, PowerState, Reporter
from panel.errors import Conflict, EngineTimeout, NotFound
from panel.i18n import gettext_noop as _

GOAL_SECONDS = 20.0
POLL_SECONDS = 0.15
UP_SECONDS = 0.4  # that a container must last to count as started
AGAIN_SECONDS = 6.0  # within which Podman starts again what it should not
AGAIN_GRACE = 5  # seconds that such a one has to end once more


async def act(
    client: Client, viewer: Viewer, one: Found, action: PowerAction, report: Reporter, shutdown_seconds: float
) -> None:
    """Do it and return when it is so."""
    whole = await viewer.whole(one)
    state = state_of(whole)
    refuse(action, state)
    if action is PowerAction.SHUTDOWN:
        await _shut_down(client, one, whole, report, shutdown_seconds)
        return
    if action is PowerAction.STOP:
        await _stop(client, one.id, paused=state is PowerState.SUSPENDED)
    elif action is PowerAction.RESET:
        await client.post(container(one.id, "/restart"), t="0")
    else:
        words = {PowerAction.START: "start", PowerAction.SUSPEND: "pause", PowerAction.RESUME: "unpause"}
        await client.post(container(one.id, f"/{words[action]}"))
    if action in {PowerAction.START, PowerAction.RESET}:
        await stays_up(client, one.id)  # it runs once the daemon has answered, or has ended by now
    else:
        await _reach(client, one.id, GOAL[action])


async def stays_up(client: Client, number: str) -> None:
    """``Conflict`` when a container ends right after its start: its image's command is none that stays."""
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        whole = await client.get(container(number, "/json"))
        if state_of(whole) is not PowerState.RUNNING:
            code = int((whole.get("State") or {}).get("ExitCode") or 0)
            raise Conflict(
                _("The container ended right after its start (exit code {code}): what its image runs does not stay. Use an "
                  "image that does, or give the host's settings a command (sleep infinity)."),
                code=code,
            )  # fmt: skip
        await asyncio.sleep(POLL_SECONDS)


def state_of(whole: Json) -> PowerState:
    """From a container's whole description."""
    return STATES.get(str((whole.get("State") or {}).get("Status", "")).lower(), PowerState.UNKNOWN)


async def _stop(client: Client, number: str, *, paused: bool) -> None:
    """Pull the plug."""
    if paused and client.podman:  # it stops no paused container; Docker wakes it with the signal that ends it
        await client.post(container(number, "/unpause"))
    with suppress(NotFound):
        await client.post(container(number, "/stop"), t="0")


async def _shut_down(client: Client, one: Found, whole: Json, report: Reporter, seconds: float) -> None:
    signal = str((whole.get("Config") or {}).get("StopSignal") or "SIGTERM")
    await report.step(_("Asking the guest to shut down"))
    with suppress(Conflict):  # it has ended by itself
        await client.post(container(one.id, "/kill"), signal=signal)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = await client.get(container(one.id, "/json"))
        if state_of(seen) is not PowerState.RUNNING or _started(seen) != _started(whole):
            if client.podman:
                await _keep_down(client, one.id, whole)
            return
        await asyncio.sleep(POLL_SECONDS)
    raise EngineTimeout(
        _("The VM did not follow within {seconds} s. Its main program does not end on the signal {signal}: stop it instead."),
        seconds=round(seconds), signal=signal,
    )  # fmt: skip


async def _keep_down(client: Client, number: str, whole: Json) -> None:
    """Docker remembers that a container was sent its stop signal; Podman (4.3) does not, and starts what has a restart policy
    again, right after its end. To stop one that has ended tells it nothing: it is stopped when it is back."""
    policy = str(((whole.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name") or "")
    deadline = time.monotonic() + AGAIN_SECONDS
    while policy not in {"", "no"} and time.monotonic() < deadline:
        seen = await client.get(container(number, "/json"))
        if state_of(seen) is PowerState.RUNNING and _started(seen) != _started(whole):
            await client.post(container(number, "/stop"), t=str(AGAIN_GRACE))
            return
        if policy == "on-failure" and not int((seen.get("State") or {}).get("ExitCode") or 0):
            return
        await asyncio.sleep(POLL_SECONDS)


def _started(whole: Json) -> str:
    return str((whole.get("State") or {}).get("StartedAt"))


async def _reach(client: Client, number: str, goal: PowerState) -> None:
    deadline = time.monotonic() + GOAL_SECONDS
    while state_of(await client.get(container(number, "/json"))) is not goal:
        if time.monotonic() > deadline:
            raise EngineTimeout(_("The VM did not follow within {seconds} s."), seconds=round(GOAL_SECONDS))
        await asyncio.sleep(POLL_SECONDS)
