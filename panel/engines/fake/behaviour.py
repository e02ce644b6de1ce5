"""How a fake host behaves: well, or badly in one of the ways that real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from panel.engines.types import Reporter
from panel.errors import EngineFailure, HostUnreachable, InvalidInput
from panel.i18n import gettext_noop as _

MUTATING = frozenset({"create", "update", "delete", "power", "password", "snapshot", "put_image"})


class Manner(StrEnum):
    """``options["behaviour"]``."""

    GOOD = ""
    SLOW = "slow"  # each call takes options["delay"] seconds
    FAILING = "failing"  # changes fail at options["fail_at"]
    LYING = "lying"  # says that it was done; options["lies"] says about what
    HUNG = "hung"  # never answers: the caller must cut it off
    REFUSING = "refusing"  # unreachable at once
    GARBAGE = "garbage"  # observations full of nonsense and of counters that fall


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A manner and its tunables.

    Attributes:
        delay: seconds that each call takes (any manner; ``slow`` without it takes one second).
        fail_at: call -> the report step (from 1) at which it fails; 0 is before anything was done.
        lies: the calls that only pretend; ``observe`` repeats for ever what was seen first.
        only: the calls to which ``slow``, ``hung`` and ``refusing`` apply; empty is all.
    """

    manner: Manner = Manner.GOOD
    delay: float = 0.0
    fail_at: Mapping[str, int] = field(default_factory=dict)
    lies: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Behaviour:
        """Read a connection's options. ``InvalidInput`` names the option that makes no sense."""
        word = options.get("behaviour", "")
        try:
            manner = Manner(word)
        except ValueError:
            known = ", ".join(item.value for item in Manner if item)
            raise InvalidInput(
                _("No behaviour {word}. Known: {known}."), field="behaviour", word=word, known=known
            ) from None
        return cls(
            manner=manner,
            delay=number(options, "delay", 1.0 if manner is Manner.SLOW else 0.0),
            fail_at=_fail_at(options.get("fail_at", "")) if manner is Manner.FAILING else {},
            lies=_words(options.get("lies", "") or "power") if manner is Manner.LYING else frozenset(),
            only=_words(options.get("only", "")),
        )

    async def enter(self, call: str) -> None:
        """What happens before ``call`` does anything."""
        concerned = not self.only or call in self.only
        if concerned and self.manner is Manner.REFUSING:
            raise HostUnreachable(_("The fake host refuses connections. Its behaviour is set to refusing."))
        if concerned and self.manner is Manner.HUNG:
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay if concerned else 0)
        if self.fail_at.get(call) == 0:
            raise failure(call, 0)

    def step(self, call: str, number_: int) -> None:
        """Fail when ``call`` is to fail at this step."""
        if self.fail_at.get(call) == number_:
            raise failure(call, number_)

    def reporter(self, call: str, report: Reporter) -> Reporter:
        """``report``, failing at the chosen step."""
        return FailingReporter(self, call, report)


class FailingReporter:
    """Passes on what it is told, and breaks the call at the chosen step."""

    def __init__(self, behaviour: Behaviour, call: str, report: Reporter) -> None:
        self._behaviour = behaviour
        self._call = call
        self._report = report
        self._steps = 0

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """Count, fail or pass on."""
        self._steps += 1
        self._behaviour.step(self._call, self._steps)
        await self._report.step(message, percent=percent, **params)

    async def warn(self, message: str, /, **params: object) -> None:
        """Pass on."""
        await self._report.warn(message, **params)


def failure(call: str, step: int) -> EngineFailure:
    """The error of a failing host."""
    return EngineFailure(
        _("The fake host failed at step {step} of {call}, as told to. Change its behaviour and try again."),
        step=step,
        call=call,
    )


def number(options: Mapping[str, str], name: str, default: float) -> float:
    """An option that is a number, not negative."""
    text = options.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise InvalidInput(_("{name} must be a number from 0 up, not {text}."), field=name, name=name, text=text)
    return value


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def _fail_at(text: str) -> dict[str, int]:
    """``"create:2,power:1"``; every change at its first step when empty."""
    if not text:
        return dict.fromkeys(MUTATING, 1)
    result: dict[str, int] = {}
    for word in _words(text):
        call, _colon, step = word.partition(":")
        if call not in MUTATING or not step.isdigit():
            raise InvalidInput(
                _("fail_at is written call:step, such as create:2, not {text}."), field="fail_at", text=word
            )
        result[call] = int(step)
    return result
