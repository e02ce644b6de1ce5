"""Whose a forward is that a hypervisor keeps: the panel's have its mark in the description that stands beside them."""

from __future__ import annotations

import re

_OURS = re.compile(r"openidcs:([A-Za-z0-9._-]{1,64})")


def description(mark: str) -> str:
    """What the hypervisor keeps beside a forward of the panel's."""
    return f"openidcs:{mark}"


def mark_in(text: str) -> str:
    """The panel's name of a forward, from its description; empty for one that somebody else made."""
    found = _OURS.fullmatch(text.strip())
    return found[1] if found else ""
