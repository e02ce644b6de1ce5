"""The double behind TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from tests.certs import made
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served

from .kit import PASSWORD, TOKEN, USER, Double


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """A cluster with one template, for a module."""
    world, door = Cluster(), Door(USER, PASSWORD, f"{TOKEN}={PASSWORD}")
    world.add("debian-12", gib=1, template=True)
    own = made("localhost")
    pem: Path = tmp_path_factory.mktemp("pve") / "pve.pem"
    pem.write_text(own.key_pem + own.pem)
    with served(pve(world, door), pem=pem) as base:
        yield Double(world, door, base, fingerprint_of(own.certificate.public_bytes(Encoding.DER)))


@pytest.fixture
def double(sealed: Double) -> Iterator[Double]:
    """The module's, with all rights."""
    yield sealed
    sealed.door.missing.clear()
    sealed.world.clone_seconds = 0.05
