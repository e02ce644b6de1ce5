"""What a VM publishes, as the outside sees it. Not in ``API.zh.md``: added to it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field
from quart import Blueprint

from panel import web
from panel.api.routing import endpoint
from panel.api.views import told
from panel.models import Proxy, Vm
from panel.security import Actor, Permission
from panel.services.publications import Published


class PublishedOut(BaseModel):
    """A forward or a domain, as people outside see it."""

    kind: str = Field(description="tcp, udp, domain", examples=["tcp"])
    id: int = Field(description="the forward's or the domain's own id")
    address: str = Field(description="what to type", examples=["203.0.113.5:20000"])
    target: str = Field(description="where in the VM it leads", examples=["192.168.122.10:80"])
    opening: str = Field(
        description="open, closed, applying, failed (not applied), checking (not tried yet), untold (UDP), "
        "stopped (the VM does not run), unknown",
        examples=["open"],
    )
    problem: str | None = Field(description="why it is not open, or what is wrong though it is")
    probed_at: datetime | None = Field(description="when it was tried last")
    certificate: str | None = Field(description="of a domain: none, waiting, valid, failed, expired")
    certificate_expires: datetime | None


class PublishedListOut(BaseModel):
    published: list[PublishedOut]


def register(api: Blueprint) -> None:
    """Add the routes ``published`` and ``probe``."""

    @endpoint(api, "GET", "/client/published/<hs_name>/<vm_uuid>", answer=PublishedListOut)
    async def list_published(actor: Actor, hs_name: str, vm_uuid: str) -> PublishedListOut:
        """A VM's forwards and domains together: what to type, and whether it was open when the panel last tried."""
        actor.require(Permission.VIEW)
        return await _published(await web.services().vms.get(hs_name, vm_uuid))

    @endpoint(api, "POST", "/client/probe/<hs_name>/<vm_uuid>", answer=PublishedListOut)
    async def probe_vm(actor: Actor, hs_name: str, vm_uuid: str) -> PublishedListOut:
        """Try all of a running VM's forwards and domains now, from the machine that the panel runs on."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        await web.services().probes.check(actor, vm)
        return await _published(vm)


async def _published(vm: Vm) -> PublishedListOut:
    return PublishedListOut(published=[_out(item) for item in await web.services().publications.of_vm(vm)])


def _out(item: Published) -> PublishedOut:
    proxy = item.row if isinstance(item.row, Proxy) else None
    return PublishedOut(
        kind=item.kind,
        id=item.row.id,
        address=item.url or item.address,
        target=item.target,
        opening=item.opening,
        problem=told(dict(item.problem) if item.problem else None),
        probed_at=item.row.probe_at,
        certificate=str(proxy.certificate_state) if proxy else None,
        certificate_expires=proxy.certificate_expires if proxy else None,
    )
