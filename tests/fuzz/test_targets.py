"""A short seeded run of every fuzz target; ``make fuzz`` runs them for longer, with atheris where it is installed."""

from __future__ import annotations

import random

import pytest

from fuzz.mutate import mutated
from fuzz.targets import TARGETS, Target, try_one

INPUTS = 400


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_what_is_promised(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    for seed in target.seeds:
        try_one(target, seed)
    for _ in range(INPUTS):
        data = mutated(chance, target.seeds)
        try:
            try_one(target, data)
        except Exception as error:
            raise AssertionError(f"{name} is broken by {data!r}") from error


def test_what_breaks_is_told() -> None:
    def read(data: bytes) -> int:
        return {b"x": 1}[data]

    try_one(Target(read, (KeyError,), ()), b"y")
    with pytest.raises(KeyError):
        try_one(Target(read, (ValueError,), ()), b"y")
