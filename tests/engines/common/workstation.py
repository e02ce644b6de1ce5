"""A double of VMware Workstation behind TLS, for tests of what is common to engines that speak HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from tests.certs import made
from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import Workstation

USER, PASSWORD = "admin", "s3cret-of-vmrest"


@dataclass
class Sealed:
    """A double at ``base`` (``https://127.0.0.1:PORT``), and its certificate's fingerprint."""

    base: str
    fingerprint: str
    world: Workstation

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])


@contextmanager
def sealed(folder: Path, *, port: int = 0, world: Workstation | None = None) -> Iterator[Sealed]:
    """A double with a new self-signed certificate and one template."""
    if world is None:
        world = Workstation()
        world.add("Debian 12")
    own = made("localhost")
    pem = folder / f"{own.certificate.serial_number}.pem"
    pem.write_text(own.key_pem + own.pem)
    der = own.certificate.public_bytes(Encoding.DER)
    with served(vmrest(world, USER, PASSWORD), port=port, pem=pem) as base:
        yield Sealed(base, fingerprint_of(der), world)
