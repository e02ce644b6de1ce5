"""Backup, restore and the move to another database: every row of every table, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from panel import models
from panel.errors import ConfigError
from panel.models import dump, holding
from panel.models.database import close_database, migrate, open_database
from panel.security import SecretBox
from panel.services.backups import PASSING, backup, migrate_to, restore
from panel.settings import Settings
from tests.models.test_migrations import content, populate

pytestmark = pytest.mark.slow


@pytest.fixture
async def settings(url: str, tmp_path: Path) -> Settings:
    """A panel's settings over a database with two rows in every table."""
    return await filled(Settings(data_folder=tmp_path / "data", database_url=url))


async def filled(settings: Settings) -> Settings:
    """Two rows in every table; a secret is sealed with the data folder's key."""
    box = SecretBox.open(settings.data_folder)
    await migrate(settings.database)
    await open_database(settings.database)
    await populate()
    await models.Setting.create(key="access_token", value=box.seal("the-token"))
    await close_database()
    return settings


async def stored(url: str) -> dict[str, list[dict[str, Any]]]:
    """All that a database has."""
    await open_database(url)
    found = await content()
    await close_database()
    return found


async def test_a_restored_database_is_what_it_was(settings: Settings, tmp_path: Path) -> None:
    before = await stored(settings.database)
    file = tmp_path / "panel.backup"
    saved = await backup(settings, file)
    assert file.stat().st_mode & 0o777 == 0o600
    await open_database(settings.database)
    await models.Vm.all().delete()
    await models.Host.filter(name="h1").update(name="renamed")
    await models.Host.create(name="later", engine="fake")
    await close_database()
    assert await restore(settings, file) == saved
    after = await stored(settings.database)
    assert {name: after[name] for name in after if name not in PASSING} == {
        name: before[name] for name in before if name not in PASSING
    }
    assert [after[name] for name in PASSING] == [[]] * len(PASSING), "no login comes back to life"


async def test_keys_go_on_after_those_that_are_there(settings: Settings, tmp_path: Path) -> None:
    await backup(settings, tmp_path / "b")
    await restore(settings, tmp_path / "b")
    await open_database(settings.database)
    known = {host.id for host in await models.Host.all()}
    assert (await models.Host.create(name="next", engine="fake")).id > max(known)
    await models.LogEntry.create(at=(await models.LogEntry.first()).at, action="a", message={})  # type: ignore[union-attr]


@pytest.mark.live
async def test_the_move_to_postgresql_and_back(tmp_path: Path, postgres_url: str) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    before = await stored(settings.database)
    copied = await migrate_to(settings, postgres_url)
    assert copied.rows == sum(len(rows) for rows in before.values())
    there = Settings(data_folder=tmp_path / "data", database_url=postgres_url)
    dump_of_both = [await digests(settings.database), await digests(postgres_url)]
    assert dump_of_both[0] == dump_of_both[1]
    assert not list((tmp_path / "data").glob(".moving*"))
    with pytest.raises(ConfigError, match="not empty"):
        await migrate_to(settings, postgres_url)
    back = f"sqlite://{tmp_path}/back.sqlite3"
    await migrate_to(there, back)
    assert await stored(back) == before


async def digests(url: str) -> dict[str, tuple[int, str]]:
    """Number and digest of the rows of each table."""
    await open_database(url)
    found = {}
    for table, model in dump.tables().items():
        digest = dump.Digest()
        async for row in dump.read_rows(model, model._meta.db):
            digest.add(row)
        found[table] = (digest.rows, digest.value)
    await close_database()
    return found


@pytest.mark.live
async def test_no_restore_while_somebody_is_connected(tmp_path: Path, postgres_url: str) -> None:
    import asyncpg

    settings = await filled(Settings(data_folder=tmp_path / "data", database_url=postgres_url))
    await backup(settings, tmp_path / "b")
    other = await asyncpg.connect(postgres_url)
    try:
        with pytest.raises(ConfigError, match="1 other connections"):
            await restore(settings, tmp_path / "b")
    finally:
        await other.close()
    await restore(settings, tmp_path / "b")


async def test_sqlite_takes_one_process(tmp_path: Path) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    await backup(settings, tmp_path / "b")
    with holding.held(settings.database):
        await backup(settings, tmp_path / "c")
        for refused in (restore(settings, tmp_path / "b"), migrate_to(settings, f"sqlite://{tmp_path}/x.sqlite3")):
            with pytest.raises(ConfigError, match=r"Another process \(\d+\) serves this database already"):
                await refused


async def test_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    before = await stored(settings.database)
    file = tmp_path / "b"
    await backup(settings, file)
    whole = file.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    host = next(n for n, line in enumerate(lines) if b'"h1"' in line)
    damaged = {
        "cut": whole[:-20],
        "no foot": gzip.compress(b"".join(lines[:-1])),
        "a row less": gzip.compress(b"".join(lines[:host] + lines[host + 1 :])),
        "another name": gzip.compress(b"".join(line.replace(b'"h1"', b'"h7"') for line in lines)),
        "not JSON": gzip.compress(b"".join([*lines[:host], b"{\n", *lines[host:]])),
        "more after the foot": gzip.compress(b"".join([*lines, b"{}\n"])),
        "no gzip": b"what is this",
        "empty": b"",
        "other JSON": gzip.compress(b"[1]\n"),
        "a later form": gzip.compress(b'{"openidcs_backup":2}\n'),
    }
    for name, raw in damaged.items():
        file.write_bytes(raw)
        with pytest.raises(ConfigError, match=r"damaged|not a backup|newer"):
            await restore(settings, file)
        assert await stored(settings.database) == before, name


async def test_an_older_panels_file_lacks_columns_and_a_newer_ones_is_refused(tmp_path: Path) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    file = tmp_path / "b"
    await backup(settings, file)
    rewrite(file, "vm", lambda row: {name: value for name, value in row.items() if name != "notes"})
    await restore(settings, file)
    await open_database(settings.database)
    assert [vm.notes for vm in await models.Vm.all()] == ["", ""]
    await close_database()
    before = await stored(settings.database)
    rewrite(file, "vm", lambda row: row | {"colour": "blue"})
    with pytest.raises(ConfigError, match="no column colour"):
        await restore(settings, file)
    rewrite(file, "vm", lambda row: {k: v for k, v in row.items() if k != "colour"} | {"host_id": 999})
    with pytest.raises(ConfigError, match="does not fit"):
        await restore(settings, file)
    assert await stored(settings.database) == before


def rewrite(file: Path, table: str, change: Any) -> None:
    """Change the rows of one table in a backup, and its foot with them."""
    head, *lines, _foot = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    current, written, sums = "", [head], dict[str, dump.Digest]()
    for line in lines:
        if isinstance(line, dict):
            current = line["table"]
            sums[current] = dump.Digest()
            written.append(line)
        else:
            row = change(line[0]) if current == table else line[0]
            sums[current].add(row)
            written.append([row])
    written.append({"end": {name: {"rows": it.rows, "digest": it.value} for name, it in sums.items()}})
    file.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in written)))


async def test_secrets_need_their_key(tmp_path: Path) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    await backup(settings, tmp_path / "without")
    await backup(settings, tmp_path / "with", with_key=True)
    assert b"the-token" not in gzip.decompress((tmp_path / "with").read_bytes())
    key = (tmp_path / "data" / "secret.key").read_text().strip()
    assert key.encode() not in gzip.decompress((tmp_path / "without").read_bytes())
    elsewhere = await filled(Settings(data_folder=tmp_path / "other"))
    before = await stored(elsewhere.database)
    with pytest.raises(ConfigError, match=r"another secret\.key"):
        await restore(elsewhere, tmp_path / "without")
    assert await stored(elsewhere.database) == before
    await restore(elsewhere, tmp_path / "with")
    await open_database(elsewhere.database)
    sealed = (await models.Setting.get(key="access_token")).value
    assert SecretBox.open(elsewhere.data_folder).unseal(sealed) == "the-token"
    kept = list((tmp_path / "other").glob("secret.key.before-*"))
    assert len(kept) == 1
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "other").glob("secret.key*")} == {0o600}


async def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    settings = await filled(Settings(data_folder=tmp_path / "data"))
    with pytest.raises(ConfigError, match="cannot be written"):
        await backup(settings, tmp_path / "nowhere" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
