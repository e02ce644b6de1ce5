"""Settings: where they come from, what they refuse, and that their documentation is true."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from panel.errors import ConfigError
from panel.settings import Settings, load_settings
from tests.conftest import ROOT

KINDS = {Path: "path", str: "text", int: "integer", float: "number", bool: "true or false"}
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)


def default_of(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if str(value) else "empty"


def test_the_table_is_the_class() -> None:
    hints = get_type_hints(Settings)
    wanted = [(item.name, KINDS[hints[item.name]], default_of(item.default)) for item in fields(Settings)]
    rows = ROW.findall((ROOT / "docs/settings.md").read_text("utf-8"))
    assert [(name, kind, default) for name, kind, default, _text in rows] == wanted


def test_the_docstring_is_the_table() -> None:
    documented = dict(re.findall(r"^ {8}(\w+): (.+)$", Settings.__doc__ or "", re.MULTILINE))
    for name, _kind, default, text in ROW.findall((ROOT / "docs/settings.md").read_text("utf-8")):
        said, _dot, rest = documented[name].partition(" Default: ")
        assert rest.rstrip(".").split(";")[0].replace("``", "`") == default, name
        plain = (said.rstrip(".") + (";" + rest.partition(";")[2] if ";" in rest else "")).replace("`", "").rstrip(".")
        assert plain == text.replace("`", ""), name


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "panel.toml").write_text('port = 2000\nhost = "::1"\nfake_engine = true\nobserve_seconds = 2\n')
    settings = load_settings({"PANEL_DATA_FOLDER": str(tmp_path), "PANEL_PORT": "3000"})
    assert (settings.port, settings.host, settings.fake_engine) == (3000, "::1", True)
    assert settings.data_folder == tmp_path
    assert settings.database == f"sqlite://{tmp_path}/panel.sqlite3"
    assert load_settings({}).port == 1880


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PANEL_PORT": "many"}, "port"),
        ({"PANEL_PORT": "65536"}, "port"),
        ({"PANEL_PORT": "-1"}, "port"),
        ({"PANEL_DEBUG": "perhaps"}, "debug"),
        ({"PANEL_LANGUAGE": "fr"}, "language"),
        ({"PANEL_BASE_PATH": "panel"}, "base_path"),
        ({"PANEL_BASE_PATH": "/panel/"}, "base_path"),
        ({"PANEL_LOG_LEVEL": "loud"}, "log_level"),
        ({"PANEL_OBSERVE_SECONDS": "0"}, "observe_seconds"),
        ({"PANEL_OBSERVE_TIMEOUT": "-1"}, "observe_timeout"),
        ({"PANEL_LOGIN_ATTEMPTS": "0"}, "login_attempts"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings({"PANEL_DATA_FOLDER": str(tmp_path)} | variables)


@pytest.mark.parametrize("content", ["port = ", "colour = 1\n", 'port = "many"\n', "\udcff"])
def test_a_bad_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "panel.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError):
        load_settings({"PANEL_DATA_FOLDER": str(tmp_path)})
