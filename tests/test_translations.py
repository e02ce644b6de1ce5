"""Everything that a person reads is there in Chinese: no message without it, no text in a template beside ``_()``."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from babel.messages.catalog import Message
from jinja2 import nodes

from panel import i18n
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerAction, PowerState
from panel.i18n import Text
from panel.models import Task
from panel.web import TEMPLATES
from scripts import translate
from tests.pages.conftest import Browser, alpha, browser, stranger  # noqa: F401 - fixtures
from tests.pages.test_pages import PAGES

PLACEHOLDER = re.compile(r"\{\w+\}|%\(\w+\)s")
# The same in every language: names of products, files, languages and units, a class, and keys of the keyboard.
NAMES = re.compile(
    r"\b(OpenIDCS( Panel)?|openapi\.json|English|中文|UTC|[KMGTP]iB|console-page"
    r"|(Ctrl|Alt|Shift|Super)(\+\w+)*|Tab|Esc|Enter|PrintScreen|Up|Down|Left|Right|[jkx])\b"
)
ATTRIBUTES = re.compile(
    r'([a-z-]+="[^"]*" ?|required ?|disabled ?|data-[a-z-]+ ?)+'
)  # of a macro that makes only these
READ_ALOUD = frozenset({"alt", "aria-description", "aria-label", "aria-valuetext", "label", "placeholder", "title"})


def entries() -> list[Message]:
    """What the Chinese catalogue has; what it lacks is the first test's."""
    return [message for message in translate.chinese() if message.id and translate.has_text(message)]


def forms(message: Message) -> list[str]:
    """What an entry is a translation of: one text, or singular and plural."""
    return [message.id] if isinstance(message.id, str) else list(message.id)


def strings(message: Message) -> list[str]:
    """Its Chinese."""
    return [message.string] if isinstance(message.string, str) else list(message.string or ())


# -- the catalogue -----------------------------------------------------------------------------------------------


def test_every_message_has_its_chinese_and_every_entry_its_message() -> None:
    """``scripts/translate.sh`` has nothing to do, and nobody has left anything empty."""
    used = translate.messages()
    stored = {message.id if isinstance(message.id, str) else tuple(message.id) for message in entries()}
    hint = "run scripts/translate.sh, then write the Chinese"
    missing, unused = sorted(map(str, used - stored)), sorted(map(str, stored - used))
    assert not missing, hint
    assert not unused, hint
    assert not [message.id for message in entries() if message.fuzzy]
    assert not translate.chinese().obsolete
    assert translate.written(translate.updated(translate.chinese(), used)) == translate.CHINESE.read_bytes(), hint


def test_placeholders_are_kept() -> None:
    """A translation has the placeholders of its message: none lost, none misspelt."""
    for message in entries():
        wanted = set(PLACEHOLDER.findall(forms(message)[-1]))
        for text in strings(message)[:1]:
            assert set(PLACEHOLDER.findall(text)) == wanted, message.id


def test_it_is_chinese() -> None:
    """Chinese characters in each entry, except in names and in what is the same everywhere; whole sentences stay so."""
    same = {forms(message)[0] for message in entries() if forms(message)[0] == strings(message)[0]}
    units = {"Mbit/s", "%(rate)s Mbit/s"}
    assert (
        same
        <= {
            "API",
            "CPU",
            "Ctrl+Alt+Del",
            "https",
            "NAT",
            "Docker / Podman",
            "Incus / LXD",
            "Proxmox VE",
            "Python",
            "QEMU/KVM (libvirt)",
            "VMware Workstation",
            "vSphere (vCenter, ESXi)",
        }
        | units
    )
    for message in entries():
        english, text = forms(message)[-1], strings(message)[0]
        assert english in same or text in {"ID", "CPU"} or re.search(r"[\u4e00-\u9fff]", text), text
        assert english.endswith((".", "?")) == text.endswith(("。", "？")) or ":" in english, (english, text)
        assert text == text.strip(), text


def test_words_in_messages_are_translated() -> None:
    """``{state}`` and ``{action}`` are words of the panel; a name that happens to be such a word is a name."""
    assert set(PowerState) <= i18n.WORDS["state"]
    assert set(PowerAction) <= i18n.WORDS["action"]
    text = Text(
        "VM {name} is {state}: {action} is not possible.",
        {"name": "running", "state": PowerState.STOPPED, "action": "stop"},
    )
    assert str(text) == "VM running is stopped: stop is not possible."
    with i18n.use_language("zh"):
        assert text.translate() == "虚拟机 running 当前状态为“已关机”，无法执行“强制关机”。"
        assert Text("{state}", {"state": "nonsense"}).translate() == "nonsense"
    assert text.translate() == str(text)


# -- templates ---------------------------------------------------------------------------------------------------


class Visible(HTMLParser):
    """What of a page a person sees or hears: its text, and the attributes that are read aloud or shown."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._inside: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "style"}:
            self._inside.append(tag)
        for name, value in attrs:
            # data-*: words for scripts, if they look like words
            if name in READ_ALOUD or (name.startswith("data-") and re.match(r"[A-Z][a-z]", value or "")):
                self.found.append((self.getpos()[0], value or ""))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside and data.strip():
            self.found.append((self.getpos()[0], " ".join(data.split())))


def bare_text(source: str) -> Iterator[tuple[int, str]]:
    """Lines and texts of a template that nobody translates."""
    environment = jinja2.Environment(autoescape=True)
    markup = "".join(
        value if kind == "data" else "\n" * value.count("\n") for _line, kind, value in environment.lex(source)
    )
    for line, text in Visible(markup).found:
        if re.search(r"[^\W\d_]", NAMES.sub("", html.unescape(text))) and not (
            '="' in text and ATTRIBUTES.fullmatch(text)
        ):
            yield line, text
    tree = environment.parse(source)
    marked = {
        id(constant)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in {"_", "ngettext"}
        for constant in call.find_all(nodes.Const)
    }
    for constant in tree.find_all(nodes.Const):
        value = constant.value
        if id(constant) not in marked and isinstance(value, str) and re.match(r"[A-Z][a-z]+\b", NAMES.sub("", value)):
            yield constant.lineno, value


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_templates_have_no_text_of_their_own(path: Path) -> None:
    """Every word of a template is in ``_()``."""
    assert not list(bare_text(path.read_text("utf-8")))


def test_bare_text_is_seen() -> None:
    """The test above would see it."""
    for source in (
        "<p>Hello</p>",
        "<p>{{ n }} ago</p>",
        '<a title="Close" href="/x">{{ _("x") }}</a>',
        '<b aria-label="{% if a %}open{% endif %}"></b>',
        "{{ ui.card('Load') }}",
        '<i data-confirm="Delete it?"></i>',
        "<p>你好</p>",
    ):
        assert list(bare_text(source)), source
    for source in (
        "{# Hello #}<p class='a b' id=\"main\" data-state='starting'>{{ _('Hello') }} · 5 MiB&nbsp;–</p>",
        "<script>const a = 1</script>{{ ngettext('One', 'Many', n) }}{{ ui.icon('x', 'icon-sm') }}",
        '<button data-keys="Ctrl+Alt+F{{ n }}">Ctrl+Alt+F{{ n }}</button>OpenIDCS',
    ):
        assert not list(bare_text(source)), source


# -- pages -------------------------------------------------------------------------------------------------------


def english() -> re.Pattern[str]:
    """What finds an English message in a text: as the whole of it, or several of its words somewhere in it."""
    wholes, parts = set(), set()
    for message in entries():
        for form in forms(message):
            pieces = PLACEHOLDER.split(form)
            if form not in strings(message) and re.search("[a-z]", "".join(pieces)):
                wholes.add(".+".join(map(re.escape, pieces)))
                parts |= {re.escape(piece) for piece in pieces if piece.count(" ") > 3}
    return re.compile(f"^(?:{'|'.join(sorted(wholes))})$|{'|'.join(sorted(parts))}")


async def test_chinese_pages_have_no_english(browser: Browser, alpha: FakeWorld) -> None:  # noqa: F811
    """What is shown to a Chinese reader is in the catalogue and was looked up there."""
    task = await Task.first()
    assert task is not None
    browser.headers["Accept-Language"] = "zh"
    wrong = english()
    assert wrong.search("There is no task 7.")
    assert wrong.search("Oh: The panel stopped during this scan. Scan again.")
    seen: set[str] = set()
    for path in [*PAGES, f"/tasks/{task.id}", "/hosts/nope", "/console/alpha/vm-0001"]:
        await browser.get(path)
        texts = {text for _line, text in Visible(browser.html).found} - seen
        seen |= texts
        assert not [text for text in texts if re.search("[A-Za-z]", text) and wrong.search(text)], path
    assert "虚拟机" in seen
