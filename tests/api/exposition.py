"""A strict reader of Prometheus' text format 0.0.4, as far as gauges go: it refuses all that the format does not say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
HELP = re.compile(r"# HELP (\S+) (.+)")
TYPE = re.compile(r"# TYPE (\S+) (\S+)")
SAMPLE = re.compile(r"([^\s{]+)(?:\{(.*)\})? (\S+)", re.DOTALL)
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass
class Metric:
    """A gauge: its help, and its samples by their labels."""

    help: str = ""
    kind: str = ""
    samples: dict[frozenset[tuple[str, str]], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float | None:
        """The sample with exactly these labels."""
        return self.samples.get(frozenset(labels.items()))


def read(text: str) -> dict[str, Metric]:
    """The metrics of a text; ``AssertionError`` says what is wrong with it."""
    assert text.endswith("\n")
    metrics: dict[str, Metric] = {}
    current = ""
    for line in text[:-1].split("\n"):
        if found := HELP.fullmatch(line):
            current = found[1]
            assert NAME.fullmatch(current), line
            assert current not in metrics, f"{current} stands in two places"
            metrics[current] = Metric(help=found[2])
        elif found := TYPE.fullmatch(line):
            assert found[1] == current, line
            assert not metrics[current].samples, line
            metrics[current].kind = found[2]
        else:
            found = SAMPLE.fullmatch(line)
            assert found, f"not a sample: {line!r}"
            assert found[1] == current, f"{line!r} is not with its like"
            labels = _labels(found[2] or "")
            assert labels not in metrics[current].samples, f"twice: {line!r}"
            metrics[current].samples[labels] = float(found[3])
    return metrics


def _labels(text: str) -> frozenset[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = LABEL.match(text, place)
        assert match, f"not a label: {text[place:]!r}"
        found.append((match[1], re.sub(r"\\.", lambda escape: ESCAPES[escape[0]], match[2])))
        place = match.end()
        assert place == len(text) or text[place] == ",", text
        place += 1
    assert len({name for name, _value in found}) == len(found), text
    return frozenset(found)
