"""Templates do what Jinja's own do: values are escaped, macros and functions called, and a page's imports evaluated once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, Environment, pass_context, pass_environment, pass_eval_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from panel.templating import MODULES, CompiledTemplates, PanelEnvironment

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


class Word(StrEnum):
    """A text that is no plain ``str``."""

    SHARP = "<a> & 'b'"


class Subclass(str):
    """Nor is this."""


class Drawn:
    """Knows its own HTML."""

    def __html__(self) -> str:
        return "<hr>"


VALUES: list[Any] = [
    "plain", "", "<script>alert('x')</script>", 'a & b &amp; "c"', "中文 <", Markup("<b>&</b>"), Markup("<i>") + "<",
    Word.SHARP, Subclass("<u>"), Drawn(), 12, 1.5, None, True, ["<", Markup(">")], ("&",), {"<": "'"}, ValueError("<"), b"<",
]  # fmt: skip
WRITTEN = """
{{ value }}|{% macro said(x) %}<p title="{{ x }}">{{ caller(x) if caller else x }}</p>{% endmacro %}{{ said(value) }}
{% for one in [value] %}{{ one }}{{ said(one) }}{% endfor %}{% set kept %}{{ value }}{% endset %}{{ kept }}{{ value | string }}
{{ value if value else 'none <' }}{% autoescape false %}{{ value }}{% endautoescape %}
"""
CALLED = """
{% for one in [1, 2] %}{{ greet('Hello') }};{% endfor %}{{ kind() }} {{ escapes() }} {{ called() }} {{ plain(end='!') }}
{{ 'a-b'.split('-') | join('+') }} {% macro m(x, y='<') %}{{ x }}{{ y }}{{ caller() }}{% endmacro %}{% call m(1) %}>{% endcall %}
"""


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_escaped(value: Any) -> None:
    """As MarkupSafe does, wherever a value is written."""
    ours, jinja = (
        kind(autoescape=True).from_string(WRITTEN).render(value=value) for kind in (PanelEnvironment, Environment)
    )
    assert ours == jinja
    assert ours.strip().startswith(f"{escape(value)}|")


def test_who_asks_for_the_context_gets_it() -> None:
    @pass_context
    def reader(context: Context, greeting: str) -> str:
        return f"{greeting} {context['reader']}"

    @pass_environment
    def kind(environment: Environment) -> bool:
        return isinstance(environment, Environment)

    @pass_eval_context
    def escapes(context: Any) -> bool:
        return bool(context.autoescape)

    class Callable:
        @pass_context
        def __call__(self, context: Context) -> str:
            return str(context["reader"])

    made = []
    for environment in (PanelEnvironment(autoescape=True), Environment(autoescape=True)):
        environment.globals.update(
            greet=reader, kind=kind, escapes=escapes, called=Callable(), plain=lambda *, end: f"<{end}>"
        )
        made.append(environment.from_string(CALLED).render(reader="Ann & Bob"))
    assert made[0] == made[1]
    assert "Hello Ann &amp; Bob;Hello Ann &amp; Bob;True True Ann &amp; Bob &lt;!&gt;" in made[0]


def _rendered(folder: Path, source: str) -> str:
    """By an environment that was just made."""
    environment = PanelEnvironment(
        loader=DictLoader({"page": source}), autoescape=True, bytecode_cache=CompiledTemplates(folder)
    )
    return environment.get_template("page").render(name="<b>")


def test_what_is_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "templates"
    assert _rendered(folder, "Hi {{ name }}") == "Hi &lt;b&gt;"
    assert folder.stat().st_mode & 0o777 == 0o700
    (kept,) = folder.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(PanelEnvironment, "_generate", None)  # compiling would fail
        assert _rendered(folder, "Hi {{ name }}") == "Hi &lt;b&gt;"
    assert _rendered(folder, "Bye {{ name }}") == "Bye &lt;b&gt;"
    kept.write_bytes(kept.read_bytes()[:-20])  # cut off
    assert _rendered(folder, "Bye {{ name }}") == "Bye &lt;b&gt;"


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _rendered(tmp_path / "file" / "templates", "Hi {{ name }}") == "Hi &lt;b&gt;"
