"""Whether an address is this machine's own."""

from __future__ import annotations

import socket
from ipaddress import ip_address


def is_of_this_machine(address: str) -> bool:
    """Whether the kernel has ``address`` on an interface: it then talks to it from itself. Sends nothing."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:  # no route, or no such family here
        return False
