"""What a run found: one line per thing that must hold."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that must hold: whether it did, and what was seen."""

    what: str
    good: bool
    seen: str


@dataclass(slots=True)
class Report:
    """The lines of one program."""

    name: str
    lines: list[Line] = field(default_factory=list)

    def hold(self, what: str, good: bool, seen: object = "") -> None:
        """Note whether ``what`` holds."""
        self.lines.append(Line(what, good, str(seen)))

    @property
    def broken(self) -> list[str]:
        """What did not hold, with what was seen."""
        return [f"{line.what}: {line.seen}" for line in self.lines if not line.good]

    def table(self) -> str:
        """For people."""
        width = max((len(line.what) for line in self.lines), default=0)
        return "\n".join(
            f"  {'ok    ' if line.good else 'BROKEN'} {line.what:<{width}}  {line.seen}".rstrip() for line in self.lines
        )
