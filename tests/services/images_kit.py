"""A fake host with a real images folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from panel.engines.types import EngineKind
from panel.models import Host, Task
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.services.texts import unpack
from tests.conftest import ADMIN


async def body(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    """The body of a request, in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def local_host(services: Services, folder: Path, name: str = "here") -> Host:
    """A host whose images are the files of ``folder``."""
    folder.mkdir(exist_ok=True)
    await services.hosts.create(ADMIN, name, HostRequest(EngineKind.FAKE, address=name, images_path=str(folder)))
    return await services.hosts.get(name)


async def ended(services: Services, task: Task, seconds: float = 60) -> tuple[str, str]:
    """How a task ended: (status, message)."""
    task = await services.tasks.wait(task.id, seconds)
    return str(task.status), str(unpack(task.message))


def files(folder: Path) -> list[str]:
    """All files below a folder, also those that are on their way."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
