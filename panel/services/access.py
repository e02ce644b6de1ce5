"""The access token, logins and sessions."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from tortoise.exceptions import OperationalError
from tortoise.queryset import QuerySet

from panel.errors import ConfigError, InvalidInput, TooManyRequests, Unauthorized
from panel.events import EventBus, SessionEnded
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import ConsoleTicket, LoginFailure, Session, Setting
from panel.security import TOKEN_PATTERN, Actor, SecretBox, Source, fingerprint, new_token, same
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.whole import whole
from panel.settings import Settings

TOKEN_KEY = "access_token"  # noqa: S105 - the name of a row
ADMIN = "admin"
USED_AT_STEP = timedelta(minutes=1)  # a session's last use is written at most this often
SKEW = timedelta(minutes=1)  # what is later than this from now was written while the clock was wrong
ACCOUNT_FACTOR = 10  # the account as a whole waits after this many times the failures of one address


class AccessService:
    """One account, ``admin``, opened by one token: as Bearer for programs, by login for people."""

    def __init__(self, settings: Settings, box: SecretBox, events: EventBus, audit: AuditLog) -> None:
        self._settings = settings
        self._box = box
        self._events = events
        self._audit = audit

    async def ensure_token(self) -> str | None:
        """Make the token at the very first start. Returns it then, else None.

        Raises:
            ConfigError: there is one, which this data folder's key does not open: of another panel, or process of this one.
        """
        token = new_token()
        row, made = await Setting.get_or_create(key=TOKEN_KEY, defaults={"value": self._box.seal(token)})
        try:
            self._box.unseal(row.value)
        except ConfigError as error:
            raise ConfigError(
                "The secret.key of this data folder is not the one that the secrets in this database are sealed with. Every "
                "process of the panel needs the same key: copy secret.key from the data folder of the first one, or from "
                "your backup (docs/scaling.md)."
            ) from error
        return token if made else None

    async def token(self) -> str:
        """The token in force."""
        return self._box.unseal((await Setting.get(key=TOKEN_KEY)).value)

    @whole
    async def set_token(self, actor: Actor, token: str) -> str:
        """Replace the token; every session and console ticket ends, except the session that asked.

        Raises:
            InvalidInput: it is too short, too long or has characters that an HTTP header cannot carry.
        """
        if not TOKEN_PATTERN.fullmatch(token):
            raise InvalidInput(
                _("The token must be 8 to 256 printable ASCII characters without spaces."), field="token"
            )
        before = await self.token()
        await Setting.filter(key=TOKEN_KEY).update(value=self._box.seal(token))
        await self.end_logins(actor, before)
        await self._audit.write(actor, "token.set", "panel", "token", Text(_("The access token was replaced.")))
        return token

    async def end_logins(self, actor: Actor, before: str) -> None:
        """The token ``before`` is no longer good: what it opened ends, except the session that asked."""
        mine = actor.credential if is_session(actor.credential) else ""
        ended = [row.id for row in await Session.exclude(id=mine)]
        await Session.filter(id__in=ended).delete()
        await ConsoleTicket.exclude(credential=actor.credential).delete()
        for credential in [token_credential(before), *ended]:
            self._events.publish(SessionEnded(credential))

    async def reset_token(self, actor: Actor) -> str:
        """Replace the token by a new random one."""
        return await self.set_token(actor, new_token())

    async def by_token(self, token: str, address: str) -> Actor:
        """The actor of a Bearer token. ``Unauthorized`` for a wrong one; ``TooManyRequests`` after many."""
        await self._check_address(address)
        current = await self.token()
        if not same(token, current):
            await LoginFailure.create(address=address, at=now())
            raise Unauthorized(_("This is not the access token. `openidcs token show` on the server prints it."))
        return Actor(ADMIN, Source.API, address, token_credential(current))

    async def login(self, token: str, address: str) -> tuple[str, Session]:
        """Open a session with the token. Returns the cookie's value and the session.

        Raises:
            Unauthorized: the token is wrong.
            TooManyRequests: too many failures from this address, or altogether.
        """
        await self._check_lock(address)
        actor = Actor(ADMIN, Source.PAGE, address)
        if not same(token.strip(), await self.token()):
            await LoginFailure.create(address=address, at=now())
            await self._audit.write(
                actor,
                "login.failed",
                "panel",
                ADMIN,
                Text(_("A login failed: wrong token.")),
                level="warning",
            )
            raise Unauthorized(_("This is not the access token. `openidcs token show` on the server prints it."))
        await LoginFailure.filter(address=address).delete()
        cookie = new_token()
        session = await Session.create(
            id=fingerprint(cookie), actor=ADMIN, csrf=new_token(), address=address, used_at=now()
        )
        await self._audit.write(actor, "login", "panel", ADMIN, Text(_("Logged in.")))
        return cookie, session

    async def by_session(self, cookie: str) -> Session | None:
        """The session of a cookie, or None when it never was, ended or idled too long."""
        session = await Session.get_or_none(id=fingerprint(cookie))
        if session is None:
            return None
        moment = now()
        if session.used_at < moment - timedelta(hours=self._settings.session_hours):
            await self.end_session(session)
            return None
        if not moment - USED_AT_STEP <= session.used_at <= moment + SKEW:
            session.used_at = moment
            with suppress(OperationalError):  # a full disk locks nobody out who is in
                await session.save(update_fields=["used_at"])
        return session

    async def end_session(self, session: Session) -> None:
        """Log out: the session, its tickets and its consoles end."""
        await Session.filter(id=session.id).delete()
        await ConsoleTicket.filter(credential=session.id).delete()
        self._events.publish(SessionEnded(session.id))

    async def still_good(self, credential: str) -> bool:
        """Whether the session or token behind ``credential`` still opens the door."""
        if not is_session(credential):
            return same(credential, token_credential(await self.token()))
        session = await Session.get_or_none(id=credential)
        idle = timedelta(hours=self._settings.session_hours)
        return session is not None and session.used_at >= now() - idle

    async def sweep(self) -> None:
        """Drop sessions that idled out and failures that no longer count. What a clock that was wrong put into the future would
        stay for as long as it was wrong: such failures go, such sessions were used now."""
        moment = now()
        await Session.filter(used_at__lt=moment - timedelta(hours=self._settings.session_hours)).delete()
        await Session.filter(used_at__gt=moment + SKEW).update(used_at=moment)
        await LoginFailure.filter(at__lt=moment - timedelta(seconds=self._settings.login_wait)).delete()
        await LoginFailure.filter(at__gt=moment + SKEW).delete()

    async def _check_lock(self, address: str) -> None:
        await self._check_address(address)
        await self._check(LoginFailure.all(), self._settings.login_attempts * ACCOUNT_FACTOR)

    async def _check_address(self, address: str) -> None:
        await self._check(LoginFailure.filter(address=address), self._settings.login_attempts)

    async def _check(self, failures: QuerySet[LoginFailure], limit: int) -> None:
        wait = timedelta(seconds=self._settings.login_wait)
        moment = now()
        rows = await failures.filter(at__gt=moment - wait, at__lte=moment + SKEW).order_by("-id").limit(limit)
        if len(rows) == limit:
            left = min(rows[-1].at + wait - moment, wait)
            seconds = max(1, int(left.total_seconds()) + 1)
            raise TooManyRequests(_("Too many failed logins. Try again in {seconds} s."), retry_after=seconds)


def is_session(credential: str) -> bool:
    """Whether a credential names a login session, and not a token."""
    return not credential.startswith("token:")


def token_credential(token: str) -> str:
    """How an actor that came by token is named in tickets: says which token without telling it."""
    return f"token:{fingerprint(token)}"
