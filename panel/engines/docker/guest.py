"""What is in a container: a shell, and a program that sets passwords; and setting them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from panel.engines.common.ssh import short
from panel.engines.docker.client import Client
from panel.engines.docker.run import run
from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
SHELL = "/bin/sh"
CHPASSWD = ("/usr/sbin/chpasswd", "/sbin/chpasswd", "/usr/bin/chpasswd", "/bin/chpasswd")
# the line comes on the standard input, which is not ended: not every connection can end one direction alone
_SET = 'IFS= read -r line || exit 9; printf "%s\\n" "$line" | "$0"'


@dataclass(frozen=True, slots=True)
class Tools:
    """What a container's file system has; ``chpasswd`` is its path, or empty."""

    shell: bool
    chpasswd: str

    @property
    def answers(self) -> bool:
        """Whether it does what a VM's guest agent does for us."""
        return self.shell and bool(self.chpasswd)


async def tools(client: Client, ref: str) -> Tools:
    """Look, without running anything."""
    shell, *found = await asyncio.gather(*(client.has_file(ref, path) for path in (SHELL, *CHPASSWD)))
    return Tools(shell, next((path for path, there in zip(CHPASSWD, found, strict=True) if there), ""))


def check_login(user: str, password: str) -> None:
    """``InvalidInput`` for what no guest takes as user or password."""
    if not _USER.fullmatch(user):
        raise InvalidInput(_("{user} is not a user name for a guest."), field="user", user=user)
    if not password or len(password) > 128 or not password.isprintable():
        raise InvalidInput(_("The password must be 1 to 128 printable characters."), field="os_pass")


async def set_password(client: Client, ref: str, user: str, password: str) -> None:
    """In a running container. ``Conflict`` when its image has nothing that sets passwords, or that refused."""
    check_login(user, password)
    has = await tools(client, ref)
    if not has.answers:
        raise Conflict(
            _(
                "The image has no chpasswd or no /bin/sh, so nothing in the container can set a password (containers have no "
                "guest agent). Use an image with the package passwd or shadow, or add it inside."
            )
        )
    ran = await run(client, ref, [SHELL, "-c", _SET, has.chpasswd], f"{user}:{password}\n")
    if ran.code:
        raise Conflict(
            _("The guest refused the new password of {user}. Check that this user exists there. ({reason})"),
            user=user, reason=short(ran.output.replace(password, "***")) or str(ran.code),
        )  # fmt: skip
