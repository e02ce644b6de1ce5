"""Changes as they happen: one long question (``WaitForUpdatesEx``) for all who watch a host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from panel.engines.types import VmEvent
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.sdk import vim, vmodl
from panel.engines.vsphere.view import Viewer
from panel.errors import PanelError

WAIT_SECONDS = 20  # of one question: the socket's silence ends later
SLACK_SECONDS = 25.0
FEED_LENGTH = 1000
PATHS = [
    "name", "runtime.powerState", "runtime.connectionState", "config.changeVersion", "guest.toolsRunningStatus", "snapshot",
]  # fmt: skip

Feed = asyncio.Queue[VmEvent | PanelError | None]


class Watcher:
    """Watches one host as long as somebody listens."""

    def __init__(self, client: Client, viewer: Viewer) -> None:
        self._client, self._viewer = client, viewer
        self._feeds: set[Feed] = set()
        self._asking: asyncio.Task[None] | None = None

    async def events(self) -> AsyncGenerator[VmEvent, None]:
        """Events from now on, until ``close``. Raises what ended them otherwise."""
        feed: Feed = asyncio.Queue(FEED_LENGTH)
        self._feeds.add(feed)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        try:
            while (event := await feed.get()) is not None:
                if isinstance(event, PanelError):
                    raise event
                yield event
        finally:
            self._feeds.discard(feed)
            if not self._feeds:
                self._asking.cancel()

    def close(self) -> None:
        """End it for all."""
        if self._asking is not None:
            self._asking.cancel()
        for feed in self._feeds:
            _put(feed, None)

    async def _ask(self) -> None:
        collector = ""
        try:
            collector = await self._client.call(lambda session: _begin(session, self._viewer))
            version = ""
            while True:
                version, told = await self._client.call(
                    lambda session, version=version: self._wait(session, collector, version),  # type: ignore[misc]
                    seconds=WAIT_SECONDS + SLACK_SECONDS,
                    waits=True,
                )
                for event in told:
                    for feed in self._feeds:
                        _put(feed, event)
        except PanelError as error:
            for feed in self._feeds:
                _put(feed, error)
        finally:
            if collector:
                with suppress(PanelError, asyncio.CancelledError):
                    await self._client.call(lambda session: _end(session, collector), seconds=5)

    def _wait(self, session: Session, collector: str, version: str) -> tuple[str, list[VmEvent]]:
        """What has changed since ``version``; the first answer, which is all there is, tells nothing."""
        options = vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=WAIT_SECONDS)
        found = vmodl.query.PropertyCollector(collector, session.stub).WaitForUpdatesEx(
            version=version, options=options
        )
        if found is None:
            return version, []
        changed: dict[str, str] = {}
        for part in found.filterSet or ():
            for one in part.objectSet or ():
                if isinstance(one.obj, vim.VirtualMachine):
                    changed[str(one.obj._moId)] = str(one.kind)
        if not version:
            return str(found.version), []
        for moid in changed:
            self._viewer.forget(moid)
        refs = self._viewer.refs
        return str(found.version), [VmEvent(refs.get(moid), what) for moid, what in changed.items()]


def _begin(session: Session, viewer: Viewer) -> str:
    """A collector of our own, which watches all VMs; its id."""
    collectors = vmodl.query.PropertyCollector
    collector = session.content.propertyCollector.CreatePropertyCollector()
    top = viewer.root(session) or session.content.rootFolder
    view = session.content.viewManager.CreateContainerView(top, [vim.VirtualMachine], True)
    walk = collectors.TraversalSpec(name="all", type=vim.view.ContainerView, path="view", skip=False)
    spec = collectors.FilterSpec(
        objectSet=[collectors.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[collectors.PropertySpec(type=vim.VirtualMachine, pathSet=PATHS, all=False)],
    )
    collector.CreateFilter(spec=spec, partialUpdates=True)
    return str(collector._moId)


def _end(session: Session, collector: str) -> None:
    vmodl.query.PropertyCollector(collector, session.stub).DestroyPropertyCollector()


def _put(feed: Feed, event: VmEvent | PanelError | None) -> None:
    """Put, and when nobody reads: forget what is queued, and say that everything must be looked at again."""
    if feed.full():
        while not feed.empty():
            feed.get_nowait()
        feed.put_nowait(VmEvent(None, "overflow"))
    feed.put_nowait(event)
