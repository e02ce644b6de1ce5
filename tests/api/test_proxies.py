"""Domains over the API, with the document's own examples; and what a VM publishes."""

from __future__ import annotations

from typing import Any

import pytest

from panel.errors import EngineFailure
from panel.gateways.reach import ImaginaryConnector, Reach
from panel.i18n import Text
from panel.models import Host
from panel.services.container import Services
from panel.services.sites import SiteService
from tests.api import examples
from tests.api.examples import ROUTES
from tests.api.kit import make_vm
from tests.certs import Made, made
from tests.conftest import ApiClient
from tests.services.kit import proxy_of

PATHS = {route.method: route for route in ROUTES if "/proxys/" in route.path}
BODY = PATHS["POST"].body or {}


def path(method: str, vm: str = "vm-001", index: object = 0) -> str:
    """A route of the document for a VM of host1."""
    text = PATHS[method].path.replace("<hs_name>", "host1").replace("<vm_uuid>", vm)
    return text.replace("<proxy_index>", str(index))


def https(own: Made, domain: str = "www.example.com", **more: Any) -> dict[str, Any]:
    body = {"domain": domain, "target_port": 80, "ssl_enabled": True}
    return body | {"certificate": own.pem, "private_key": own.key_pem} | more


@pytest.fixture
async def vm(api: ApiClient, fake_host: str) -> None:
    """The document's VM, with the address that it asks for."""
    await api.ok("POST", "/api/client/create/host1?wait=5", examples.VM)


async def test_the_documents_examples(api: ApiClient, vm: None) -> None:
    assert BODY == {"domain": "example.com", "target_port": 80, "ssl_enabled": False}
    assert await api.ok("GET", path("GET")) == {
        "proxies": [], "addresses": ["192.168.1.100"], "web_num": None, "reason": None,
    }  # fmt: skip
    made_now = await api.ok("POST", path("POST"), BODY)
    assert {name: made_now[name] for name in BODY} == BODY
    assert (made_now["proxy_index"], made_now["state"], made_now["problem"]) == (0, "applied", None)
    assert (made_now["target_ip"], made_now["url"]) == ("192.168.1.100", "http://example.com")
    assert made_now["certificate"] == {
        "state": "none", "issuer": "", "expires_at": None, "problem": None, "uploaded": False,
    }  # fmt: skip
    assert (await api.ok("GET", path("GET")))["proxies"] == [made_now]
    assert await api.ok("DELETE", path("DELETE")) == {"id": made_now["id"], "problem": None}
    assert (await api.ok("GET", path("GET")))["proxies"] == []


async def test_positions_count_from_0_and_nobody_deletes_the_wrong_one(api: ApiClient, vm: None) -> None:
    rows = [await api.ok("POST", path("POST"), BODY | {"domain": f"d{n}.example"}) for n in range(3)]
    assert [row["proxy_index"] for row in rows] == [0, 1, 2]
    status, answer = await api("DELETE", f"{path('DELETE')}?id={rows[1]['id']}")
    assert (status, "another domain by now" in answer["msg"]) == (409, True)
    await api.ok("DELETE", f"{path('DELETE')}?id={rows[0]['id']}")
    listed = (await api.ok("GET", path("GET")))["proxies"]
    assert [(row["proxy_index"], row["id"]) for row in listed] == [(0, rows[1]["id"]), (1, rows[2]["id"])]
    for index, wrong in ((2, 404), (99999, 404), ("x", 400), ("-1", 400)):
        assert (await api("DELETE", path("DELETE", index=index)))[0] == wrong, index
    for query in ("x", "-1", str(2**31)):
        status, answer = await api("DELETE", f"{path('DELETE')}?id={query}")
        assert (status, answer["data"]) == (400, {"field": "id"})
    assert len((await api.ok("GET", path("GET")))["proxies"]) == 2


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_is_not_there(api: ApiClient, vm: None, method: str) -> None:
    body = BODY if method == "POST" else None
    assert (await api(method, path(method, "nope"), body))[0] == 404
    assert (await api(method, path(method).replace("host1", "nope"), body))[0] == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"domain": "192.0.2.1"}, "domain"),
        ({"domain": "http://example.com"}, "domain"),
        ({"domain": "localhost"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"domain": "a" * 1025}, "domain"),
        ({"domain": None}, "domain"),
        ({"target_port": 0}, "target_port"),
        ({"target_port": 65536}, "target_port"),
        ({"target_port": "80"}, "target_port"),
        ({"target_port": None}, "target_port"),
        ({"ssl_enabled": "yes"}, "ssl_enabled"),
        ({"target_ip": "192.168.1.7"}, "target_ip"),
        ({"target_ip": "127.0.0.1"}, "target_ip"),
        ({"target_ip": "x"}, "target_ip"),
        ({"ssl_enabled": True, "certificate": "x"}, "private_key"),
        ({"ssl_enabled": True, "private_key": "x"}, "certificate"),
        ({"certificate": "x", "private_key": "x"}, "ssl_enabled"),
        ({"certificate": "x" * 65537}, "certificate"),
        ({"private_key": "x" * 32769}, "private_key"),
        ({"private_key": 7}, "private_key"),
    ],
)
async def test_what_is_wrong_names_its_field(api: ApiClient, vm: None, change: dict[str, Any], field: str) -> None:
    status, answer = await api("POST", path("POST"), BODY | change)
    assert (status, answer["data"]) == (400, {"field": field})
    assert field in answer["msg"]
    assert (await api.ok("GET", path("GET")))["proxies"] == []


async def test_a_body_without_what_is_needed(api: ApiClient, vm: None) -> None:
    for name in ("domain", "target_port"):
        status, answer = await api("POST", path("POST"), {key: BODY[key] for key in BODY if key != name})
        assert (status, answer["data"]) == (400, {"field": name})
    made_now = await api.ok("POST", path("POST"), {"domain": "example.com", "target_port": 80})
    assert made_now["ssl_enabled"] is False


async def test_a_domain_belongs_to_one_vm(api: ApiClient, vm: None) -> None:
    await api.ok("POST", path("POST"), BODY | {"domain": "*.Bücher.example"})
    await make_vm(api, "vm-2", web_num=1)
    for domain in ("*.bücher.example", "www.XN--BCHER-KVA.example."):
        status, answer = await api("POST", path("POST", "vm-2"), BODY | {"domain": domain})
        assert (status, answer["data"]) == (409, {"field": "domain"})
        assert "*.bücher.example belongs to VM vm-001 on host host1" in answer["msg"]
    (row,) = (await api.ok("GET", path("GET")))["proxies"]
    assert (row["domain"], row["domain_unicode"]) == ("*.xn--bcher-kva.example", "*.bücher.example")
    assert row["url"] is None, "nothing can be opened under *"
    assert (await api.ok("GET", path("GET", "vm-2")))["web_num"] == 1
    await api.ok("POST", path("POST", "vm-2"), BODY)
    status, answer = await api("POST", path("POST", "vm-2"), BODY | {"domain": "more.example"})
    assert (status, "web_num" in answer["msg"]) == (409, True)


async def test_a_proxy_that_fails(api: ApiClient, vm: None, services: Services) -> None:
    await services.sites.stop()
    kept = await api.ok("POST", path("POST"), BODY)
    (await proxy_of(services)).failure = EngineFailure("Caddy broke.")
    made_now = await api.ok("POST", path("POST"), BODY | {"domain": "www.example.com"})
    assert (made_now["state"], made_now["problem"], made_now["applied_at"]) == ("failed", "Caddy broke.", None)
    assert await api.ok("DELETE", path("DELETE")) == {"id": kept["id"], "problem": "Caddy broke."}
    (await proxy_of(services)).failure = None
    await services.sites.look()
    (row,) = (await api.ok("GET", path("GET")))["proxies"]
    assert (row["state"], row["problem"], row["id"]) == ("applied", None, made_now["id"])


async def test_a_host_without_domains(api: ApiClient, vm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SiteService, "why_not", lambda _self, _host: "Not here.")
    shown = await api.ok("GET", path("GET"))
    assert (shown["reason"], shown["addresses"]) == ("Not here.", [])
    status, answer = await api("POST", path("POST"), BODY)
    assert (status, answer["msg"]) == (409, "Not here.")
    monkeypatch.undo()
    await Host.filter(name="host1").update(enabled=False)
    assert (await api("POST", path("POST"), BODY))[0] == 409


async def test_a_certificate_goes_in_and_its_key_never_out(api: ApiClient, vm: None, services: Services) -> None:
    own = made("*.example.com", title="Own CA")
    answers = [await api("POST", path("POST"), https(own))]
    assert answers[0][0] == 200
    assert answers[0][1]["data"]["certificate"] == {
        "state": "valid", "issuer": "Own CA", "problem": None, "uploaded": True,
        "expires_at": f"{own.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    (site,) = (await proxy_of(services)).applied.sites
    assert site.key_pair is not None
    assert (site.key_pair.chain, site.key_pair.private_key) == (own.pem, own.key_pem)
    for body, field in (
        (https(own), "domain"),
        (https(own, "www.example.org"), "certificate"),
        (https(own, private_key=made("*.example.com").key_pem), "private_key"),
        (https(own, private_key=own.key_pem[:150]), "private_key"),
        (https(own, certificate=own.key_pem), "certificate"),
        (https(own, private_key=own.key_pem + "x" * 32768), "private_key"),
        (https(own, private_key=[own.key_pem]), "private_key"),
        (https(own, certificate=""), "certificate"),
    ):
        answers.append(await api("POST", path("POST"), body))
        assert answers[-1][0] == (409 if field == "domain" else 400), field
        assert answers[-1][1]["data"] == {"field": field}
    for shown in (
        path("GET"), "/api/client/published/host1/vm-001", "/api/client/detail/host1/vm-001",
        "/api/system/logger/detail", "/api/system/tasker", "/api/server/detail/host1",
    ):  # fmt: skip
        answers.append(await api("GET", shown))
        assert answers[-1][0] == 200
    answers.append(await api("POST", "/api/system/saving"))
    answers.append(await api("DELETE", path("DELETE")))
    told = repr(answers)
    assert not [line for line in own.secrets if line in told]
    assert "PRIVATE KEY" not in told


async def test_what_a_vm_publishes_and_whether_it_is_open(api: ApiClient, vm: None, services: Services) -> None:
    await services.probes.stop()
    published, probe = "/api/client/published/host1/vm-001", "/api/client/probe/host1/vm-001"
    domain = await api.ok("POST", path("POST"), BODY | {"domain": "bücher.example", "ssl_enabled": True})
    rule = await api.ok("POST", "/api/client/natadd/host1/vm-001", {"internal_port": 22, "protocol": "udp"})
    first, second = (await api.ok("GET", published))["published"]
    assert first == {
        "kind": "domain", "id": domain["id"], "address": "https://xn--bcher-kva.example", "target": "192.168.1.100:80",
        "opening": "stopped", "problem": None, "probed_at": None, "certificate": "valid", "certificate_expires": None,
    }  # fmt: skip
    assert (second["kind"], second["id"], second["opening"]) == ("udp", rule["id"], "untold")
    assert (second["certificate"], second["address"]) == (None, f"192.0.2.80:{rule['external_port']}")
    status, answer = await api("POST", probe)
    assert (status, "not running" in answer["msg"]) == (409, True)
    await api.ok("POST", "/api/client/powers/host1/vm-001?wait=5", examples.START)
    assert (await api.ok("GET", published))["published"][0]["opening"] == "checking"
    connector = services.probes._imaginary
    assert isinstance(connector, ImaginaryConnector)
    assert (await api.ok("POST", probe))["published"][0]["opening"] == "open"
    assert connector.tried == [("192.0.2.80", "xn--bcher-kva.example")]
    connector.found["xn--bcher-kva.example"] = Reach(False, Text("It refuses."))
    seen = (await api.ok("POST", probe))["published"][0]
    assert (seen["opening"], seen["problem"]) == ("closed", "It refuses.")
    assert seen["probed_at"] is not None
    assert (await api.ok("GET", published))["published"][0] == seen
    for missing in (published, probe):
        method = "POST" if missing is probe else "GET"
        assert (await api(method, missing.replace("vm-001", "nope")))[0] == 404
        assert (await api(method, missing, headers={}))[0] == 401
