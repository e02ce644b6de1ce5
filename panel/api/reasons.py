"""What is wrong with a field, in the panel's own words: pydantic's are English, and about Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

MOMENT = "2026-01-31T08:00:00Z"
WORD = re.compile(r"'(\w+)'")  # of a literal_error's ``expected``: '', 'nat' or 'bridge'

_WHOLE = _("{field} must be a whole number.")
_NUMBER = _("{field} must be a number.")
_TIME = _("{field} must be a time such as {example}. A + in an address is written %2B.")

# By pydantic's type of error. https://docs.pydantic.dev/latest/errors/validation_errors/
_SENTENCES: dict[str, str] = {
    "missing": _("{field} is missing."),
    "int_type": _("{field} must be a whole number, without quotes."),
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _("{field} must be a number, without quotes."),
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _("{field} must be true or false, without quotes."),
    "string_type": _("{field} must be text, in quotes."),
    "list_type": _("{field} must be a list, in [ ]."),
    "dict_type": _("{field} must be an object, in { }."),
    "model_type": _("{field} must be an object, in { }."),
    "greater_than_equal": _("{field} must be at least {least}."),
    "less_than_equal": _("{field} must be at most {most}."),
    "string_too_short": _("{field} must have at least {least} characters."),
    "string_too_long": _("{field} must have at most {most} characters."),
    "too_short": _("{field} must have at least {least} entries."),
    "too_long": _("{field} must have at most {most} entries."),
    "literal_error": _("{field} must be one of: {known}."),
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "value_error": _TIME,  # what ``wire.Moment`` raises; no other field raises one
}
_VALUES: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "least": lambda context: context["ge"] if "ge" in context else context["min_length"],
    "most": lambda context: context["le"] if "le" in context else context["max_length"],
    "known": lambda context: ", ".join(WORD.findall(context["expected"])),
    "example": lambda _context: MOMENT,
}


def refusal(error: ErrorDetails) -> InvalidInput:
    """``InvalidInput`` with the field at fault and what it must be. ``error`` is one of pydantic's, with its context."""
    field = ".".join(str(part)[:64] for part in error["loc"] if part != "[key]") or "body"
    context = error.get("ctx", {})
    if error["type"] == "string_too_short" and context["min_length"] == 1:
        return InvalidInput(_("{field} must not be empty."), field=field)
    sentence = _SENTENCES.get(error["type"], _("{field} is wrong."))
    values = {name: value(context) for name, value in _VALUES.items() if f"{{{name}}}" in sentence}
    return InvalidInput(sentence, field=field, **values)
