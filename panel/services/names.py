"""What names and addresses may look like, and which image a name means."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable
from typing import Protocol, TypeVar

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
LONGEST = 64  # characters that a name column takes: one more than an identifier has, so what is cut to it fits nothing
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
TAG = re.compile(r"[^\W_][\w.:/-]{0,31}")  # letters of any language
MOST_TAGS = 16  # on a VM
LONGEST_NOTES = 2000  # characters
MAC_PREFIX = "52:54:00"  # QEMU's, locally administered


OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # Unicode's bidirectional controls
NO_TEXT = frozenset({"Cc", "Cs", "Co", "Cn"})  # categories: control characters, halves of characters, what is none


class Named(Protocol):
    """Anything with a name and a key."""

    name: str
    key: str


N = TypeVar("N", bound=Named)


def check_identifier(value: str, field: str) -> str:
    """A name for URLs and hypervisors: letters, digits, ``.``, ``_``, ``-``, at most 63. ``InvalidInput`` otherwise."""
    if not IDENTIFIER.fullmatch(value):
        raise InvalidInput(
            _("{field} must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit."),
            field=field,
        )
    return value


def check_title(value: str, field: str) -> str:
    """A text for people: one line, at most 200 characters, no control characters, none that turn what stands beside it round.
    What has nothing to see is empty."""
    value = unicodedata.normalize("NFC", value.strip())
    categories = {unicodedata.category(char) for char in value}
    if len(value) > 200 or categories & NO_TEXT or not OVERRIDES.isdisjoint(value):
        raise InvalidInput(_("{field} must be one line of at most 200 printable characters."), field=field)
    return "" if categories <= {"Cf", "Zs"} else value


def check_tags(given: Iterable[str], field: str) -> list[str]:
    """Tags in lower case, each once, in order. ``InvalidInput`` names the one that is none."""
    tags: set[str] = set()
    for text in given:
        tag = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.strip()).lower())
        if not TAG.fullmatch(tag):
            raise InvalidInput(
                _(
                    "{field}: {tag} is not a tag. A tag is 1 to 32 letters, digits, '.', '_', ':', '/' or '-', and begins "
                    "with a letter or digit."
                ),
                field=field, tag=text[:64],
            )  # fmt: skip
        tags.add(tag)
    if len(tags) > MOST_TAGS:
        raise InvalidInput(_("{field}: at most {most} tags on a VM."), field=field, most=MOST_TAGS)
    return sorted(tags)


def check_notes(value: str, field: str) -> str:
    """A text of several lines, at most 2000 characters. ``InvalidInput`` otherwise."""
    value = unicodedata.normalize("NFC", value.replace("\r\n", "\n").strip())
    if len(value) > LONGEST_NOTES or any(unicodedata.category(char) in NO_TEXT for char in value if char not in "\n\t"):
        raise InvalidInput(_("{field} must be at most {most} printable characters."), field=field, most=LONGEST_NOTES)
    return value


def check_password(value: str, field: str) -> str:
    """A guest's password: 1 to 128 characters, on one line."""
    if not 1 <= len(value) <= 128 or any(unicodedata.category(char) in {"Cc", "Cs"} for char in value):
        raise InvalidInput(_("{field} must be 1 to 128 characters on one line."), field=field)
    return value


def check_mac(value: str, field: str) -> str:
    """A MAC in lower case with colons; must be a unicast one."""
    mac = value.strip().lower().replace("-", ":")
    if not MAC.fullmatch(mac) or int(mac[1], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidInput(_("{field} must be a unicast MAC address such as 52:54:00:12:34:56."), field=field)
    return mac


def new_mac() -> str:
    """A random MAC of QEMU's range."""
    tail = secrets.token_bytes(3)
    return MAC_PREFIX + "".join(f":{byte:02x}" for byte in tail)


def folded(name: str) -> str:
    """A name as it is compared: case, spaces, ``-``, ``_`` and ``.`` do not count."""
    return re.sub(r"[\s._-]+", "", unicodedata.normalize("NFKC", name)).casefold()


def find_image(images: Iterable[N], wanted: str) -> N:
    """The image that ``os_name`` means. ``InvalidInput`` with the known names when there is none."""
    images = list(images)
    for image in images:
        if wanted in {image.name, image.key}:
            return image
    for image in images:
        if folded(wanted) in {folded(image.name), folded(image.key.rpartition(".")[0] or image.key)}:
            return image
    known = ", ".join(sorted(image.name for image in images)) or "-"
    raise InvalidInput(
        _("No image {wanted} on this host. Known: {known}."),
        field="os_name",
        wanted=wanted[:200],
        known=known,
    )
