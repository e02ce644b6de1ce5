"""Languages: which one a reader gets, and how a message that was raised in one place is told in another.

Messages are written in English where they are raised, with named ``{placeholders}``, and kept apart from their
values (``Text``), so that a task log written by a program can be read in Chinese by an operator later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from babel import Locale
from babel.messages.pofile import read_po

LANGUAGES: dict[str, str] = {"en": "English", "zh": "中文"}
DEFAULT_LANGUAGE = "en"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
CATALOGUES = Path(__file__).parent / "translations"

_current: ContextVar[str] = ContextVar("language", default=DEFAULT_LANGUAGE)


def gettext_noop(message: str) -> str:
    """Mark ``message`` for the catalogue without translating it yet."""
    return message


# Values of messages that are words of the panel, not names: by the placeholder that carries them.
WORDS: dict[str, frozenset[str]] = {
    "state": frozenset(
        {
            gettext_noop("running"),
            gettext_noop("stopped"),
            gettext_noop("suspended"),
            gettext_noop("crashed"),
            gettext_noop("unknown"),
            gettext_noop("missing"),
            gettext_noop("creating"),
        }
    ),
    "action": frozenset(
        {
            gettext_noop("start"),
            gettext_noop("stop"),
            gettext_noop("shutdown"),
            gettext_noop("suspend"),
            gettext_noop("resume"),
            gettext_noop("reset"),
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Text:
    """A message and its values, apart. ``str(text)`` is English; ``translate`` is the reader's language."""

    msgid: str
    params: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return fill(self.msgid, self.params)

    def translate(self) -> str:
        return fill(gettext(self.msgid), {name: _word(name, value) for name, value in self.params.items()})


def _word(name: str, value: object) -> object:
    return gettext(str(value)) if str(value) in WORDS.get(name, ()) else value


def fill(template: str, params: Mapping[str, object]) -> str:
    """Put values into ``{name}`` placeholders; a value that is missing leaves its placeholder standing."""
    return PLACEHOLDER.sub(lambda found: str(params.get(found[1], found[0])), template)


@cache
def catalogue(language: str) -> dict[str, str]:
    """The messages of one language, read once from its ``.po`` file; empty for English."""
    path = CATALOGUES / language / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return {}
    with path.open("rb") as file:
        catalog = read_po(file)
    messages: dict[str, str] = {}
    for message in catalog:
        if not message.id or message.fuzzy:
            continue
        if isinstance(message.id, str):
            if isinstance(message.string, str) and message.string:
                messages[message.id] = message.string
        elif message.string and message.string[0]:  # plural forms; Chinese has one
            for form in message.id:
                messages[form] = message.string[0]
    return messages


def language() -> str:
    """The language of the current request, or English."""
    return _current.get()


def locale() -> Locale:
    """Babel's locale for the current language."""
    return _locale("zh_Hans_CN" if language() == "zh" else "en")


@cache
def _locale(identifier: str) -> Locale:
    return Locale.parse(identifier)


def set_language(code: str) -> None:
    """Set the language for the rest of this context (a request, a task)."""
    _current.set(code if code in LANGUAGES else DEFAULT_LANGUAGE)


@contextmanager
def use_language(code: str) -> Iterator[None]:
    """Speak ``code`` inside the block."""
    token = _current.set(code if code in LANGUAGES else DEFAULT_LANGUAGE)
    try:
        yield
    finally:
        _current.reset(token)


def gettext(message: str) -> str:
    """``message`` in the current language; the message itself when the catalogue lacks it."""
    return catalogue(language()).get(message, message)


def ngettext(singular: str, plural: str, number: int) -> str:
    """The form of a message for ``number``. Both forms are msgids of one entry."""
    message = singular if number == 1 else plural
    return catalogue(language()).get(message, message)


def best_language(accepted: str | None, default: str = DEFAULT_LANGUAGE) -> str:
    """The first language of an ``Accept-Language`` header that we speak (RFC 9110, 12.5.4), or ``default``."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate((accepted or "")[:500].split(",")):
        tag, _, parameters = part.strip().partition(";")
        name, _, value = parameters.strip().partition("=")
        try:
            quality = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        wanted.append((-quality, position, tag.strip().lower().split("-")[0]))
    for quality, _, code in sorted(wanted):
        if code in LANGUAGES and quality < 0:
            return code
    return default


__all__ = [
    "LANGUAGES",
    "Text",
    "best_language",
    "catalogue",
    "gettext",
    "gettext_noop",
    "language",
    "locale",
    "ngettext",
    "set_language",
    "use_language",
]
