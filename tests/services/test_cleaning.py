"""Texts of a hypervisor that tells nonsense."""

from __future__ import annotations

import pytest

from panel.services.cleaning import one_line


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("web server", "web server"),
        ("  two\n\tlines \u3000 here ", "two lines here"),
        ("bell\x07, turned\u202e, alone\ud800, unassigned\U000e0080", "bell, turned, alone, unassigned"),
        ("中文\x00 名称\ue000", "中文 名称\ue000"),
        ("\x07" * 3 + "d" * 10**7, "d" * 200),
    ],
)
def test_one_line(told: str, kept: str) -> None:
    assert one_line(told) == kept
