"""Domains of VMs: what is wanted, checked and stored here; ``SiteService`` makes it so and keeps it so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from panel.errors import Conflict, InvalidInput, NotFound
from panel.events import EventBus, VmChanged
from panel.gateways.sites import UNPROVABLE
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Certificate, CertificateState, Proxy, Vm
from panel.security import Actor, Permission, SecretBox
from panel.services.audit import AuditLog
from panel.services.certificates import Upload, read_upload
from panel.services.clock import now
from panel.services.domains import covers, normal_domain, readable_domain, wildcards_above
from panel.services.rows import read_again
from panel.services.sites import LOCAL, SiteService
from panel.services.targets import read_targets
from panel.services.whole import whole


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A domain that is wanted. An empty ``target_ip`` is the VM's own; ``certificate`` (the chain) and ``private_key`` are PEM,
    both or neither."""

    domain: str
    target_port: int
    ssl: bool = False
    target_ip: str = ""
    certificate: str = ""
    private_key: str = field(default="", repr=False)


class ProxyService:
    """The domains of VMs."""

    def __init__(self, public_url: str, box: SecretBox, sites: SiteService, events: EventBus, audit: AuditLog) -> None:
        self._own_name = _name_of(public_url)
        self._box = box
        self._sites = sites
        self._events = events
        self._audit = audit
        self._claims = asyncio.Lock()  # wildcards claim names that the database's constraint does not see

    async def of_vm(self, vm: Vm) -> list[Proxy]:
        """A VM's domains, oldest first: their positions are what ``remove`` takes."""
        return await Proxy.filter(vm_id=vm.id).order_by("id")

    async def own_addresses(self, vm: Vm) -> list[str]:
        """Where a VM's domains may lead. Empty where its host has no domains."""
        if self._sites.why_not(vm.host) is not None:
            return []
        machine, _gateway = self._sites.of(vm.host)
        ids = await self._sites.host_ids(machine)
        return (await read_targets([vm.id], ids, imaginary=machine != LOCAL)).of(vm.id)

    @whole
    async def add(self, actor: Actor, vm: Vm, request: ProxyRequest) -> Proxy:
        """Check, store and apply. A domain that could not be applied is kept, with state ``failed`` and the reason, and tried
        again by itself.

        Raises:
            InvalidInput: no domain, a port or address that cannot be, a certificate that does not fit.
            Conflict: the domain is another VM's; the VM may have no more; it has no address; the host is disabled.
            Unsupported: this host has no domains.
        """
        actor.require(Permission.MANAGE)
        self._sites.of(vm.host)
        if not vm.host.enabled:
            raise Conflict(_("Host {name} is disabled. Enable it first."), name=vm.host.name)
        domain = normal_domain(request.domain)
        if not 1 <= request.target_port <= 65535:
            raise InvalidInput(
                _("{field} must be between {least} and {most}."), field="target_port", least=1, most=65535
            )
        upload = _upload(request, domain)
        if domain.startswith("*.") and request.ssl and upload is None and not self._sites.proves_wildcards(vm.host):
            raise InvalidInput(UNPROVABLE, field="certificate")
        target = await self._target(vm, request.target_ip)
        async with self._claims:
            await self._check_limit(vm)
            await self._check_claims(actor, vm, domain)
            proxy = await self._store(vm, request, domain, target, upload)
        await self._sites.converge(vm.host)
        params = {"domain": readable_domain(domain), "address": proxy.target_ip, "port": proxy.target_port}
        await self._changed(actor, vm, Text(_("{domain} leads to {address} port {port}."), params))
        return await read_again(Proxy, proxy.id, vm)

    @whole
    async def remove(self, actor: Actor, vm: Vm, index: int, proxy_id: int | None = None) -> tuple[Proxy, Text | None]:
        """Remove a domain by its position in ``of_vm``. Says too why it is still served, if it is; then it goes as soon as the
        proxy works again.

        Raises:
            NotFound: there is no such position.
            Conflict: ``proxy_id`` is not what stands there.
        """
        actor.require(Permission.MANAGE)
        rows = await self.of_vm(vm)
        if not 0 <= index < len(rows):
            raise NotFound(_("There is no domain at position {index}."), index=index)
        proxy = rows[index]
        if proxy_id is not None and proxy.id != proxy_id:
            raise Conflict(_("Position {index} is another domain by now. Read the list again."), index=index)
        async with in_transaction("default"):
            await proxy.delete()
            if proxy.certificate_id is not None:
                await Certificate.filter(id=proxy.certificate_id).delete()
        problem = await self._sites.converge(vm.host)
        await self._changed(actor, vm, Text(_("Removed {domain}."), {"domain": readable_domain(proxy.domain)}))
        return proxy, problem

    async def _changed(self, actor: Actor, vm: Vm, text: Text) -> None:
        await self._audit.write(actor, "vm.proxy", "vm", f"{vm.host.name}/{vm.name}", text)
        self._events.publish(VmChanged(vm.id, vm.host_id))

    async def _target(self, vm: Vm, wanted: str) -> str:
        own = await self.own_addresses(vm)
        if not wanted:
            if not own:
                raise Conflict(
                    _("VM {name} has no address yet that a domain could lead to."), field="target_ip", name=vm.name
                )
            return own[0]
        try:
            text = str(ip_address(wanted))
        except ValueError:
            raise InvalidInput(_("{field} must be an IPv4 or IPv6 address."), field="target_ip") from None
        if text not in own:
            raise InvalidInput(
                _("{field}: {address} is no address of VM {name}. It has: {known}."),
                field="target_ip", address=text, name=vm.name, known=", ".join(own) or "-",
            )  # fmt: skip
        return text

    async def _check_limit(self, vm: Vm) -> None:
        most = vm.limits.get("web_num")
        if most is not None and await Proxy.filter(vm_id=vm.id).count() >= most:
            raise Conflict(_("VM {name} may have {most} domains (web_num), and has them."), name=vm.name, most=most)

    async def _check_claims(self, actor: Actor, vm: Vm, domain: str) -> None:
        """A domain belongs to one VM, and so does all that is below its wildcard."""
        if self._own_name and covers(domain, self._own_name):
            raise Conflict(_("{field}: {domain} is the panel's own name."), field="domain", domain=self._own_name)
        claims = Q(domain=domain) | Q(domain__in=wildcards_above(domain), vm_id__not=vm.id)
        if domain.startswith("*."):
            claims |= Q(domain__endswith=domain[1:], vm_id__not=vm.id)
        taken = await Proxy.filter(claims).order_by("id").first().prefetch_related("vm__host")
        if taken is None:
            return
        name = readable_domain(taken.domain)
        if Permission.VIEW not in actor.permissions:
            raise Conflict(_("{field}: {domain} belongs to another VM."), field="domain", domain=name)
        if taken.vm_id == vm.id:
            raise Conflict(_("{field}: {domain} leads to this VM already."), field="domain", domain=name)
        raise Conflict(
            _("{field}: {domain} belongs to VM {name} on host {host}. Remove it there first."),
            field="domain", domain=name, name=taken.vm.name, host=taken.vm.host.name,
        )  # fmt: skip

    async def _store(self, vm: Vm, request: ProxyRequest, domain: str, target: str, upload: Upload | None) -> Proxy:
        state = CertificateState.NONE
        if request.ssl:
            state = CertificateState.WAITING if upload is None else CertificateState.VALID
        try:
            async with in_transaction("default"):
                certificate = None
                if upload is not None:
                    certificate = await Certificate.create(
                        names=list(upload.names), chain=upload.chain, private_key=self._box.seal(upload.private_key),
                        issuer=upload.issuer, expires_at=upload.expires_at,
                    )  # fmt: skip
                return await Proxy.create(
                    host_id=vm.host_id, vm_id=vm.id, domain=domain, target_ip=target, target_port=request.target_port,
                    ssl=request.ssl, certificate=certificate, certificate_state=state,
                )  # fmt: skip
        except IntegrityError:  # another process of the panel was quicker
            name = readable_domain(domain)
            raise Conflict(_("{field}: {domain} belongs to another VM."), field="domain", domain=name) from None


def _name_of(url: str) -> str:
    """The domain of a URL as it is stored; empty when it has none."""
    try:
        return normal_domain(urlsplit(url).hostname or "")
    except InvalidInput:  # an address, or a name of one label
        return ""


def _upload(request: ProxyRequest, domain: str) -> Upload | None:
    chain, key = request.certificate.strip(), request.private_key.strip()
    if not chain and not key:
        return None
    if not chain or not key:
        missing, there = ("certificate", "private_key") if key else ("private_key", "certificate")
        raise InvalidInput(_("{field} is needed beside {other}."), field=missing, other=there)
    if not request.ssl:
        raise InvalidInput(_("{field} is needed for a certificate."), field="ssl_enabled")
    return read_upload(chain, key, domain, now())
