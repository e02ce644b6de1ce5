"""Mutation without a guide: what becomes of a seed when bytes are turned, cut, doubled, nested or taken from another."""

from __future__ import annotations

import random
from collections.abc import Sequence

ODD = (b"\x00", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\n", b'"', b"{", b"}", b"[" * 40, b"-1", b"1e999", b"NaN", b"null",
       b"true", b"9" * 30, b"%00", b"../", b"\xed\xa0\x80", "\u2028".encode(), b"<", b"&lt;", b"'", b",", b":", b"=")  # fmt: skip
MOST = 20_000


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One input."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(data))
        match chance.randrange(7):
            case 0 if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(ODD)
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 32)]
            case 4:
                other = chance.choice(seeds)
                data[at:] = other[chance.randint(0, len(other)) :]
            case 5:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                data[at : at + 4] = chance.choice(ODD)
    return bytes(data[:MOST])
