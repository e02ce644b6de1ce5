"""What templates import is evaluated once for a page, and anew for the next."""

from __future__ import annotations

from jinja2 import DictLoader

from panel.templating import MODULES, PanelEnvironment

TEMPLATES = {
    "words": "{% set seen = look(reader) %}{% macro word() %}{{ seen }} {{ reader }}{% endmacro %}",
    "row": "{% import 'words' as words with context %}{% macro row() %}[{{ words.word() }}]{% endmacro %}",
    "page": "{% import 'words' as words with context %}{% import 'row' as rows with context %}{{ words.word() }}{{ rows.row() }}",
}


def test_once_for_a_page() -> None:
    looked: list[str] = []

    def look(reader: str) -> int:
        looked.append(reader)
        return len(looked)

    environment = PanelEnvironment(loader=DictLoader(TEMPLATES))
    environment.globals["look"] = look
    page = environment.get_template("page")
    assert page.render({"reader": "Ann", MODULES: {}}) == "1 Ann[1 Ann]"
    assert page.render({"reader": "Bob", MODULES: {}}) == "2 Bob[2 Bob]"
    assert looked == ["Ann", "Bob"]
    assert page.render({"reader": "Eve"}) == "3 Eve[4 Eve]"  # nowhere to keep them: as Jinja does
