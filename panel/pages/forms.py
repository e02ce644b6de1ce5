"""Forms: reading fields, keeping what was typed, and putting messages beside the field at fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.pages.words import field_word, localised

LONGEST = 4000  # characters of one field


class Form:
    """The values of a form, as typed, and what is wrong with them.

    Args:
        given: what was typed; None for a form that is shown first.
        defaults: what the fields hold before anything was typed.
        labels: what the form calls its fields, for messages.
    """

    def __init__(
        self,
        given: Mapping[str, str] | None,
        defaults: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.sent = given is not None
        self.errors: dict[str, str] = {}
        self.notices: list[tuple[str, str]] = []
        self._labels = labels
        self._values = {name: str(value) for name, value in (defaults or {}).items() if value is not None}
        if given is not None:
            self._values = dict.fromkeys(self._values, "") | dict(given)

    def value(self, name: str) -> str:
        """What the field holds."""
        return self._values.get(name, "")

    def default(self, name: str, value: str) -> None:
        """Fill a field that was left to us."""
        self._values[name] = value

    def error(self, name: str) -> str | None:
        """What is wrong with the field, or None."""
        return self.errors.get(name)

    def label(self, name: str) -> str:
        """What the form calls a field."""
        return (self._labels or {}).get(name) or field_word(name)

    def text(self, name: str, *, required: bool = False) -> str:
        """A line of text without the spaces around it."""
        value = self.value(name).strip()
        if required and not value:
            self.fail(name, _("This is needed."))
        elif len(value) > LONGEST:
            self.fail(name, _("This is too long."))
        return value

    def secret(self, name: str) -> str:
        """A password: spaces count."""
        return self.value(name)[:LONGEST]

    def integer(self, name: str, *, required: bool = True) -> int:
        """A whole number; 0 when it is none, with the error noted."""
        text = self.value(name).strip()
        if not text and not required:
            return 0
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            self.fail(name, _("This must be a whole number."))
            return 0
        return int(text)

    def choice(self, name: str, known: Iterable[str]) -> str:
        """One of ``known``."""
        value = self.value(name)
        if value not in set(known):
            self.fail(name, _("Choose one of the list."))
        return value

    def checked(self, name: str) -> bool:
        """Whether a box is ticked."""
        return bool(self.value(name))

    def fail(self, name: str, message: str) -> None:
        """Note what is wrong with a field; the first message counts. ``message`` is a msgid."""
        self.errors.setdefault(name, gettext(message))

    def take(self, error: PanelError, fields: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        """Put an error, and what is said beside it, beside its field when the form has it, else above the form."""
        known = set(fields)
        for each in (error, *(error.beside if isinstance(error, InvalidInput) else ())):
            message = localised(each.text, self._labels).translate()
            name = (each.field or "").rpartition(".")[2]
            name = (aliases or {}).get(name, name)
            if name in known:
                self.errors.setdefault(name, message)
            else:
                self.notices.append(("error", message))
