"""The API of Incus and LXD: over the unix socket, or over HTTPS with a client certificate. The only place that sees its errors.

Source: the vendor's REST API, version 1.0 (https://linuxcontainers.org/incus/docs/main/rest-api/).
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import InvalidStatus, WebSocketException

from panel.engines.common.http import BUSY, Answer, HttpHost, split_address
from panel.engines.common.ssh import short
from panel.engines.common.tls import client_context, read_fingerprint
from panel.engines.incus.keys import Pair, is_pair, own_pair, read_pair, token_fingerprint
from panel.engines.types import HostConnection
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound, PanelError, TooLarge
from panel.i18n import gettext_noop as _

PORT = 8443
SOCKETS = (
    "/var/lib/incus/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/lxd/unix.socket",
)
READ_SECONDS = 30.0
CHANGE_SECONDS = 60.0
# It lists the host's network cards as they come and go with instances, and answers 500 when one is gone in the middle of that.
AGAIN = BUSY | {500}
WAITS_AT_ONCE = 64  # questions that the host answers when an operation ends
DIAL_SECONDS = 10.0
LARGEST = 1024 * 1024  # message of a websocket
QUEUE = 1  # messages that may wait for their reader

QUIET = logging.getLogger("panel.engines.incus.websocket")
QUIET.propagate = False  # the library logs addresses, and the secrets of operations are in them
QUIET.addHandler(logging.NullHandler())

Params = Mapping[str, str]


class Changed(Conflict):
    """What was to be changed is not what was read: read it again."""


class Client:
    """One server's API, in one project. Every method raises what ``HttpHost.ask`` does, and:

    NotFound: no such thing. Conflict: its state forbids it. InvalidInput: what the server says is wrong.
    EngineFailure: anything else that it refuses, with its reason.
    """

    def __init__(self, connection: HostConnection) -> None:
        self.socket = socket_of(connection.address)
        self.project = connection.options.get("project", "").strip() or "default"
        self._secret = connection.secret.strip()
        self.pair: Pair | None = None
        self._context: ssl.SSLContext | None = None
        self._pinned = ""
        self.port = PORT
        if self.socket:
            self.base = "http://localhost"
        else:
            self.base = split_address(connection.address, PORT)
            self.port = urlsplit(self.base).port or PORT
            self._arm(connection)
        self._http = self._host()
        self._waits = self._host(WAITS_AT_ONCE)
        self.name = self._http.name

    def _arm(self, connection: HostConnection) -> None:
        if not self.base.startswith("https"):
            raise InvalidInput(_("{field}: Incus and LXD speak https:// only."), field="server_addr")
        self._pinned = read_fingerprint(connection.options.get("fingerprint", ""))
        self._context = client_context(self._pinned)
        if is_pair(self._secret):
            self.pair = read_pair(self._secret)
        elif connection.seed:
            self.pair = own_pair(connection.seed)
        else:
            raise InvalidInput(
                _("{field} needs a client certificate with its key (PEM): there is no panel to make one."),
                field="server_pass",
            )
        self.pair.load(self._context)

    def _host(self, at_once: int = 8) -> HttpHost:
        return HttpHost(
            self.base, context=self._context, at_once=at_once, explain=self._denied, socket_path=self.socket, busy=AGAIN
        )

    async def close(self) -> None:
        """Disconnect. Never raises."""
        await self._http.close()
        await self._waits.close()

    # -- asking --------------------------------------------------------------------------------------------------

    async def get(self, path: str, params: Params | None = None) -> Any:
        """Read: the answer's ``metadata``. A list waits for instances that are being made or removed."""
        return (await self._ask("GET", path, params=params, seconds=READ_SECONDS))["metadata"]

    async def read(self, path: str) -> tuple[Any, str]:
        """Read, with the ETag by which ``change`` knows that it is still so."""
        answer = await self._answer("GET", path)
        return _envelope(answer)["metadata"], answer.headers.get("ETag", "")

    async def there(self, path: str, params: Params) -> bool:
        """Whether a file is there."""
        answer = await self._http.ask("GET", path, params=self._params(params))
        return answer.ok

    async def wait(self, path: str, seconds: int) -> Any:
        """An operation, once it has ended or ``seconds`` have passed."""
        answer = await self._waits.ask(
            "GET", f"{path}/wait", params=self._params({"timeout": str(seconds)}), seconds=seconds + 15
        )
        return self._checked(answer)["metadata"]

    async def send(
        self, method: str, path: str, json: Any = None, params: Params | None = None, etag: str = ""
    ) -> dict[str, Any]:
        """Do: the whole envelope, whose ``metadata`` is the operation when ``type`` is ``async``. ``Changed`` when ``etag`` is
        not that of what is there now."""
        headers = {"If-Match": etag} if etag else None
        return await self._ask(method, path, json=json, params=params, headers=headers, seconds=CHANGE_SECONDS)

    async def _ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        return _envelope(await self._answer(method, path, **given))

    async def _answer(self, method: str, path: str, *, params: Params | None = None, **given: Any) -> Answer:
        try:
            answer = await self._http.ask(method, path, params=self._params(params), **given)
        except HostUnreachable as error:
            raise self._socket_trouble() or error from None
        self._checked(answer)
        return answer

    def _checked(self, answer: Answer) -> dict[str, Any]:
        if not answer.ok:
            raise refusal(self.name, said(answer), answer.status)
        return _envelope(answer)

    def _params(self, params: Params | None) -> Params:
        return {**(params or {}), "project": self.project}

    def _socket_trouble(self) -> HostUnreachable | None:
        """Why a socket of this machine cannot be used, when that can be seen."""
        if not self.socket:
            return None
        if not Path(self.socket).exists():
            return HostUnreachable(
                _("There is no socket {path}. Check that Incus or LXD runs here, and where its socket is (server_addr)."),
                path=self.socket,
            )  # fmt: skip
        if not os.access(self.socket, os.R_OK | os.W_OK):
            return HostUnreachable(
                _("The panel may not use the socket {path}. Add its user to the group incus-admin (or lxd), and start it again."),
                path=self.socket,
            )  # fmt: skip
        return None

    def _denied(self, answer: Answer) -> PanelError:
        """401 or 403."""
        return HostUnreachable(
            _("Host {host} refuses that ({reason}). Either it does not trust the panel's certificate any more: test the "
              "connection; or the certificate is restricted, and not to the project {project}."),
            host=self.name, reason=said(answer), project=self.project,
        )  # fmt: skip

    # -- trust ---------------------------------------------------------------------------------------------------

    async def server(self) -> dict[str, Any]:
        """``/1.0``, with a trust token spent when the server does not know us yet.

        Raises:
            HostUnreachable: it does not trust us; the message says what to type there.
        """
        found: dict[str, Any] = await self.get("/1.0")
        if found.get("auth") == "trusted":
            return found
        if self._secret and not is_pair(self._secret):
            await self._enrol()
            found = await self.get("/1.0")
            if found.get("auth") == "trusted":
                return found
        raise self._stranger()

    async def _enrol(self) -> None:
        assert self.pair is not None
        made_by = token_fingerprint(self._secret)
        if made_by and self._pinned and made_by != self._pinned.replace(":", ""):
            raise InvalidInput(
                _("The trust token in {field} was made by another server than host {host}."),
                field="server_pass", host=self.name,
            )  # fmt: skip
        body = {"type": "client", "name": "openidcs", "password": self._secret, "trust_token": self._secret}
        try:
            answer = await self._http.ask("POST", "/1.0/certificates", json=body)
        except HostUnreachable as error:
            if type(error) is not HostUnreachable:
                raise
        else:
            if answer.ok:
                return
        raise HostUnreachable(
            _("Host {host} takes neither this trust token nor this password: a token is good for one use, and for a while only. "
              "Make a new one there (incus config trust add openidcs, or lxc config trust add --name openidcs) and write it into "
              "server_pass."),
            host=self.name,
        )  # fmt: skip

    def _stranger(self) -> HostUnreachable:
        assert self.pair is not None
        return HostUnreachable(
            _("Host {host} does not trust the panel yet. Make a trust token there (incus config trust add openidcs, or lxc "
              "config trust add --name openidcs) and write it into server_pass. Or add the panel's certificate there: {command}"),
            host=self.name, command=add_command(self.pair),
        )  # fmt: skip

    # -- websockets ----------------------------------------------------------------------------------------------

    async def dial(self, path: str, params: Params, *, queue: int = QUEUE) -> ClientConnection:
        """A websocket.

        Raises:
            HostUnreachable, NotFound: nobody there, or no such thing.
        """
        query = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in self._params(params).items())
        uri = f"{self.base.replace('http', 'ws', 1)}{path}?{query}"
        settings: dict[str, Any] = {
            "compression": None,
            "open_timeout": DIAL_SECONDS,
            "ping_interval": None,
            "close_timeout": 1,
            "max_size": LARGEST,
            "max_queue": queue,
            "logger": QUIET,
        }
        try:
            if self.socket:
                return await unix_connect(self.socket, uri, **settings)
            return await connect(uri, ssl=self._context, proxy=None, **settings)
        except InvalidStatus as error:
            raise refusal(self.name, f"HTTP {error.response.status_code}", error.response.status_code) from None
        except (WebSocketException, OSError, TimeoutError):
            raise self._socket_trouble() or HostUnreachable(
                _("Host {host} cannot be reached. Check its address and the network."), host=self.name
            ) from None


def socket_of(address: str) -> str:
    """The path of a unix socket, when the address is one; empty: the first that is on this machine."""
    text = address.strip().removeprefix("unix://")
    if text.startswith("/"):
        return text
    if text:
        return ""
    return next((path for path in SOCKETS if Path(path).exists()), SOCKETS[0])


def add_command(pair: Pair) -> str:
    """What an operator types on the host to trust a certificate."""
    return (
        f"echo {pair.body} | base64 -d | openssl x509 -inform der -out openidcs.crt && "
        "incus config trust add-certificate openidcs.crt  # LXD: lxc config trust add openidcs.crt"
    )


def said(answer: Answer) -> str:
    """The vendor's sentence."""
    try:
        found = orjson.loads(answer.body)
    except ValueError:
        found = {}
    text = str(found.get("error") or "") if isinstance(found, dict) else ""
    return short(text or answer.phrase or f"HTTP {answer.status}")


_STATES = (
    "is running", "already running", "not running", "isn't running", "already stopped", "is frozen", "isn't frozen",
    "not frozen", "busy", "already exists", "already in use", "in progress", "must be stopped",
)  # fmt: skip


def refusal(host: str, reason: str, status: int) -> PanelError:
    """What the server refuses, or why an operation of it failed, in our words."""
    low = reason.lower()
    if status == 404:
        return NotFound(_("Host {host} has no such thing: {reason}"), host=host, reason=reason)
    if status == 412:
        return Changed(_("Somebody else changes the same thing on host {host}. Try again."), host=host)
    if status == 413:
        return TooLarge(_("Host {host} refuses that: {reason}"), host=host, reason=reason)
    if status == 409 or any(word in low for word in _STATES):
        return Conflict(_("Host {host} refuses that now: {reason}"), host=host, reason=reason)
    return EngineFailure(
        _("Incus or LXD on host {host} refuses: {reason}. Look at the instance's log there (incus info --show-log)."),
        host=host, reason=reason,
    )  # fmt: skip


def _envelope(answer: Answer) -> dict[str, Any]:
    found = answer.json()
    if not isinstance(found, dict) or "metadata" not in found:
        raise EngineFailure(
            _("Host {host} answered with something that is not its API's. Check the port (server_addr)."),
            host=answer.host,
        )
    return found


def instance_path(name: str, tail: str = "") -> str:
    """Below the API's root."""
    return f"/1.0/instances/{quote(name, safe='')}{tail}"
