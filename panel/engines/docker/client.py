"""The Docker Engine API, which Podman speaks too, through aiodocker. The only place that sees their exceptions.

Source: the API's reference, version 1.41 (Docker 20.10), and Podman's own API where its compatible one lacks something. aiodocker
finds and keeps the connections; most calls are the API's own paths, since what the panel needs of an answer is all in its JSON.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

import aiodocker
import aiohttp

from panel.engines.common.ssh import SshConnection
from panel.engines.docker.address import Place, Way, read_context, read_place
from panel.engines.docker.failures import refusal, remote_socket, unreachable
from panel.engines.types import HostConnection
from panel.errors import Conflict, EngineFailure, EngineTimeout, HostUnreachable, NotFound, PanelError
from panel.i18n import gettext_noop as _

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Json = dict[str, Any]

CONNECT_SECONDS = 5.0
ASK_SECONDS = 15.0
CHANGE_SECONDS = 60.0
AT_ONCE = 8  # requests in flight per host
COUNTING_AT_ONCE = 64  # questions for counters, each of which waits up to a second for the daemon's next sample
STATS_SECONDS = 5.0
OLDEST, NEWEST = (1, 41), (1, 44)  # of the API: what we need, and what we know
QUIET_SECONDS = 30.0  # without an event, before we ask whether the daemon is still there
MOST_HEAD_BYTES = 16 * 1024
_PROBE = "if [ ! -S {0} ]; then echo missing; elif [ ! -w {0} ]; then echo denied; else echo there; fi"


class Client:
    """One daemon. Every method raises:

    CertificateRefused, HostUnreachable, EngineTimeout: it cannot be reached, or not in time.
    NotFound: no such container. Conflict: its state forbids it. InvalidInput: an image that cannot be had.
    EngineFailure: anything else that it refuses, with its reason.
    """

    def __init__(self, connection: HostConnection) -> None:
        self._connection = connection
        self.place: Place = read_place(connection)
        self.host = connection.name or self.place.name
        self.ssh = SshConnection(self.place.ssh) if self.place.ssh else None
        self.podman = False
        self.api: tuple[int, int] = OLDEST
        self.version: Json = {}
        self._docker: aiodocker.Docker | None = None
        self._ended = False
        self._context: ssl.SSLContext | None = None
        self._path = self.place.path
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._counting = asyncio.Semaphore(COUNTING_AT_ONCE)
        self._open: set[asyncio.StreamWriter] = set()
        self._closing: set[asyncio.Future[None]] = set()

    @property
    def near(self) -> bool:
        """Whether the daemon is this machine's: its kernel can be asked."""
        return self.place.way is Way.SOCKET

    async def close(self) -> None:
        """End what is open, and disconnect; what is asked later is refused. Never raises; may be called twice."""
        self._ended = True
        for writer in list(self._open):
            writer.transport.abort()
        for closing in list(self._closing):  # aiohttp closes its connections, and lets who reads from them wait
            if not closing.done():
                closing.set_result(None)
        await self._forget()
        if self.ssh is not None:
            await self.ssh.close()

    # -- asking --------------------------------------------------------------------------------------------------

    async def get(self, path: str, **params: str) -> Any:
        """Read."""
        return await self._call(lambda docker: _ask(docker, "GET", path, params), ASK_SECONDS)

    async def post(self, path: str, body: Any = None, *, seconds: float = CHANGE_SECONDS, **params: str) -> Any:
        """Do."""
        return await self._call(lambda docker: _ask(docker, "POST", path, params, body), seconds)

    async def delete(self, path: str, **params: str) -> Any:
        """Remove."""
        return await self._call(lambda docker: _ask(docker, "DELETE", path, params), CHANGE_SECONDS)

    async def libpod(self, method: str, path: str, body: Any = None) -> Any:
        """Podman's own API, for what the compatible one does not have."""
        return await self._call(
            lambda docker: _ask(docker, method, f"v4.0.0/libpod/{path}", {}, body, versioned=False), CHANGE_SECONDS
        )

    async def stats(self, ref: str) -> Json:
        """The counters of a container that is on; empty when it has just gone, or the daemon does not tell in time."""
        params = {"stream": "false", "one-shot": "true"}

        async def work(docker: aiodocker.Docker) -> Any:
            return await _ask(docker, "GET", container(ref, "/stats"), params)

        try:
            found = await self._call(work, STATS_SECONDS, self._counting)
        except (NotFound, Conflict, EngineFailure, EngineTimeout):
            return {}
        return found if isinstance(found, dict) else {}

    async def has_file(self, ref: str, path: str) -> bool:
        """Whether a container has a file, running or not."""

        async def work(docker: aiodocker.Docker) -> bool:
            url = f"{docker.docker_host}/{docker.api_version}/{container(ref, '/archive')}"
            async with docker.session.head(url, params={"path": path}) as answer:
                return bool(answer.status == 200)

        return await self._call(work, ASK_SECONDS)

    async def pull(self, image: str) -> AsyncGenerator[Json, None]:
        """Fetch an image: what the daemon tells meanwhile. A minute without a word is a failure."""
        try:
            docker = await self._connected()
            lines = aiter(docker.images.pull(image, stream=True, timeout=None))
            while True:
                async with asyncio.timeout(CHANGE_SECONDS):
                    line = await anext(lines, None)
                if line is None:
                    return
                yield line
        except TimeoutError:
            raise EngineTimeout(
                _("Host {host} told nothing of the image for {seconds} s. Check its way to the registry."),
                host=self.host, seconds=round(CHANGE_SECONDS),
            ) from None  # fmt: skip
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            raise await self._failed(error) from error

    async def events(self) -> AsyncGenerator[Json, None]:
        """What happens to containers, from the first ``anext`` on, until ``close`` or until the connection breaks."""
        params = {"filters": json.dumps({"type": ["container"]})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing.add(closing)
        answer: aiohttp.ClientResponse | None = None
        try:
            docker = await self._call(_itself, ASK_SECONDS)
            url = f"{docker.docker_host}/{docker.api_version}/events"
            # Podman does not even begin its answer before something happens
            answer = await self._while_there(docker.session.get(url, params=params, timeout=timeout), closing)
            while line := await self._while_there(answer.content.readline(), closing):
                with suppress(ValueError):
                    yield json.loads(line)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: the session was closed
            raise self._broke_off() from error
        finally:
            self._closing.discard(closing)
            if answer is not None:
                answer.close()

    async def _while_there(self, work: Awaitable[T], closing: asyncio.Future[None]) -> T:
        """Wait for it, however long, while the daemon answers in between; until ``closing``."""
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        waiting: set[asyncio.Future[Any]] = {task, closing}
        try:
            while not task.done():
                await asyncio.wait(waiting, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if closing.done() and not task.done():
                    raise self._broke_off()
                if not task.done():
                    await self.get("_ping")
            return task.result()
        finally:
            task.cancel()

    def _broke_off(self) -> HostUnreachable:
        return HostUnreachable(_("The events of host {host} broke off."), host=self.host)

    async def hijack(self, path: str, body: Json) -> Streams:
        """A POST whose answer is a connection of its own to a process (``exec/ID/start``)."""
        docker = await self._call(_itself, ASK_SECONDS)
        payload = json.dumps(body).encode()
        head = (
            f"POST /{docker.api_version}/{path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await self._dial()
                self._open.add(writer)
                try:
                    writer.write(head.encode() + payload)
                    await writer.drain()
                    await self._begun(reader)
                except BaseException:
                    self.dropped(writer)
                    writer.transport.abort()
                    raise
                return reader, writer
        except TimeoutError:
            raise self._slow(ASK_SECONDS) from None
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise await unreachable(self.place, self.host, error) from error

    async def _begun(self, reader: asyncio.StreamReader) -> None:
        status = _status(await reader.readuntil(b"\r\n\r\n"))
        if status not in {101, 200}:
            raise refusal(self.host, status, _message(await reader.read(MOST_HEAD_BYTES)))

    def dropped(self, writer: asyncio.StreamWriter) -> None:
        """A hijacked connection is somebody else's to close from now on, or closed."""
        self._open.discard(writer)

    # -- the connection ------------------------------------------------------------------------------------------

    async def _call(
        self,
        work: Callable[[aiodocker.Docker], Awaitable[T]],
        seconds: float,
        turns: asyncio.Semaphore | None = None,
    ) -> T:
        try:
            async with turns or self._turns, asyncio.timeout(seconds):
                return await work(await self._connected())
        except TimeoutError:
            raise self._slow(seconds) from None
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, RuntimeError) as error:
            raise await self._failed(error) from error

    async def _connected(self) -> aiodocker.Docker:
        """The client, made when first needed: its version is what both sides know."""
        async with self._connecting:
            if self.ssh is not None and not self._ended:  # a connection that broke is made anew
                path = await self.ssh.forward_socket(self.place.path)
                if path != self._path:
                    await self._forget()
                    self._path = path
            if self._docker is None and not self._ended:
                self._docker = await self._make()
            if self._ended:  # meanwhile, perhaps
                await self._forget()
            if self._docker is None:
                raise HostUnreachable(_("The connection to host {host} was closed."), host=self.host)
            return self._docker

    async def _make(self) -> aiodocker.Docker:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        if self.place.way is Way.TLS:
            self._context = await asyncio.to_thread(read_context, self._connection)
        connector: aiohttp.BaseConnector
        if self.place.way in {Way.TLS, Way.PLAIN}:
            connector = aiohttp.TCPConnector(ssl=self._context or False, limit=0)
            url = self.place.base
        else:
            connector = aiohttp.UnixConnector(self._path, limit=0)
            url = "http://docker"
        session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        docker = aiodocker.Docker(url, connector=connector, session=session, timeout=timeout, api_version="v1.41")
        try:
            self.version = await _ask(docker, "GET", "version", {}, versioned=False)
            docker.api_version = self._agreed(self.version)
        except BaseException:
            await session.close()
            raise
        return docker

    def _agreed(self, version: Json) -> str:
        """The API's version that we speak. ``HostUnreachable`` when there is none."""
        if not isinstance(version, dict) or "ApiVersion" not in version:
            raise HostUnreachable(_("Host {host} answers, but not as Docker does. Check the port."), host=self.host)
        components = version.get("Components") or ()
        self.podman = any("podman" in str(part.get("Name", "")).lower() for part in components)
        theirs = _number(version["ApiVersion"])
        if theirs < OLDEST:
            raise HostUnreachable(
                _("Docker {version} on host {host} is too old: the panel needs 20.10 or newer (API 1.41), or Podman 4."),
                host=self.host, version=str(version.get("Version", "")),
            )  # fmt: skip
        self.api = max(min(theirs, NEWEST), _number(version.get("MinAPIVersion", "1.24")))
        return f"v{self.api[0]}.{self.api[1]}"

    async def _forget(self) -> None:
        docker, self._docker = self._docker, None
        if docker is not None:
            with suppress(aiohttp.ClientError, OSError, RuntimeError):
                await docker.session.close()

    async def _dial(self) -> Streams:
        if self.place.way in {Way.SOCKET, Way.SSH}:
            return await asyncio.open_unix_connection(self._path)
        return await asyncio.open_connection(self.place.host, self.place.port, ssl=self._context)

    def _slow(self, seconds: float) -> EngineTimeout:
        return EngineTimeout(
            _("Host {host} did not answer within {seconds} s. Check its address, firewall and load."),
            host=self.host, seconds=round(seconds, 1),
        )  # fmt: skip

    async def _failed(self, error: BaseException) -> PanelError:
        if isinstance(error, aiodocker.DockerError) and error.status != 900:  # 900: aiodocker's, for no connection
            return refusal(self.host, error.status, error.message)
        if self.ssh is not None:
            with suppress(HostUnreachable, EngineFailure):
                path = "'" + self.place.path + "'"  # checked: no quotes in it
                found = await self.ssh.execute(_PROBE.format(path), b"", ASK_SECONDS)
                return remote_socket(self.place, self.host, found.stdout.decode(errors="replace").strip())
        return await unreachable(self.place, self.host, error)


def container(ref: str, tail: str = "") -> str:
    """Below the API's base."""
    return f"containers/{quote(ref, safe='')}{tail}"


async def _itself(docker: aiodocker.Docker) -> aiodocker.Docker:
    return docker


async def _ask(
    docker: aiodocker.Docker,
    method: str,
    path: str,
    params: Mapping[str, str],
    body: Any = None,
    *,
    versioned: bool = True,
) -> Any:
    """One request; its answer as JSON, or text where it is none. ``DockerError`` from 400 on."""
    url = f"{docker.docker_host}/{docker.api_version}/{path}" if versioned else f"{docker.docker_host}/{path}"
    async with docker.session.request(
        method, url, params=dict(params), json=body, headers={"Content-Type": "application/json"}, allow_redirects=False
    ) as answer:
        said = await answer.read()
        if answer.status >= 300 and answer.status != 304:
            raise aiodocker.DockerError(answer.status, _message(said))
    try:
        return json.loads(said)
    except ValueError:
        return said.decode(errors="replace")


def _message(said: bytes) -> str:
    try:
        found = json.loads(said)
    except ValueError:
        return said.decode(errors="replace")
    return str(found.get("message", "") if isinstance(found, dict) else found)


def _status(head: bytes) -> int:
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else 500


def _number(text: Any) -> tuple[int, int]:
    first, _dot, second = str(text).partition(".")
    return (int(first), int(second)) if first.isdigit() and second.isdigit() else (0, 0)
