"""The log's page: filters that combine, and what they leave as a file."""

from __future__ import annotations

import csv
import html
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerAction, SnapshotAction, VmChange
from panel.errors import Forbidden
from panel.i18n import Text
from panel.models import LogEntry, TaskStatus
from panel.pages.logexport import harmless
from panel.security import PANEL, Actor, Source
from panel.services import audit as module
from panel.services.audit import LogFilter
from panel.services.container import Services
from panel.services.texts import pack
from tests.pages.conftest import Browser, vm_named

NEW_YEAR = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def entry(
    message: str = "Something.", *, actor: str = "ann", source: str = "api", level: str = "info",
    action: str = "vm.power", name: str = "alpha/vm-1", kind: str = "vm", days: int = 0, address: str = "192.0.2.7",
) -> None:  # fmt: skip
    await LogEntry.create(
        at=NEW_YEAR + timedelta(days=days), level=level, actor=actor, source=source, address=address, action=action,
        object_kind=kind, object_name=name, message=pack(Text(message)),
    )  # fmt: skip


@pytest.fixture
async def logged(browser: Browser) -> Browser:
    """Six entries, each of which differs from the first in one thing or two."""
    await LogEntry.all().delete()
    await entry("First.")
    await entry("By page.", source="page", days=1)
    await entry("By Bob.", actor="bob", days=2)
    await entry("A warning.", level="warning", days=3)
    await entry("Of the host.", action="host.scan", kind="host", name="alpha", days=4)
    await entry("Of another.", name="alphabet/vm-1", action="vm.delete", days=5)
    return browser


async def found(browser: Browser, query: str) -> list[str]:
    """The messages of the file that the page with this address offers; the page must show the same."""
    await browser.get(f"/logs?{query}")
    assert browser.status == 200
    shown, text = browser.html, browser.text
    assert f'href="/logs.jsonl{"?" if query else ""}' in shown
    await browser.get(f"/logs.jsonl?{query}")
    messages = [json.loads(line)["message"] for line in browser.html.splitlines()]
    assert all(message in text for message in messages)
    return messages


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("source=page", ["By page."]),
        ("actor=bob", ["By Bob."]),
        ("level=warning", ["A warning."]),
        ("action=host.scan", ["Of the host."]),
        ("kind=host", ["Of the host."]),
        ("object=alphabet", ["Of another."]),
        ("object=alpha&actor=ann&level=info", ["Of the host.", "By page.", "First."]),
        ("find=DELETE", ["Of another."]),
        ("from=2026-01-05&object=alpha", ["Of the host."]),
        ("from=2026-01-02&to=2026-01-03", ["By Bob.", "By page."]),
        ("to=2026-01-01&source=page", []),
        ("level=nonsense&source=x&kind=y&from=z&to=2026-02-30&object=alpha%2Fvm-1&actor=bob", ["By Bob."]),
        ("from=0001-01-01&to=9999-12-31&action=vm.delete", ["Of another."]),
        ("object=%25", []),
    ],
)
async def test_filters_combine(logged: Browser, query: str, messages: list[str]) -> None:
    """And what makes no sense counts as not given."""
    assert await found(logged, query) == messages


async def test_the_page_keeps_its_filters(logged: Browser) -> None:
    """In the form, in the links of objects and people, and in the addresses of the files."""
    await logged.get("/logs?level=info&from=2026-01-01&action=vm.power")
    for piece in ('value="2026-01-01"', '<option value="vm.power" selected>', '<option value="info" selected>',
                  'href="/logs.csv?action=vm.power&amp;level=info&amp;from=2026-01-01"',
                  'href="/logs?action=vm.power&amp;level=info&amp;from=2026-01-01&amp;actor=bob"',
                  "192.0.2.7"):  # fmt: skip
        assert piece in logged.html, piece


async def test_csv_is_read_by_spreadsheets(logged: Browser) -> None:
    """As UTF-8, in the reader's language, and without anything to compute."""
    await entry('=HYPERLINK("http://evil","x")\nand more', actor="@sum", name="-1+2", address="", days=6)
    logged.headers["Accept-Language"] = "zh"
    response = await logged.get("/logs.csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="openidcs-log-')
    raw = await response.get_data(as_text=False)
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    assert len(rows) == 1 + 7
    assert "对象" in rows[0]
    assert rows[1] == ["2026-01-07 12:00:00", "信息", '\'=HYPERLINK("http://evil","x")\nand more', "vm.power", "'-1+2",
                       "'@sum", "API", ""]  # fmt: skip
    assert rows[-1][2:] == ["First.", "vm.power", "alpha/vm-1", "ann", "API", "192.0.2.7"]


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "＝1"])
def test_formulas_are_text(cell: str) -> None:
    assert harmless(cell) == "'" + cell
    assert harmless("a" + cell) == "a" + cell


async def test_an_export_reads_in_batches(logged: Browser, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry once, newest first, though more are written and the oldest dropped meanwhile."""
    monkeypatch.setattr(module, "BATCH", 2)
    actor = Actor("ann", Source.PAGE)
    oldest, *expected = [row.id for row in await LogEntry.filter(actor="ann").order_by("id")]
    ids: list[int] = []
    async for row in await services.audit.export(actor, LogFilter(actor="ann")):
        ids.append(row.id)
        await entry("Later.")
        await LogEntry.filter(id=oldest).delete()
    assert ids == sorted(expected, reverse=True)
    with pytest.raises(Forbidden):
        await services.audit.export(Actor("nobody", Source.PAGE, permissions=frozenset()), LogFilter())


async def test_only_whoever_is_logged_in(stranger: Browser) -> None:
    for path in ("/logs", "/logs.csv", "/logs.jsonl"):
        await stranger.get(path)
        assert stranger.path.startswith("/login"), path


async def test_what_was_asked_of_a_vm(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Which power action, which snapshot, what was changed: not only that something was. Each in the reader's language."""
    vm = await vm_named("vm-0001")
    for task in (
        services.power.act(PANEL, vm, PowerAction.STOP),
        services.snapshots.act(PANEL, vm, SnapshotAction.TAKE, "before"),
        services.snapshots.act(PANEL, vm, SnapshotAction.ROLLBACK, "before"),
        services.vms.update(PANEL, vm, VmChange(cpu_count=3, memory_mib=3072)),
        services.vms.update(PANEL, vm, VmChange(), limits={"speed_up": 10}),
    ):
        assert (await services.tasks.wait((await task).id, 10)).status is TaskStatus.SUCCEEDED
    await browser.get("/logs?object=alpha/vm-0001")
    text = html.unescape(browser.text)
    for words in ("Change a VM's power: force off", "Take snapshot before", "Roll back to snapshot before",
                  "Change a VM: CPUs, Memory", "Change a VM vm.update"):  # fmt: skip
        assert words in text, words
    await browser.get("/tasks")
    text = html.unescape(browser.text)
    for words in (
        "Change a VM's power: force off The VM is stopped.",
        "Take snapshot before",
        "Change a VM: CPUs, Memory",
    ):
        assert words in text, words
    browser.headers["Accept-Language"] = "zh"
    await browser.get("/logs?object=alpha/vm-0001&action=vm.power")
    assert "强制关机" in browser.text
