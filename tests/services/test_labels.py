"""Tags and notes: what they may be, that nothing but their form writes them, and that they come back."""

from __future__ import annotations

import json

import pytest
from tortoise.backends.sqlite.client import SqliteClient

from panel.engines.types import PowerAction
from panel.errors import Conflict, InvalidInput, NotFound
from panel.events import VmChanged
from panel.models import LogEntry, SavedFilter, Vm, VmMetrics, VmTag
from panel.security import Actor, Source
from panel.services.container import Services
from panel.services.labels import known_tags, tags_of
from panel.services.names import LONGEST_NOTES, MOST_TAGS, check_notes, check_tags
from panel.services.savedfilters import MOST
from tests.conftest import ADMIN
from tests.services import history
from tests.services.kit import make

OTHER = Actor("somebody", Source.PAGE)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ([" Web ", "web", "ＷＥＢ"], ["web"]),
        (["b", "a"], ["a", "b"]),
        (["生产", "rack:7/2", "v1.2-x_y"], ["rack:7/2", "v1.2-x_y", "生产"]),
        ([], []),
    ],
)
def test_tags_are_normal(given: list[str], tags: list[str]) -> None:
    assert check_tags(given, "tags") == tags
    assert check_tags(tags, "tags") == tags


@pytest.mark.parametrize("tag", ["", "-a", "a b", "a,b", "x" * 33, "_a", "<b>", "a\x00", "😀"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_tags(["fine", tag], "tags")
    assert caught.value.field == "tags"


def test_bounds() -> None:
    check_tags([f"t{n}" for n in range(MOST_TAGS)], "tags")
    with pytest.raises(InvalidInput, match="at most 16"):
        check_tags([f"t{n}" for n in range(MOST_TAGS + 1)], "tags")
    assert check_notes(" a\r\nb\t测试\n", "notes") == "a\nb\t测试"
    assert len(check_notes("x" * LONGEST_NOTES, "notes")) == LONGEST_NOTES
    for text in ("x" * (LONGEST_NOTES + 1), "a\x00b", "a\x1b[0m"):
        with pytest.raises(InvalidInput) as caught:
            check_notes(text, "notes")
        assert caught.value.field == "notes"


async def test_written_and_kept(services: Services, fake_host: str) -> None:
    """Neither a round of the observer nor a change of the VM touches them; who wrote them is in the log."""
    vm = await make(services)
    with services.events.subscribe() as events:
        assert await services.labels.write(ADMIN, vm, ["web", "prod"], "Ask Li first.")
        while await events.get() != VmChanged(vm.id, vm.host_id):
            pass
    assert not await services.labels.write(ADMIN, vm, ["prod", "WEB"], "Ask Li first. ")
    task = await services.power.act(ADMIN, await services.vms.get("host1", "vm-1"), PowerAction.START)
    assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
    assert await tags_of([vm.id]) == {vm.id: ("prod", "web")}
    assert (await Vm.get(id=vm.id)).notes == "Ask Li first."
    entry = await LogEntry.get(action="vm.labels")
    assert (entry.actor, entry.object_name) == ("admin", "host1/vm-1")
    assert "Ask Li" not in json.dumps(entry.message)
    assert await services.labels.write(ADMIN, vm, ["prod"], "")
    assert await known_tags() == ["prod"]
    await services.tasks.wait((await services.vms.delete(ADMIN, vm)).id, 10)
    assert await VmTag.all().count() == 0
    with pytest.raises(NotFound):
        await services.labels.write(ADMIN, vm, ["late"], "")
    assert await VmTag.all().count() == 0


async def test_they_come_back(services: Services, fake_host: str) -> None:
    """From a saved configuration; a file of before leaves them, and one with nonsense changes nothing."""
    vm = await make(services)
    await services.labels.write(ADMIN, vm, ["web", "prod"], "第一台\nsecond line")
    path = await services.configuration.save(ADMIN)
    await services.hosts.delete(ADMIN, "host1")
    assert await VmTag.all().count() == 0
    await services.configuration.load(ADMIN)
    vm = await services.vms.get("host1", "vm-1")
    assert (await tags_of([vm.id]))[vm.id] == ("prod", "web")
    assert vm.notes == "第一台\nsecond line"
    saved = json.loads(path.read_text())
    row = saved["hosts"][0]["vms"][0]
    assert row["tags"] == ["prod", "web"]
    for tags, notes in ((["a b"], ""), (["a"], "\x00"), (["a"], "x" * 3000)):
        row["tags"], row["notes"] = tags, notes
        path.write_text(json.dumps(saved))
        with pytest.raises(InvalidInput):
            await services.configuration.load(ADMIN)
    del row["tags"], row["notes"]
    path.write_text(json.dumps(saved))
    await services.configuration.load(ADMIN)
    assert (await tags_of([vm.id]))[vm.id] == ("prod", "web")
    assert (await Vm.get(id=vm.id)).notes == "第一台\nsecond line"


async def test_filters_are_each_actors_own(services: Services) -> None:
    filters = services.saved_filters
    await filters.save(ADMIN, " Busy ", {"state": "running"})
    await filters.save(ADMIN, "Busy", {"tag": "web"})
    await filters.save(OTHER, "Busy", {"q": "x"})
    (row,) = await filters.of(ADMIN)
    assert (row.name, row.query) == ("Busy", {"tag": "web"})
    await filters.delete(OTHER, row.id)
    assert await SavedFilter.all().count() == 2
    for name, query in (("", {"q": "x"}), ("x" * 41, {"q": "x"}), ("a\nb", {"q": "x"}), ("empty", {})):
        with pytest.raises(InvalidInput):
            await filters.save(ADMIN, name, query)
    for number in range(MOST - 1):
        await filters.save(ADMIN, f"n{number}", {"q": "x"})
    with pytest.raises(Conflict, match="At most 30"):
        await filters.save(ADMIN, "one more", {"q": "x"})
    await filters.save(ADMIN, "Busy", {"q": "again"})
    await filters.delete(ADMIN, row.id)
    assert len(await filters.of(ADMIN)) == MOST - 1


async def test_the_last_hour_of_many(services: Services, fake_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one query: what is stored, and over it what only memory knows; a gap stays one."""
    vms = [await make(services, f"vm-{n}") for n in range(1, 4)]
    await services.observer.stop()
    metrics, clock = services.metrics, 1_800_000_030.0
    monkeypatch.setattr(metrics, "_clock", lambda: clock)
    metrics._tracks = {table: {} for table in metrics._tracks}
    await VmMetrics.all().delete()
    for vm in vms[:2]:
        await VmMetrics.bulk_create(
            VmMetrics(vm_id=vm.id, step_seconds=step, slot=slot, start=start, points=points)
            for step, slot, start, points in history.rows(int(clock), gap=range(600, 1200))
        )
    vms[0].cpu_percent = vms[2].cpu_percent = 77.0
    metrics.vms_seen(vms[0].host_id, [vms[0], vms[2]])
    counted: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            counted.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)
    found = await metrics.cpu_of_vms([vm.id for vm in vms])
    assert len([query for query in counted if "vm_metrics" in query]) == 1, counted
    assert set(found) == {vm.id for vm in vms}
    assert [len(values) for values in found.values()] == [60, 60, 60]
    first, second, third = (found[vm.id] for vm in vms)
    assert first[:-1] == second[:-1]
    assert first[-1] == third[-1] == pytest.approx(77, rel=0.01)
    assert third[:-1] == [None] * 59
    assert [place for place, value in enumerate(second) if value is None] == list(range(40, 50)), second
    assert await metrics.cpu_of_vms([2_000_000_000]) == {}
