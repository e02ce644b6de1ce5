"""One vCenter's or ESXi's API: the session, threads, timeouts, and the only place that translates VMware's faults.

Before pyVmomi speaks, ``HttpHost`` fetches the list of versions: names, ports and certificates are checked there, with their
mends, and nothing is sent to a host whose certificate is not trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from panel.engines.common.http import HttpHost, split_address
from panel.engines.common.threads import DaemonPool
from panel.engines.common.tls import client_context, read_fingerprint
from panel.engines.types import HostConnection
from panel.engines.vsphere import faults, sdk
from panel.engines.vsphere.sdk import vim, vmodl
from panel.errors import EngineTimeout, HostUnreachable, InvalidInput, PanelError
from panel.i18n import gettext_noop as _

T = TypeVar("T")

PORT = 443
PATH = "/sdk"
AT_ONCE = 6  # calls in flight on one host, the watcher's aside
QUICK_SECONDS = 30.0
SILENCE_SECONDS = 60.0  # of a socket: then its thread is free again, whatever the host does
LOGIN_SECONDS = 20.0
REFUSED_SECONDS = 300.0  # a login that was refused is not tried again for so long: hosts lock accounts after a few
CLOSE_SECONDS = 2.0
TRIES = 3  # of a look in which something went away
PAGE = 500  # objects in one answer


class Session:
    """An open session, to be used in worker threads. References are kept as ids: another session may take over."""

    def __init__(self, stub: Any, content: Any) -> None:
        self.stub = stub
        self.content = content
        self._views: dict[tuple[str, ...], Any] = {}
        self._counters: dict[str, int] | None = None

    @property
    def alone(self) -> bool:
        """Whether it is one ESXi and no vCenter."""
        return bool(self.content.about.apiType == "HostAgent")

    def vm(self, moid: str) -> Any:
        """The VM with this id; nothing is asked."""
        return vim.VirtualMachine(moid, self.stub)

    def task(self, moid: str) -> Any:
        """The task with this id; nothing is asked."""
        return vim.Task(moid, self.stub)

    def counters(self) -> dict[str, int]:
        """The keys of performance counters by their names (``net.received.average``); asked once in a session."""
        if self._counters is None:
            answer = self.read([self.content.perfManager], "PerformanceManager", ["perfCounter"])
            there = answer[0][1].get("perfCounter") or () if answer else ()
            self._counters = {f"{one.groupInfo.key}.{one.nameInfo.key}.{one.rollupType}": one.key for one in there}
        return self._counters

    def collect(self, kinds: dict[str, list[str]], root: Any = None) -> list[tuple[Any, dict[str, Any]]]:
        """Every object of these kinds below ``root`` (the whole inventory) with these of its properties, in one call, or one
        for each ``PAGE`` of them. What is not set, or not for our eyes, is missing."""
        for left in reversed(range(TRIES)):
            try:
                walk = vmodl.query.PropertyCollector.TraversalSpec(
                    name="all", type=vim.view.ContainerView, path="view", skip=False
                )
                view = self._view(tuple(sorted(kinds)), root)
                start = vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[walk])
                return self._retrieve([start], kinds)
            except vmodl.fault.ManagedObjectNotFound:  # something went away while it was looked at, or the view itself
                self._views.clear()
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _view(self, names: tuple[str, ...], root: Any) -> Any:
        """A view of all objects of these kinds, made once in a session."""
        key = (getattr(root, "_moId", ""), *names)
        if key not in self._views:
            types = [getattr(vim, name) for name in names]
            top = root or self.content.rootFolder
            self._views[key] = self.content.viewManager.CreateContainerView(top, types, True)
        return self._views[key]

    def read(self, objects: list[Any], kind: str, paths: list[str]) -> list[tuple[Any, dict[str, Any]]]:
        """These properties of these objects, in one call. What is not there any more is missing."""
        if not objects:
            return []
        specs = [vmodl.query.PropertyCollector.ObjectSpec(obj=one, skip=False) for one in objects]
        try:
            return self._retrieve(specs, {kind: paths})
        except vmodl.fault.ManagedObjectNotFound:
            if len(objects) == 1:
                return []
            return [found for one in objects for found in self.read([one], kind, paths)]

    def lacks(self, entity: Any, rights: tuple[str, ...]) -> list[str]:
        """Those of ``rights`` that our login does not have on ``entity``, of those that this version knows; none where the host
        does not tell."""
        manager = self.content.authorizationManager
        known = self.read([manager], "AuthorizationManager", ["privilegeList"])
        there = {each.privId for each in known[0][1].get("privilegeList") or ()} if known else set()
        wanted = [right for right in rights if right in there]
        answer = self.read([self.content.sessionManager], "SessionManager", ["currentSession"])
        key = getattr(answer[0][1].get("currentSession"), "key", None) if answer else None
        if key is None or not wanted:
            return []
        try:
            has = manager.HasPrivilegeOnEntity(entity=entity, sessionId=key, privId=wanted)
        except (vim.fault.NotFound, vmodl.fault.MethodNotFound, vmodl.fault.NotSupported):
            return []
        return [right for right, granted in zip(wanted, has, strict=False) if not granted]

    def _retrieve(self, objects: list[Any], kinds: dict[str, list[str]]) -> list[tuple[Any, dict[str, Any]]]:
        collector = self.content.propertyCollector
        props = [
            vmodl.query.PropertyCollector.PropertySpec(type=getattr(vim, name), pathSet=paths, all=False)
            for name, paths in kinds.items()
        ]
        spec = vmodl.query.PropertyCollector.FilterSpec(objectSet=objects, propSet=props)
        options = vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=PAGE)
        found: list[tuple[Any, dict[str, Any]]] = []
        answer = collector.RetrievePropertiesEx(specSet=[spec], options=options)
        while answer is not None:
            found += [(one.obj, {prop.name: prop.val for prop in one.propSet}) for one in answer.objects]
            answer = collector.ContinueRetrievePropertiesEx(token=answer.token) if answer.token else None
        return found


class Client:
    """Calls one host. Nothing of pyVmomi's runs in the event loop.

    A call that finds its session ended logs in again and is done once more: it was not done before.
    """

    def __init__(self, connection: HostConnection) -> None:
        self.base = split_address(connection.address, PORT)
        parts = urlsplit(self.base)
        self.host, self._port = parts.hostname or "", parts.port or PORT
        self._path = parts.path or PATH
        self._user, self._secret = connection.user, connection.secret
        fingerprint = read_fingerprint(connection.options.get("fingerprint", ""))
        self.context = client_context(fingerprint) if parts.scheme == "https" else None
        self._http = HttpHost(f"{parts.scheme}://{parts.netloc}", context=self.context)
        self.name = self._http.name
        self._pool = DaemonPool(f"vsphere-{connection.name}", AT_ONCE + 2)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._refused: tuple[float, PanelError] | None = None
        self._closed = False

    async def call(self, function: Callable[[Session], T], *, seconds: float = QUICK_SECONDS, waits: bool = False) -> T:
        """Run ``function(session)`` in a thread. Cancelling the caller does not stop what the host has been asked to do.

        Args:
            waits: it is the watcher's, which may wait for long, and is not counted among ``AT_ONCE``.
        """
        deadline = time.monotonic() + seconds
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(seconds):
                    if not waits:
                        await stack.enter_async_context(self._turns)
            except TimeoutError:
                raise self._slow(seconds) from None
            for attempt in (1, 2):
                session = await self._connected()
                try:
                    return await self._run(lambda used=session: function(used), deadline, seconds)  # type: ignore[misc]
                except faults.SessionEnded:
                    if self._session is session:
                        self._session = None
                    if attempt == 2:
                        raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Log out, without waiting long for it. Never raises; may be called twice."""
        if self._closed:
            return
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(PanelError):
                await self._run(lambda: _log_out(session), time.monotonic() + CLOSE_SECONDS, CLOSE_SECONDS)
        self._pool.retire()
        await self._http.close()

    async def _connected(self) -> Session:
        """The open session, or a new one; who waits for it shares one attempt."""
        async with self._opening:
            if self._closed:
                raise HostUnreachable(_("The connection to host {host} is closed."), host=self.name)
            if self._session is None:
                if self._refused and time.monotonic() - self._refused[0] < REFUSED_SECONDS:
                    raise self._refused[1]
                self._session = await self._open()
            return self._session

    async def _open(self) -> Session:
        if not self._user.strip():
            raise InvalidInput(_("{field} is missing."), field="server_user")
        answer = await self._http.ask("GET", f"{self._path}/vimServiceVersions.xml")
        served = served_versions(answer.body) if answer.ok else set()
        try:
            return await self._run(lambda: self._log_in(served), time.monotonic() + LOGIN_SECONDS, LOGIN_SECONDS)
        except faults.LoginRefused as error:
            self._refused = (time.monotonic(), error)
            raise

    def _log_in(self, served: set[str]) -> Session:
        version = sdk.version_for(served)
        if version is None:
            raise faults.no_api(self.name)
        stub = sdk.stub(
            self.host, self._port, self._path,
            version=version, context=self.context, at_once=AT_ONCE, seconds=SILENCE_SECONDS,
        )  # fmt: skip
        content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        content.sessionManager.Login(self._user.strip(), self._secret)
        return Session(stub, content)

    async def _run(self, function: Callable[[], T], deadline: float, seconds: float) -> T:
        try:
            future = self._pool.run(lambda: self._translated(function))
        except RuntimeError:
            raise HostUnreachable(_("The connection to host {host} is closed."), host=self.name) from None
        done, _late = await asyncio.wait({future}, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            raise self._slow(seconds)
        return future.result()

    def _translated(self, function: Callable[[], T]) -> T:
        """Run it in a worker thread; no exception of VMware's, nor a frame that holds its objects, leaves here."""
        failure: PanelError
        try:
            return function()
        except PanelError as error:
            failure = error.with_traceback(None)
        except vmodl.MethodFault as fault:
            failure = faults.translate(fault, self.name)
        except TimeoutError:
            failure = self._slow(SILENCE_SECONDS)
        except (OSError, http.client.HTTPException, ExpatError):
            failure = faults.SessionBroke(
                _("The connection to host {host} broke. Check that it is up, then try again."), host=self.name
            )
            self._session = None
        raise failure

    def _slow(self, seconds: float) -> EngineTimeout:
        return EngineTimeout(
            _("Host {host} did not answer within {seconds} s. Check its address, firewall and load."),
            host=self.name,
            seconds=round(seconds, 1),
        )


def _log_out(session: Session) -> None:
    session.content.sessionManager.Logout()
    session.stub.DropConnections()


def served_versions(document: bytes) -> set[str]:
    """The versions of ``urn:vim25`` in ``vimServiceVersions.xml``; none when it is another document."""
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - expat expands no external entities; HttpHost bounds its size
    except ElementTree.ParseError:
        return set()
    return set(_versions(root))


def _versions(root: ElementTree.Element) -> Iterator[str]:
    for space in root.findall("namespace"):
        if space.findtext("name") == "urn:vim25":
            yield (space.findtext("version") or "").strip()
            yield from ((each.text or "").strip() for each in space.findall("priorVersions/version"))
