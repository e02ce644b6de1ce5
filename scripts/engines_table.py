"""Write docs/engines/README.md: what each engine can do, from the code. Run it after a change of an engine's capabilities."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from panel.api.wire import ENGINE_NAMES  # noqa: E402
from panel.engines.base import Engine  # noqa: E402
from panel.engines.capabilities import Capabilities  # noqa: E402
from panel.engines.registry import ENGINES, engine_class  # noqa: E402
from panel.engines.types import EngineKind, PowerAction  # noqa: E402

FILE = ROOT / "docs/engines/README.md"
HEAD = """# Engines

What each engine can do. Written by `scripts/engines_table.py` from the code; `GET /api/system/engine` tells a program the same.

"""


def names() -> list[str]:
    """All capabilities, in the order of their declaration."""
    declared = [item.name for item in fields(Capabilities) if item.name not in {"power", "reasons"}]
    return [f"power.{action}" for action in PowerAction] + declared


def meanings() -> dict[str, str]:
    """What each capability is, from the docstring of ``Capabilities``."""
    text = (Capabilities.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    for line in re.split(r"\n        (?=\S)", text):
        heads, colon, meaning = line.strip().partition(":")
        if not colon:
            continue
        found |= {head.strip(): " ".join(meaning.replace("``", "`").split()) for head in heads.split(",")}
    return found


def engines() -> list[type[Engine]]:
    """Those that are shown: all but the imaginary one."""
    return [engine_class(kind) for kind in ENGINES if kind is not EngineKind.FAKE]


def table() -> str:
    """The whole file."""
    shown = engines()
    lines = ["| | " + " | ".join(_link(engine) for engine in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in names():
        marks = ["yes" if engine.capabilities.why_not(name) is None else "–" for engine in shown]
        lines.append(f"| `{name}` | " + " | ".join(marks) + " |")
    parts = [HEAD, "\n".join(lines), "\n\n## What the words mean\n"]
    parts += [f"- `{name}`: {text}\n" for name, text in meanings().items()]
    for engine in shown:
        reasons = [(name, engine.capabilities.why_not(name)) for name in names()]
        missing = [f"- `{name}`: {reason}\n" for name, reason in reasons if reason is not None]
        if missing:
            parts += [f"\n## What {engine.title} does not, and why\n", *missing]
    return "".join(parts)


def _link(engine: type[Engine]) -> str:
    return f"[{engine.title} (`{ENGINE_NAMES[engine.kind]}`)]({engine.kind.value.replace('_', '-')}.md)"


if __name__ == "__main__":
    FILE.write_text(table(), "utf-8")
