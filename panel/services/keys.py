"""Public SSH keys, as ``authorized_keys`` has them: a type, the key in Base64, and a comment. Formats: RFC 4253 (6.6), RFC 5656,
RFC 8709, and OpenSSH's PROTOCOL.u2f."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

MOST_KEYS = 20
LONGEST = 8192  # characters of a line; RSA of 16384 bits has 2800
KINDS = {  # and how many fields follow the type inside of the key
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
_LEAST_RSA_BYTES = 256  # 2048 bits; OpenSSH takes 1024 and up, some distributions' do not


def check_keys(given: Iterable[str], field: str) -> tuple[str, ...]:
    """Each key on a line of its own, once; empty lines are passed over. ``InvalidInput`` says which line is wrong, without
    repeating it: it may be a private key."""
    found: dict[str, str] = {}
    for number, text in enumerate(given, 1):
        if line := text.strip():
            kind, body, comment = _parts(line, number, field)
            found.setdefault(body, f"{kind} {body} {comment}".strip())
    if len(found) > MOST_KEYS:
        raise InvalidInput(_("{field}: at most {most} keys."), field=field, most=MOST_KEYS)
    return tuple(found.values())


def _parts(line: str, number: int, field: str) -> tuple[str, str, str]:
    if "PRIVATE KEY" in line:
        raise InvalidInput(
            _(
                "{field}: line {number} is of a private key. Give the public one (the file that ends in .pub), and make a new "
                "pair: who has the private one gets in."
            ),
            field=field, number=number,
        )  # fmt: skip
    words = line.split(maxsplit=2)
    if len(line) > LONGEST or not line.isprintable():
        raise InvalidInput(
            _("{field}: line {number} is no key: a key is one line of at most {most} printable characters."),
            field=field, number=number, most=LONGEST,
        )  # fmt: skip
    if words[0] not in KINDS:
        if any(f"{kind} " in line for kind in KINDS):
            raise InvalidInput(
                _("{field}: line {number} has options before its key. Give the key alone: its type, the key, a comment."),
                field=field, number=number,
            )  # fmt: skip
        raise InvalidInput(
            _("{field}: line {number} is no public SSH key that is in use today. It begins with one of: {kinds}."),
            field=field, number=number, kinds=", ".join(KINDS),
        )  # fmt: skip
    kind, body, comment = [*words, "", ""][:3]
    if not _is_whole(kind, body):
        raise InvalidInput(
            _("{field}: the key of line {number} is cut off, changed, or too short. Copy the whole line of the .pub file."),
            field=field, number=number,
        )  # fmt: skip
    return kind, body, comment


def _is_whole(kind: str, body: str) -> bool:
    """Whether it is a key of this kind, from its first byte to its last."""
    try:
        left = base64.b64decode(body, validate=True)
        fields: list[bytes] = []
        while left:
            (size,) = struct.unpack_from(">I", left)
            if size > len(left) - 4:
                return False
            fields.append(left[4 : 4 + size])
            left = left[4 + size :]
    except (ValueError, struct.error):
        return False
    if len(fields) != KINDS[kind] + 1 or fields[0] != kind.encode():
        return False
    if "ed25519" in kind:
        return len(fields[1]) == 32
    if kind == "ssh-rsa":
        return len(fields[2].lstrip(b"\0")) >= _LEAST_RSA_BYTES
    curve = fields[1].decode(errors="replace")
    return kind.removesuffix("@openssh.com").endswith(curve) and curve.startswith("nistp") and fields[2][:1] == b"\x04"
