"""The network of all hosts: every forward, domain and address, searched, and how much room is left."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import idna
from quart import Response
from tortoise.expressions import Q

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Host, Proxy
from panel.pages.lists import SIZES, Listing, listing
from panel.pages.published import row_of
from panel.pages.shared import get, page
from panel.security import Actor
from panel.services.publications import of_forward
from panel.services.room import address_room, port_room

TABS = {
    "pages.forwards": _("Port forwards"),
    "pages.domains": _("Domains"),
    "pages.addresses": _("Addresses"),
}
FORWARDS = {
    "port": ("external_start", "host__name", "id"),
    "host": ("host__name", "external_start", "id"),
    "vm": ("vm__name", "external_start", "id"),
    "state": ("state", "external_start", "id"),
}
DOMAINS = {
    "domain": ("domain",),
    "host": ("host__name", "domain"),
    "vm": ("vm__name", "domain"),
    "state": ("state", "domain"),
}
ADDRESSES = {
    "given": ("created_at", "id"),
    "address": ("ip", "id"),
    "network": ("network__name", "id"),
    "host": ("network__host__name", "id"),
    "vm": ("nic__vm__name", "id"),
}


@get("/network", "forwards")
async def forwards_page(_actor: Actor) -> Response:
    """All forwards of all hosts, and each host's range of ports."""
    view = listing("pages.forwards", FORWARDS, ("port", "asc"), ("find", "host"))
    text = view.filters["find"]
    words = Q(vm__name__icontains=text) | Q(vm__title__icontains=text) | Q(host__name__icontains=text)
    words |= Q(internal_ip__startswith=_canonical(text))
    if (port := _port(text)) is not None:
        words |= Q(external_start__lte=port, external_end__gte=port) | Q(internal_start=port)
    query = await view.cut(Forward.filter(*_conditions(view, words, "host__name")), FORWARDS)
    publications = web.services().publications
    rows = [
        row_of(of_forward(row, row.vm, publications.outside(row.host)))
        for row in await query.prefetch_related("vm", "host")
    ]
    return await _page("forwards", view, rows, room=await port_room())


@get("/network/domains", "domains")
async def domains_page(_actor: Actor) -> Response:
    """All domains of all hosts."""
    view = listing("pages.domains", DOMAINS, ("domain", "asc"), ("find", "host"))
    text = view.filters["find"]
    words = Q(vm__name__icontains=text) | Q(vm__title__icontains=text) | Q(host__name__icontains=text)
    words |= Q(domain__icontains=_ascii(text)) | Q(target_ip__startswith=_canonical(text))
    if (port := _port(text)) is not None:
        words |= Q(target_port=port)
    query = await view.cut(Proxy.filter(*_conditions(view, words, "host__name")), DOMAINS)
    publications = web.services().publications
    rows = [row_of(publications.of_proxy(row, row.vm)) for row in await query.prefetch_related("vm", "host")]
    return await _page("domains", view, rows)


@get("/network/addresses", "addresses")
async def addresses_page(_actor: Actor) -> Response:
    """All addresses that VMs were given, and the room of each network and pool."""
    view = listing("pages.addresses", ADDRESSES, ("given", "desc"), ("find", "host"))
    text = view.filters["find"]
    words = Q(nic__vm__name__icontains=text) | Q(nic__vm__title__icontains=text) | Q(network__name__icontains=text)
    words |= Q(network__host__name__icontains=text) | Q(ip__startswith=_canonical(text))
    words |= Q(nic__mac__startswith=text.lower().replace("-", ":"))
    query = await view.cut(Address.filter(*_conditions(view, words, "network__host__name")), ADDRESSES)
    rows = await query.prefetch_related("nic__vm", "network__host")
    return await _page("addresses", view, rows, room=await address_room())


async def _page(name: str, view: Listing, rows: list[Any], **context: Any) -> Response:
    return await page(
        f"pages/network/{name}.html",
        view=view,
        rows=rows,
        sizes=SIZES,
        hosts=await Host.all().order_by("name").values_list("name", flat=True),
        tabs=[(endpoint, gettext(label), web.url(endpoint)) for endpoint, label in TABS.items()],
        **context,
    )


def _conditions(view: Listing, words: Q, host: str) -> list[Q]:
    found = [words] if view.filters["find"] else []
    return [*found, Q(**{host: view.filters["host"]})] if view.filters["host"] else found


def _port(text: str) -> int | None:
    """The port that is searched: ``20000``, or ``:20000`` as in an address."""
    digits = text.rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else None


def _canonical(text: str) -> str:
    """An address as the database writes it; what is none stays as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text.lower()


def _ascii(text: str) -> str:
    """A domain as the database writes it."""
    if text.isascii():
        return text.lower()
    bare = text.removeprefix("*.")
    try:
        return text[: len(text) - len(bare)] + idna.encode(bare, uts46=True, transitional=False).decode()
    except UnicodeError:
        return text
