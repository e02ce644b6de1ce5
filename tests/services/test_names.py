"""Names, addresses and passwords: what is taken is safe, what is refused is named."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.errors import InvalidInput
from panel.services.names import (
    LONGEST,
    check_identifier,
    check_mac,
    check_password,
    check_title,
    find_image,
    folded,
    new_mac,
)
from panel.services.specs import hostname as make_hostname

hexes = st.integers(0, 255)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80))
def test_an_identifier_is_safe_in_a_url_and_on_a_command_line(value: str) -> None:
    try:
        name = check_identifier(value, "vm_uuid")
    except InvalidInput as error:
        assert (error.status, error.field) == (400, "vm_uuid")
        return
    assert name == value
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert name[0] not in ".-_"
    assert len(name) < LONGEST


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_what_looks_like_an_identifier_is_one(value: str) -> None:
    assert check_identifier(value, "x") == value
    hostname = make_hostname(value)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", hostname), "RFC 1123"


@pytest.mark.parametrize("value", ["", ".", "..", "-a", "a/b", "a b", "a\n", "ä", "a\0", "a" * 64, "a'", "a;b"])
def test_what_is_no_identifier(value: str) -> None:
    with pytest.raises(InvalidInput):
        check_identifier(value, "x")


@pytest.mark.parametrize("value", ["", "  ", "\u200b", "\u200b \u2060", "\ufeff", "\u00ad"])
def test_a_title_with_nothing_to_see_is_empty(value: str) -> None:
    assert check_title(value, "vm_name") == ""


@pytest.mark.parametrize("char", "\u202a\u202e\u2066\u2069")
def test_a_title_turns_nothing_round(char: str) -> None:
    """https://trojansource.codes: what follows it on a page would read backwards."""
    with pytest.raises(InvalidInput):
        check_title(f"paid{char}txt", "vm_name")


@pytest.mark.parametrize("value", ["👨\u200d👩\u200d👧", "می\u200cخواهم", "测试虚拟机", "سيرفر", "a b"])
def test_a_title_may_be_of_any_language(value: str) -> None:
    assert check_title(f" {value} ", "vm_name") == value


@settings(max_examples=40, deadline=None)
@given(st.lists(hexes, min_size=6, max_size=6), st.sampled_from([":", "-"]), st.booleans())
def test_macs_are_unicast_and_come_out_in_one_form(octets: list[int], separator: str, upper: bool) -> None:
    text = separator.join(f"{octet:02x}" for octet in octets)
    text = f" {text.upper()} " if upper else text
    try:
        mac = check_mac(text, "mac_addr")
    except InvalidInput as error:
        assert octets[0] & 1 or not any(octets)
        assert error.field == "mac_addr"
        return
    assert mac == ":".join(f"{octet:02x}" for octet in octets)
    assert not octets[0] & 1


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_mac_or_refused(text: str) -> None:
    try:
        assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", check_mac(text, "x"))
    except InvalidInput:
        pass


def test_new_macs_are_good_and_differ() -> None:
    macs = {new_mac() for _ in range(50)}
    assert len(macs) > 45
    assert all(check_mac(mac, "x") == mac for mac in macs)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=230))
def test_a_title_is_one_printable_line(value: str) -> None:
    try:
        title = check_title(value, "vm_name")
    except InvalidInput:
        assert len(value) > 190 or any(unicodedata.category(char)[0] == "C" for char in value)
        return
    assert len(title) <= 200
    assert title.splitlines() in ([], [title]) or any(char in title for char in "\u2028\u2029")
    assert check_title(title, "vm_name") == title


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=140))
def test_a_password_is_kept_to_the_letter(value: str) -> None:
    try:
        assert check_password(value, "password") == value
        assert 1 <= len(value) <= 128
        assert "\n" not in value
    except InvalidInput as error:
        assert len(value) not in range(1, 129) or any(unicodedata.category(char) in {"Cc", "Cs"} for char in value)
        assert value not in str(error) or len(value) < 3, "a refused password is not repeated"


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_folding_twice_changes_nothing_much(name: str) -> None:
    assert folded(f" {name}_") == folded(name)
    assert folded(name.replace(" ", "-")) == folded(name)
    assert not re.search(r"[\s._-]", folded(name))


@dataclass
class Picture:
    name: str
    key: str


IMAGES = [
    Picture("Debian 12", "debian-12.qcow2"),
    Picture("Windows 10 x64", "win10.qcow2"),
    Picture("debian-12.qcow2", "odd"),
]


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("Debian 12", "debian-12.qcow2"),
        ("debian 12", "debian-12.qcow2"),
        ("DEBIAN_12", "debian-12.qcow2"),
        ("Debian12", "debian-12.qcow2"),
        ("windows-10.x64", "win10.qcow2"),
        ("WIN10", "win10.qcow2"),
        ("Windows 10 ×64".replace("×", "x"), "win10.qcow2"),
        ("odd", "odd"),
    ],
)
def test_an_image_is_found_by_what_people_write(wanted: str, key: str) -> None:
    assert find_image(IMAGES, wanted).key == key


def test_an_unknown_image_tells_the_known() -> None:
    with pytest.raises(InvalidInput, match="Known: Debian 12, Windows 10 x64") as caught:
        find_image(IMAGES, "BeOS")
    assert caught.value.field == "os_name"
    with pytest.raises(InvalidInput, match=r"Known: -\."):
        find_image([], "x")
