"""Migrations on populated databases: nothing is lost, and the schema is the models'."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tortoise import Tortoise, connections
from tortoise.exceptions import IntegrityError
from tortoise.migrations.api import migrate as run_migrations
from tortoise.migrations.autodetector import MigrationAutodetector

from panel import models
from panel.errors import ConfigError
from panel.models import database
from panel.models.database import close_database, config, migrate, open_database
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MODELS: list[Any] = [model for name in models.__all__ if hasattr(model := getattr(models, name), "_meta")]
MIGRATIONS = sorted(path.stem for path in (ROOT / "panel/migrations").glob("0*.py"))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXT = {"msgid": "There is no host {name}.", "params": {"name": "测试 '\";--"}}
FOLLOW_UP = """
from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("models", "LAST")]
    operations = [
        ops.AlterField(model_name="Host", name="address", field=fields.CharField(default="", max_length=2000)),
        ops.AlterField(model_name="Vm", name="title", field=fields.CharField(default="", max_length=2000)),
        ops.AlterField(model_name="Task", name="kind", field=fields.CharField(max_length=200)),
    ]
""".replace("LAST", MIGRATIONS[-1])


async def populate() -> dict[str, int]:
    """Rows in every table, twice each; how many."""
    for number in (1, 2):
        host = await models.Host.create(
            name=f"h{number}", engine="fake", secret="sealed", options={"a": "b"}, problem=TEXT, seen_at=MOMENT,
            health_since=MOMENT, status={"cpu_percent": 1.5}, leftovers=[{"path": "/x", "size_bytes": 2**40}],
        )  # fmt: skip
        await models.HostImage.create(host=host, name="i", key="k", size_bytes=2**40, virtual_gib=1.5, seen_at=MOMENT)
        vm = await models.Vm.create(
            host=host, name="vm", ref="r", title="测试", cpu_count=1, memory_mib=2**31 - 1, limits={"speed_u": 1},
            pending=["cpu_count"], rates={"net_rx": 1.5}, report={"cpu_usage": 1.0}, report_at=MOMENT, seen_at=MOMENT,
            agent=True, cpu_percent=0.5, memory_used_mib=1,
        )  # fmt: skip
        await models.VmTag.create(vm=vm, name="生产")
        await models.SavedFilter.create(actor=f"a{number}", name="测试", query={"tag": "生产"})
        await models.Nic.create(vm=vm, name="eth0", mode="nat", mac="52:54:00:00:00:01", addresses=["10.0.0.1"])
        nic = await models.Nic.get(vm=vm)
        network = await models.Network.create(host=host, name="nat", mode="nat", reserved=[["10.0.0.1", "10.0.0.9"]])
        await models.Address.create(network=network, nic=nic, ip="10.0.0.10")
        forward = await models.Forward.create(
            host=host, vm=vm, protocol="tcp", external_start=80, external_end=81, internal_ip="10.0.0.10",
            internal_start=8080, problem=TEXT, applied_at=MOMENT,
        )  # fmt: skip
        await models.ForwardPort.create(forward=forward, host=host, protocol="tcp", port=80)
        await models.Pool.create(
            network=network, subnet="192.0.2.0/24", dns=["192.0.2.1"], ranges=[["192.0.2.9", "192.0.2.20"]]
        )
        certificate = await models.Certificate.create(names=["*.a"], chain="c", private_key="sealed", expires_at=MOMENT)
        await models.Proxy.create(
            host=host, vm=vm, domain=f"{number}.example.org", target_ip="10.0.0.10", target_port=80, ssl=True,
            certificate=certificate, problem=TEXT, probe_at=MOMENT,
        )  # fmt: skip
        await models.Traffic.create(vm=vm, month="2026-11", sent_bytes=2**50)
        await models.TrafficMark.create(vm=vm, sent_bytes=2**50)
        chunk = {"step_seconds": 10, "slot": number, "start": 2**40, "points": bytes(range(256))}
        await models.VmMetrics.create(vm=vm, **chunk)
        await models.HostMetrics.create(host=host, **chunk)
        task = await models.Task.create(
            id=f"{number:032}", kind="vm.create", lock=f"vm:{vm.id}", vm_id=vm.id, host_id=host.id, message=TEXT,
            result={"a": [1]}, params="sealed",
        )  # fmt: skip
        await models.TaskLine.create(task=task, at=MOMENT, level="info", message=TEXT)
        await models.LogEntry.create(at=MOMENT, action="a", message=TEXT)
        await models.ProcessNode.create(
            id=f"p{number}", machine="m", address="a", pid=1, started_at=MOMENT, beat_at=MOMENT
        )
        await models.Setting.create(key=f"k{number}", value="v")
        await models.Session.create(id=f"s{number}", actor="a", csrf="c", used_at=MOMENT)
        await models.LoginFailure.create(address="192.0.2.1", at=MOMENT)
        await models.ConsoleTicket.create(
            id=f"t{number}", actor="a", credential="c", vm_id=vm.id, vm_ref="r", kind="vnc", purpose="page",
            expires_at=MOMENT,
        )  # fmt: skip
    return await counts()


async def counts() -> dict[str, int]:
    """Rows by table."""
    return {model._meta.db_table: await model.all().count() for model in MODELS}


async def content() -> dict[str, list[dict[str, Any]]]:
    """All that is stored."""
    return {model._meta.db_table: await model.all().order_by(model._meta.pk_attr).values() for model in MODELS}


@pytest.fixture
async def filled(url: str) -> str:
    """A migrated database with rows in every table."""
    assert await migrate(url) == MIGRATIONS
    await open_database(url)
    rows = await populate()
    assert set(rows.values()) == {2}
    await close_database()
    return url


@pytest.fixture
def follow_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds a migration after the project's own, in a package that is thrown away."""

    def add(text: str) -> None:
        package = tmp_path / f"later_{uuid4().hex}"
        shutil.copytree(ROOT / "panel/migrations", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "0099_wider.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

        def changed(url: str, *, migrating: bool = False) -> dict[str, Any]:
            values = config(url, migrating=migrating)
            values["apps"]["models"]["migrations"] = package.name
            return values

        monkeypatch.setattr(database, "config", changed)

    return add


async def test_the_schema_is_that_of_the_models() -> None:
    values = config("sqlite://:memory:")
    await Tortoise.init(config=values, init_connections=False)
    found = await MigrationAutodetector(Tortoise.apps, values["apps"]).changes()
    assert [writer.operations for writer in found] == [], "run: tortoise makemigrations"
    await close_database()


async def uniques(table: str, *, sqlite: bool) -> set[frozenset[str]]:
    """The sets of columns that the database keeps unique together."""
    ask = connections.get("default").execute_query_dict
    if sqlite:
        names = [row["name"] for row in await ask(f'PRAGMA index_list("{table}")') if row["unique"]]
        found = [await ask(f'PRAGMA index_info("{name}")') for name in names]
        return {frozenset(row["name"] for row in rows) for rows in found}
    rows = await ask(
        "SELECT array_agg(a.attname::text) AS names FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND "
        f"a.attnum = ANY(i.indkey) WHERE i.indisunique AND i.indrelid = '\"{table}\"'::regclass GROUP BY i.indexrelid"
    )
    return {frozenset(row["names"]) for row in rows}


async def test_what_is_unique_together_is_kept_so_by_the_database(filled: str) -> None:
    """Tortoise makes a table of SQLite anew to alter a field, and the new one has lost these."""
    await open_database(filled)
    groups = 0
    for model in MODELS:
        kept = await uniques(model._meta.db_table, sqlite=filled.startswith("sqlite://"))
        for group in model._meta.unique_together:
            columns = frozenset(model._meta.fields_map[name].source_field or name for name in group)
            assert columns in kept, (model.__name__, group, kept)
            groups += 1
    assert groups > 10


OLD_ROWS = (
    """INSERT INTO host (id, name, engine, address, "user", secret, disks_path, images_path, launch_path, options, enabled,
       created_at, health, version, leftovers)
       VALUES (7, 'old', 'fake', '', '', 'sealed', '', '', '', '{}', {true}, '2026-01-02 03:04:05', 'online', '', '[]')""",
    """INSERT INTO vm (id, host_id, name, ref, title, os_name, "user", cpu_count, memory_mib, disk_gib, limits, managed,
       creating, pending, created_at, state, known_state, rates)
       VALUES (8, 7, 'vm', 'ref', '', '', 'root', 1, 64, 1, '{}', {true}, {false}, '[]', '2026-01-02 03:04:05', 'stopped',
       'stopped', '{}')""",
    "INSERT INTO nic (id, vm_id, name, mode, mac, network, addresses) VALUES (9, 8, 'eth0', 'nat', '52:54:00:0:0:1', '', '[]')",
)


async def test_rows_of_the_first_release_come_through(url: str) -> None:
    if url.startswith("sqlite://"):
        Path(url.removeprefix("sqlite://")).parent.mkdir(parents=True, exist_ok=True)
    await run_migrations(config=config(url, migrating=True), target="models.0001_initial")
    true, false = ("1", "0") if url.startswith("sqlite://") else ("true", "false")
    for statement in OLD_ROWS:
        filled_in = statement.replace("{true}", true).replace("{false}", false)
        await connections.get("default").execute_query(filled_in)
    await connections.close_all()
    assert await migrate(url) == MIGRATIONS[1:]
    await open_database(url)
    host = await models.Host.get(name="old")
    assert (host.ports_start, host.ports_close) == (20000, 29999)
    assert (host.at_limit, host.at_limit_mbit, host.report_only, host.outside) == ("slow", 1, False, "")
    nic = await models.Nic.get(vm__host=host)
    assert (nic.mac, nic.port) == ("52:54:00:0:0:1", "")
    await close_database()


async def test_applying_again_changes_nothing(filled: str) -> None:
    await open_database(filled)
    before = await content()
    await close_database()
    assert await migrate(filled) == []
    await open_database(filled)
    assert await content() == before
    await close_database()


async def test_a_wider_column_on_a_parent_keeps_the_children(filled: str, follow_up: Callable[[str], None]) -> None:
    """Tortoise rebuilds SQLite tables; with foreign keys on, dropping the old one would delete every child."""
    await open_database(filled)
    before = await content()
    await close_database()
    follow_up(FOLLOW_UP)
    assert await migrate(filled) == ["0099_wider"]
    await open_database(filled)
    assert await content() == before
    await models.Host.filter(name="h1").delete()
    left = await counts()
    assert (left["host"], left["host_image"], left["vm"], left["nic"]) == (1, 1, 1, 1), "and they still belong to it"
    with pytest.raises(IntegrityError):
        await models.Task.create(id="x", kind="k", lock=(await models.Task.all().first()).lock)  # type: ignore[union-attr]
    with pytest.raises(IntegrityError):
        await models.Vm.create(host_id=999, name="x", ref="x", cpu_count=1, memory_mib=1)
    await close_database()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # PostgreSQL checks foreign keys itself
async def test_rows_without_their_parent_are_found(filled: str, follow_up: Callable[[str], None]) -> None:
    follow_up(FOLLOW_UP.replace("operations = [", "operations = [ops.RunSQL(\"DELETE FROM host WHERE name = 'h1'\"),"))
    with pytest.raises(ConfigError, match=r"left rows without their parent in: .*host_image.*vm"):
        await migrate(filled)


async def test_values_come_back_as_they_were(filled: str) -> None:
    await open_database(filled)
    host = await models.Host.get(name="h1")
    assert (host.problem, host.seen_at, host.leftovers[0]["size_bytes"]) == (TEXT, MOMENT, 2**40)
    vm = await models.Vm.get(host=host)
    assert (vm.title, vm.memory_mib, vm.pending, vm.state) == ("测试", 2**31 - 1, ["cpu_count"], "unknown")
    await close_database()


async def test_deleting_a_parent_deletes_its_children_and_no_others(filled: str) -> None:
    await open_database(filled)
    await models.Host.filter(name="h1").delete()
    await models.Task.filter(id=f"{1:032}").delete()
    left = await counts()
    assert left["vm"] == left["nic"] == left["host_image"] == left["task_line"] == 1
    assert left["log_entry"] == left["session"] == 2
    await close_database()


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://a:b@localhost/x", "foo://x", "postgres://nobody:x@127.0.0.1:1/x", "sqlite:///proc/no/x"],
)
@pytest.mark.parametrize("how", [migrate, open_database])
async def test_a_url_that_leads_nowhere(url: str, how: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigError):
        await how(url)
    await close_database()


def test_every_migration_has_a_number_of_its_own() -> None:
    names = sorted(path.stem for path in (ROOT / "panel/migrations").glob("[0-9]*.py"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_semicolon_in_what_becomes_a_table_comment(model: Any) -> None:
    """It cuts Tortoise's SQLite scripts in two."""
    assert ";" not in (model.__doc__ or "")
    assert ";" not in (model._meta.table_description or "")
    for field in model._meta.fields_map.values():
        assert ";" not in (field.description or "")


async def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/panel.sqlite3"
    await migrate(url)
    await open_database(url)
    connection = connections.get("default")
    for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 10000)):
        assert (await connection.execute_query_dict(f"PRAGMA {pragma}"))[0].popitem()[1] == value
    await close_database()
