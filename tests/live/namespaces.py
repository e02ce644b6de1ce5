"""A network namespace beside this machine, on a wire: another machine, as far as the network goes."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


def run(*command: str, check: bool = True) -> str:
    """Run a command; its output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check).stdout


@dataclass(frozen=True)
class Beside:
    """The namespace's name, its address, and this machine's as it is seen from there."""

    name: str
    address: str
    ours: str


@contextlib.contextmanager
def beside() -> Iterator[Beside]:
    """Make one, and remove it."""
    tag = secrets.token_hex(2)
    name, here, there = f"oi-{tag}", f"oi{tag}h", f"oi{tag}r"
    subnet = f"198.18.{int(tag[:2], 16)}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        run("ip", "addr", "add", f"{subnet}.1/24", "dev", here)
        run("ip", "link", "set", here, "up")
        run("ip", "-n", name, "addr", "add", f"{subnet}.2/24", "dev", there)
        run("ip", "-n", name, "link", "set", there, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield Beside(name, f"{subnet}.2", f"{subnet}.1")
    finally:
        run("ip", "link", "del", here, check=False)
        run("ip", "netns", "del", name, check=False)
