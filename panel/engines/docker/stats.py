"""The load of containers: counters since their start.

Docker 20.10 answers each question with its collector's next sample, up to a second later, so many are asked at the same time;
what was read is good for a moment, and longer for a look at one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from panel.engines.docker.client import Client, Json

MIB = 1024**2
ROUND_SECONDS = 2.0  # that counters are good for, in a round
LOOK_SECONDS = 10.0  # in a look at one

Counters = dict[str, float]


class Stats:
    """The counters of a host's containers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[str, tuple[float, Counters]] = {}

    def forget(self, number: str) -> None:
        """It was stopped, or started anew."""
        self._kept.pop(number, None)

    async def read(self, numbers: Iterable[str], *, every: bool) -> dict[str, Counters]:
        """Of these, which are on: in a round over ``every`` container, or for a look at some. Without those that have none."""
        wanted, now = list(numbers), time.monotonic()
        seconds = ROUND_SECONDS if every else LOOK_SECONDS
        due = [one for one in wanted if now - self._kept.get(one, (-seconds, {}))[0] >= seconds]
        for number, told in zip(due, await asyncio.gather(*map(self._client.stats, due)), strict=True):
            if told:
                self._kept[number] = (time.monotonic(), counters(told))
            else:
                self.forget(number)
        if every:
            for number in self._kept.keys() - set(wanted):
                self.forget(number)
        return {number: self._kept[number][1] for number in wanted if number in self._kept}


def counters(stats: Json) -> Counters:
    """``cpu`` in seconds, ``memory`` in MiB, ``read``, ``write``, ``rx``, ``tx`` in bytes. Source: the API's reference, "Get
    container stats": what is cached of files counts as free, as Docker's own client has it."""
    found: Counters = {}
    used = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    found["cpu"] = int(used.get("total_usage") or 0) / 1e9
    memory = stats.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cached = int(details.get("total_inactive_file") or details.get("inactive_file") or 0)
    found["memory"] = max(0, int(memory.get("usage") or 0) - cached) / MIB
    blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    for name in ("read", "write"):
        found[name] = sum(int(row.get("value") or 0) for row in blocks if str(row.get("op", "")).lower() == name)
    cards = (stats.get("networks") or {}).values()
    found["rx"] = sum(int(card.get("rx_bytes") or 0) for card in cards)
    found["tx"] = sum(int(card.get("tx_bytes") or 0) for card in cards)
    return found
