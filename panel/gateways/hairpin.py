"""A guest that calls itself by the outside address, on hosts with br_netfilter.

Where frames on bridges pass through iptables (``net.bridge.bridge-nf-call-iptables``: Docker and Kubernetes switch it on), a
frame that is translated to an address of the same bridge is not routed but bridged (net/bridge/br_netfilter_hooks.c,
``br_nf_pre_routing_finish``), and a bridge sends nothing back through the port it came from, unless that port is in hairpin
mode (bridge(8)). So guests' ports are put into it there. What would come back to its sender besides, broadcasts, is dropped by
the ``received`` chain.
"""

from __future__ import annotations

from collections.abc import Iterable

from panel.gateways.runner import Runner, failure

_SWITCH = "net.bridge.bridge-nf-call-iptables"


async def bridged_frames_are_translated(runner: Runner) -> bool:
    """Whether this host has br_netfilter at work."""
    answer = await runner.run(["sysctl", "-n", _SWITCH])
    return answer.returncode == 0 and answer.stdout.strip() == "1"


async def set_hairpin(runner: Runner, on: Iterable[str], off: Iterable[str]) -> None:
    """Put ports into hairpin mode, or take them out. Ports that are not there, or on no bridge, are passed over."""
    lines = [f"link set dev {name} hairpin on" for name in sorted(on)]
    lines += [f"link set dev {name} hairpin off" for name in sorted(off)]
    if lines:
        answer = await runner.run(["bridge", "-force", "-batch", "-"], stdin="\n".join(lines) + "\n")
        if answer.missing:
            raise failure("bridge", "iproute2", answer)
