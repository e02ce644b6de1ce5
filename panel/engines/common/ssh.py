"""SSH to a host, by asyncssh: one connection that is kept and made anew, and only to hosts whose key is known.

Trust and reach are those of OpenSSH, which libvirt's ``qemu+ssh`` uses: the known hosts of the panel's user and of the machine,
its agent, its default keys and its ``~/.ssh/config`` (host names, ports, users, keys, jumps). ``StrictHostKeyChecking`` and
``UserKnownHostsFile`` there have no effect: an unknown or changed key is always refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from panel.engines.common.sshtrust import check_key_file, known_hosts, untrusted
from panel.engines.types import SshEndpoint
from panel.errors import EngineFailure, EngineTimeout, HostUnreachable
from panel.i18n import gettext_noop as _

asyncssh.set_log_level(logging.CRITICAL)  # what matters comes out as an error; commands and names stay out of the log

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
IDLE_SECONDS = 120.0  # a connection that nobody uses is closed
CLOSE_SECONDS = 2.0
MOST_SESSIONS = 4  # at once on a connection; sshd's default MaxSessions is 10
MOST_OUTPUT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a remote command answered; ``returncode`` is 128 and more when a signal ended it."""

    returncode: int
    stdout: bytes
    stderr: bytes


class SshConnection:
    """Commands on one endpoint over one connection, made when first needed and again after it broke or was not used.

    Every method raises ``HostUnreachable`` when there is no connection to be had: nobody answers, the host's key is unknown or
    another, or it refuses our login. The message says which, and what would mend it.
    """

    def __init__(self, endpoint: SshEndpoint) -> None:
        self.endpoint = endpoint
        self._open: asyncssh.SSHClientConnection | None = None
        self._opening = asyncio.Lock()
        self._sessions = asyncio.Semaphore(MOST_SESSIONS)
        self._busy = 0
        self._idle: asyncio.TimerHandle | None = None
        self._forwards: dict[str, tuple[asyncssh.SSHClientConnection, str]] = {}

    async def user(self) -> str:
        """Who we are there (the endpoint's user, or else the one that ~/.ssh/config or our own name gives)."""
        async with self._used():
            connection, _fresh = await self._connected()
            return str(connection.get_extra_info("username"))

    async def port(self) -> int:
        """The port that the host's sshd listens on, as we reach it."""
        async with self._used():
            connection, _fresh = await self._connected()
            return int(connection.get_extra_info("peername")[1])

    async def execute(self, command: str, stdin: bytes, seconds: float) -> Answer:
        """Run ``command`` (for the user's shell there) and wait for its end.

        Raises:
            EngineTimeout: it took longer than ``seconds``; it was told to end, which not every server passes on.
            EngineFailure: it wrote more than ``MOST_OUTPUT_BYTES``.
            HostUnreachable: see the class; also when the connection breaks meanwhile.
        """
        async with self._used(), self._sessions:
            channel, session = await self._begin(command)
            try:
                with suppress(OSError):  # it has ended already, without reading
                    channel.write(stdin)
                    channel.write_eof()
                async with asyncio.timeout(seconds):
                    await asyncio.shield(session.ended)
            except TimeoutError:
                raise EngineTimeout(
                    _("Host {host} did not end a command within {seconds} s. Look at the host's load."),
                    host=self.endpoint.name,
                    seconds=round(seconds, 1),
                ) from None
            finally:
                if not session.ended.done():
                    _end(channel)
        if session.overflow:
            raise EngineFailure(
                _("Host {host} answered a command with more than {most} bytes."),
                host=self.endpoint.name,
                most=MOST_OUTPUT_BYTES,
            )
        code = _returncode(channel)
        if code is None:  # neither an end nor a signal: the connection went
            raise self._lost()
        return Answer(code, bytes(session.out), bytes(session.err))

    @asynccontextmanager
    async def channel(
        self, host: str, port: int
    ) -> AsyncIterator[tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]]:
        """A connection from the host itself to ``host``:``port``, or to the unix socket ``host`` (an absolute path), through ours
        (RFC 4254, 7.2; OpenSSH's PROTOCOL, 2.4).

        Raises:
            OSError: nobody listens there.
            EngineFailure: its sshd forbids that.
        """
        async with self._used():
            reader, writer = await self._open_channel(host, port)
            try:
                yield reader, writer
            finally:
                writer.channel.abort()

    async def _open_channel(self, host: str, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        while True:
            connection, fresh = await self._connected()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    if host.startswith("/"):
                        return await connection.open_unix_connection(host, encoding=None)
                    return await connection.open_connection(host, port, encoding=None)
            except asyncssh.ChannelOpenError as error:
                if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                    raise EngineFailure(
                        _(
                            "The sshd of host {host} forbids tunnels. Set AllowTcpForwarding local (of sockets: "
                            "AllowStreamLocalForwarding local) in its sshd_config."
                        ),
                        host=self.endpoint.name,
                    ) from error
                if not connection.is_closed():
                    raise ConnectionRefusedError from error
                if fresh:
                    raise self._lost() from error
            except (OSError, asyncssh.Error) as error:
                connection.abort()
                if fresh:
                    raise self._lost() from error
            if self._open is connection:
                self._open = None

    async def forward_socket(self, remote: str) -> str:
        """A unix socket on this machine, for us alone, that leads to the socket ``remote`` of the host: the same as long as the
        connection lasts, which it does while it is asked for, and until ``close``; another after it broke."""
        connection, _fresh = await self._connected()
        known = self._forwards.get(remote)
        if known is not None and known[0] is connection:
            return known[1]
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="openidcs-")
        path = str(Path(folder, "socket"))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.forward_local_path(path, remote)
        except (OSError, asyncssh.Error) as error:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise self._lost() from error
        await self._drop_forwards(remote)
        self._busy += 1
        self._forwards[remote] = (connection, path)
        return path

    async def _drop_forwards(self, *remotes: str) -> None:
        for remote in remotes:
            _connection, path = self._forwards.pop(remote, (None, ""))
            if path:
                self._busy -= 1
                await asyncio.to_thread(shutil.rmtree, Path(path).parent, ignore_errors=True)

    async def close(self) -> None:
        """Disconnect. Never raises; what is called later connects again."""
        await self._drop_forwards(*self._forwards)
        if self._idle is not None:
            self._idle.cancel()
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()
            with suppress(TimeoutError, OSError, asyncssh.Error):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.wait_closed()
            connection.abort()

    # -- the connection ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[None]:
        """While somebody is inside, and some time after, the connection is kept."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._idle is not None:
                self._idle.cancel()
            if not self._busy and self._open is not None:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        if not self._busy and self._open is not None:
            self._open.close()
            self._open = None

    async def _begin(self, command: str) -> tuple[asyncssh.SSHClientChannel[bytes], _Session]:
        """Start a command. A connection that broke unseen is made anew, once."""
        while True:
            connection, fresh = await self._connected()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    channel, session = await connection.create_session(_Session, command, encoding=None)
                    assert isinstance(session, _Session)
                    return channel, session
            except asyncssh.ChannelOpenError as error:
                if not connection.is_closed():
                    raise EngineFailure(
                        _("Host {host} refuses to run commands for us: {reason}. Look at its sshd_config."),
                        host=self.endpoint.name, reason=short(error.reason),
                    ) from error  # fmt: skip
                if fresh:
                    raise self._lost() from error
            except (OSError, asyncssh.Error) as error:  # TimeoutError is an OSError
                connection.abort()
                if fresh:
                    raise self._lost() from error
            if self._open is connection:
                self._open = None

    async def _connected(self) -> tuple[asyncssh.SSHClientConnection, bool]:
        """The connection, and whether it was made just now."""
        async with self._opening:
            if self._open is not None and not self._open.is_closed():
                return self._open, False
            self._open = await self._connect()
            return self._open, True

    async def _connect(self) -> asyncssh.SSHClientConnection:
        to = self.endpoint
        known = await asyncio.to_thread(known_hosts)
        await asyncio.to_thread(check_key_file, to)
        options: dict[str, Any] = {
            "known_hosts": known,
            "gss_host": None,
            "connect_timeout": CONNECT_SECONDS,
            "login_timeout": CONNECT_SECONDS,
            "keepalive_interval": KEEPALIVE_SECONDS,
            "keepalive_count_max": KEEPALIVE_COUNT,
        }
        options |= {"port": to.port} if to.port else {}
        options |= {"username": to.user} if to.user else {}
        options |= {"client_keys": [to.key_file]} if to.key_file else {}
        options |= {"password": to.password} if to.password else {}
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncssh.connect(to.host, **options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise untrusted(to, known) from error
        except asyncssh.PermissionDenied as error:
            raise HostUnreachable(
                _(
                    "Host {host} refuses our SSH login. Check the SSH user and ssh_key_file, and that the key's public half is "
                    "in authorized_keys there."
                ),
                host=to.name,
            ) from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise HostUnreachable(
                _(
                    "The SSH key for host {host} cannot be used: it is no private key, or has a passphrase. Give ssh_key_file a "
                    "key without one, or load it into the panel's ssh-agent."
                ),
                host=to.name,
            ) from error
        except asyncssh.ConfigParseError as error:
            raise HostUnreachable(
                _("The SSH configuration of the panel's user (~/.ssh/config) is wrong: {reason}"),
                reason=short(str(error)),
            ) from error
        except (OSError, asyncssh.Error, ValueError) as error:
            raise HostUnreachable(
                _(
                    "Host {host} does not answer on SSH ({reason}). Check its address and port, and that sshd runs there."
                ),
                host=to.name,
                reason=_reason(error),
            ) from error

    def _lost(self) -> HostUnreachable:
        return HostUnreachable(_("The SSH connection to host {host} broke. Try again."), host=self.endpoint.name)


class _Session(asyncssh.SSHClientSession[bytes]):
    """Collects what a command writes. ``ended`` is done when its channel is closed."""

    def __init__(self) -> None:
        self.out, self.err = bytearray(), bytearray()
        self.overflow = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        (self.err if datatype == asyncssh.EXTENDED_DATA_STDERR else self.out).extend(data)
        if len(self.out) + len(self.err) > MOST_OUTPUT_BYTES and not self.overflow:
            self.overflow = True
            assert self._channel is not None
            _end(self._channel)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _end(channel: asyncssh.SSHClientChannel[bytes]) -> None:
    """End a command: the signal where sshd passes it on (RFC 4254, 6.9; OpenSSH does not for root), and its pipes anyway."""
    with suppress(OSError, asyncssh.Error):
        channel.kill()
    with suppress(OSError, asyncssh.Error):
        channel.abort()


def _returncode(channel: asyncssh.SSHClientChannel[bytes]) -> int | None:
    code = channel.get_returncode()
    return None if code is None else code if code >= 0 else 128 - code


def _reason(error: Exception) -> str:
    """Why a connection failed, in few words."""
    if isinstance(error, asyncssh.Error):
        return short(error.reason)
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:  # the resolver's
        return short(error.strerror)
    return type(error).__name__


def short(text: str) -> str:
    """A vendor's message on one line, at most 200 characters."""
    return " ".join(text.split())[:200]
