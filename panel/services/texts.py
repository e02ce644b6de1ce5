"""``Text`` as the database keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panel.i18n import Text


def pack(text: Text) -> dict[str, Any]:
    """A ``Text`` as JSON; values that JSON lacks become strings."""
    params = {k: v if isinstance(v, str | int | float | bool) or v is None else str(v) for k, v in text.params.items()}
    return {"msgid": text.msgid, "params": params}


def unpack(stored: Mapping[str, Any] | None) -> Text | None:
    """The ``Text`` of a stored message."""
    return Text(stored["msgid"], stored["params"]) if stored else None
