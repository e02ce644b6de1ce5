"""Names of domains: how they are written down, and which of them are in each other's way."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address

import idna

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

LONGEST = 253  # characters of a domain in ASCII (RFC 1035, without the last dot)
NUMBER = re.compile(
    r"[0-9]+|0x[0-9a-f]*"
)  # such a last label makes an IPv4 address of a name (WHATWG URL, "ends in a number")


def normal_domain(text: str, field: str = "domain") -> str:
    """A domain as it is stored: IDNA 2008 in ASCII, lower case, without the last dot, perhaps ``*.`` first.

    Raises:
        InvalidInput: not a domain; the message names the mend.
    """
    name = text.strip()
    _check_writing(name, field)
    wildcard = name.startswith("*.")
    bare = name.removeprefix("*.")
    if "*" in bare:
        raise InvalidInput(_("{field}: a * may only be the first label, as in *.example.com."), field=field)
    try:
        ascii_name = idna.encode(bare, uts46=True, std3_rules=True, transitional=False).decode().lower()
    except UnicodeError:
        raise InvalidInput(_("{field} must be a domain, such as www.example.com."), field=field) from None
    ascii_name = ascii_name.removesuffix(".")
    labels = ascii_name.split(".")
    if len(labels) < 2:
        if wildcard:
            raise InvalidInput(_("{field}: a * needs a domain of two labels after it, as in *.example.com."),
                               field=field)  # fmt: skip
        raise InvalidInput(_("{field} needs two labels at least, as in example.com."), field=field)
    if NUMBER.fullmatch(labels[-1]):
        raise InvalidInput(_("{field} must be a name: an address cannot have a certificate."), field=field)
    whole = f"*.{ascii_name}" if wildcard else ascii_name
    if len(whole) > LONGEST:
        raise InvalidInput(_("{field} is longer than {most} characters."), field=field, most=LONGEST)
    return whole


def _check_writing(name: str, field: str) -> None:
    if len(name) > 4 * LONGEST:
        raise InvalidInput(_("{field} is longer than {most} characters."), field=field, most=LONGEST)
    if "://" in name:
        raise InvalidInput(_("{field} is the name alone: leave out http:// and https://."), field=field)
    with suppress(ValueError):
        ip_address(name.strip("[]"))
        raise InvalidInput(_("{field} must be a name: an address cannot have a certificate."), field=field)
    if any(sign in name for sign in "/?#\\"):
        raise InvalidInput(_("{field} is the name alone: leave out the path."), field=field)
    if ":" in name:
        raise InvalidInput(_("{field} is the name alone: leave out the port."), field=field)


def readable_domain(domain: str) -> str:
    """A stored domain as people write it, in Unicode."""
    bare = domain.removeprefix("*.")
    try:
        return domain[: len(domain) - len(bare)] + idna.decode(bare)
    except UnicodeError:
        return domain


def wildcards_above(domain: str) -> list[str]:
    """The wildcards that a stored domain is below."""
    labels = domain.removeprefix("*.").split(".")
    return [f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels) - 1)]


def covers(domain: str, name: str) -> bool:
    """Whether a stored domain is ``name``, or a wildcard whose certificate is good for it: of one label more."""
    return domain == name or (domain.startswith("*.") and name.partition(".")[2] == domain[2:])
