"""The connection to one libvirt: threads, timeouts, events, and the only place that translates libvirt's errors."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable
from enum import Enum
from typing import Any, TypeVar

import libvirt

from panel.engines.common.threads import DaemonPool
from panel.engines.libvirt.events import Subscription, start_event_thread
from panel.engines.libvirt.failures import LOGIN_CODES, is_code, translate
from panel.engines.libvirt.tls import explain, knock, way_of
from panel.engines.types import VmEvent
from panel.errors import EngineTimeout, HostUnreachable, NotFound, PanelError

T = TypeVar("T")

CONNECT_SECONDS = 10.0
QUICK_SECONDS = 15.0
STUCK_LIMIT = 4
STUCK_RETRY_SECONDS = 600.0
FEED_LENGTH = 1000
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Lane(Enum):
    """What kind of call it is; the value is how many of it run at once on one host."""

    QUICK = (1, 4)  # answered from libvirt's memory
    SLOW = (2, 8)  # copies, starts
    AGENT = (3, 3)  # waits for a guest
    SCREEN = (4, 2)  # pictures of screens, which may wait for other work on the VM


class Link:
    """One open connection, its threads and the subscribers of its events. Replaced as a whole when it breaks."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = DaemonPool(f"libvirt-{name}", sum(lane.value[1] for lane in Lane))
        self.slots = {lane: asyncio.Semaphore(lane.value[1]) for lane in Lane}
        self.conn: Any = None
        self.closed = False
        self.feeds: set[asyncio.Queue[VmEvent | None]] = set()
        self.on_event: Callable[[str, str], None] | None = None
        self._subscription: Subscription | None = None

    def open(self, uri: str) -> None:
        """Connect (in a worker thread). Without libvirt's keep-alive: when that gives a silent host up while two calls wait, one
        of them never returns, and the process may crash (seen with libvirt 9.0). Our own time-outs notice such a host."""
        start_event_thread()
        self.conn = libvirt.open(uri)
        self._subscription = Subscription(self.conn, self._from_thread, self._closed_from_thread)

    def shut(self) -> None:
        """Disconnect (in a worker thread, after all calls on it have ended)."""
        if self._subscription is not None:
            self._subscription.remove()
        if self.conn is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self.conn.close()

    def finish(self) -> None:
        """No events any more: every subscriber's iterator ends."""
        self.closed = True
        for feed in self.feeds:
            _put(feed, None)

    def _from_thread(self, ref: str, what: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self.loop.call_soon_threadsafe(self._publish, ref, what)

    def _closed_from_thread(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.finish)

    def _publish(self, ref: str, what: str) -> None:
        if self.on_event is not None:
            self.on_event(ref, what)
        for feed in self.feeds:
            _put(feed, VmEvent(ref, what))


def _put(feed: asyncio.Queue[VmEvent | None], event: VmEvent | None) -> None:
    """Put, and when nobody reads: forget what is queued, and say that everything must be looked at again."""
    if feed.full():
        while not feed.empty():
            feed.get_nowait()
        feed.put_nowait(VmEvent(None, "overflow"))
    feed.put_nowait(event)


class Client:
    """Calls libvirt for one host. Nothing of libvirt's ever runs in, or blocks, the event loop.

    A call that exceeds its time abandons its connection and its threads and the next call opens new ones, so that one hung
    call costs nothing else; calls that still run on the old connection end normally. At most ``STUCK_LIMIT`` such
    connections may exist; after that a new one is tried only every ``STUCK_RETRY_SECONDS``.
    """

    def __init__(self, uri: str, name: str, on_event: Callable[[str, str], None] | None = None) -> None:
        """``on_event(ref, what)`` is called in the event loop for each event, before subscribers see it."""
        self.uri = uri
        self.name = name
        self.connect_seconds = CONNECT_SECONDS
        self.quick_seconds = QUICK_SECONDS
        self._on_event = on_event
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None
        self._stuck: set[Link] = set()
        self._stuck_lock = threading.Lock()
        self._last_stuck = 0.0
        self._closed = False

    async def call(
        self,
        function: Callable[[Any], T],
        *,
        seconds: float | None = None,
        lane: Lane = Lane.QUICK,
        settle: bool = False,
    ) -> T:
        """Run ``function(virConnect)`` in a thread and return what it returns. It must not return libvirt's own objects.

        Args:
            seconds: until ``EngineTimeout``; None is ``quick_seconds``.
            settle: when the caller is cancelled, wait for the end of the call first, so that a clean-up
                does not run into it.
        """
        link = await self._connected()
        return await self._run(link, lambda: function(link.conn), seconds or self.quick_seconds, lane, settle)

    async def domain(
        self,
        ref: str,
        function: Callable[[Any], T],
        *,
        seconds: float | None = None,
        lane: Lane = Lane.QUICK,
        settle: bool = False,
    ) -> T:
        """Run ``function(virDomain)`` for the domain with UUID ``ref``. ``NotFound`` when there is none."""
        self.check_ref(ref)

        def work(conn: Any) -> T:
            return function(conn.lookupByUUIDString(ref))

        return await self.call(work, seconds=seconds, lane=lane, settle=settle)

    def check_ref(self, ref: str) -> None:
        """``NotFound`` for what cannot be a VM of libvirt's: not a UUID."""
        if not _UUID.fullmatch(ref):
            raise NotFound("The VM is not on host {host}.", host=self.name)

    async def events(self) -> AsyncGenerator[VmEvent, None]:
        """Events from now on, until the connection ends."""
        link = await self._connected()
        feed: asyncio.Queue[VmEvent | None] = asyncio.Queue(FEED_LENGTH)
        link.feeds.add(feed)
        try:
            while not link.closed or not feed.empty():
                event = await feed.get()
                if event is None:
                    return
                yield event
        finally:
            link.feeds.discard(feed)

    async def close(self) -> None:
        """Disconnect without waiting for what hangs. Never raises; may be called twice."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        link, self._link = self._link, None
        if link is not None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()

            def shut() -> None:
                link.shut()
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(ended.set)

            link.finish()
            link.pool.retire(shut)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await ended.wait()

    async def _connected(self) -> Link:
        """The open link, or a new one. Everybody who waits for a connection shares one attempt."""
        if self._closed:
            raise HostUnreachable("The connection to host {host} is closed.", host=self.name)
        link = self._link
        if link is not None and not link.closed:
            return link
        if link is not None:
            self._link = None
            link.finish()
            link.pool.retire(link.shut)
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Link:
        if len(self._stuck) >= STUCK_LIMIT and time.monotonic() - self._last_stuck < STUCK_RETRY_SECONDS:
            raise HostUnreachable(
                "Host {host} has left {count} calls without an answer, so it is asked again only later. Restart libvirtd "
                "on it.",
                host=self.name,
                count=len(self._stuck),
            )
        link = Link(self.name)
        link.on_event = self._on_event
        try:
            await self._run(link, lambda: self._dial(link), self.connect_seconds, Lane.SLOW, False)
        except BaseException:
            link.finish()
            link.pool.retire(link.shut)
            raise
        self._link = link
        return link

    def _dial(self, link: Link) -> None:
        """In a worker thread: connect; over TLS and TCP only to what answers, for libvirt would wait for it without an end."""
        way = way_of(self.uri, self.name)
        if way is None:
            link.open(self.uri)
            return
        knock(way)
        told: PanelError | None = None
        try:
            link.open(self.uri)
        except libvirt.libvirtError as error:
            told = explain(way, login=is_code(error, *LOGIN_CODES)) if link.conn is None else None
            if told is None:
                raise
        if told is not None:  # here, so that it does not hold libvirt's error
            raise told

    async def _run(self, link: Link, function: Callable[[], T], seconds: float, lane: Lane, settle: bool) -> T:
        slot = link.slots[lane]
        try:
            async with asyncio.timeout(seconds):
                await slot.acquire()
        except TimeoutError:
            raise EngineTimeout(
                "Host {host} is busy: earlier calls have not ended within {seconds} s. Try again later.",
                host=self.name,
                seconds=round(seconds),
            ) from None
        try:
            future = link.pool.run(lambda: self._translated(link, function))
        except RuntimeError:  # abandoned while we waited for our turn
            slot.release()
            raise self._lost() from None
        future.add_done_callback(lambda _: slot.release())
        try:
            # asyncio.wait, unlike wait_for, leaves the call alone when we are cancelled: a thread cannot be
            done, _ = await asyncio.wait({future}, timeout=seconds)
        except asyncio.CancelledError:
            if settle:
                await _patiently({future}, seconds)
            raise
        if not done:
            self._abandon(link)
            raise EngineTimeout(
                "Host {host} did not answer within {seconds} s. Check that libvirtd runs and is not overloaded.",
                host=self.name,
                seconds=round(seconds),
            )
        return future.result()

    def _translated(self, link: Link, function: Callable[[], T]) -> T:
        """Run it in the worker thread; no libvirt exception, nor a frame that holds its objects, leaves here."""
        failure: PanelError
        try:
            return function()
        except PanelError as error:
            failure = error.with_traceback(None)
        except libvirt.libvirtError as error:
            if link.conn is None:
                failure = translate(error, self.name, connecting=True)
            elif _alive(link.conn):
                failure = translate(error, self.name)
            else:
                link.closed = True
                failure = self._lost()
        raise failure

    def _lost(self) -> HostUnreachable:
        return HostUnreachable(
            "The connection to host {host} broke. Check that libvirtd runs there, then try again.",
            host=self.name,
        )

    def _abandon(self, link: Link) -> None:
        """Leave a hung connection to its threads: it closes itself when they return."""
        if self._link is link:
            self._link = None
        with self._stuck_lock:
            self._stuck.add(link)
        self._last_stuck = time.monotonic()

        def shut() -> None:
            with self._stuck_lock:
                self._stuck.discard(link)
            link.shut()

        link.finish()
        link.pool.retire(shut)


def _alive(conn: Any) -> bool:
    try:
        return bool(conn.isAlive())
    except libvirt.libvirtError:
        return False


async def _patiently(futures: set[asyncio.Future[Any]], seconds: float) -> None:
    """Wait for ``futures`` at most ``seconds``, however often we are cancelled meanwhile."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(futures, timeout=left)
            return
