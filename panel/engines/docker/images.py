"""Images by name: those that the host has, and those that its settings offer, which are fetched when first needed."""

from __future__ import annotations

import re
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from panel.engines.common.ssh import short
from panel.engines.docker.client import Client, Json
from panel.engines.docker.view import short_name
from panel.engines.hosttypes import Image
from panel.engines.types import Reporter
from panel.errors import InvalidInput, NotFound
from panel.i18n import gettext_noop as _

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]*(:[0-9]{1,5}/[a-z0-9._/-]+)?(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?")
LONGEST = 255
PULL_FROM, PULL_TO = 5, 60  # of a task's percents


def read_offered(text: str) -> tuple[str, ...]:
    """The names of a host's field ``images``, each with its tag. ``InvalidInput`` names one that is none."""
    found: list[str] = []
    for name in filter(None, re.split(r"[\s,]+", text.strip())):
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            raise InvalidInput(
                _("{field}: {name} is no image. Write names like debian:12 or registry.example/team/app:3."),
                field="images", name=name,
            )  # fmt: skip
        whole = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        if whole not in found:
            found.append(whole)
    return tuple(found)


async def list_images(client: Client, offered: tuple[str, ...]) -> list[Image]:
    """Every tagged image of the host, and what is offered besides. Their sizes are those on the host's disk, before anything is
    written; what is only offered has none yet."""
    found: dict[str, Image] = {}
    for row in await client.get("images/json") or ():
        for tag in row.get("RepoTags") or ():
            name = short_name(str(tag))
            if "<none>" not in name:
                found[name] = _image(name, row)
    for name in offered:
        found.setdefault(name, Image(name, name, name, "registry", 0, 0.0))
    return [found[name] for name in sorted(found)]


async def fetch(client: Client, name: str, offered: tuple[str, ...], report: Reporter) -> Json:
    """The whole description of an image, fetched when it is offered and not there.

    Raises:
        InvalidInput: field ``os_name``: the host neither has it nor offers it, or its registry refuses.
    """
    images = await list_images(client, offered)
    image = next((one for one in images if one.name == name), None)
    if image is None:
        known = ", ".join(one.name for one in images) or "–"
        raise InvalidInput(_("No image {name}. This host has: {known}."), field="os_name", name=name, known=known)
    if image.format == "registry":
        await _pull(client, name, report)
    try:
        found: Json = await client.get(f"images/{quote(name, safe='/:@')}/json")
    except NotFound:
        raise InvalidInput(
            _("{field}: the image {name} has just gone from the host."), field="os_name", name=name
        ) from None
    return found


async def _pull(client: Client, name: str, report: Reporter) -> None:
    await report.step(_("Fetching the image {name}"), percent=PULL_FROM, name=name)
    layers: dict[str, tuple[int, int]] = {}
    told = PULL_FROM
    async with aclosing(client.pull(name)) as lines:
        async for line in lines:
            if line.get("error"):
                raise InvalidInput(
                    _("{field}: host {host} cannot get the image: {reason}"),
                    field="os_name", host=client.host, reason=short(str(line["error"])),
                )  # fmt: skip
            detail = line.get("progressDetail") or {}
            if line.get("id") and detail.get("total"):
                layers[str(line["id"])] = (int(detail.get("current") or 0), int(detail["total"]))
            percent = percent_of(layers)
            if percent > told:
                told = percent
                done, total = (sum(each) // 1024**2 for each in zip(*layers.values(), strict=True))
                await report.step(
                    _("Fetching the image {name}: {done} of {total} MiB"),
                    percent=percent, name=name, done=done, total=total,
                )  # fmt: skip


def percent_of(layers: dict[str, tuple[int, int]]) -> int:
    """How far a fetch is, among a task's percents. Layers become known one after another: it may
    fall."""
    total = sum(size for _now, size in layers.values())
    share = sum(min(now, size) for now, size in layers.values()) / total if total else 0.0
    return PULL_FROM + int(share * (PULL_TO - PULL_FROM))


def _image(name: str, row: dict[str, Any]) -> Image:
    number = str(row.get("Id", name))
    added = datetime.fromtimestamp(int(row.get("Created") or 0), UTC) if row.get("Created") else None
    return Image(name, number, name, "container", int(row.get("Size") or 0), 0.0, added_at=added)
