"""CPUs and memory: what a container may use, and changing it while it lives.

Docker keeps a change. Podman (4.3) applies it to what runs and forgets it: there it is noted (``marks``), and applied again when
the container has been started since.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from panel.engines.docker.client import Client, Json, container
from panel.engines.docker.marks import Kind, Note, Notes
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

MIB = 1024**2
PERIOD_US = 100_000
NANO = 1_000_000_000
PROCESSES = 4096  # that a container may have: what floods its host is stopped


def host_config(cpus: int, memory_mib: int) -> Json:
    """The limits of a new container. Memory includes swap: a container does not swap."""
    return {
        "NanoCpus": cpus * NANO,
        "Memory": memory_mib * MIB,
        "MemorySwap": memory_mib * MIB,
        "PidsLimit": PROCESSES,
    }


def limits_of(whole: Json, note: Note | None, info: Json) -> tuple[int, int]:
    """CPUs and MiB. Without a limit it is the host's all."""
    config = whole.get("HostConfig") or {}
    quota, period = int(config.get("CpuQuota") or 0), int(config.get("CpuPeriod") or 0) or PERIOD_US
    cpus = -(-int(config.get("NanoCpus") or 0) // NANO) or (-(-quota // period) if quota > 0 else 0)
    memory = int(config.get("Memory") or 0) // MIB
    if note is not None and isinstance(note.value, dict):
        cpus, memory = int(note.value.get("cpu") or cpus), int(note.value.get("memory") or memory)
    return cpus or int(info.get("NCPU") or 1), memory or int(info.get("MemTotal") or 0) // MIB


def check_cpus(wanted: int | None, info: Json) -> None:
    """``InvalidInput`` for more CPUs than the host has."""
    most = int(info.get("NCPU") or 0)
    if wanted is not None and most and wanted > most:
        raise InvalidInput(_("The host has {most} CPUs: a container cannot use more."), field="cpu_num", most=most)


class Limits:
    """The limits of a host's containers."""

    def __init__(self, client: Client, notes: Notes) -> None:
        self._client, self._notes = client, notes
        self._applied: dict[str, tuple[str, Any]] = {}

    async def change(self, ref: str, whole: Json, cpus: int | None, memory_mib: int | None, info: Json) -> None:
        """Let these be a container's limits, at once. None leaves one."""
        number = str(whole["Id"])
        if not self._client.podman:
            body: Json = {"NanoCpus": cpus * NANO} if cpus is not None else {}
            body |= {"Memory": memory_mib * MIB, "MemorySwap": memory_mib * MIB} if memory_mib is not None else {}
            await self._client.post(container(number, "/update"), body)
            return
        notes = await self._notes.all()
        now = limits_of(whole, notes.get((Kind.LIMITS, ref)), info)
        value = {"cpu": cpus or now[0], "memory": memory_mib or now[1]}
        if (whole.get("State") or {}).get("Running"):
            await self._apply(number, value)
            self._applied[ref] = (str(whole["State"].get("StartedAt")), value)
        await self._notes.write(Kind.LIMITS, ref, value)

    async def keep(self, seen: Iterable[tuple[str, Json]], notes: dict[tuple[Kind, str], Note]) -> None:
        """Apply noted limits to what was started since."""
        for ref, whole in seen if self._client.podman else ():
            note, state = notes.get((Kind.LIMITS, ref)), whole.get("State") or {}
            if note is None or not state.get("Running") or state.get("Paused"):
                continue
            key = (str(state.get("StartedAt")), note.value)
            if self._applied.get(ref) != key:
                with suppress(Conflict, EngineFailure, NotFound):  # it ended, or shrinks below what it uses: next round
                    await self._apply(str(whole["Id"]), note.value)
                    self._applied[ref] = key

    async def _apply(self, number: str, value: Json) -> None:
        limit = int(value["memory"]) * MIB
        body = {
            "cpu": {"quota": int(value["cpu"]) * PERIOD_US, "period": PERIOD_US},
            "memory": {"limit": limit, "swap": limit},
        }
        await self._client.libpod("POST", f"containers/{number}/update", body)
