"""Between rows and a saved configuration, both ways.

Loading merges (``docs/decisions/0006-loading-merges.md``). The caller holds the transaction: an error undoes all.
"""

from __future__ import annotations

from typing import Any

from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _
from panel.models import Address, Certificate, Forward, ForwardPort, Host, Network, Nic, Pool, Proxy, RuleState, Vm
from panel.services.domains import normal_domain
from panel.services.hosts import NETWORK, check_network
from panel.services.labels import set_tags
from panel.services.saved import (
    SavedAddress,
    SavedCertificate,
    SavedForward,
    SavedHost,
    SavedNetwork,
    SavedNic,
    SavedPool,
    SavedProxy,
    SavedVm,
)
from panel.services.spaces import space_with, spaces_of

LATER = {"networks", "vms", "addresses", "forwards", "proxies", "nics", "tags"}  # lists: written row by row
COLUMNS = ("name", "mode", "bridge", "subnet4", "gateway4", "subnet6", "gateway6", "forward_mode", "reserved")


# -- saving ----------------------------------------------------------------------------------------------------


async def saved_certificates() -> tuple[list[SavedCertificate], dict[int, int]]:
    """The certificates that operators brought, and the position of each row's id among them."""
    rows = await Certificate.all().order_by("id")
    saved = [SavedCertificate(**{name: getattr(row, name) for name in SavedCertificate.model_fields}) for row in rows]
    return saved, {row.id: index for index, row in enumerate(rows)}


async def saved_hosts(certificates: dict[int, int]) -> list[SavedHost]:
    """All hosts, with their networks and VMs. A fixed number of queries."""
    fetched = ("vms__tags", "vms__nics__given__network", "vms__forwards", "vms__proxies", "networks__pools")
    return [_saved_host(host, certificates) for host in await Host.all().prefetch_related(*fetched)]


def _saved_host(host: Host, certificates: dict[int, int]) -> SavedHost:
    vms: list[Vm] = [vm for vm in host.vms if not vm.creating]  # type: ignore[attr-defined]
    networks: list[Network] = list(host.networks)  # type: ignore[attr-defined]
    return SavedHost(
        **_columns(host, SavedHost),
        networks=[_saved_network(network) for network in networks],
        vms=[_saved_vm(vm, certificates) for vm in vms],
    )


def _saved_network(network: Network) -> SavedNetwork:
    pools: list[Pool] = list(network.pools)  # type: ignore[attr-defined]
    saved = [SavedPool(**{name: getattr(pool, name) for name in SavedPool.model_fields}) for pool in pools]
    return SavedNetwork(**{name: getattr(network, name) for name in COLUMNS}, pools=saved)


def _saved_vm(vm: Vm, certificates: dict[int, int]) -> SavedVm:
    given: list[tuple[int, SavedAddress]] = [
        (row.id, SavedAddress(interface=nic.name, network=row.network.name, ip=row.ip))
        for nic in vm.nics
        for row in nic.given  # type: ignore[attr-defined]
    ]
    forwards: list[Forward] = sorted(vm.forwards, key=lambda row: row.id)  # type: ignore[attr-defined]
    proxies: list[Proxy] = sorted(vm.proxies, key=lambda row: row.id)  # type: ignore[attr-defined]
    return SavedVm(
        **_columns(vm, SavedVm),
        tags=[tag.name for tag in vm.tags],
        nics=[SavedNic(name=nic.name, mode=nic.mode, mac=nic.mac, network=nic.network) for nic in vm.nics],
        addresses=[saved for _id, saved in sorted(given, key=lambda item: item[0])],
        forwards=[SavedForward(**_columns(row, SavedForward)) for row in forwards],
        proxies=[
            SavedProxy(
                domain=row.domain,
                target_ip=row.target_ip,
                target_port=row.target_port,
                ssl=row.ssl,
                certificate=certificates.get(row.certificate_id or 0),
            )
            for row in proxies
        ],
    )


def _columns(row: Any, model: type[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in model.model_fields if name not in LATER}


# -- loading ---------------------------------------------------------------------------------------------------


async def apply_certificates(saved: list[SavedCertificate]) -> list[int]:
    """Make them so; the id of each. One with the same chain is the same."""
    known = {row.chain: row for row in await Certificate.all()}
    ids = []
    for item in saved:
        row = known.get(item.chain)
        if row is None:
            row = await Certificate.create(**item.model_dump())
        else:
            await row.update_from_dict(item.model_dump()).save()
        ids.append(row.id)
    return ids


async def apply_host(saved: SavedHost, certificates: list[int]) -> None:
    """Make a host so, with its networks and VMs.

    Raises:
        InvalidInput: its network settings contradict one another, or an address is of no network of the file.
        Conflict: an address, a port or a domain is another VM's, whose name is said.
    """
    columns = saved.model_dump(exclude=LATER | {"name"}, exclude_none=True)
    host, _made = await Host.update_or_create(name=saved.name, defaults=columns)
    network = {name: getattr(host, name) for name in NETWORK}
    check_network(network)
    await Host.filter(id=host.id).update(outside=network["outside"])
    for item in saved.networks:
        await _apply_network(host, item)
    for vm in saved.vms:
        await _apply_vm(host, vm)
    for vm in saved.vms:  # once every VM is there: who had an address or a port by another name has it no more
        row = await Vm.get(host_id=host.id, name=vm.name)
        for address in vm.addresses:
            await _apply_address(host, row, address)
        for forward in vm.forwards:
            await _apply_forward(host, row, forward)
        for proxy in vm.proxies:
            await _apply_proxy(host, row, proxy, certificates)


async def _apply_network(host: Host, saved: SavedNetwork) -> None:
    row = await Network.get_or_none(host_id=host.id, name=saved.name)
    if row is None:
        row = await Network.create(host_id=host.id, **saved.model_dump(exclude={"pools"}))
    else:  # the host itself tells the rest
        row.reserved = saved.reserved
        await row.save(update_fields=["reserved"])
    for pool in saved.pools:
        await Pool.update_or_create(network_id=row.id, subnet=pool.subnet, defaults=pool.model_dump(exclude={"subnet"}))


async def _apply_vm(host: Host, saved: SavedVm) -> None:
    # a VM of the same hypervisor id under another name is the same VM: its name follows the file
    same = Vm.filter(host_id=host.id, ref=saved.ref).exclude(name=saved.name)
    if await Vm.exists(host_id=host.id, name=saved.name):
        await same.delete()
    else:
        await same.update(name=saved.name)
    vm, _made = await Vm.update_or_create(
        host=host, name=saved.name, defaults=saved.model_dump(exclude=LATER | {"name"}, exclude_none=True)
    )
    if saved.tags is not None:
        await set_tags(vm.id, saved.tags)
    # an interface that stays keeps its row: its addresses hang on that
    kept = {nic.mac: nic for nic in await Nic.filter(vm=vm)}
    named = {(nic.name, nic.mac) for nic in saved.nics}
    await Nic.filter(id__in=[nic.id for nic in kept.values() if (nic.name, nic.mac) not in named]).delete()
    for nic in saved.nics:
        await Nic.update_or_create(vm=vm, name=nic.name, mac=nic.mac, defaults=nic.model_dump(exclude={"name", "mac"}))


async def _apply_address(host: Host, vm: Vm, saved: SavedAddress) -> None:
    nic = await Nic.get_or_none(vm_id=vm.id, name=saved.interface)
    network = await Network.get_or_none(host_id=host.id, name=saved.network)
    if nic is None or network is None:
        raise InvalidInput(
            _("VM {name} has {address} on an interface or a network that the file does not have."),
            name=vm.name, address=saved.ip,
        )  # fmt: skip
    if space_with(spaces_of(network, await Pool.filter(network_id=network.id)), saved.ip) is None:
        raise InvalidInput(
            _("{address} of VM {name} is not an address of network {network}."),
            address=saved.ip, name=vm.name, network=network.name,
        )  # fmt: skip
    row = await Address.get_or_none(network_id=network.id, ip=saved.ip).prefetch_related("nic__vm")
    if row is None:
        await Address.create(network_id=network.id, nic_id=nic.id, ip=saved.ip)
    elif row.nic.vm_id != vm.id:
        raise Conflict(
            _("The file gives {address} to VM {name}, but VM {other} has it."),
            address=saved.ip, name=vm.name, other=row.nic.vm.name,
        )  # fmt: skip
    elif row.nic_id != nic.id:
        await Address.filter(id=row.id).update(nic_id=nic.id)


async def _apply_forward(host: Host, vm: Vm, saved: SavedForward) -> None:
    ports = range(saved.external_start, saved.external_end + 1)
    values: dict[str, Any] = {"internal_ip": saved.internal_ip, "internal_start": saved.internal_start}
    same: dict[str, Any] = {"host_id": host.id, "vm_id": vm.id} | saved.model_dump(
        exclude={"internal_ip", "internal_start"}
    )
    row = await Forward.get_or_none(**same)
    if row is not None:
        if any(getattr(row, name) != value for name, value in values.items()):
            await Forward.filter(id=row.id).update(**values, state=RuleState.APPLYING, problem=None)
        return
    taken = ForwardPort.filter(host_id=host.id, protocol=saved.protocol, port__gte=ports[0], port__lte=ports[-1])
    other = await taken.order_by("port").prefetch_related("forward__vm").first()
    if other is not None:
        raise Conflict(
            _("The file gives {protocol} port {port} to VM {name}, but it leads to VM {other}."),
            protocol=saved.protocol, port=other.port, name=vm.name, other=other.forward.vm.name,
        )  # fmt: skip
    row = await Forward.create(**same, **values)
    taking: dict[str, Any] = {"forward_id": row.id, "host_id": host.id, "protocol": saved.protocol}
    await ForwardPort.bulk_create([ForwardPort(**taking, port=port) for port in ports])


async def _apply_proxy(host: Host, vm: Vm, saved: SavedProxy, certificates: list[int]) -> None:
    domain = normal_domain(saved.domain)
    values: dict[str, Any] = saved.model_dump(exclude={"domain", "certificate"})
    values["certificate_id"] = None if saved.certificate is None else certificates[saved.certificate]
    row = await Proxy.get_or_none(domain=domain).prefetch_related("vm")
    if row is None:
        await Proxy.create(host_id=host.id, vm_id=vm.id, domain=domain, **values)
    elif row.vm_id != vm.id:
        raise Conflict(
            _("The file gives the domain {domain} to VM {name}, but VM {other} has it."),
            domain=domain, name=vm.name, other=row.vm.name,
        )  # fmt: skip
    elif any(getattr(row, name) != value for name, value in values.items()):
        await Proxy.filter(id=row.id).update(**values, state=RuleState.APPLYING, problem=None)
