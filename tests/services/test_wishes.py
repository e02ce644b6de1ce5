"""What a gateway is to hold is read beside whoever makes VMs."""

from __future__ import annotations

import pytest

from panel.models import Network, Vm
from panel.services import wishes
from panel.services.container import Services
from panel.services.wishes import read_wish
from tests.api.kit import make_vm
from tests.conftest import ApiClient


async def test_a_vm_that_comes_between_the_reads_is_for_the_next_time(
    services: Services, api: ApiClient, fake_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_vm(api, "first")
    host = await services.hosts.get("host1")
    assert await Network.filter(host_id=host.id).exists()
    read = wishes._terms

    async def read_and_make(host_ids: list[int]) -> object:
        terms = await read(host_ids)
        if not await Vm.filter(name="second").exists():
            await make_vm(api, "second")
        return terms

    monkeypatch.setattr(wishes, "_terms", read_and_make)
    assert len((await read_wish([host.id])).ruleset.guests) == 1
    assert len((await read_wish([host.id])).ruleset.guests) == 2
