"""The benchmarks use the panel's own parts: one that is moved or renamed is missed here, not when somebody measures."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")))
def test_what_it_needs_is_there(name: str) -> None:
    assert import_module(f"benchmarks.{name}").__doc__
