"""Jinja filters: sizes, rates and numbers in the reader's way."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from babel.dates import format_timedelta
from babel.numbers import format_decimal

from panel import web
from panel.i18n import Text, gettext, language, locale
from panel.i18n import gettext_noop as _
from panel.pages import words
from panel.services.clock import now

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
NOTHING = "–"


def decimal(value: float, digits: int = 1) -> str:
    """A number with at most ``digits`` decimals, grouped and pointed as the reader does."""
    return _decimal(round(value, digits), digits, language())


@lru_cache(10_000)
def _decimal(value: float, digits: int, _language: str) -> str:
    """A list shows the same few numbers in each row, and Babel reads the pattern for each anew."""
    return format_decimal(value, format="#,##0." + "#" * digits if digits else "#,##0", locale=locale())


@web.add_filter
def size(value: float | None) -> str:
    """Bytes, in the largest binary unit that leaves at least 1."""
    if value is None:
        return NOTHING
    step = 0
    while abs(value) >= 1024 and step < len(UNITS) - 1:
        value, step = value / 1024, step + 1
    return f"{decimal(value)} {UNITS[step]}"


@web.add_filter
def mib(value: float | None) -> str:
    """A size that is given in MiB."""
    return NOTHING if value is None else size(value * 1024**2)


@web.add_filter
def gib(value: float | None) -> str:
    """A size that is given in GiB."""
    return NOTHING if value is None else size(value * 1024**3)


@web.add_filter
def rate(value: float | None) -> str:
    """Bytes per second."""
    return NOTHING if value is None else f"{size(value)}/s"


@web.add_filter
def number(value: float | None) -> str:
    """A plain number."""
    return NOTHING if value is None else decimal(value)


@web.add_filter
def plenty(value: int) -> str:
    """A number that may be too large to mean anything."""
    return decimal(value, 0) if value < 10_000_000 else gettext(_("plenty"))


@web.add_filter
def percent(value: float | None) -> str:
    """0..100, without decimals from 10 on."""
    return NOTHING if value is None else f"{decimal(value, 1 if value < 10 else 0)}%"


@web.add_filter
def since(moment: datetime | None) -> str:
    """How long ago a moment is, in one unit, such as "3 hours"."""
    return NOTHING if moment is None else format_timedelta(now() - moment, locale=locale())


@web.add_filter
def tell(text: Text | None) -> str:
    """A ``Text`` with its words in the reader's language."""
    return words.localised(text).translate() if text else ""


@web.add_filter
def msg(message: str) -> str:
    """A msgid that comes from Python, such as an engine's label, in the reader's language."""
    return gettext(message) if message else ""


for _word in (
    words.told,
    words.state_word,
    words.action_word,
    words.field_word,
    words.task_word,
    words.engine_word,
    words.nic_word,
    words.boot_word,
    words.source_word,
    words.level_word,
):
    web.add_filter(_word)
