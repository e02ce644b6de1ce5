"""The small picture of a VM's screen, which its page asks for when somebody can see it."""

from __future__ import annotations

from quart import Response

from panel import i18n, web
from panel.errors import PanelError
from panel.pages.rows import vm_rows
from panel.pages.shared import get
from panel.pages.words import localised
from panel.security import Actor

HEADERS = {"Cache-Control": "no-store"}


@get("/hosts/<host>/vms/<vm>/screen", "vm_screen")
async def vm_screen(actor: Actor, host: str, vm: str) -> Response:
    """The fragment with the picture, or with the reason why there is none."""
    row = (await vm_rows([await web.services().vms.get(host, vm)]))[0]
    number, reason = 0, None
    try:
        number = (await web.services().screens.take(actor, row.vm)).number
    except PanelError as error:
        reason = localised(error.text).translate()
    html = web.partial("partials/vms/screen.html", "picture", row, number, reason, csrf_token="", lang=i18n.language())
    return Response(html, headers=HEADERS)


@get("/hosts/<host>/vms/<vm>/screen/picture", "vm_picture")
async def vm_picture(actor: Actor, host: str, vm: str) -> Response:
    """The picture itself."""
    picture = await web.services().screens.take(actor, await web.services().vms.get(host, vm))
    return Response(picture.data, content_type=picture.mime, headers=HEADERS)
