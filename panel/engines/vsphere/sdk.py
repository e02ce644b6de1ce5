"""pyVmomi, imported when it is first used: it takes half a second and 90 MiB, which a panel without a vSphere host saves.

Its names are used in worker threads only, or after the first connection was opened in one.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _Later:
    """A package of pyVmomi, imported at the first look into it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(import_module("pyVmomi"), self._name), name)


vim: Any = _Later("vim")
vmodl: Any = _Later("vmodl")


def version_for(served: set[str]) -> str | None:
    """The newest version of the API that both sides speak, as pyVmomi calls it.

    Args:
        served: the versions that the server lists for ``urn:vim25``, such as ``7.0.3.0``.
    """
    support = import_module("pyVmomi.VmomiSupport")
    for version in support.GetServiceVersions("vim25"):
        if support.versionIdMap[version] in served:
            return str(version)
    return None


def stub(host: str, port: int, path: str, *, version: str, context: Any, at_once: int, seconds: float) -> Any:
    """A connection to one server's SOAP service; not used yet. Without ``context`` it is not encrypted."""
    adapter = import_module("pyVmomi").SoapStubAdapter
    return adapter(
        host=host,
        port=port if context is not None else -port,
        path=path,
        version=version,
        sslContext=context,
        poolSize=at_once,
        httpConnectionTimeout=seconds,
    )
