"""Hands on a simulated vSphere, past the engine: templates, other people's VMs, files on its datastore."""

from __future__ import annotations

import base64
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from pyVim.connect import SmartConnect
from pyVmomi import vim

SYSTEM = "debian10_64Guest"


@dataclass
class World:
    """The only cluster and datastore of a vcsim."""

    base: str
    user: str
    password: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        context = ssl._create_unverified_context()
        self.content = SmartConnect(
            host=parts.hostname, port=parts.port, user=self.user, pwd=self.password, sslContext=context
        ).RetrieveContent()
        self.center = self.all(vim.Datacenter)[0]
        self.pool = self.all(vim.ComputeResource)[0].resourcePool
        self.store = self.all(vim.Datastore)[0]
        self.folder = Path(self.store.summary.url)

    @property
    def alone(self) -> bool:
        """Whether it is one ESXi."""
        return bool(self.content.about.apiType == "HostAgent")

    def all(self, kind: Any) -> list[Any]:
        """Everything of a kind."""
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        return list(view.view)

    def wait(self, task: Any) -> Any:
        """Its result."""
        deadline = time.monotonic() + 30
        while task.info.state in {"queued", "running"}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert task.info.state == "success", task.info.error
        return task.info.result

    def add(self, name: str, gib: int = 1, *, template: bool = False, guest: str = SYSTEM) -> Any:
        """A VM that is not the panel's. On ESXi alone a template is a VM called ``template-...``, by its caller."""
        device = vim.vm.device
        changes = [
            device.VirtualDeviceSpec(
                operation="add", device=device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing")
            ),
            device.VirtualDeviceSpec(
                operation="add",
                fileOperation="create",
                device=device.VirtualDisk(
                    key=-2,
                    controllerKey=-1,
                    unitNumber=0,
                    capacityInKB=gib * 1024**2,
                    backing=device.VirtualDisk.FlatVer2BackingInfo(
                        diskMode="persistent", thinProvisioned=True, fileName=f"[{self.store.name}]"
                    ),
                ),
            ),
            device.VirtualDeviceSpec(
                operation="add",
                device=device.VirtualVmxnet3(
                    key=-3,
                    addressType="generated",
                    backing=device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network"),
                ),
            ),
        ]
        spec = vim.vm.ConfigSpec(
            name=name,
            numCPUs=1,
            memoryMB=512,
            guestId=guest,
            instanceUuid=str(uuid4()),
            files=vim.vm.FileInfo(vmPathName=f"[{self.store.name}]"),
            deviceChange=changes,
        )
        vm = self.wait(self.center.vmFolder.CreateVM_Task(config=spec, pool=self.pool))
        if template and not self.alone:
            vm.MarkAsTemplate()
        return vm

    def vm(self, ref: str) -> Any:
        """The VM with this instanceUuid, or None."""
        return self.content.searchIndex.FindByUuid(None, ref, True, True)

    def path(self, source: str) -> Path:
        """The file behind ``[store] folder/file``."""
        return self.folder / source.partition("] ")[2]

    def disk(self, vm: Any) -> str:
        """The path of its first disk, on the datastore."""
        disks = [one for one in vm.config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk)]
        return str(disks[0].backing.fileName)

    def deafen(self, ref: str) -> None:
        """Its guest has Tools, and does not listen."""
        setting = vim.option.OptionValue(key="vcsim.deaf", value="1")
        vm = self.vm(ref)
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[setting])))
        deadline = time.monotonic() + 10
        while vm.guest.toolsRunningStatus != "guestToolsRunning":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def login(self, ref: str) -> str:
        """What the guest's ``chpasswd`` was told last, as ``user:password``; empty when it was told nothing."""
        told = [str(one.value) for one in self.vm(ref).config.extraConfig if one.key == "vcsim.login"]
        return base64.b64decode(told[-1]).decode() if told else ""

    def seed(self, ref: str) -> dict[str, Any]:
        """What the guest was told of its login, as cloud-init reads it; ``{}`` when nothing was."""
        settings = {one.key: one.value for one in self.vm(ref).config.extraConfig}
        text = base64.b64decode(settings.get("guestinfo.userdata", "")).decode()
        return json.loads(text.removeprefix("#cloud-config\n")) if text else {}
