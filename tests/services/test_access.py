"""The token, logins and sessions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from panel.errors import InvalidInput, TooManyRequests, Unauthorized
from panel.events import SessionEnded
from panel.models import ConsoleTicket, LoginFailure, Session, Setting
from panel.security import Actor, Source, fingerprint
from panel.services.access import ACCOUNT_FACTOR, token_credential
from panel.services.clock import now
from panel.services.container import Services
from tests.conftest import ADMIN

HERE = "192.0.2.7"


async def test_the_first_start_makes_a_token_and_only_it(services: Services) -> None:
    before = await services.access.token()
    assert await services.access.ensure_token() is None
    assert await services.access.token() == before
    await Setting.all().delete()
    made = await services.access.ensure_token()
    assert made == await services.access.token()
    assert made not in (await Setting.get()).value


async def test_login_and_logout(services: Services) -> None:
    token = await services.access.token()
    cookie, session = await services.access.login(f" {token}\n", HERE)
    assert session.id == fingerprint(cookie)
    assert await services.access.still_good(session.id)
    found = await services.access.by_session(cookie)
    assert found is not None
    with services.events.subscribe() as told:
        await services.access.end_session(session)
        assert await told.get() == SessionEnded(session.id)
    assert await services.access.by_session(cookie) is None
    assert not await services.access.still_good(session.id)


async def test_failures_lock_the_address_and_the_account(services: Services) -> None:
    attempts = services.settings.login_attempts
    for _ in range(attempts):
        with pytest.raises(Unauthorized):
            await services.access.login("wrong", HERE)
    token = await services.access.token()
    with pytest.raises(TooManyRequests, match=r"Try again in \d+ s"):
        await services.access.login(token, HERE)
    _cookie, _session = await services.access.login(token, "192.0.2.8")
    for number in range(attempts * (ACCOUNT_FACTOR - 1)):
        await LoginFailure.create(address=f"198.51.100.{number}", at=now())
    with pytest.raises(TooManyRequests):
        await services.access.login(token, "192.0.2.9")
    await services.access.by_token(token, "192.0.2.9")


async def test_a_good_login_forgets_the_failures_of_its_address(services: Services) -> None:
    with pytest.raises(Unauthorized):
        await services.access.login("wrong", HERE)
    await services.access.login(await services.access.token(), HERE)
    assert not await LoginFailure.exists(address=HERE)


async def test_old_failures_no_longer_count(services: Services) -> None:
    old = now() - timedelta(seconds=services.settings.login_wait + 1)
    for _ in range(services.settings.login_attempts):
        await LoginFailure.create(address=HERE, at=old)
    await services.access.login(await services.access.token(), HERE)
    await LoginFailure.create(address="x", at=old)
    idle = now() - timedelta(hours=services.settings.session_hours, seconds=1)
    await Session.all().update(used_at=idle)
    await services.access.sweep()
    assert not await LoginFailure.exists()
    assert not await Session.exists()


@pytest.mark.parametrize("door", ["token", "session", "cli"])
async def test_a_new_token_ends_everything_else(services: Services, door: str) -> None:
    before = await services.access.token()
    _cookie, session = await services.access.login(before, HERE)
    _cookie, other = await services.access.login(before, HERE)
    credential = {"token": token_credential(before), "session": session.id, "cli": ""}[door]
    for owner in (token_credential(before), session.id, other.id):
        await ConsoleTicket.create(
            id=fingerprint(owner), actor="admin", credential=owner, vm_id=1, vm_ref="r", kind="vnc", purpose="page",
            expires_at=now() + timedelta(minutes=1),
        )  # fmt: skip
    with services.events.subscribe() as told:
        await services.access.set_token(Actor("admin", Source.API, HERE, credential), "a-new-token")
        ended = set()
        while told._waiting:
            event = await told.get()
            ended.add(getattr(event, "credential", None))
    kept = {session.id} if door == "session" else set()
    assert ended == {token_credential(before), session.id, other.id} - kept
    assert set(await Session.all().values_list("id", flat=True)) == kept
    assert not await ConsoleTicket.exclude(credential__in=list(kept) or [credential]).exists()
    assert not await services.access.still_good(token_credential(before))
    assert await services.access.still_good(token_credential("a-new-token"))


async def test_what_is_no_token(services: Services) -> None:
    before = await services.access.token()
    for token in ("", "short", "x" * 257, "with space", "tab\tbed-token", "ünïcode-token", "new\nline-token"):
        with pytest.raises(InvalidInput) as caught:
            await services.access.set_token(ADMIN, token)
        assert caught.value.field == "token"
        assert not token or token not in str(caught.value)
    assert await services.access.token() == before
