"""Odd requests, made from the OpenAPI document: no 5xx, and no answer outside the schema.

Nothing is excluded: token changes are followed, and a host and a VM are put back when a request removes them. Requests that
break the schema (``NEGATIVE``) are marked ``live``, to keep the fast suite fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from panel.web import SESSION_COOKIE
from tests.api.examples import HERE
from tests.api.kit import small
from tests.process import PanelProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FUZZ = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=5000,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
UNSAFE = {"POST", "PUT", "DELETE", "PATCH"}
REAL = {
    "rule_index": "0",
    "ip_index": "0",
    "proxy_index": "0",
    "net_name": "fake-bridge",
    "pool_id": "1",
    "hs_name": "host1",
    "vm_uuid": "vm-1",
}


class Credential(requests.auth.AuthBase):
    """Sets the headers last: schemathesis takes them away where it wants to see a 401."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers

    def __call__(self, request: Any) -> Any:
        """The request with the headers, or without."""
        for name in ("Authorization", "Cookie"):
            request.headers.pop(name, None)
        request.headers.update(self.headers)
        return request


class Target:
    """A panel under fire, and what has to be followed to keep at it."""

    def __init__(self, panel: PanelProcess) -> None:
        self.panel = panel
        self.schema = schemathesis.openapi.from_url(panel.url + "/openapi.json")
        self.session = requests.Session()
        self.saved_token = panel.token
        self._login: tuple[str, str] | None = None  # the token that it was made with, and the cookie

    def restore(self) -> None:
        """Host ``host1`` with VM ``vm-1``, enabled."""
        body = {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "world1"}
        self._post("/api/server/create", body)
        self._post("/api/server/powers/host1", {"action": "enable"})
        self._post("/api/client/create/host1?wait=5", small("vm-1", os_name=None))

    @property
    def cookie(self) -> str:
        """Of a login that is good: another token ends the last one."""
        if self._login is None or self._login[0] != self.panel.token:
            answer = requests.post(f"{self.panel.url}/login", json={"token": self.panel.token}, timeout=20)
            assert answer.status_code == 200, answer.text
            self._login = self.panel.token, answer.cookies[SESSION_COOKIE]
        return f"{SESSION_COOKIE}={self._login[1]}"

    def _post(self, path: str, body: dict[str, Any]) -> None:
        credential = Credential(WHO["admin"](self))
        answer = self.session.post(self.panel.url + path, json=body, auth=credential, timeout=20)
        assert answer.status_code in {200, 409}, answer.text

    def follow(self, path: str, response: Any) -> None:
        """The token that is in force after this answer."""
        if response.status_code != 200:
            return
        if path.startswith("/api/system/"):
            self._login = None
        if path in {"/api/system/resets", "/api/system/create"}:
            self.panel.token = response.json()["data"]["token"]
        elif path == "/api/system/saving":
            self.saved_token = self.panel.token
        elif path == "/api/system/loader":
            self.panel.token = self.saved_token


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A panel of this module's own, that does not lock anyone out."""
    folder = Path(tmp_path_factory.mktemp("fuzz"))
    panel = PanelProcess(folder, fake_engine="1", login_attempts="1000000", log_level="error")
    panel.start()
    yield Target(panel)
    panel.stop()
    assert "Traceback" not in panel.log.read_text(), panel.log.read_text()[-4000:]


MAY = {"admin", "session"}
WHO: dict[str, Callable[[Target], dict[str, str]]] = {
    "admin": lambda target: {"Authorization": f"Bearer {target.panel.token}"},
    "session": lambda target: {"Cookie": target.cookie},
    "session, sent by another site": lambda target: {"Cookie": target.cookie, "Origin": "https://elsewhere.example"},
    "anonymous": lambda _target: {},
    "wrong token": lambda _target: {"Authorization": "Bearer no-such-token"},
}


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, pytest.param(GenerationMode.NEGATIVE, marks=pytest.mark.live)]
)
def test_no_answer_outside_the_schema(target: Target, who: str, mode: GenerationMode) -> None:
    tried: dict[str, int] = {}
    for result in target.schema.get_all_operations():
        operation = result.ok()
        label = f"{operation.method.upper()} {operation.path}"
        tried[label] = 0
        if who in MAY:
            target.restore()
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            _fire(target, who, operation.path, strategy, tried, label)
        except Exception as error:
            if type(error).__name__ not in {"Unsatisfiable", "InvalidArgument"} or mode is GenerationMode.POSITIVE:
                raise
    assert len(tried) == len(HERE), "every operation of the document"
    idle = [label for label, number in tried.items() if number == 0]
    if mode is GenerationMode.POSITIVE:
        assert not idle
    else:  # an operation without parameters and body cannot be asked wrongly
        assert all("{" not in label and label.startswith(("GET", "POST /api/system/")) for label in idle), idle


def _fire(target: Target, who: str, path: str, strategy: Any, tried: dict[str, int], label: str) -> None:
    @settings(FUZZ, max_examples=15 if who in MAY else 2)
    @given(case=strategy, real=st.booleans())
    def fire(case: Any, real: bool) -> None:
        if real:
            case.path_parameters = {name: REAL[name] for name in case.path_parameters or {}}
        case.headers = {name: value for name, value in (case.headers or {}).items() if name != "Authorization"}
        response = case.call(session=target.session, auth=Credential(WHO[who](target)))
        tried[label] += 1
        case.validate_response(response, checks=CHECKS)
        assert response.json()["code"] == response.status_code
        if who in MAY:
            assert response.status_code != 401 or path == "/api/client/upload"
            target.follow(path, response)
        elif path == "/api/client/upload":
            return
        elif who.startswith("session"):  # what changes nothing may be asked for; nobody else can read the answer
            assert response.status_code == 403 or case.method.upper() not in UNSAFE, response.text
        else:
            assert response.status_code in {400, 401, 404, 405}, response.status_code

    fire()
