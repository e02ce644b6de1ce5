"""``docs/security.md`` names tests that exist, and every file here is named there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text("utf-8"))
HELPERS = {"test_map.py"}


def named_in(path: Path) -> set[str]:
    """The names of a module's tests."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    found = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name for name in found if name.startswith("test_")}


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 60
    missing = [
        f"{file}::{name}" for file, name in NAMED if not (ROOT / file).exists() or name not in named_in(ROOT / file)
    ]
    assert not missing


def test_every_class_has_a_test() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    bare = [row for row in rows if "::" not in row and not row.startswith("| class |")]
    assert len(rows) > 35
    assert not bare


def test_every_test_here_is_on_the_map() -> None:
    here = {
        f"tests/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py") if path.name not in HELPERS
    }
    assert here == {file for file, _name in NAMED if file.startswith("tests/security/")}
