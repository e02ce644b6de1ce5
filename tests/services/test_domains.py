"""Names of domains: written in one way, whoever types them, and known to be in each other's way."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from panel.errors import InvalidInput
from panel.services.domains import covers, normal_domain, readable_domain, wildcards_above

LABEL = "a" * 63
LONG = ".".join([LABEL, LABEL, LABEL, "b" * 59])  # 251 characters

signs = st.sampled_from([*"aB09-.*_。．ß测é İ١\u200d\u0301:/", "xn--", "*.", "*。", ".example", "例え"])
written = st.lists(signs, max_size=14).map("".join) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("typed", "stored", "read"),
    [
        ("example.com", "example.com", "example.com"),
        ("  WWW.Example.COM. ", "www.example.com", "www.example.com"),
        ("*.Example.com.", "*.example.com", "*.example.com"),
        ("测试.example", "xn--0zwm56d.example", "测试.example"),
        ("BÜCHER.example", "xn--bcher-kva.example", "bücher.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example", "bücher.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", "bücher.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example", "bücher.example"),
        ("*.测试.example。", "*.xn--0zwm56d.example", "*.测试.example"),
        ("测试。example", "xn--0zwm56d.example", "测试.example"),
        ("faß.example", "xn--fa-hia.example", "faß.example"),
        ("ｗｗｗ.example", "www.example", "www.example"),
        ("3com.example", "3com.example", "3com.example"),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        (f"{LABEL}.example", f"{LABEL}.example", f"{LABEL}.example"),
        (LONG, LONG, LONG),
        (f"*.{LONG}", f"*.{LONG}", f"*.{LONG}"),
    ],
)
def test_it_is_stored_in_one_way_and_read_in_unicode(typed: str, stored: str, read: str) -> None:
    assert normal_domain(typed) == stored
    assert readable_domain(stored) == read


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "must be a domain"),
        (" ", "must be a domain"),
        (".", "must be a domain"),
        ("localhost", "two labels at least"),
        ("localhost.", "two labels at least"),
        ("*", r"a \* may only be the first label"),
        ("*.", "must be a domain"),
        ("*.com", r"a \* needs a domain of two labels"),
        ("www.*.example.com", r"a \* may only be the first label"),
        ("*.*.example.com", r"a \* may only be the first label"),
        ("w*.example.com", r"a \* may only be the first label"),
        ("example.*", r"a \* may only be the first label"),
        ("http://example.com", "leave out http://"),
        ("https://example.com/x", "leave out http://"),
        ("example.com:8080", "leave out the port"),
        ("example.com/x", "leave out the path"),
        ("example.com?x", "leave out the path"),
        ("example.com#x", "leave out the path"),
        ("example.com\\x", "leave out the path"),
        ("192.0.2.1", "must be a name"),
        ("192.0.2.1.", "must be a name"),
        ("１９２.0.2.1", "must be a name"),
        ("2001:db8::1", "must be a name"),
        ("[2001:db8::1]", "must be a name"),
        ("0x7f.1", "must be a name"),
        ("127.0x1", "must be a name"),
        ("127.0x", "must be a name"),
        ("example.123", "must be a name"),
        ("*.example.123", "must be a name"),
        ("a..example", "must be a domain"),
        (".example.com", "must be a domain"),
        ("example.com..", "must be a domain"),
        ("-a.example", "must be a domain"),
        ("a-.example", "must be a domain"),
        ("a_b.example", "must be a domain"),
        ("a b.example", "must be a domain"),
        ("a@b.example", "must be a domain"),
        ("a\x00.example", "must be a domain"),
        ("\ud800.example", "must be a domain"),
        ("\u0301a.example", "must be a domain"),
        ("☃.example", "must be a domain"),
        ("xn--.example", "must be a domain"),
        ("xn--a.example", "must be a domain"),
        ("xn--www-hia\x80.example", "must be a domain"),
        (f"{LABEL}a.example", "must be a domain"),
        (f"{'测' * 60}.example", "must be a domain"),
        (f"{LONG}.bb", "must be a domain"),
        (f"*.{LONG}b", "longer than 253"),
        ("a." * 1000 + "example", "longer than 253"),
    ],
)
def test_what_is_no_domain_is_told_with_the_mend(typed: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        normal_domain(typed, "proxys.domain")
    assert caught.value.field == "proxys.domain"
    assert str(caught.value.text).startswith("proxys.domain")


@given(written)
@example("*.測試。ß.example。")
@example("xn--fa-hia.example.")
def test_what_is_stored_stays_as_it_is(text: str) -> None:
    try:
        stored = normal_domain(text)
    except InvalidInput:
        return
    assert normal_domain(stored) == stored
    assert normal_domain(readable_domain(stored)) == stored
    assert stored.isascii()
    assert stored == stored.lower()
    assert len(stored) <= 253
    assert all(0 < len(label) <= 63 for label in stored.split("."))


def test_what_was_stored_otherwise_is_shown_as_it_is() -> None:
    assert readable_domain("xn--a.example") == "xn--a.example"
    assert readable_domain("*.xn--a.example") == "*.xn--a.example"


@pytest.mark.parametrize(
    ("domain", "above"),
    [
        ("example.com", []),
        ("*.example.com", []),
        ("www.example.com", ["*.example.com"]),
        ("*.www.example.com", ["*.example.com"]),
        ("a.b.example.com", ["*.b.example.com", "*.example.com"]),
    ],
)
def test_the_wildcards_above(domain: str, above: list[str]) -> None:
    assert wildcards_above(domain) == above


@pytest.mark.parametrize(
    ("domain", "name", "good"),
    [
        ("example.com", "example.com", True),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.www.example.com", False),
        ("*.example.com", "*.www.example.com", False),
        ("*.example.com", "wwwexample.com", False),
        ("www.example.com", "*.example.com", False),
        ("example.com", "www.example.com", False),
    ],
)
def test_a_wildcard_is_good_for_one_label_more(domain: str, name: str, good: bool) -> None:
    assert covers(domain, name) is good
