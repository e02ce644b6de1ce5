"""Passwords inside guests: by ``vmrun``, where the host's settings give it."""

from __future__ import annotations

import asyncio
import time

from panel.engines.types import PowerState, Reporter, VmSpec
from panel.engines.vmware_workstation.client import Client
from panel.engines.vmware_workstation.view import Viewer
from panel.engines.vmware_workstation.vmrun import Vmrun
from panel.errors import Conflict, PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _

POLL_SECONDS = 0.5
NEEDS = _(
    "VMware Workstation sets a guest's password by vmrun on its host. Give the host's settings SSH (ssh_addr, ssh_user, "
    "ssh_key_file), launch_path, and an account inside the guests (guest_user, guest_pass)."
)


class Guests:
    """Sets passwords. ``tools_seconds``: how long the first start of a guest may take until its Tools answer."""

    def __init__(self, client: Client, viewer: Viewer, vmrun: Vmrun | None, tools_seconds: float = 300.0) -> None:
        self._client = client
        self._viewer = viewer
        self._vmrun = vmrun
        self.tools_seconds = tools_seconds

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """See ``Engine.set_password``."""
        listed = (await self._viewer.one(ref)).listed
        if self._vmrun is None:
            raise Conflict(NEEDS)
        if await self._viewer.state(listed.id) is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running. Start it first."))
        await self._set(self._vmrun, listed.id, listed.path, user, password)

    async def first_password(self, vm: str, spec: VmSpec, report: Reporter) -> None:
        """That of a VM that was just made, once its Tools answer. What goes wrong is told, and the VM stays."""
        password = spec.password
        if password is None:
            return
        if self._vmrun is None or not spec.start:
            why = Text(NEEDS) if self._vmrun is None else Text(_("The VM is not running. Start it first."))
            await _tell(report, why)
            return
        await report.step(_("Waiting for VMware Tools, to set the password"), percent=95)
        try:
            await self._tools_answer(vm)
            path = next((listed.path for listed in await self._client.vms() if listed.id == vm), "")
            await self._set(self._vmrun, vm, path, spec.user, password)
        except PanelError as error:
            await _tell(report, error.text)

    async def _tools_answer(self, vm: str) -> None:
        deadline = time.monotonic() + self.tools_seconds
        while await self._client.guest_addresses(vm) is None:
            if time.monotonic() > deadline:
                raise Conflict(_("VMware Tools, the guest's agent, do not answer in the VM. Install them, or wait for its "
                                 "start."))  # fmt: skip
            await asyncio.sleep(POLL_SECONDS)

    async def _set(self, vmrun: Vmrun, vm: str, path: str, user: str, password: str) -> None:
        if user == vmrun.login.user:
            raise Conflict(
                _("{user} is the account by which the panel sets passwords (guest_user): with another password it could set no "
                  "more. Give the guests one of its own for that."),
                user=user,
            )  # fmt: skip
        windows = await is_windows(self._client, vm)
        await vmrun.set_password(path, windows, user, password)


async def _tell(report: Reporter, why: Text) -> None:
    await report.warn(_("The password was not set: it is the template's own."))
    await report.warn(why.msgid, **why.params)


async def is_windows(client: Client, vm: str) -> bool:
    """Whether Windows is in it, as its settings say."""
    return (await client.param(vm, "guestOS")).lower().startswith("win")
