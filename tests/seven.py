"""Seven hosts of seven kinds in one panel, real or doubles, each with a VM."""

from __future__ import annotations

from panel.api.wire import ENGINE_NAMES
from panel.engines.types import EngineKind
from tests.contract.providers import PROVIDERS, Rig
from tests.process import PanelProcess

SEVEN = [one for one in PROVIDERS if one.kind is not EngineKind.FAKE and one.mode != "esxi"]


def add(panel: PanelProcess, name: str, rig: Rig, address: str = "") -> None:
    """The host, as its form would send it, and a VM. ``address``: where the panel finds it, instead of its own."""
    to = rig.connection
    body = {"server_name": name, "engine_type": ENGINE_NAMES[rig.kind], "server_addr": address or to.address,
            "server_user": to.user, "server_pass": to.secret, "system_path": to.disks_path, "images_path": to.images_path,
            "launch_path": to.launch_path}  # fmt: skip
    options = {
        name: value for name, value in to.options.items() if not name.startswith("ssh_")
    }  # its key, no panel knows
    panel.ok("POST", "/api/server/create", body | options | dict(to.secrets))
    panel.until(f"/api/server/status/{name}", lambda status: status["health"] == "online" and status["seen_at"])
    spec = rig.spec()
    image = rig.image if rig.kind is EngineKind.DOCKER else spec.image or rig.image  # one with a shell
    wanted = {"vm_uuid": f"vm-{name}", "os_name": image, "cpu_num": spec.cpu_count,
              "ram_num": spec.memory_mib, "hdd_num": spec.disk_gib, "nic_all": {"eth0": {"net_mode": "nat"}}}  # fmt: skip
    made = panel.ok("POST", f"/api/client/create/{name}?wait=120", wanted)
    assert made["status"] == "succeeded", made


def remove(panel: PanelProcess, name: str) -> None:
    """The VM, so that nothing is left on what is real."""
    panel.api("DELETE", f"/api/client/delete/{name}/vm-{name}?wait=60")
