"""Paths of the host, Windows' or others', and what of the panel they tell.

A VM that the panel made lies in ``<name>.<ref>/<name>.<ref>.vmx``: the path alone says that it is the panel's, what it is called
and which it is, from the moment that its clone is there.
"""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath, PureWindowsPath

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OURS = re.compile(rf"(?P<name>.+)\.(?P<ref>{_UUID})")


def host_path(text: str) -> PurePath:
    """A path as its host reads it: Windows' with a drive or backslashes, else POSIX."""
    windows = "\\" in text or re.match(r"[A-Za-z]:", text) is not None
    return PureWindowsPath(text) if windows else PurePosixPath(text)


def below(path: str, folder: str) -> bool:
    """Whether ``path`` lies in ``folder`` or deeper; of Windows, whatever the case and the slashes."""
    inner, outer = host_path(path), host_path(folder)
    return type(inner) is type(outer) and inner != outer and inner.is_relative_to(outer)


def stem(path: str) -> str:
    """The name of a ``.vmx`` file without its ending."""
    return host_path(path).stem if path.lower().endswith(".vmx") else host_path(path).name


def clone_name(name: str, ref: str) -> str:
    """What a VM of the panel is called on the host."""
    return f"{name}.{ref}"


def ours(path: str) -> tuple[str, str] | None:
    """Name and ref of a VM that the panel made; None for another's."""
    found = _OURS.fullmatch(stem(path))
    return (found["name"], found["ref"]) if found else None
