"""The domains of a VM: what its network tab shows, and the forms that add and take away."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import pytest

from panel.engines.fake.world import FakeWorld
from panel.errors import EngineFailure, InvalidInput
from panel.gateways.sites import SiteCertificate, SiteStatus
from panel.i18n import Text, use_language
from panel.models import Host, Proxy, RuleState, Vm
from panel.services.container import Services
from panel.services.sites import SiteService
from tests.certs import Made, made
from tests.pages.conftest import Browser, until
from tests.services.kit import add_domain, make, proxy_of, served

BASE = "/hosts/alpha/vms/web"
TAB = f"{BASE}?tab=network"
ADD = f"{BASE}/domains"
PLAIN = {"domain": "www.example.com", "target_port": "8080", "target_ip": "", "certificate": "", "private_key": ""}


@pytest.fixture
async def vm(alpha: FakeWorld, services: Services) -> Vm:
    return await make(services, "web", "alpha")


def told(browser: Browser, field: str) -> str:
    """What stands beside a field; empty when nothing does."""
    found = re.search(rf'id="{field}-error">(.*?)</div>', browser.html, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", found[1]).strip()) if found else ""


def value(browser: Browser, name: str) -> str:
    """What a field holds."""
    area = re.search(rf'<textarea[^>]* name="{name}"[^>]*>(.*?)</textarea>', browser.html, re.DOTALL)
    line = re.search(rf'<input[^>]* name="{name}"[^>]*? value="([^"]*)"', browser.html)
    found = area or line
    assert found, name
    return html.unescape(found[1])


def ticked(browser: Browser) -> bool:
    return bool(re.search(r'<input[^>]* name="ssl_enabled"[^>]* checked', browser.html))


def https(own: Made, **more: str) -> dict[str, str]:
    return PLAIN | {"ssl_enabled": "1", "certificate": own.pem, "private_key": own.key_pem} | more


async def test_add_and_remove(browser: Browser, vm: Vm, services: Services) -> None:
    await browser.get(TAB)
    assert "No domain leads to this VM." in browser.text
    assert (value(browser, "target_port"), ticked(browser)) == ("80", True)
    await browser.post(ADD, **(PLAIN | {"domain": "测试.Example"}))
    assert (browser.status, browser.path) == (200, TAB)
    assert "测试.example leads to the VM." in browser.text
    assert 'href="http://xn--0zwm56d.example"' in browser.html
    assert "http://测试.example" in browser.text
    assert "192.168.1.2:8080" in browser.text
    assert await served(services, "alpha") == ["xn--0zwm56d.example"]
    row = await Proxy.get()
    assert re.search(rf'name="id" value="{row.id}"', browser.html)
    for wrong in (str(row.id + 1), "", "x"):
        await browser.post(f"{ADD}/0/remove", id=wrong)
        assert (browser.path, "another domain by now" in browser.text) == (TAB, True), wrong
    await browser.post(f"{ADD}/1/remove", id=str(row.id))
    assert "There is no domain at position 1." in browser.text
    await browser.post(f"{ADD}/0/remove", id=str(row.id))
    assert (browser.status, browser.path) == (200, TAB)
    assert "测试.example no longer leads to the VM." in browser.text
    assert await served(services, "alpha") == []


async def test_with_htmx(browser: Browser, vm: Vm, services: Services) -> None:
    await browser.get(TAB)
    headers = {"HX-Request": "true", "X-CSRF-Token": browser.csrf}
    answer = await browser.client.post(ADD, form=PLAIN, headers=headers)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, TAB)
    await browser.get(TAB)
    assert "www.example.com leads to the VM." in browser.text
    row = await Proxy.get()
    wrong = await browser.client.post(f"{ADD}/0/remove", form={"id": str(row.id + 1)}, headers=headers)
    body = (await wrong.get_data()).decode()
    assert (wrong.status_code, "another domain by now" in body, "<html" in body) == (409, True, False)
    answer = await browser.client.post(f"{ADD}/0/remove", form={"id": str(row.id)}, headers=headers)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, TAB)
    assert not await Proxy.exists()


async def test_by_program(browser: Browser, vm: Vm) -> None:
    await browser.get(TAB)
    headers = {"Accept": "application/json", "X-CSRF-Token": browser.csrf}
    answer = await (await browser.client.post(ADD, form=PLAIN, headers=headers)).get_json()
    assert answer == {"code": 200, "msg": "www.example.com leads to the VM.", "data": None}


async def test_nobody_else_may(browser: Browser, vm: Vm, services: Services) -> None:
    row = await add_domain(services, vm)
    await browser.get(TAB)
    for path, fields in ((ADD, PLAIN | {"domain": "other.example"}), (f"{ADD}/0/remove", {"id": str(row.id)})):
        answer = await browser.post(path, follow=False, csrf=False, **fields)
        assert answer.status_code == 403
        answer = await browser.post(path, follow=False, csrf=False, csrf_token="x" * 43, **fields)
        assert answer.status_code == 403
    assert [one.id for one in await Proxy.all()] == [row.id]
    browser.client.cookie_jar.clear()
    for path, fields in ((ADD, PLAIN | {"domain": "other.example"}), (f"{ADD}/0/remove", {"id": str(row.id)})):
        answer = await browser.post(path, follow=False, csrf=False, **fields)
        assert (answer.status_code, "/login" in answer.headers["Location"]) == (303, True)
    assert [one.id for one in await Proxy.all()] == [row.id]


async def test_what_is_wrong_stands_beside_its_field(browser: Browser, vm: Vm, services: Services) -> None:
    other = await make(services, "mail", "alpha")
    await add_domain(services, other, "mail.example.com")
    await browser.get(TAB)
    for change, field, says in (
        ({"domain": ""}, "domain", "This is needed."),
        ({"domain": "http://x.example"}, "domain", "leave out http:// and https://"),
        ({"domain": "<b>'\"&.example"}, "domain", "must be a domain"),
        ({"domain": "mail.example.com"}, "domain", "mail.example.com belongs to VM mail on host alpha"),
        ({"domain": "*.example.com"}, "domain", "mail.example.com belongs to VM mail"),
        ({"target_port": ""}, "target_port", "This must be a whole number."),
        ({"target_port": "http"}, "target_port", "This must be a whole number."),
        ({"target_port": "65536"}, "target_port", "must be between 1 and 65535"),
        ({"target_ip": "127.0.0.1"}, "target_ip", "127.0.0.1 is no address of VM web"),
        ({"ssl_enabled": "1", "private_key": "x"}, "certificate", "is needed beside"),
        ({"ssl_enabled": "1", "certificate": "x" * 65537}, "certificate", "This is too long."),
    ):
        await browser.post(ADD, **(PLAIN | change))
        assert browser.status == 400, change
        assert says in told(browser, field), (change, told(browser, field))
        assert {name for name in PLAIN if told(browser, name)} == {field}
        for name in ("domain", "target_port", "certificate"):
            assert value(browser, name) == (PLAIN | change)[name], change
        assert ticked(browser) is ("ssl_enabled" in change)
    assert await Proxy.all().count() == 1


async def test_what_is_typed_is_kept_but_never_a_key(browser: Browser, vm: Vm, services: Services) -> None:
    own, other = made("www.example.com"), made("www.example.com")
    await browser.get(TAB)
    for fields, field in (
        (https(own, domain="www.example.org"), "certificate"),
        (https(own, private_key=other.key_pem), "private_key"),
        (https(own, target_port="x"), "target_port"),
        (https(own, certificate=own.pem + own.key_pem, domain="www.example.org"), "certificate"),
        (https(own, certificate=own.key_pem), "certificate"),
        (https(own, certificate=own.key_pem, private_key=own.pem), "private_key"),
        (https(own, private_key=own.key_pem * 300), "private_key"),
    ):
        await browser.post(ADD, **fields)
        assert (browser.status, bool(told(browser, field))) == (400, True), field
        assert value(browser, "private_key") == ""
        assert not [line for line in own.secrets + other.secrets if line in browser.html]
        held = value(browser, "certificate").replace("\r", "").strip()
        assert held == ("" if "PRIVATE" in fields["certificate"] else own.pem.strip())
        assert ("<details open>" in browser.html) is (field != "target_port")
    await browser.post(ADD, **https(own))
    assert "www.example.com leads to the VM." in browser.text
    assert not [line for line in own.secrets if line in browser.html]
    (site,) = (await proxy_of(services, "alpha")).applied.sites
    assert site.key_pair is not None
    assert site.key_pair.private_key == own.key_pem
    for path in (BASE, TAB, "/network/domains", "/logs"):
        await browser.get(path)
        assert browser.status == 200, path
        assert not [line for line in own.secrets if line in browser.html], path


async def test_without_a_field_at_fault_it_stands_above_the_form(browser: Browser, services: Services, vm: Vm) -> None:
    await Vm.filter(id=vm.id).update(limits={"web_num": 0})
    await browser.get(TAB)
    await browser.post(ADD, **PLAIN)
    assert browser.status == 400
    assert "VM web may have 0 domains (web_num), and has them." in browser.text
    assert value(browser, "domain") == "www.example.com"
    assert not [name for name in PLAIN if told(browser, name)]


async def test_a_certificate_for_http_is_told(browser: Browser, vm: Vm) -> None:
    fields = https(made("www.example.com"))
    fields.pop("ssl_enabled")
    await browser.get(TAB)
    await browser.post(ADD, **fields)
    assert (browser.status, ticked(browser)) == (400, False)
    assert "is needed for a certificate." in browser.text


async def test_not_served_and_why(browser: Browser, vm: Vm, services: Services) -> None:
    await services.sites.stop()
    proxy = await proxy_of(services, "alpha")
    proxy.told["tls.example"] = SiteStatus(SiteCertificate.FAILED, problem=Text("The DNS leads elsewhere."))
    row = await add_domain(services, vm, "tls.example", ssl=True)
    await browser.get(TAB)
    assert "The DNS leads elsewhere." in browser.text
    proxy.failure = EngineFailure("Caddy broke.")
    await browser.post(ADD, **PLAIN)
    assert browser.path == TAB
    for words in ("The domain is kept, but is not served yet.", "not applied", "Caddy broke."):
        assert words in browser.text
    await browser.post(f"{ADD}/0/remove", id=str(row.id))
    assert "The domain goes when the proxy works again: Caddy broke." in browser.text
    proxy.failure = None
    services.sites.start()
    await until(lambda: Proxy.filter(domain=PLAIN["domain"], state=RuleState.APPLIED).exists())
    await browser.get(TAB)
    assert "Caddy broke." not in browser.text


async def test_where_there_are_none(browser: Browser, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    await Host.filter(name="alpha").update(enabled=False)
    await browser.get(TAB)
    assert "Host alpha is disabled. Enable it first." in browser.text
    await Host.filter(name="alpha").update(enabled=True)
    monkeypatch.setattr(SiteService, "why_not", lambda _self, _host: "Domains are nowhere.")
    await browser.get(TAB)
    form = browser.html.partition(f'action="{ADD}"')[2].partition("</form>")[0]
    assert "Domains are nowhere." in form
    assert re.search(r"<button[^>]* disabled", form)
    await browser.post(ADD, **PLAIN)
    assert (browser.status, "Domains are nowhere." in browser.text) == (400, True)


async def test_in_chinese(browser: Browser, vm: Vm, services: Services) -> None:
    """Whatever the catalogue says, the page says."""
    await add_domain(services, vm, "测试.example", ssl=True)
    browser.headers["Accept-Language"] = "zh-CN"
    await browser.get(TAB)
    assert '<html lang="zh-CN"' in browser.html
    assert "https://测试.example" in browser.text
    with use_language("zh"):
        for words in ("Domains", "Add a domain", "Use a certificate of your own", "Private key", "valid"):
            assert Text(words).translate() in html.unescape(browser.text), words
    await browser.post(ADD, **(PLAIN | {"domain": "http://x.example"}))
    error = InvalidInput("{field} is the name alone: leave out http:// and https://.")
    with use_language("zh"):
        tail = error.text.translate().partition("{field}")[2]
    assert tail in told(browser, "domain")


async def test_found_as_people_write_it(browser: Browser, vm: Vm, services: Services) -> None:
    for domain in ("faß.example", "*.测试.example"):
        await add_domain(services, vm, domain)
    for text, found in (
        ("faß.example", ["faß"]), ("FAß", ["faß"]), ("xn--fa-hia", ["faß"]), ("测试", ["测试"]), ("*.测试.example", ["测试"]),
        ("fass", []), ("example", ["faß", "测试"]), ("\u0301", []),
    ):  # fmt: skip
        await browser.get(f"/network/domains?find={quote(text)}")
        rows = re.findall(r'<span class="mono address">|<a class="mono address"', browser.html)
        assert (browser.status, len(rows)) == (200, len(found)), text
        assert all(f"{name}.example" in browser.text for name in found), text
