"""What a wanted VM will be: every field checked, and all that is wrong told at once."""

from __future__ import annotations

import uuid
from types import TracebackType

from panel.engines.types import NicSpec, VmSpec
from panel.errors import Conflict, InvalidInput, PanelError
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Vm
from panel.services.engines import EnginePool, capabilities
from panel.services.keys import check_keys
from panel.services.names import check_identifier, check_password, check_title, find_image
from panel.services.specs import VmRequest, check_limits, check_sizes, check_source, hostname, nic_specs


class Wrong(list[PanelError]):
    """``with wrong: check(...)`` keeps the error of a check that fails, and goes on behind it."""

    def __enter__(self) -> Wrong:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, PanelError):
            return False
        self.append(error)
        return True


async def plan(pool: EnginePool, host: Host, request: VmRequest) -> VmSpec:
    """The specification to make. Raises the first thing that is wrong."""
    spec, wrong = await examine(pool, host, request)
    if spec is None:
        raise wrong[0]
    return spec


async def examine(pool: EnginePool, host: Host, request: VmRequest) -> tuple[VmSpec | None, list[PanelError]]:
    """The specification, or None and each thing that is wrong, with its field. It reads only the database."""
    wrong = Wrong()
    with wrong:
        capabilities(host.engine).require("create")
        await pool.require_somewhere(host)
    with wrong:
        check_identifier(request.name, "vm_uuid")
        if await Vm.exists(host_id=host.id, name=request.name):
            raise taken(host, request.name)
    for sizes in (request.cpu_count, None, None), (None, request.memory_mib, None), (None, None, request.disk_gib):
        with wrong:
            check_sizes(*sizes)
    image: HostImage | None = None
    title = ""
    nics: tuple[NicSpec, ...] = ()
    keys: tuple[str, ...] = ()
    with wrong:
        check_source(host.engine, request.os_name)
        image = await _image(host, request)
    with wrong:
        if request.password is not None:
            check_password(request.password, "os_pass")
    with wrong:
        keys = _keys(host, request)
    with wrong:
        title = check_title(request.title, "vm_name")
    with wrong:
        nics = await nic_specs(host, request.nics)
    with wrong:
        check_limits(request.limits)
    return (None, wrong) if wrong else (_spec(request, image, title, nics, keys), [])


def taken(host: Host, name: str) -> Conflict:
    """The name is another VM's."""
    return Conflict(
        _("There is a VM {name} on host {host} already."), field="vm_uuid", name=name, host=host.name
    )  # fmt: skip


async def _image(host: Host, request: VmRequest) -> HostImage | None:
    if not request.os_name:
        return None
    images = await HostImage.filter(host_id=host.id).exclude(format="iso")
    if host.seen_at is None and not images:
        raise Conflict(
            _("The images of host {host} are not listed yet. Try again in a few seconds; its status says whether it answers."),
            field="os_name", host=host.name,
        )  # fmt: skip
    image = find_image(images, request.os_name)
    if image.virtual_gib > request.disk_gib:
        raise InvalidInput(
            _("{field} is too small: image {image} needs at least {least} GiB."),
            field="hdd_num", image=image.name, least=-int(-image.virtual_gib // 1),
        )  # fmt: skip
    return image


def _keys(host: Host, request: VmRequest) -> tuple[str, ...]:
    keys = check_keys(request.ssh_keys, "ssh_keys")
    reason = capabilities(host.engine).why_not("ssh_keys")
    if keys and reason is not None:
        raise InvalidInput(reason, field="ssh_keys")
    if keys and not request.os_name:
        raise InvalidInput(
            _("{field}: an empty disk takes no keys. Choose an image (os_name), or leave them out."), field="ssh_keys"
        )
    return keys


def _spec(
    request: VmRequest, image: HostImage | None, title: str, nics: tuple[NicSpec, ...], keys: tuple[str, ...]
) -> VmSpec:
    return VmSpec(
        ref=str(uuid.uuid4()),
        name=request.name,
        title=title or request.name,
        cpu_count=request.cpu_count,
        memory_mib=request.memory_mib,
        disk_gib=request.disk_gib,
        nics=nics,
        image=image.name if image else None,
        hostname=hostname(request.hostname or request.name),
        user=image.default_user if image else "root",
        password=request.password,
        ssh_keys=keys,
        start=request.start,
    )
