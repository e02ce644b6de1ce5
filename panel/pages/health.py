"""Whether this process can serve: what a balancer asks."""

from __future__ import annotations

import asyncio

from quart import Response

from panel.errors import DatabaseAway
from panel.i18n import gettext_noop as _
from panel.models import Setting
from panel.pages.shared import public

SECONDS = 2.0


@public("/health", "health")
async def health() -> Response:
    """200 and ``ok`` when the database answers, else 503. Says nothing else, to anybody."""
    try:
        async with asyncio.timeout(SECONDS):
            await Setting.exists()
    except TimeoutError as error:
        raise DatabaseAway(_("The panel's database does not answer. Try again in a moment.")) from error
    return Response("ok\n", content_type="text/plain; charset=utf-8")
