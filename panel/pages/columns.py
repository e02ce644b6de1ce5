"""What the VM list shows: its columns and the rows on a page, as the reader chose (a cookie), as the address says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from quart import request

from panel import web
from panel.i18n import gettext, language, ngettext
from panel.i18n import gettext_noop as _
from panel.pages.lists import SIZES

COOKIE = "openidcs_vm_list"
COLUMNS: dict[str, str] = {
    "state": _("State"),
    "host": _("Host"),
    "engine": _("Engine"),
    "addresses": _("Addresses"),
    "image": _("Image"),
    "cpu": _("CPU"),
    "history": _("CPU, last hour"),
    "memory": _("Memory"),
    "disk": _("Disk"),
    "tags": _("Tags"),
    "created": _("Known since"),
}
USUAL = ("state", "host", "addresses", "cpu", "history", "memory", "tags")
PLAIN: tuple[str, ...] = ("state", "addresses", "cpu", "memory")  # of the list within a host's own page
USAGE = frozenset({"cpu", "memory"})  # shown as a bar
NONE = "none"  # only the names


@dataclass(frozen=True, slots=True)
class Look:
    """How the reader wants the list. ``columns``: keys of ``COLUMNS``; the name is always there."""

    columns: tuple[str, ...] = USUAL
    size: int = SIZES[0]

    @property
    def cookie(self) -> str:
        """As the cookie keeps it."""
        return f"{pack(self.columns)}~{self.size}"


def pack(columns: Iterable[str]) -> str:
    """Columns as a word of an address."""
    return ".".join(columns) or NONE


def unpack(text: str) -> tuple[str, ...] | None:
    """The columns of such a word, in their order; None when it names none that there are."""
    words = set(text[:200].split("."))
    found = tuple(key for key in COLUMNS if key in words)
    return found if found or text == NONE else None


def kept() -> Look:
    """What the reader chose before. What makes no sense counts as not chosen."""
    columns, _tilde, size = request.cookies.get(COOKIE, "").partition("~")
    chosen = unpack(columns)
    return Look(
        USUAL if chosen is None else chosen,
        int(size) if size in set(map(str, SIZES)) else SIZES[0],
    )


@web.add_filter
def column_cells(columns: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
    """Of each column its key, the class of its cells, and what it is called."""
    return _cells(tuple(columns), language())


@lru_cache(1000)
def _cells(columns: tuple[str, ...], _language: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((key, f"cell-{'usage' if key in USAGE else key}", column_word(key)) for key in columns)


@web.add_global
def share(value: float | None, of: float | None) -> float | None:
    """A part in percent, 0..100; None when it is not known."""
    return None if value is None or not of else round(min(max(100 * value / of, 0.0), 100.0), 1)


@web.add_global
def cpus(count: int) -> str:
    """How many CPUs, in words."""
    return ngettext("%(num)s CPU", "%(num)s CPUs", count) % {"num": count}


@web.add_filter
def column_word(key: str) -> str:
    """What a column is called."""
    return gettext(COLUMNS[key])
