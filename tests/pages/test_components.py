"""The page of all components: for developers only."""

from __future__ import annotations

import dataclasses
import re

import pytest

from panel.settings import Settings
from panel.web import TEMPLATES
from tests.pages.conftest import Browser

PATHS = ("/dev/components", "/dev/series")


@pytest.fixture
def debug() -> bool:
    """A developer's panel, unless a test says otherwise."""
    return True


@pytest.fixture
def settings(settings: Settings, debug: bool) -> Settings:
    """Those of such a panel."""
    return dataclasses.replace(settings, debug=debug)


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_shows_every_macro(browser: Browser, language: str) -> None:
    """Whatever macro there is for pages is used there, so that a change of it can be looked at."""
    browser.headers["Accept-Language"] = language
    await browser.get("/dev/components")
    assert browser.status == 200
    assert 'style="' not in browser.html
    source = (TEMPLATES / "pages/dev/components.html").read_text()
    frame = "".join(path.read_text() for path in (TEMPLATES / "layouts").glob("*.html"))
    macros = {name: (TEMPLATES / f"macros/{name}.html").read_text() for name in ("ui", "forms")}
    within = "".join(macros.values()) + (TEMPLATES / "partials/lists.html").read_text()
    for name, text in macros.items():
        for macro in re.findall(r"{% macro ([a-z]\w*)\(", text):
            by_another = len(re.findall(rf"(?<!macro )\b{macro}\((?!label, name|\.\.\.)", within)) > 1
            assert f"{name}.{macro}(" in source + frame or by_another, f"{name}.{macro} is not shown"


async def test_its_buttons_answer(browser: Browser) -> None:
    """Charts have something to draw; a button gives a toast, or without JavaScript a notice."""
    data = (await (await browser.client.get("/dev/series?range=24h")).get_json())["data"]
    assert data["step_seconds"] == 60
    assert {len(values) for values in data["series"].values()} == {360}
    await browser.get("/dev/components")
    await browser.post("/dev/toast", level="error")
    assert browser.path == "/dev/components"
    assert "A sentence that says in plain words" in browser.text
    form = {"level": "warning", "csrf_token": browser.csrf}
    answer = await browser.client.post("/dev/toast", form=form, headers={"HX-Request": "true"})
    assert '"level": "warning"' in answer.headers["HX-Trigger"]


@pytest.mark.parametrize("debug", [False])
async def test_nobody_else_sees_it(browser: Browser) -> None:
    """Without the setting there is no such page."""
    await browser.get("/settings")
    form = {"csrf_token": browser.csrf}
    for path in PATHS:
        await browser.get(path)
        assert browser.status == 404, path
    answer = await browser.client.post("/dev/toast", form=form, headers={"HX-Request": "true"})
    assert answer.status_code == 404
