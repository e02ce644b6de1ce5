"""What the benchmarks share: interleaved rounds, medians and spread, a verdict against the target, a table in RESULTS.md."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

RESULTS = Path(__file__).with_name("RESULTS.md")
LIBRARIES = ("quart", "uvicorn", "uvloop", "tortoise-orm", "aiosqlite", "jinja2", "pydantic", "orjson")
HEAD = "| what | median | spread | p99 | target | verdict |\n|---|---:|---:|---:|---:|---|"
BEGIN, END = "<!-- {} -->", "<!-- end {} -->"
T = TypeVar("T")


@dataclass(slots=True)
class Row:
    """One line of a table.

    Attributes:
        values: what was measured, all in ``unit``; the median of them is the result.
        target: the largest good median; None: nothing was promised.
        target_p99: the same of the 99th percentile.
    """

    what: str
    unit: str
    values: Sequence[float]
    target: float | None = None
    target_p99: float | None = None

    @property
    def good(self) -> bool | None:
        """Whether the targets are met; None without one."""
        if self.target is None and self.target_p99 is None:
            return None
        within = self.target is None or statistics.median(self.values) <= self.target
        return within and (self.target_p99 is None or percentile(self.values, 99) <= self.target_p99)

    def cells(self) -> list[str]:
        """The line of a table, under ``HEAD``."""
        unit, many = self.unit, len(self.values) > 1
        spread = f"{percentile(self.values, 10):.4g} to {percentile(self.values, 90):.4g}" if many else ""
        tail = f"{percentile(self.values, 99):.4g} {unit}" if len(self.values) >= 20 else ""
        targets = [f"{self.target:g} {unit}"] if self.target is not None else []
        targets += [f"p99 {self.target_p99:g} {unit}"] if self.target_p99 is not None else []
        verdict = {None: "", True: "met", False: "**missed**"}[self.good]
        middle = f"{statistics.median(self.values):.4g} {unit}"
        return [self.what, middle, spread, tail, ", ".join(targets), verdict]


@dataclass(slots=True)
class Table:
    """What one program measured. ``name`` is how it is called, ``notes`` are sentences below the table."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        what: str,
        unit: str,
        values: float | Sequence[float],
        target: float | None = None,
        target_p99: float | None = None,
    ) -> None:
        """One more line."""
        many = [float(values)] if isinstance(values, int | float) else list(values)
        self.rows.append(Row(what, unit, many, target, target_p99))

    def text(self) -> str:
        """Markdown."""
        lines = [
            f"## {self.title}",
            "",
            f"`make bench ARGS={self.name}`, {_today()}, {_processor()}; spread is p10 to p90.",
            "",
            HEAD,
        ]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def write(self) -> bool:
        """Print the table and put it into ``RESULTS.md``, in the place of its last one. Returns whether all targets are met."""
        print("\n" + self.text(), flush=True)
        begin, end = BEGIN.format(self.name), END.format(self.name)
        section = f"{begin}\n{self.text()}\n{end}"
        known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
        sections = re.findall(r"<!-- [a-z]+ -->\n.*?<!-- end [a-z]+ -->", known, re.DOTALL)
        kept = [text for text in sections if not text.startswith(begin)]
        RESULTS.write_text("\n\n".join([_head(), *sorted([*kept, section])]) + "\n", encoding="utf-8")
        return all(row.good is not False for row in self.rows)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]


def interleaved(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every case once per round: what disturbs the machine for a while disturbs all of them alike."""
    found: dict[str, list[T]] = {name: [] for name in cases}
    for number in range(rounds):
        names = list(cases)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(cases[name]())
    return found


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1].strip() if found else platform.machine()


def _head() -> str:
    cores = Path("/proc/cpuinfo").read_text(encoding="utf-8").count("processor\t:")
    memory = int(re.findall(r"\d+", Path("/proc/meminfo").read_text(encoding="utf-8"))[0]) / 2**20
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    machine = f"{_processor()}, {cores} cores, {memory:.0f} GiB"
    return "\n".join([
        "# What was measured",
        "",
        "Written by `make bench`; `README.md` says how to read it. Do not edit: sentences below a table come from its program.",
        "",
        f"Last run on: {machine}; Linux {platform.release()}, Python {platform.python_version()}; {versions}.",
    ])  # fmt: skip
