"""Passwords inside a guest."""

from __future__ import annotations

import asyncio
import time

from panel.engines.incus.client import Client
from panel.engines.incus.operations import Operations
from panel.engines.incus.text import NOT_FOUND, need_running, run
from panel.engines.incus.view import Viewer
from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _

AGENT_SECONDS = 120.0  # that a new VM has until its agent answers
PAUSE_SECONDS = 2.0


class Guests:
    """Sets passwords by ``chpasswd`` inside the guests of one host."""

    def __init__(self, client: Client, viewer: Viewer, operations: Operations) -> None:
        self._client, self._viewer, self._operations = client, viewer, operations

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """See ``Engine.set_password``."""
        one = await self._viewer.one(ref)
        need_running(one)
        await self._set(one.name, user, password)

    async def first_password(self, name: str, user: str, password: str, *, is_vm: bool) -> None:
        """Of an instance that has just been started: a VM's agent is waited for."""
        deadline = time.monotonic() + (AGENT_SECONDS if is_vm else 0)
        while True:
            try:
                await self._set(name, user, password)
            except Conflict:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            return

    async def _set(self, name: str, user: str, password: str) -> None:
        if not user or any(char in user for char in ":\n\r\0"):
            raise InvalidInput(_("{user} is not a user name for a guest."), field="user", user=repr(user))
        if not password or any(char in password for char in "\n\r\0"):
            raise InvalidInput(_("A guest's password is one line, and not empty."), field="os_pass")
        result = await run(self._client, self._operations, name, ["chpasswd"], f"{user}:{password}\n".encode())
        if result == NOT_FOUND:
            raise Conflict(
                _(
                    "The guest has no program chpasswd, and no agent in its place. Install it inside (package passwd or shadow)."
                )
            )
        if result:
            raise Conflict(
                _("The guest refuses the password: chpasswd ended with {result}. Check that it has the user {user}."),
                result=result, user=user,
            )  # fmt: skip
