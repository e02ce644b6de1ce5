"""Capabilities are honest: what is declared is exercised by a test, what is not is refused with a reason."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.hosttypes import HostInfo
from panel.engines.types import EngineKind, HostConnection, PowerAction, Reporter, VmObservation
from panel.errors import NotFound

from .kit import CALLS, PROPERTIES, contract, proofs, refuses

NAMES = sorted(set(CALLS) | PROPERTIES)


class BareEngine(Engine):
    """The least that an engine can be: declares nothing, overrides nothing that it need not."""

    kind = EngineKind.FAKE
    title = "Bare"
    capabilities = Capabilities(reasons={"create": "Not here. Use another host."})
    fields = ()

    async def probe(self) -> HostInfo:
        return HostInfo("0", "bare", 1, 1, False)

    async def close(self) -> None:
        return None

    async def observe(self) -> list[VmObservation]:
        return []

    async def inspect(self, ref: str) -> VmObservation:
        raise NotFound("No VM {ref}.", ref=ref)

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        self.capabilities.require(f"power.{action}")


def test_table_names_every_capability() -> None:
    declared = {item.name for item in fields(Capabilities)} - {"power", "reasons"}
    assert set(NAMES) == declared | {f"power.{action}" for action in PowerAction}


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_a_bare_engine_refuses_everything(name: str) -> None:
    await refuses(BareEngine(HostConnection("bare")), name)


def test_every_capability_is_exercised() -> None:
    here = Path(__file__).parent
    exercised: set[str] = set()
    for path in here.glob("test_*.py"):
        module = inspect.getmodule(test_table_names_every_capability)
        if path != Path(__file__):
            module = import_module(f"{__package__}.{path.stem}")
        exercised |= set(proofs(module))
    assert exercised == set(NAMES)


@pytest.mark.parametrize("name", sorted(CALLS))
@contract()
async def test_undeclared_is_refused(engine: Engine, name: str) -> None:
    if engine.capabilities.why_not(name) is not None:
        await refuses(engine, name)


@contract()
async def test_undeclared_says_why(engine: Engine) -> None:
    for name in NAMES:
        reason = engine.capabilities.why_not(name)
        assert reason is None or len(reason) > 10
    assert set(engine.capabilities.reasons) <= {item.name for item in fields(Capabilities)} | set(NAMES)
