"""Which live and browser tests may run at once, for ``pytest -n 2 --dist loadgroup``.

Those that use this machine's own hypervisors, networks and ports run one after the other, in one process. Of the others, which
make what they need in namespaces and processes of their own, each file is run by one process; so are those of a browser on
imaginary hosts.

Not by ``xdist_group``: pytest-xdist 3.8 hands groups on by a field of items that pytest 9.2 has no more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from panel.engines.types import EngineKind
from tests.contract.providers import PROVIDERS

ROOT = Path(__file__).parents[1]
APART = frozenset(
    {"test_first_start.py", "test_proxmox_forwards.py", "test_silent_names.py", "test_tls_on_libvirt.py"}
)  # of live/
KINDS = frozenset({EngineKind.LIBVIRT, EngineKind.INCUS, EngineKind.DOCKER})
MACHINE = "machine"


def group(nodeid: str) -> str:
    """Of a live or browser test: tests of one group run one after the other."""
    path, _, rest = nodeid.partition("::")
    folder = path.split("/")[1]
    parameters = rest.partition("[")[2].rstrip("]")
    if folder != "contract":
        return MACHINE if _shares(path, folder, parameters) else path
    names = [one for one in PROVIDERS if f"{parameters}-".startswith(f"{one.name}-")]
    if not names:
        return path
    provider = max(names, key=lambda one: len(one.name))
    return MACHINE if provider.kind in KINDS else f"contract of {provider.name}"


def _shares(path: str, folder: str, parameters: str) -> bool:
    """Whether a test of no engine's contract uses what is this machine's own."""
    match folder:
        case "live":
            return path.rpartition("/")[2] not in APART
        case "soak":
            return parameters == "libvirt"
        case "browser":
            return _live(path)
    return False


@cache
def _live(path: str) -> bool:
    """Whether the tests of a file say that they are live: the scheduler knows only names."""
    return "mark.live" in (ROOT / path).read_text()


class Together(LoadScopeScheduling):  # type: ignore[misc]  # no types
    """Sends whole groups, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
