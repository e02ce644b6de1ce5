"""The console page, its fresh tickets, and its websocket.

Who may come: a login, or whoever came with a page ticket (``GET /api/client/remote``) and since then holds a grant: a
cookie that is good for this VM's console only. Nothing secret is in a URL after the first one, which is spent when it
is opened; the websocket's ticket travels as a subprotocol, which no log writes.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, cast

from quart import Blueprint, Response, current_app, jsonify, redirect, request, websocket

from panel.console.bridge import Closing, Guest, Screen, Traffic, bridge
from panel.console.handover import EXTENSION, Road
from panel.console.relay import RELAY, Relay, RelayedTunnel, can_carry
from panel.console.spice import SpiceScreen
from panel.console.terminal import Terminal, size_of
from panel.console.tunnel import Tunnel, take_over
from panel.engines.consoletypes import ConsoleKind
from panel.engines.types import PowerAction
from panel.errors import NotFound, PanelError, Unauthorized
from panel.models import Vm
from panel.security import Actor
from panel.services.consoles import LIFETIMES, ConsolePass, OpenConsole, Purpose, refused
from panel.services.consoleways import kinds
from panel.services.power import why_not
from panel.web import check_csrf, check_origin, client_address, render, services, session_actor, set_cookie, url

GRANT_COOKIE = "openidcs_console"
SUBPROTOCOL = "binary"
TICKET_PREFIX = "ticket."
PAGES = {ConsoleKind.VNC: "console.html", ConsoleKind.SPICE: "console.html", ConsoleKind.TEXT: "terminal.html"}

blueprint = Blueprint("console", __name__, url_prefix="/console")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at which VM's console. ``login``: by a login, which may also use the power buttons."""

    vm: Vm
    actor: Actor
    login: bool


@blueprint.get("/<host>/<vm>")
async def page(host: str, vm: str) -> Response:
    """The console page: ``?kind=text`` the terminal, else the screen, or what there is. ``?ticket=`` is spent for a grant and
    taken out of the address."""
    if "ticket" in request.args:
        return await _enter(host, vm, request.args["ticket"])
    visitor = await _visitor(host, vm)  # a stranger is sent to the login page by the app's own error handler
    kind = _kind(visitor.vm, request.args.get("kind", ""))
    html = await render(f"pages/console/{PAGES[kind]}", **_context(visitor, _path(host, vm), kind))
    return _guard(Response(html))


@blueprint.post("/<host>/<vm>/ticket")
async def ticket(host: str, vm: str) -> Response:
    """A ticket for one websocket; ``kind`` says of which console."""
    visitor = await _visitor(host, vm)
    if visitor.login:
        await check_csrf()
    else:
        check_origin()
    kind = _kind(visitor.vm, (await request.form).get("kind", ""))
    value = await services().consoles.issue(visitor.actor, visitor.vm, Purpose.SOCKET, kind)
    if relay := _relay():
        relay.start()  # it is there when the browser comes back with the ticket
    return _answer({"ticket": value, "expires_in": int(LIFETIMES[Purpose.SOCKET].total_seconds())})


@blueprint.get("/<host>/<vm>/state")
async def state(host: str, vm: str) -> Response:
    """The VM as last seen, for the words on the screen and the power buttons."""
    visitor = await _visitor(host, vm)
    return _answer({"state": visitor.vm.state, "power": _power(visitor), "host": visitor.vm.host.health})


@blueprint.websocket("/<host>/<vm>/socket")
async def socket(host: str, vm: str) -> None:
    """The console that the ticket is for. The VM's side is opened first;
    a refusal is a close code (4000 + status), which browsers can read."""
    try:
        check_origin()
        row = await _vm_for_stranger(host, vm)
        held = await services().consoles.spend(_offered_ticket(), Purpose.SOCKET, row, client_address())
        with services().consoles.follow(held) as opened:
            await services().consoles.confirm(held)
            closing = await _show(held, opened, *await OPENERS[held.kind](row))
    except PanelError as error:
        closing = Closing.of(error)
    try:
        await _accept()
        await websocket.close(closing.code, closing.reason)
    except OSError:  # the browser left before
        return


async def _open_screen(vm: Vm) -> tuple[Guest, str]:
    return Screen(*await services().consoles.open_target(vm, vm.host)), ""


async def _open_spice(vm: Vm) -> tuple[Guest, str]:
    """With ``?take_over`` whoever looks now has to go."""
    session = await services().consoles.open_spice(vm, vm.host, take_over="take_over" in websocket.args)
    return SpiceScreen(session), ""


async def _open_text(vm: Vm) -> tuple[Guest, str]:
    """``?columns=&rows=`` is the browser's size; with ``take_over`` whoever looks now has to go."""
    asked = websocket.args
    size = size_of(asked.get("columns", ""), asked.get("rows", ""))
    stream, resizes = await services().consoles.open_text(vm, vm.host, size, take_over="take_over" in asked)
    return Terminal(stream), json.dumps({"resizes": resizes})


OPENERS = {ConsoleKind.VNC: _open_screen, ConsoleKind.SPICE: _open_spice, ConsoleKind.TEXT: _open_text}


async def _show(held: ConsolePass, opened: OpenConsole, guest: Guest, greeting: str) -> Closing:
    """Let the browser in and pump until the end; the log hears of both."""
    started, traffic = time.monotonic(), Traffic()
    try:
        tunnel = await _tunnel(guest, traffic)
        await _accept()
        await services().consoles.opened(held)
        if tunnel is None:
            if greeting:
                await websocket.send(greeting)
            return await bridge(websocket, guest, opened.ended, traffic)
        await asyncio.wait((tunnel.done, opened.ended), return_when=asyncio.FIRST_COMPLETED)
        if opened.ended.done():
            tunnel.end(Closing.of(opened.ended.result()))
        return await asyncio.shield(tunnel.done)
    except OSError:  # the browser left while we dialled
        return Closing.browser_gone()
    finally:
        await guest.close()
        await services().consoles.closed(held, time.monotonic() - started, traffic.down, traffic.up)


async def _tunnel(guest: Guest, traffic: Traffic) -> Road | None:
    """The quick road of a screen, offered to the server; None where the server or the VM's side has none."""
    extensions = cast("dict[str, Any]", websocket.scope.get("extensions") or {})
    offer = extensions.get(EXTENSION)
    end = await take_over(guest.reader, guest.writer) if offer and isinstance(guest, Screen) else None
    if offer is None or end is None:
        return None
    relay = _relay()
    carried = relay is not None and can_carry(end)
    tunnel: Road = RelayedTunnel(relay, end, traffic) if relay is not None and carried else Tunnel(end, traffic)
    offer(tunnel)
    return tunnel


def _relay() -> Relay | None:
    found: Relay | None = current_app.extensions.get(RELAY)
    return found


async def _accept() -> None:
    wanted = SUBPROTOCOL in websocket.requested_subprotocols
    await websocket.accept(subprotocol=SUBPROTOCOL if wanted else None)


async def _enter(host: str, vm: str, value: str) -> Response:
    """Spend a page ticket and go on without it in the address. Looking at the headers only does not spend it."""
    if request.method == "HEAD":
        return _guard(Response(status=204))
    answer = _guard(cast(Response, redirect(_path(host, vm), 303)))
    try:
        row = await _vm_for_stranger(host, vm)
        held = await services().consoles.spend(value, Purpose.PAGE, row, client_address())
    except Unauthorized as error:
        if await _is_in(host, vm):  # a used link of somebody who is in already: a reload, or the way back
            return answer
        html = await render("pages/console/refused.html", message=error.text.translate())
        return _guard(Response(html, error.status))
    grant = await services().consoles.issue(held.actor, row, Purpose.GRANT)
    age = int(LIFETIMES[Purpose.GRANT].total_seconds())
    set_cookie(answer, GRANT_COOKIE, grant, path=_path(host, vm), max_age=age)
    return answer


async def _visitor(host: str, vm: str) -> Visitor:
    """Who is asking. ``Unauthorized`` for a stranger, who does not learn whether there is such a VM."""
    actor = await session_actor()
    if actor is not None:
        return Visitor(await services().vms.get(host, vm), actor, login=True)
    cookie = request.cookies.get(GRANT_COOKIE, "")
    if not cookie:
        raise refused()
    row = await _vm_for_stranger(host, vm)
    held = await services().consoles.look(cookie, Purpose.GRANT, row, client_address())
    return Visitor(row, held.actor, login=False)


async def _is_in(host: str, vm: str) -> bool:
    try:
        await _visitor(host, vm)
    except (Unauthorized, NotFound):
        return False
    return True


async def _vm_for_stranger(host: str, vm: str) -> Vm:
    try:
        return await services().vms.get(host, vm)
    except NotFound as error:
        raise refused() from error


def _offered_ticket() -> str:
    """The ticket among the offered subprotocols; empty when there is none."""
    offered = websocket.requested_subprotocols
    return next((word.removeprefix(TICKET_PREFIX) for word in offered if word.startswith(TICKET_PREFIX)), "")


def _kind(vm: Vm, wanted: str) -> ConsoleKind:
    """What the browser wants, where the VM has it; else the first that it has."""
    there = kinds(vm)
    return next((kind for kind in there if kind == wanted), there[0] if there else ConsoleKind.VNC)


def _context(visitor: Visitor, path: str, kind: ConsoleKind) -> dict[str, object]:
    return {
        "kind": kind,
        "kinds": kinds(visitor.vm),
        "vm": visitor.vm,
        "host": visitor.vm.host,
        "login": visitor.login,
        "power": _power(visitor),
        "ticket_url": f"{path}/ticket",
        "state_url": f"{path}/state",
        "socket_url": f"{path}/socket",
        "page_url": path,
    }


def _power(visitor: Visitor) -> dict[str, str | None]:
    """For each action, why it is not possible now, in the reader's language; None when it is. Nothing for a grant."""
    if not visitor.login:
        return {}
    reasons = {action: why_not(visitor.vm, action) for action in PowerAction}
    return {str(action): reason.translate() if reason else None for action, reason in reasons.items()}


def _path(host: str, vm: str) -> str:
    """The page's path as browsers see it: the sub-path included, names quoted."""
    return url("console.page", host=host, vm=vm)


def _answer(data: dict[str, object]) -> Response:
    answer = jsonify({"code": 200, "msg": "success", "data": data})
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _guard(answer: Response) -> Response:
    """Headers of a page that shows a machine: kept nowhere, framed by nobody, leaking no address."""
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Frame-Options"] = "DENY"
    return answer
