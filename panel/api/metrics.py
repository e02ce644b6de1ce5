"""How VMs and hosts were used, over time."""

from __future__ import annotations

from quart import Blueprint

from panel import web
from panel.api import answers, wire
from panel.api.routing import endpoint
from panel.security import Actor, Permission
from panel.services.metrics import History


def register(api: Blueprint) -> None:
    """Add ``/api/client/metrics`` and ``/api/server/metrics``."""

    @endpoint(
        api, "GET", "/client/metrics/<hs_name>/<vm_uuid>", answer=answers.MetricsOut, query=wire.MetricsQuery
    )  # fmt: skip
    async def vm_metrics(actor: Actor, hs_name: str, vm_uuid: str, query: wire.MetricsQuery) -> answers.MetricsOut:
        """虚拟机用量历史: CPU, memory, disk and network of a VM over the last hour, day, week or 90 days."""
        actor.require(Permission.VIEW)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        return _out(await web.services().metrics.of_vm(vm, query.range))

    @endpoint(api, "GET", "/server/metrics/<hs_name>", answer=answers.MetricsOut, query=wire.MetricsQuery)
    async def host_metrics(actor: Actor, hs_name: str, query: wire.MetricsQuery) -> answers.MetricsOut:
        """主机用量历史: CPU and memory of a host; disk and network are the sums of its VMs."""
        actor.require(Permission.VIEW)
        host = await web.services().hosts.get(hs_name)
        return _out(await web.services().metrics.of_host(host, query.range))


def _out(history: History) -> answers.MetricsOut:
    return answers.MetricsOut(step_seconds=history.step_seconds, start=history.start, series=history.values)
