"""Who draws on an image: through any number of backing files, and only those."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from panel.engines.libvirt import storage

BACKING = {
    "/i/clone.qcow2": "/i/middle.qcow2",
    "/i/middle.qcow2": "/i/base.qcow2",
    "/i/base.qcow2": "",
    "/i/cd.iso": "",
}


class Volume:
    def __init__(self, path: str) -> None:
        self.path = path

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        backing = f"<backingStore><path>{BACKING[self.path]}</path></backingStore>" if BACKING[self.path] else ""
        return f"<volume><name>x</name><target><path>{self.path}</path></target>{backing}</volume>"


class Domain:
    def __init__(self, name: str, *sources: str) -> None:
        self._name, self._sources = name, sources

    def name(self) -> str:
        return self._name

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return False

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        disks = "".join(
            f'<disk type="file" device="disk"><source file="{path}"/><target dev="vda"/></disk>'
            for path in self._sources
        )
        return f"<domain><devices>{disks}</devices></domain>"


class Connection:
    def listAllDomains(self, _flags: int) -> list[Domain]:  # noqa: N802 - libvirt's name
        return [
            Domain("linked", "/i/clone.qcow2"),
            Domain("copy", "/d/copy.qcow2"),
            Domain("installing", "/i/cd.iso"),
            Domain("bare"),
        ]

    def storageVolLookupByPath(self, path: str) -> Any:  # noqa: N802 - libvirt's name
        if path not in BACKING:
            error = libvirt.libvirtError("none")
            error.err = (libvirt.VIR_ERR_NO_STORAGE_VOL, 0, "none", 0, "", "", "", 0, 0)
            raise error
        return Volume(path)


@pytest.mark.parametrize(
    ("path", "users"),
    [
        ("/i/base.qcow2", ["linked"]),
        ("/i/../i/middle.qcow2", ["linked"]),
        ("/i/cd.iso", ["installing"]),
        ("/i/other.qcow2", []),
    ],
)
def test_users(path: str, users: list[str]) -> None:
    assert storage.users_of(Connection(), path, local=False) == users
