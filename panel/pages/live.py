"""Live pages: one event stream per page, of the fragments that changed, rendered by the macros of the first load.

The format of an event is in ``docs/decisions/0003-vendored-assets.md``. At most one update per thing and second; what
arrives together is read together, so that a round over 100 visible VMs costs the same few queries as one VM. Each event's
id is the moment that it tells of: a stream that begins anew goes on from there.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from weakref import WeakSet

from quart import Response, request, stream_with_context

from panel import i18n, web
from panel.events import (
    Event,
    HostChanged,
    HostRemoved,
    Resynced,
    SessionEnded,
    Subscription,
    TaskChanged,
    TaskLogged,
    VmChanged,
    VmRemoved,
)
from panel.models import Session, Task
from panel.models.database import is_away
from panel.pages.fragments import SLOW, Fragments, Key
from panel.pages.shared import public
from panel.pages.topics import Topics, parse_topics
from panel.services.clock import now

KEEP_ALIVE = 15.0  # seconds
RETRY_MS = 2000
GATHER = 0.05  # seconds in which what arrives together is collected
PAUSE = 1.0  # seconds between two updates of one thing
SLOW_PAUSE = 10.0  # seconds between two updates of what hardly matters
ELEMENT = re.compile(r'id="([^"]+)"')


@public("/events", "events")
async def events() -> Response:
    """The event stream of a page. Ends with the login. A browser that comes again says with ``Last-Event-ID`` how far it
    was told."""
    session = await web.session()
    if session is None:
        return Response("", 401)
    since = request.headers.get("Last-Event-ID") or request.args.get("since", "")
    topics = parse_topics(request.args.get("topics", ""), since)
    language = i18n.language()

    @stream_with_context
    async def body() -> AsyncIterator[bytes]:
        i18n.set_language(language)
        try:
            async for piece in Stream(topics, session).pieces():
                yield piece.encode()
        except Exception as error:
            if not is_away(error):
                raise  # else the browser comes again, and is told what it missed

    response = Response(body(), content_type="text/event-stream; charset=utf-8")
    response.timeout = None
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


_streams: WeakSet[Stream] = WeakSet()


def end_streams() -> None:
    """End all streams of this process, at once: the panel stops, and would wait for them. Browsers come back later.

    May be called from a signal handler of the loop's thread.
    """
    for stream in list(_streams):
        stream.end()


class Stream:
    """What one page is told."""

    def __init__(self, topics: Topics, session: Session) -> None:
        self._topics = topics
        self._session = session
        self._fragments = Fragments(topics, session.csrf)
        self._due: dict[Key, float] = {}
        self._sent: dict[Key, float] = {}
        self._told: dict[str, int] = {}  # by an element's id: the hash of what was sent of it last
        self._subscription: Subscription | None = None
        _streams.add(self)

    def end(self) -> None:
        """End as if the login had ended."""
        if self._subscription is not None:
            self._subscription.put(SessionEnded(self._session.id))

    async def pieces(self) -> AsyncIterator[str]:
        """Server-sent events, until the login ends."""
        yield f"retry: {RETRY_MS}\n\n"
        beat = time.monotonic() + KEEP_ALIVE
        with web.services().events.subscribe() as subscription:
            self._subscription = subscription
            for key in await self._fragments.missed():
                self._plan(key)
            while True:
                event = await _next(subscription, min([beat, *self._due.values()]) - time.monotonic())
                if isinstance(event, SessionEnded) and event.credential == self._session.id:
                    return
                if isinstance(event, Resynced):
                    for key in await self._fragments.missed():
                        self._plan(key)
                elif event is not None:
                    for key in await self._keys(event):
                        self._plan(key)
                moment = int(now().timestamp())
                for html in await self._fragments.render(self._take_due()):
                    if self._is_news(html):
                        yield _event(html, moment)
                if time.monotonic() >= beat:
                    if not await web.services().access.still_good(self._session.id):
                        return
                    beat = time.monotonic() + KEEP_ALIVE
                    yield f"event: beat\nid: {moment}\ndata: .\n\n"

    def _is_news(self, html: str) -> bool:
        """Whether this differs from what was sent of the same element before."""
        found = ELEMENT.search(html)
        name, told = found[1] if found else "", hash(html)
        if self._told.get(name) == told:
            return False
        self._told[name] = told
        return True

    def _plan(self, key: Key) -> None:
        pause = SLOW_PAUSE if key[0] in SLOW else PAUSE
        moment = time.monotonic()
        self._due.setdefault(key, max(moment + GATHER, self._sent.get(key, 0.0) + pause))

    def _take_due(self) -> list[Key]:
        moment = time.monotonic()
        keys = [key for key, at in self._due.items() if at <= moment]
        for key in keys:
            del self._due[key]
            self._sent[key] = moment
        if len(self._sent) > 1000:
            self._sent = {key: at for key, at in self._sent.items() if moment - at < SLOW_PAUSE}
        return keys

    async def _keys(self, event: Event) -> Iterable[Key]:
        """What on the page an event is about."""
        topics = self._topics
        match event:
            case VmChanged(vm_id=vm_id) | VmRemoved(vm_id=vm_id):
                return self._vm_keys(vm_id)
            case HostChanged(host_id=host_id):
                keys: list[Key] = [("seen", host_id), *self._dashboard_keys()]
                if topics.hosts:
                    keys.append(("host-row", host_id))
                if topics.host == host_id:
                    keys.append(("host", host_id))
                return keys
            case HostRemoved(host_id=host_id):
                return [("host-row", host_id), *self._dashboard_keys()] if topics.hosts else []
            case TaskChanged(task_id=task_id) | TaskLogged(task_id=task_id):
                return await self._task_keys(event, task_id)
        return []

    def _vm_keys(self, vm_id: int) -> list[Key]:
        shown = self._fragments.vm_key(vm_id)
        keys: list[Key] = [shown] if shown else []
        if vm_id == self._topics.vm:
            keys.append(("vm", vm_id))
        return keys + self._dashboard_keys()

    def _dashboard_keys(self) -> list[Key]:
        return [("overview", 0), ("attention", 0)] if self._topics.overview else []

    async def _task_keys(self, event: Event, task_id: str) -> list[Key]:
        keys: list[Key] = [("task", task_id)] if task_id == self._topics.task else []
        if isinstance(event, TaskLogged):
            return keys
        keys += [("count", 0), *self._dashboard_keys()]
        if self._topics.tasks:
            keys.append(("task-row", task_id))
        if self._topics.new_tasks:
            keys.append(("new-tasks", 0))
        row = await Task.get_or_none(id=task_id)
        if row is not None and row.vm_id is not None:
            keys += self._vm_keys(row.vm_id)
        if row is not None and row.host_id is not None and row.host_id == self._topics.host:
            keys.append(("host", row.host_id))
        return keys


async def _next(subscription: Subscription, seconds: float) -> Event | None:
    """The next event, or None after ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            return await subscription.get()
    return None


def _event(html: str, moment: int) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"event: fragment\nid: {moment}\n{lines}\n"
