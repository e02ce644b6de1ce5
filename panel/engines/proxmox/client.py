"""The API of Proxmox VE (8 and newer). The only place that sees its errors.

Source of paths, parameters and types: the vendor's API schema. Proxmox answers most refusals with status 500 and a sentence, in
the body's ``message`` or, older ones, in the status line only.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from panel.engines.common.http import Answer, HttpHost, split_address
from panel.engines.common.ssh import short
from panel.engines.common.tls import client_context, read_fingerprint
from panel.engines.types import HostConnection
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

PORT = 8006
API = "/api2/json"
CHANGE_SECONDS = 60.0
RENEW_SECONDS = 3600.0  # a ticket holds for two hours
_USER = re.compile(r"[^\s:/@!]+(@[^\s:/@!]+)*@[A-Za-z][A-Za-z0-9._-]+(![A-Za-z][A-Za-z0-9._-]*)?")
_RIGHT = re.compile(r"Permission check failed \((?P<where>[^,]+), (?P<right>[^)]+)\)")

_GONE = re.compile(r"(qemu-server|lxc)/\d+\.conf' does not exist")

Params = Mapping[str, str]


class TicketRefused(HostUnreachable):
    """Proxmox takes our ticket no longer: a new one may help."""


class Client:
    """The API of one cluster or node. Every method raises what ``HttpHost.ask`` does, and:

    NotFound: no such VM. Conflict: it is locked, or its state forbids it. InvalidInput: a parameter that Proxmox refuses.
    EngineFailure: anything else that it refuses, with its reason.
    """

    def __init__(self, connection: HostConnection) -> None:
        self.base = split_address(connection.address, PORT)
        self.host = urlsplit(self.base).hostname or ""
        self.user = check_user(connection.user)
        self._secret = connection.secret
        fingerprint = read_fingerprint(connection.options.get("fingerprint", ""))
        self.context: ssl.SSLContext | None = client_context(fingerprint) if self.base.startswith("https") else None
        self._http = HttpHost(f"{self.base}{API}", context=self.context, explain=_denied)
        self._login = asyncio.Lock()
        self._headers: dict[str, str] = {}
        self._since = 0.0
        if "!" in self.user:
            self._headers = {"Authorization": f"PVEAPIToken={self.user}={self._secret}"}

    async def close(self) -> None:
        """Disconnect. Never raises."""
        await self._http.close()

    async def get(self, path: str, params: Params | None = None) -> Any:
        """Read."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, form: Params | None = None) -> Any:
        """Do."""
        return await self._ask("POST", path, form=form or {})

    async def put(self, path: str, form: Params) -> Any:
        """Change."""
        return await self._ask("PUT", path, form=form)

    async def delete(self, path: str, params: Params | None = None) -> Any:
        """Remove."""
        return await self._ask("DELETE", path, params=params)

    async def headers(self) -> dict[str, str]:
        """What lets a request in: an API token's header, or the cookie of a ticket that still holds."""
        if "!" in self.user:
            return self._headers
        async with self._login:
            if not self._headers or time.monotonic() - self._since > RENEW_SECONDS:
                await self._log_in()
            return self._headers

    async def _log_in(self) -> None:
        form = {"username": self.user, "password": self._secret}
        try:
            answer = await self._http.ask("POST", "/access/ticket", form=form)
        except TicketRefused:
            raise _login_refused(self._http.name) from None
        data = _data(answer) if answer.ok else {}
        if not answer.ok or not isinstance(data, dict) or not data.get("ticket"):
            raise self._refusal(answer)
        if data.get("NeedTFA"):
            raise HostUnreachable(
                _("The user on host {host} has a second factor. Make an API token for the panel and use that "
                  "(server_user: name@realm!token)."),
                host=self._http.name,
            )  # fmt: skip
        cookie = f"PVEAuthCookie={quote(str(data['ticket']), safe='')}"
        self._headers = {"Cookie": cookie, "CSRFPreventionToken": str(data.get("CSRFPreventionToken", ""))}
        self._since = time.monotonic()

    async def _ask(self, method: str, path: str, *, params: Params | None = None, form: Params | None = None) -> Any:
        seconds = 15.0 if method == "GET" else CHANGE_SECONDS
        used = await self.headers()
        try:
            answer = await self._http.ask(method, path, params=params, form=form, headers=used, seconds=seconds)
        except TicketRefused:
            if "!" in self.user:
                raise _login_refused(self._http.name) from None
            if self._headers is used:
                self._headers = {}
            used = await self.headers()
            answer = await self._http.ask(method, path, params=params, form=form, headers=used, seconds=seconds)
        if not answer.ok:
            raise self._refusal(answer)
        return _data(answer)

    def _refusal(self, answer: Answer) -> PanelError:
        return refusal(answer.host, said(answer), answer.status)


def check_user(user: str) -> str:
    """``name@realm`` or ``name@realm!token``. ``InvalidInput`` names ``server_user``."""
    if not _USER.fullmatch(user.strip()):
        raise InvalidInput(
            _("{field} needs its realm: root@pam, or an API token like panel@pve!openidcs."), field="server_user"
        )
    return user.strip()


def said(answer: Answer) -> str:
    """The vendor's sentence, with what is wrong with each parameter."""
    try:
        found = orjson.loads(answer.body)
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    text = str(found.get("message") or "").strip() or answer.phrase or f"HTTP {answer.status}"
    errors = found.get("errors")
    if isinstance(errors, dict) and errors:
        text += " " + "; ".join(f"{name}: {reason}" for name, reason in errors.items())
    return short(text)


def refusal(host: str, reason: str, status: int = 500) -> PanelError:
    """What Proxmox refuses, or why a task of it failed, in our words."""
    if _GONE.search(reason):
        return NotFound(_("Host {host} has no such VM: {reason}"), host=host, reason=reason)
    if "is locked" in reason or "can't lock file" in reason:
        return Conflict(
            _("The VM is locked on host {host}: {reason}. Wait for the task that works on it."),
            host=host,
            reason=reason,
        )
    if (
        "already exists" in reason
        or "already used" in reason
        or "not running" in reason
        or "is running" in reason
        or "already running" in reason
    ):
        return Conflict(_("Host {host} refuses that now: {reason}"), host=host, reason=reason)
    if "bridge" in reason and "does not exist" in reason:
        return EngineFailure(
            _("The node has no such bridge: {reason}. Check the host's bridges (network_nat, network_bridge)."),
            reason=reason,
        )
    if status == 501 or "not implemented" in reason:
        return EngineFailure(
            _("Host {host} does not know what the panel asks. It needs Proxmox VE 8 or newer."), host=host
        )
    return EngineFailure(
        _("Proxmox on host {host} refuses: {reason}. Look at the VM's task history there."), host=host, reason=reason
    )


def _denied(answer: Answer) -> PanelError | None:
    """Why we may not: which right, or what login."""
    reason = said(answer)
    if answer.status == 401:
        return TicketRefused(_("Host {host} refuses our login. Check server_user and server_pass."), host=answer.host)
    found = _RIGHT.search(reason)
    if found is None:
        return None
    return HostUnreachable(
        _("Our login on host {host} lacks the right {right} on {where}. Give it a role that has it there; an API token with "
          "separated privileges needs a role of its own."),
        host=answer.host, right=found["right"], where=found["where"],
    )  # fmt: skip


def _login_refused(host: str) -> HostUnreachable:
    return HostUnreachable(
        _("Host {host} refuses our login. Check server_user with its realm (root@pam, name@pve, or name@realm!token) and "
          "server_pass (the password, or the token's secret)."),
        host=host,
    )  # fmt: skip


def _data(answer: Answer) -> Any:
    found = answer.json()
    if not isinstance(found, dict) or "data" not in found:
        raise EngineFailure(
            _("Host {host} answered with something that is not its API's. Check the port (server_addr)."),
            host=answer.host,
        )
    return found["data"]


def vm_path(node: str, vmid: int, tail: str = "", *, kind: str = "qemu") -> str:
    """Below the API's base; ``kind`` is ``qemu``, or ``lxc`` for a container."""
    return f"/nodes/{quote(node, safe='')}/{kind}/{vmid}{tail}"
