"""``deploy/compose.yaml`` and the ``Dockerfile``, held to what the panel knows; and the panel as they start it, on PostgreSQL."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml  # type: ignore[import-untyped]

from panel.settings import Settings, load_settings
from tests.cluster.conftest import Postgres, until
from tests.conftest import ROOT
from tests.process import free_port

DEPLOY = ROOT / "deploy"
GIVEN = {"POSTGRES_PASSWORD": "0a1b2c"}  # what has to be said to start it
KNOWN = {f"PANEL_{field.name.upper()}" for field in fields(Settings)}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
CADDYFILE = (DEPLOY / "balancer.Caddyfile").read_text()


def filled(text: str, given: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-usual}`` and ``${NAME:?why}`` as Compose fills them in."""

    def fill(found: re.Match[str]) -> str:
        name, sign, rest = found["name"], found["sign"], found["rest"]
        if given.get(name):
            return given[name]
        if sign == ":-":
            return rest
        raise KeyError(f"{name} is needed: {rest}")

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<sign>:[-?])(?P<rest>[^}]*))?\}", fill, text)


def compose(given: Mapping[str, str] = GIVEN) -> dict[str, Any]:
    """The file, filled in."""
    found: dict[str, Any] = yaml.safe_load(filled((DEPLOY / "compose.yaml").read_text(), given))
    return found


def built(instruction: str) -> list[str]:
    """What the Dockerfile says after an instruction, in its last stage."""
    stage = DOCKERFILE.rpartition("\nFROM ")[2]
    return re.findall(rf"^{instruction} (.+)$", stage, re.MULTILINE)


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    words = shlex.split(" ".join(built("ENV")))
    return dict(word.split("=", 1) for word in words)


def test_a_password_has_to_be_given() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        compose({})


def test_every_variable_is_known() -> None:
    file = compose()
    panel = file["services"]["panel"]["environment"] | image_environment()
    assert {name for name in panel if name.startswith("PANEL_")} <= KNOWN
    load_settings(panel | {"PANEL_DATA_FOLDER": "/nowhere"})
    wanted = set(re.findall(r"\{\$(\w+)", CADDYFILE))
    assert set(file["services"]["balancer"]["environment"]) <= wanted


def test_names_and_places_meet() -> None:
    file = compose()
    services, volumes, networks = file["services"], file["volumes"], file["networks"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        used = service.get("networks", ["default"])
        assert set(used) <= {*networks, "default"}, name
        for place in service["volumes"]:
            source = place.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in volumes, place
    panel, postgres, balancer = services["panel"], services["postgres"], services["balancer"]
    url = urlsplit(panel["environment"]["PANEL_DATABASE_URL"])
    said = postgres["environment"]
    assert (url.hostname, url.username, url.password, url.path) == (
        "postgres", said["POSTGRES_USER"], said["POSTGRES_PASSWORD"], f"/{said['POSTGRES_DB']}",
    )  # fmt: skip
    address = balancer["networks"]["front"]["ipv4_address"]
    assert address == panel["environment"]["PANEL_TRUSTED_PROXIES"]
    assert ip_address(address) in ip_network(networks["front"]["ipam"]["config"][0]["subnet"])
    assert "front" in panel["networks"], "where the balancer is"
    assert "default" in panel["networks"], "where PostgreSQL is"
    assert re.findall(r"\{\$PANEL_NAME:(\w+)\}", CADDYFILE) == ["panel"]
    site = filled(balancer["environment"]["PANEL_SITE"], {})
    assert balancer["ports"] == [f"127.0.0.1:8080{site}"]
    assert urlsplit(panel["environment"]["PANEL_PUBLIC_URL"]).port == 8080


def test_the_image_fits() -> None:
    panel = compose()["services"]["panel"]
    assert (DEPLOY / panel["build"]["context"] / panel["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    said = image_environment()
    assert panel["volumes"] == [f"data:{said['PANEL_DATA_FOLDER']}"]
    assert built("VOLUME") == [said["PANEL_DATA_FOLDER"]]
    assert built("EXPOSE") == [said["PANEL_PORT"]]
    assert re.findall(r"\{\$PANEL_PORT:(\d+)\}", CADDYFILE) == [said["PANEL_PORT"]]
    assert said["PANEL_HOST"] == "0.0.0.0"


def ready(ports: list[int]) -> bool:
    """Whether all of them answer as the balancer asks."""
    try:
        return all(httpx2.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200 for port in ports)
    except httpx2.TransportError:
        return False


@pytest.mark.live
def test_its_command_serves_twice_with_its_environment(postgres: Postgres, tmp_path: Path) -> None:
    """The image's command with the variables of both files; only database, folder, port and PATH are this machine's."""
    panel = compose()["services"]["panel"]
    (entry,), (command,) = built("ENTRYPOINT"), built("CMD")
    words = [*yaml.safe_load(entry), *yaml.safe_load(command)]
    program = shutil.which(words[0], path=Path(sys.executable).parent)
    assert program, "the program that the image starts"
    said = image_environment() | panel["environment"]
    said |= {"PANEL_DATABASE_URL": postgres.url, "PANEL_DATA_FOLDER": str(tmp_path), "PATH": os.environ["PATH"]}
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        for port in ports:
            with (tmp_path / f"{port}.log").open("wb") as log:
                process = stack.enter_context(
                    subprocess.Popen(
                        [program, *words[1:]], env=said | {"PANEL_PORT": str(port)}, stdout=log, stderr=log
                    )
                )
            stack.callback(process.terminate)
        until(lambda: ready(ports), 60)
        machines = postgres.rows("SELECT machine FROM process_node")
    assert machines == [[panel["environment"]["PANEL_MACHINE"]]] * 2
