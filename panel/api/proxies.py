"""代理配置: domains of a VM."""

from __future__ import annotations

from quart import Blueprint

from panel import web
from panel.api import netanswers, wire
from panel.api.network import position
from panel.api.routing import endpoint
from panel.api.views import told
from panel.i18n import gettext
from panel.models import Proxy, Vm
from panel.security import Actor, Permission
from panel.services.domains import readable_domain
from panel.services.proxies import ProxyRequest


def register(api: Blueprint) -> None:
    """Add the routes ``proxys``."""

    @endpoint(api, "GET", "/client/proxys/detail/<hs_name>/<vm_uuid>", answer=netanswers.ProxiesOut)
    async def list_proxies(actor: Actor, hs_name: str, vm_uuid: str) -> netanswers.ProxiesOut:
        """获取代理配置: a VM's domains, each with whether it is served and how its certificate is."""
        actor.require(Permission.VIEW)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        rows = await web.services().proxies.of_vm(vm)
        reason = web.services().sites.why_not(vm.host)
        return netanswers.ProxiesOut(
            proxies=[proxy_out(row, vm, index) for index, row in enumerate(rows)],
            addresses=await web.services().proxies.own_addresses(vm),
            web_num=vm.limits.get("web_num"),
            reason=gettext(reason) if reason else None,
        )

    @endpoint(
        api, "POST", "/client/proxys/create/<hs_name>/<vm_uuid>", answer=netanswers.ProxyOut, body=wire.NewProxyBody
    )
    async def add_proxy(actor: Actor, hs_name: str, vm_uuid: str, body: wire.NewProxyBody) -> netanswers.ProxyOut:
        """添加代理配置: let a domain lead to a port of the VM. What cannot be applied now is kept, as ``failed`` with the
        reason, and applied as soon as it can be. A domain belongs to one VM: 409 for another."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        request = ProxyRequest(
            domain=body.domain,
            target_port=body.target_port,
            ssl=body.ssl_enabled,
            target_ip=body.target_ip.strip(),
            certificate=body.certificate,
            private_key=body.private_key,
        )
        proxy = await web.services().proxies.add(actor, vm, request)
        ids = [row.id for row in await web.services().proxies.of_vm(vm)]
        return proxy_out(proxy, vm, ids.index(proxy.id))

    @endpoint(
        api, "DELETE", "/client/proxys/delete/<hs_name>/<vm_uuid>/<proxy_index>",
        answer=netanswers.RemovedProxyOut, query=wire.RowQuery,
    )  # fmt: skip
    async def remove_proxy(
        actor: Actor, hs_name: str, vm_uuid: str, proxy_index: str, query: wire.RowQuery
    ) -> netanswers.RemovedProxyOut:
        """删除代理配置: by its position in the list as last read."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        index = position(proxy_index, "proxy_index")
        proxy, problem = await web.services().proxies.remove(actor, vm, index, query.id)
        return netanswers.RemovedProxyOut(id=proxy.id, problem=problem.translate() if problem else None)


def proxy_out(row: Proxy, vm: Vm, index: int) -> netanswers.ProxyOut:
    """A domain of ``vm`` at its position."""
    return netanswers.ProxyOut(
        proxy_index=index,
        id=row.id,
        domain=row.domain,
        domain_unicode=readable_domain(row.domain),
        target_ip=row.target_ip,
        target_port=row.target_port,
        ssl_enabled=row.ssl,
        state=row.state,
        problem=told(row.problem),
        certificate=netanswers.CertificateOut(
            state=row.certificate_state,
            issuer=row.certificate_issuer,
            expires_at=row.certificate_expires,
            problem=told(row.certificate_problem),
            uploaded=row.certificate_id is not None,
        ),
        applied_at=row.applied_at,
        created_at=row.created_at,
        url=web.services().publications.of_proxy(row, vm).url,
    )
