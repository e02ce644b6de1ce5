"""Checksums of files: as people give them, and as distributions publish them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

ALGORITHMS = {64: "sha256", 128: "sha512"}
LARGEST_FILE = 1024 * 1024  # bytes of a checksum file
_HASH = r"(?P<hash>[0-9a-fA-F]{128}|[0-9a-fA-F]{64})"
_LINES = (
    re.compile(rf"{_HASH}[ \t]+[ *]?(?P<name>\S.*)"),  # sha256sum
    re.compile(rf"SHA(?:256|512) ?\((?P<name>.+)\) ?= ?{_HASH}"),  # BSD: Fedora, Rocky, AlmaLinux
    re.compile(rf"{_HASH}(?P<name>)"),  # nothing else: Alpine
)


@dataclass(frozen=True, slots=True)
class Checksum:
    """``algorithm`` as hashlib calls it, ``digest`` in lower-case hexadecimal."""

    algorithm: str
    digest: str


def read_checksum(text: str, field: str) -> Checksum | None:
    """What a person typed: a SHA-256 or SHA-512, with or without its name before it; None for nothing."""
    value = re.sub(r"^sha-?(256|512)\s*[:=]\s*", "", text.strip().lower())
    if not value:
        return None
    if len(value) not in ALGORITHMS or re.fullmatch("[0-9a-f]+", value) is None:
        raise InvalidInput(_("{field} must be a SHA-256 or SHA-512 in hexadecimal: 64 or 128 digits."), field=field)
    return Checksum(ALGORITHMS[len(value)], value)


def find_checksum(text: str, name: str, field: str) -> Checksum:
    """The checksum of the file ``name`` in a published list; in a list of one, that one, whatever it calls its file.

    Raises:
        InvalidInput: the list does not have it.
    """
    listed = [(line["name"].rpartition("/")[2], line["hash"].lower()) for line in _parsed(text)]
    digests = {digest for called, digest in listed if called == name} or (
        {digest for _called, digest in listed} if len(listed) == 1 else set()
    )
    if not digests:
        raise InvalidInput(_("The checksum file does not name {name}."), field=field, name=name)
    digest = max(digests, key=len)  # of both kinds, the longer
    return Checksum(ALGORITHMS[len(digest)], digest)


def _parsed(text: str) -> list[re.Match[str]]:
    found = []
    for line in text.splitlines():
        match = next(filter(None, (form.fullmatch(line.strip()) for form in _LINES)), None)
        if match:
            found.append(match)
    return found
