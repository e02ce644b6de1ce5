"""The table of capabilities in the docs is that of the code, and every engine has a page."""

from __future__ import annotations

from dataclasses import fields

from panel.engines.capabilities import Capabilities
from scripts.engines_table import FILE, engines, meanings, table


def test_the_table_is_current() -> None:
    assert FILE.read_text("utf-8") == table(), "run .venv/bin/python scripts/engines_table.py"


def test_every_capability_is_explained() -> None:
    assert set(meanings()) == {item.name for item in fields(Capabilities)} - {"reasons"}
    assert all(meanings().values())


def test_every_engine_has_a_page() -> None:
    for engine in engines():
        text = (FILE.parent / f"{engine.kind.value.replace('_', '-')}.md").read_text("utf-8")
        for words in ("What to prepare", "Least rights", "What works", "What does not", "ested against"):
            assert words in text, f"{engine.title}: {words}"
