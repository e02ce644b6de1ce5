"""Languages: the reader's choice, and values that try to be placeholders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.i18n import LANGUAGES, Text, best_language, catalogue, fill, language, set_language, use_language


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, "en"),
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("de-DE,zh;q=0.5", "zh"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=0", "en"),
        ("en;q=0.1, zh;q=0.2", "zh"),
        ("ZH-hans", "zh"),
        ("*", "en"),
        ("zh;q=often, en", "en"),
        (";;;,,,q=1", "en"),
    ],
)
def test_the_best_language_of_a_header(accepted: str | None, chosen: str) -> None:
    assert best_language(accepted) == chosen


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=600))
def test_any_header_gives_a_language(accepted: str) -> None:
    assert best_language(accepted) in LANGUAGES


TAGS = st.sampled_from(["en", "en-US", "zh", "zh-CN", "zh-Hans-CN", "de", "fr-CA", "*"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TAGS, st.integers(0, 1000)), max_size=6))
def test_the_highest_quality_wins(wanted: list[tuple[str, int]]) -> None:
    header = ",".join(f"{tag};q={quality / 1000}" for tag, quality in wanted)
    spoken = [(quality, tag.split("-")[0]) for tag, quality in wanted if tag.split("-")[0] in LANGUAGES and quality]
    best = max((quality for quality, _code in spoken), default=0)
    expected = next((code for quality, code in spoken if quality == best), "en")
    assert best_language(header) == expected


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=20), max_size=3))
def test_values_never_break_a_message(params: dict[str, str]) -> None:
    filled = fill("1 {a} 2", params)
    assert filled.startswith("1 ")
    assert filled.endswith(" 2")


def test_a_value_is_text_and_no_placeholder() -> None:
    assert fill("{a} and {b}", {"a": "{b}", "b": "secret"}) == "{b} and secret"
    assert fill("{b} and {a}", {"a": "{b}", "b": "{a}"}) == "{a} and {b}"


def test_only_plain_placeholders_are_filled() -> None:
    assert fill("{a}{a} {missing}", {"a": 1}) == "11 {missing}"
    assert fill("{a.b} {a[0]} {a!r} {}", {"a": "x"}) == "{a.b} {a[0]} {a!r} {}"


def test_a_text_speaks_the_reader_s_language() -> None:
    text = Text("There is no host {name}.", {"name": "a"})
    with use_language("zh"):
        assert language() == "zh"
        assert text.translate().count("a") >= 1
        assert str(text) == "There is no host a.", "English for the terminal"
    assert language() == "en"
    set_language("klingon")
    assert language() == "en"


def test_placeholders_survive_translation() -> None:
    import re

    for source, target in catalogue("zh").items():
        if "%(" in source:
            continue
        assert set(re.findall(r"\{(\w+)\}", target)) <= set(re.findall(r"\{(\w+)\}", source)), source
