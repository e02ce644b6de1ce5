"""Live tests run side by side only where they cannot meet."""

from __future__ import annotations

import pytest

from tests.together import APART, MACHINE, ROOT, group


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/live/test_away.py::test_a", MACHINE),
        ("tests/browser/test_incus.py::test_a[x-y]", MACHINE),
        ("tests/browser/test_list.py::test_a[x-y]", "tests/browser/test_list.py"),
        ("tests/soak/test_short.py::test_a[libvirt]", MACHINE),
        ("tests/soak/test_short.py::test_a[clock]", "tests/soak/test_short.py"),
        ("tests/live/test_silent_names.py::test_a", "tests/live/test_silent_names.py"),
        ("tests/contract/test_power.py::test_a[libvirt]", MACHINE),
        ("tests/contract/test_power.py::test_a[docker]", MACHINE),
        ("tests/contract/test_power.py::test_a[docker-podman-STOP]", MACHINE),
        ("tests/contract/test_power.py::test_a[incus-[odd]-@]", MACHINE),
        ("tests/contract/test_power.py::test_a[vsphere-esxi-STOP]", "contract of vsphere-esxi"),
        ("tests/contract/test_providers.py::test_a", "tests/contract/test_providers.py"),
        ("tests/test_start.py::test_a", "tests/test_start.py"),
        ("tests/gateways/test_tc_live.py::test_a[1]", "tests/gateways/test_tc_live.py"),
    ],
)
def test_what_shares_the_machine_is_one_group(nodeid: str, expected: str) -> None:
    assert group(nodeid) == expected


def test_what_stands_apart_is_there() -> None:
    assert {path.name for path in (ROOT / "tests/live").iterdir()} >= APART
