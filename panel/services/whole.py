"""Work that is done whole, although whoever waits for it goes away: a browser that disconnects cancels its request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_at_work: set[asyncio.Future[Any]] = set()


def whole(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Run ``method`` to its end, or not at all: a cancelled caller stops waiting, and nothing is left half written."""

    @wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        work = asyncio.ensure_future(method(*args, **kwargs))
        _at_work.add(work)
        work.add_done_callback(_at_work.discard)
        return await asyncio.shield(work)

    return run


async def to_the_end(work: Coroutine[Any, Any, R]) -> R:
    """Finish ``work`` although the caller is cancelled meanwhile: that came too late, and its result stands."""
    job = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if job.cancelled():
                raise
