"""Threads for blocking libraries: daemon threads, so that a call that never returns holds up neither the event loop nor
the end of the process (``concurrent.futures`` joins its threads at exit and would)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonPool:
    """At most ``size`` daemon threads, made when first needed.

    A thread that hangs is not joined by anyone: ``retire`` the pool, forget it, and make a new one.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._outstanding = 0  # jobs that have not ended
        self._retired = False
        self._final: Callable[[], None] | None = None

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``function`` in a thread. The future belongs to the running loop; cancelling it does not stop the thread.

        Raises ``RuntimeError`` when the pool is retired.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(lambda: _call(loop, future, function))
        return future

    def retire(self, final: Callable[[], None] | None = None) -> None:
        """Take no more work. What runs is let finish; the last thread to end runs ``final``. Returns at once."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            self._final = final
            if self._threads == 0 and final is not None:
                self._spawn()
            for _ in range(self._threads):
                self._work.put(None)

    def _put(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._retired:
                raise RuntimeError("the pool is retired")
            self._outstanding += 1
            self._work.put(job)
            if self._threads < min(self._outstanding, self._size):
                self._spawn()

    def _spawn(self) -> None:
        self._threads += 1
        name = f"{self._name}-{self._threads}"
        threading.Thread(target=self._loop, name=name, daemon=True).start()

    def _loop(self) -> None:
        while (job := self._work.get()) is not None:
            job()
            del job  # its results may hold the library's handles
            with self._lock:
                self._outstanding -= 1
        with self._lock:
            self._threads -= 1
            final = self._final if self._threads == 0 else None
        if final is not None:
            with contextlib.suppress(Exception):
                final()


def _call(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    """Run ``function`` and hand its result or exception to ``future`` in its loop, if that is still there."""
    result: Any = None
    failure: Exception | None = None
    try:
        result = function()
    except Exception as error:
        failure = error
    with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
        future.exception()  # seen: no "never retrieved" when the caller was cancelled meanwhile
