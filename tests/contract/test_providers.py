"""Nothing is left out: every engine of the registry is under this suite."""

from __future__ import annotations

from panel.engines.base import Engine
from panel.engines.registry import ENGINES, engine_class
from panel.engines.types import EngineKind

from .providers import PROVIDERS


def test_every_engine_has_a_provider() -> None:
    assert {one.kind for one in PROVIDERS} == set(EngineKind)
    assert len({one.name for one in PROVIDERS}) == len(PROVIDERS)


def test_every_kind_is_in_the_registry() -> None:
    assert set(ENGINES) == set(EngineKind)
    for kind in EngineKind:
        assert issubclass(engine_class(kind), Engine)
        assert engine_class(kind).kind is kind
