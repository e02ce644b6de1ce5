"""The time, in one place."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time in UTC, with its zone."""
    return datetime.now(UTC)
