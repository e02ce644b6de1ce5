"""A sentinel for every secret goes in; it comes out nowhere but where it was asked for."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from quart import Quart

from panel.engines.fake.behaviour import Manner
from panel.services.container import Services
from panel.web import SESSION_COOKIE
from tests.api.examples import HERE
from tests.api.kit import small, turn
from tests.conftest import ApiClient, seen

TOKEN = "SENTINEL-token-9d1c"
HOST = "SENTINEL-hostpw-4e7a"
GUEST = "SENTINEL-guestpw-52bd"
FIRST_BOOT = "SENTINEL-firstboot-c07f"
DOMAIN_KEY = "SENTINEL-domainkey-77aa"
WRONG = "SENTINEL-wrong-1f3e"
TELLS_THE_TOKEN = {"/api/system/tquery", "/api/system/resets", "/api/system/create"}


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """All that is written to the terminal, as ``openidcs serve`` writes it, tracebacks included."""
    from panel.server import configure_logging

    written = io.StringIO()
    before = structlog.get_config()
    configure_logging("debug")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    yield written
    structlog.configure(**before)


def holds(text: str | bytes) -> list[str]:
    """The secrets in a text."""
    content = text.decode("latin-1") if isinstance(text, bytes) else text
    return re.findall(r"SENTINEL-\w+", content)


async def work(api: ApiClient, services: Services) -> list[str]:
    """Use every secret, in success and in failure; the answers."""
    answers: list[str] = []

    async def call(method: str, path: str, body: object = None) -> None:
        answers.append(repr(await api(method, path, body)))

    host = {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "world1", "server_pass": HOST}
    await call("POST", "/api/server/create", host)
    await seen(services, "host1")
    await call("POST", "/api/server/create", host)
    await call("POST", "/api/server/create", host | {"server_name": "h2", "behaviour": "refusing"})
    await call("PUT", "/api/server/update/host1", {"server_pass": HOST + "\n", "server_user": 5})
    await call("POST", "/api/client/create/host1?wait=5", small("vm-1", os_pass=FIRST_BOOT, start=True))
    await call("POST", "/api/client/create/host1?wait=5", small("vm-1", os_pass=FIRST_BOOT))
    await call("POST", "/api/client/create/host1?wait=5", small("vm-2", os_pass=FIRST_BOOT + "\n"))
    await call("POST", "/api/client/password/host1/vm-1", {"password": GUEST})
    await call("POST", "/api/client/password/host1/vm-1", {"password": GUEST * 9})
    domain = {"domain": "www.example.com", "target_port": 80, "ssl_enabled": True, "certificate": "x"}
    for wrong in (DOMAIN_KEY, DOMAIN_KEY * 9999, [DOMAIN_KEY]):
        await call("POST", "/api/client/proxys/create/host1/vm-1", domain | {"private_key": wrong})
    turn(Manner.FAILING, fail_at={"create": 2, "password": 1})
    await call("POST", "/api/client/create/host1?wait=5", small("vm-3", os_pass=FIRST_BOOT))
    await call("POST", "/api/client/password/host1/vm-1", {"password": GUEST})
    turn(Manner.GOOD)
    await call("POST", "/api/system/saving")
    await call("POST", "/api/system/loader")
    await call("POST", "/api/system/create", {"token": TOKEN + " "})
    return answers


async def break_inside(api: ApiClient) -> None:
    """Errors that nobody foresaw, with secrets in the variables around them: they are logged with a traceback."""
    from tortoise import connections

    await connections.get("default").execute_script("ALTER TABLE task RENAME TO gone")
    await api("POST", "/api/client/password/host1/vm-1", {"password": GUEST})
    await api("POST", "/api/client/create/host1", small("vm-4", os_pass=FIRST_BOOT))
    await connections.get("default").execute_script("ALTER TABLE gone RENAME TO task")
    await connections.get("default").execute_script("ALTER TABLE log_entry RENAME TO gone")
    await api("PUT", "/api/server/update/host1", {"server_pass": HOST})
    await connections.get("default").execute_script("ALTER TABLE gone RENAME TO log_entry")


async def test_secrets_stay_inside(
    app: Quart, services: Services, terminal: io.StringIO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.conftest import ADMIN

    await services.access.set_token(ADMIN, TOKEN)
    api = ApiClient(app.test_client(), TOKEN)
    for answer in await work(api, services):
        assert not holds(answer), answer

    for route in HERE:
        if route.method == "GET":
            path = route.path.replace("<hs_name>", "host1").replace("<vm_uuid>", "vm-1")
            response = await api.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
            assert response.status_code == 200, path
            found = holds(await response.get_data() + str(response.headers).encode())
            assert bool(found) == (path in TELLS_THE_TOKEN), path
    tasks = await api.ok("GET", "/api/system/tasker?limit=100")
    for task in tasks["tasks"]:
        assert not holds(repr(await api.ok("GET", f"/api/system/tasker?id={task['id']}")))
    wrong = await app.test_client().get("/api/server/status", headers={"Authorization": f"Bearer {WRONG}"})
    assert not holds(await wrong.get_data())

    cookie, _session = await services.access.login(TOKEN, "192.0.2.7")
    await pages_tell_nothing(app, cookie)
    await asyncio.sleep(0.3)  # a round of observation
    assert "Create a VM" in terminal.getvalue()
    assert not holds(terminal.getvalue())
    captured = capsys.readouterr()
    assert not holds(captured.out + captured.err)

    for file in sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not holds(content), file.name
        assert cookie.encode() not in content, f"{file.name}: a stolen database must open nothing"
    assert {file.name for file in (tmp_path / "data").iterdir()} >= {
        "panel.sqlite3",
        "configuration.json",
        "secret.key",
    }


async def test_tracebacks_tell_no_values(app: Quart, services: Services, terminal: io.StringIO) -> None:
    api = ApiClient(app.test_client(), await services.access.token())
    await work(api, services)
    api.token = await services.access.token()
    await break_inside(api)
    assert "OperationalError" in terminal.getvalue(), "the failures were logged with their tracebacks"
    assert not holds(terminal.getvalue())


async def pages_tell_nothing(app: Quart, cookie: str) -> None:
    """Every page that can be opened by a GET, logged in: only the settings page may show the token."""
    browser = app.test_client()
    opened = 0
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or set()) or rule.rule.startswith(("/api/", "/assets/")):
            continue
        path = rule.rule
        for name, value in (("host", "host1"), ("name", "host1"), ("vm", "vm-1"), ("host_name", "host1")):
            path = re.sub(rf"<(?:\w+:)?{name}>", value, path)
        if "<" in path or "live" in path or "event" in path or "stream" in path:
            continue
        async with asyncio.timeout(5):
            response = await browser.get(path, headers={"Cookie": f"{SESSION_COOKIE}={cookie}", "Accept": "text/html"})
            content = await response.get_data()
        if response.status_code == 200:
            opened += 1
        found = set(holds(content))
        assert not found or (path.startswith("/settings") and found == {TOKEN.partition("-9d1c")[0]}), (path, found)
    assert opened >= 3
