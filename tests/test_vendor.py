"""What is left of the vendored style sheet has every class that a page can show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PANEL = ROOT / "panel"
CLASS = re.compile(r"\.(-?[A-Za-z_](?:[\w-]|\\.)*)")
SOURCES = sorted(
    path
    for folder, kind in (("templates", "html"), ("static/js", "js"))
    for path in (PANEL / folder).rglob(f"*.{kind}")
)


def classes(text: str) -> set[str]:
    return {name.replace("\\", "") for name in CLASS.findall(text)}


@pytest.fixture(scope="module")
def whole() -> set[str]:
    """All that have a rule of their own in the sheet as it comes from its makers."""
    return set((ROOT / "scripts/vendor/classes.txt").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def left() -> set[str]:
    return classes((PANEL / "static/vendor/tabler.min.css").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PANEL)))
def test_no_class_that_is_used_was_dropped(path: Path, whole: set[str], left: set[str]) -> None:
    """After a new class in a template: run scripts/vendor.sh."""
    text = path.read_text(encoding="utf-8")
    words = set(re.findall(r"[A-Za-z][\w-]*", text))
    assert (words & whole) - left == set()
    for beginning in (word for word in words if word.endswith("-") and len(word) > 2):
        assert {name for name in whole if name.startswith(beginning)} <= left, beginning


def test_most_of_it_was_dropped(whole: set[str], left: set[str]) -> None:
    assert {"btn", "btn-primary", "form-control", "form-select", "card", "table"} <= left
    assert len(left) < len(whole) / 4
