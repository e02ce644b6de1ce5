"""Collects every message of the panel and brings the Chinese catalogue up to date.

A new message is left empty there and named on the terminal; one that is no longer used is dropped. Run twice, it changes
nothing. ``tests/test_translations.py`` reads the same messages and fails on one without its Chinese.

What is a message: in templates, the text in ``_()`` and ``ngettext()``; in Python, a text that is marked with ``_()``, or given
to whatever in ``ARGUMENTS`` takes one, or a class's ``title``. It must stand there as a literal (or one of two, by ``if``).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

from panel import errors

ROOT = Path(__file__).resolve().parents[1]
PANEL = ROOT / "panel"
CHINESE = PANEL / "translations/zh/LC_MESSAGES/messages.po"
HEADER = """\
msgid ""
msgstr ""
"Language: zh_CN\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

"""

ERRORS = [
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.PanelError)
]
# Which arguments of a call are messages: by position, or by name.
ARGUMENTS: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(("_", "gettext", "gettext_noop", "say", "Text"), (0,)),
    **dict.fromkeys(ERRORS, (0,)),
    "HostField": (1, "label", 2, "help"),
}
REPORTS = frozenset({"step", "warn"})  # of a task's log: always awaited
TEMPLATE_WORDS = {"_": None, "gettext": None, "ngettext": (1, 2)}

Id = str | tuple[str, str]  # a tuple: singular and plural


def messages() -> set[Id]:
    """Every message of the panel."""
    found: set[Id] = set()
    for path in sorted(PANEL.rglob("*.py")):
        found |= set(_in_python(ast.parse(path.read_text("utf-8"), path)))
    for path in sorted((PANEL / "templates").rglob("*.html")):
        with path.open("rb") as file:
            options = {"encoding": "utf-8", "silent": "false"}
            found |= {message for _line, message, _, _ in extract("jinja2", file, TEMPLATE_WORDS, options=options)}
    return found


def _in_python(tree: ast.AST) -> Iterator[Id]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "ngettext":
            yield from zip(*(_literals(form) for form in node.args[:2]), strict=True)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, ARGUMENTS.get(_called(node), ()))
        elif isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and _called(node.value) in REPORTS:
            yield from _of_call(node.value, (0,))
        elif isinstance(node, ast.ClassDef):
            yield from _titles(node)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _of_call(node: ast.Call, places: Iterable[int | str]) -> Iterator[str]:
    by_name = {keyword.arg: keyword.value for keyword in node.keywords}
    for place in places:
        if isinstance(place, str):
            yield from _literals(by_name.get(place))
        elif place < len(node.args):
            yield from _literals(node.args[place])


def _titles(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(getattr(target, "id", "") == "title" for target in targets):
            yield from _literals(getattr(line, "value", None))


def _literals(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        raise SyntaxError(f"line {node.lineno}: an f-string cannot be translated; use {{placeholders}}.")


def chinese() -> Catalog:
    """The Chinese catalogue as it is stored."""
    with CHINESE.open("rb") as file:
        return read_po(file, locale="zh_CN")


def updated(old: Catalog, used: Iterable[Id]) -> Catalog:
    """The catalogue of ``used``, with the Chinese that ``old`` has."""
    new = Catalog(locale="zh_CN")
    for message in used:
        known = old.get(message if isinstance(message, str) else message[0])
        entry = new.add(message, known.string if known is not None and not known.fuzzy else None)
        if "%(" not in str(message):
            entry.flags.discard("python-format")  # a "% o" in a sentence is no format
    return new


def written(catalog: Catalog) -> bytes:
    """The file of a catalogue: sorted, one line a text, and nothing in it that another run would write otherwise."""
    file = BytesIO()
    file.write(HEADER.encode())
    write_po(file, catalog, width=0, omit_header=True, sort_output=True)
    return file.getvalue()


def main() -> int:
    """Rewrite the catalogue; 1 when Chinese is missing in it."""
    new = updated(chinese(), messages())
    CHINESE.write_bytes(written(new))
    missing = [str(message.id) for message in new if message.id and not has_text(message)]
    for text in sorted(missing):
        print(f"no Chinese: {text}", file=sys.stderr)
    return 1 if missing else 0


def has_text(message: Message) -> bool:
    """Whether an entry has its Chinese."""
    return bool(message.string) and all([message.string] if isinstance(message.string, str) else message.string[:1])


if __name__ == "__main__":
    sys.exit(main())
