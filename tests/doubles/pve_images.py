"""Files of the double's storages that are downloaded and removed. A download is real: the double asks the URL, and checks."""

from __future__ import annotations

import asyncio
import hashlib
import re
from urllib.request import urlopen

from tests.doubles.pve_world import Cluster, RefusedError, Task

ENDINGS = {"import": r"\.(ova|qcow2|raw|vmdk)", "vztmpl": r"\.tar\.(gz|xz|zst|bz2)", "iso": r"\.(iso|img)"}


def download(world: Cluster, node: str, storage: str, given: dict[str, str], user: str) -> str:
    """``download``: a file has its name only when it is whole and right."""
    content, file = given["content"], given["filename"]
    if not re.search(ENDINGS[content] + r"$", file):
        raise RefusedError(400, "Parameter verification failed.\n", {"filename": "wrong file extension"})
    if storage != "local":
        raise RefusedError(500, f"can't use content type '{content}' on storage '{storage}'\n")
    volume = f"{storage}:{content}/{file}"
    if volume in world.files:
        raise RefusedError(500, f"refusing to override existing file '{file}'\n")

    async def work(task: Task) -> None:
        task.log.append(f"downloading {given['url']} to /var/lib/vz/{content}/{file}")
        try:
            data = await asyncio.to_thread(_fetched, given["url"])
        except OSError as error:
            raise RefusedError(500, f"download failed: wget error: {error}\n") from error
        for percent in (0, 50, 100):
            task.log.append(f" 32768K ........ ........ ........ ........ {percent}% 11.2M 20s")
            await asyncio.sleep(world.clone_seconds / 3)
        if given.get("checksum"):
            found = hashlib.new(given["checksum-algorithm"], data).hexdigest()
            if found != given["checksum"]:
                raise RefusedError(500, f"checksum mismatch: got '{found}' != expect '{given['checksum']}'\n")
        world.files[volume] = len(data)

    return world.begin(node, "download", 0, user, work)


def _fetched(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def remove(world: Cluster, node: str, volume: str, user: str) -> str:
    """``imgdel``."""
    if volume not in world.files:
        raise RefusedError(500, f"volume '{volume}' does not exist\n")

    async def work(_task: Task) -> None:
        del world.files[volume]

    return world.begin(node, "imgdel", 0, user, work)
