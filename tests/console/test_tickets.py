"""Tickets: one use, for one VM, one purpose, one minute, and only while the login behind them lasts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from panel.errors import Conflict, Forbidden, Unauthorized
from panel.models import ConsoleTicket, Host
from panel.security import Actor, Permission, Source, fingerprint
from panel.services import consoles as module
from panel.services.access import token_credential
from panel.services.clock import now
from panel.services.consoles import Purpose
from tests.console.kit import Panel, make_vm


async def test_a_ticket_opens_once(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    held = await panel.consoles.spend(ticket, Purpose.SOCKET, panel.vm, "192.0.2.7")
    assert (held.actor.name, held.actor.credential, held.actor.address) == ("admin", panel.session.id, "192.0.2.7")
    assert (held.vm_id, held.name) == (panel.vm.id, "demo/screen")
    with pytest.raises(Unauthorized):
        await panel.consoles.spend(ticket, Purpose.SOCKET, panel.vm)


async def test_of_many_at_once_one_wins(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    results = await asyncio.gather(
        *(panel.consoles.spend(ticket, Purpose.SOCKET, panel.vm) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, module.ConsolePass) for result in results) == 1
    assert sum(isinstance(result, Unauthorized) for result in results) == 19


async def test_only_its_hash_is_stored(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.PAGE)
    row = await ConsoleTicket.get()
    assert row.id == fingerprint(ticket)
    assert ticket not in repr(vars(row))


async def test_refusals_do_not_tell_why(panel: Panel) -> None:
    other = await make_vm(panel.host, "other", str(uuid4()))
    used = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    await panel.consoles.spend(used, Purpose.SOCKET, panel.vm)
    page = await panel.consoles.issue(panel.actor, panel.vm, Purpose.PAGE)
    good = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    late = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    await ConsoleTicket.filter(id=fingerprint(late)).update(expires_at=now() - timedelta(seconds=1))
    told = set()
    for ticket, vm in [
        (used, panel.vm),
        (page, panel.vm),
        (late, panel.vm),
        (good, other),
        ("", panel.vm),
        ("x" * 9999, panel.vm),
    ]:
        with pytest.raises(Unauthorized) as caught:
            await panel.consoles.spend(ticket, Purpose.SOCKET, vm)
        told.add(str(caught.value))
    assert len(told) == 1


async def test_a_vm_made_anew_under_the_same_row_is_another(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    panel.vm.ref = str(uuid4())
    with pytest.raises(Unauthorized):
        await panel.consoles.spend(ticket, Purpose.SOCKET, panel.vm)


@pytest.mark.parametrize("purpose", list(Purpose))
async def test_lifetimes(panel: Panel, purpose: Purpose, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, purpose)
    life = timedelta(hours=8) if purpose is Purpose.GRANT else timedelta(seconds=60)
    later = now() + life + timedelta(seconds=1)
    monkeypatch.setattr(module, "now", lambda: later)
    with pytest.raises(Unauthorized):
        await panel.consoles.look(ticket, purpose, panel.vm)
    assert await panel.consoles.sweep() == 1


async def test_a_logout_ends_tickets(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)
    await panel.services.access.end_session(panel.session)
    with pytest.raises(Unauthorized):
        await panel.consoles.spend(ticket, Purpose.SOCKET, panel.vm)


async def test_a_session_that_vanished_ends_tickets(panel: Panel) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.GRANT)
    await panel.session.delete()
    with pytest.raises(Unauthorized):
        await panel.consoles.look(ticket, Purpose.GRANT, panel.vm)


async def test_a_new_token_ends_tickets_of_the_old(panel: Panel) -> None:
    token = await panel.services.access.token()
    actor = Actor("admin", Source.API, credential=token_credential(token))
    ticket = await panel.consoles.issue(actor, panel.vm, Purpose.GRANT)
    assert (await panel.consoles.look(ticket, Purpose.GRANT, panel.vm)).actor.source is Source.API
    await panel.services.access.reset_token(panel.actor)
    with pytest.raises(Unauthorized):
        await panel.consoles.look(ticket, Purpose.GRANT, panel.vm)


async def test_looking_needs_the_permission(panel: Panel) -> None:
    reader = Actor("reader", Source.PAGE, credential=panel.session.id, permissions=frozenset({Permission.VIEW}))
    with pytest.raises(Forbidden):
        await panel.consoles.issue(reader, panel.vm, Purpose.PAGE)


async def test_a_disabled_host_has_no_consoles(panel: Panel) -> None:
    await Host.filter(id=panel.host.id).update(enabled=False)
    await panel.host.refresh_from_db()
    with pytest.raises(Conflict):
        await panel.consoles.issue(panel.actor, panel.vm, Purpose.PAGE)
