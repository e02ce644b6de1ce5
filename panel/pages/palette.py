"""The command palette (Ctrl-K): pages, VMs, hosts and actions, found by what is typed. The database is read only, a fixed
number of queries for any number of VMs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from quart import Response, request
from tortoise.expressions import Case, Q, When

from panel import i18n, web
from panel.engines.types import PowerAction
from panel.i18n import LANGUAGES, gettext, ngettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Vm
from panel.pages.navigation import PLACES, WITHIN, Place
from panel.pages.rows import VmRow, listed, vm_rows
from panel.pages.shared import came_from, get, to
from panel.pages.words import ACTIONS, say
from panel.security import Actor, Permission
from panel.services.power import ALLOWED

LONGEST = 100  # characters that are searched for
VMS_SHOWN = 8
HOSTS_SHOWN = 5
OFFERED = 5  # VMs for an action that was typed without a name
CONSOLE = "console"
THEME_ICONS = {"light": "sun", "dark": "moon", "auto": "device-laptop"}
THEME_WORDS = {"light": _("Light theme"), "dark": _("Dark theme"), "auto": _("System theme")}


@dataclass(frozen=True, slots=True)
class Option:
    """A line of the palette.

    Attributes:
        url: the page it opens; with ``fields``, where they are posted.
        note: what is said beside it.
        confirm: as in the macros' ``confirm``.
        reason: why it cannot be chosen now.
        also: what else finds it: its label in English.
    """

    label: str
    icon: str
    url: str
    note: str = ""
    fields: dict[str, str] | None = None
    confirm: dict[str, str] | None = None
    reason: str | None = None
    also: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Options under a title."""

    key: str
    title: str
    options: Sequence[Option] = field(default_factory=list)


@get("/palette", "palette")
async def palette(actor: Actor) -> Response:
    """What can be done with the text ``q``, as a fragment. Asked for as a page it is the search of the VM list."""
    text = " ".join(request.args.get("q", "")[:LONGEST].split())
    if not web.is_htmx():
        return to(web.url("pages.vms", **({"q": text} if text else {})))
    groups = [group for group in await _groups(actor, text) if group.options]
    count = sum(len(group.options) for group in groups)
    response = Response(await web.render("partials/palette.html", groups=groups))
    told = {"q": text, "said": ngettext("%(num)s result", "%(num)s results", count) % {"num": count}}
    response.headers["HX-Trigger-After-Settle"] = json.dumps({"palette": told})
    return response


async def _groups(actor: Actor, text: str) -> list[Group]:
    plain = [
        Group("actions", gettext(_("Actions")), [*_matching(_general(actor), text)]),
        Group("pages", gettext(_("Pages")), [*_matching(map(_page, (*PLACES, *WITHIN)), text)]),
    ]
    if not text:
        return plain
    wanted, rest = _verb(text) if Permission.OPERATE in actor.permissions else (None, text)
    rows = await _vms(rest or text)
    if wanted and rest:
        offered = [_act(row, wanted) for row in rows]
    elif wanted:
        offered = [_act(row, wanted) for row in await _able(wanted)]
    elif rows and Permission.OPERATE in actor.permissions:
        offered = [option for option in _acts(rows[0]) if option.reason is None]
    else:
        offered = []
    actions = Group("actions", plain[0].title, [*offered, *plain[0].options])
    found = Group("vms", gettext(_("Virtual machines")), [_vm(row) for row in rows])
    hosts = Group("hosts", gettext(_("Hosts")), await _hosts(actor, text))
    return [actions, found, hosts, plain[1]] if wanted else [found, hosts, actions, plain[1]]


# -- what there is always --------------------------------------------------------------------------------------


def _general(actor: Actor) -> list[Option]:
    """Actions that need no VM."""
    made = []
    if Permission.MANAGE in actor.permissions:
        made += [
            _named(_("Create VM"), "plus", web.url("pages.vm_new")),
            _named(_("Add host"), "plus", web.url("pages.host_new")),
        ]
    back = {"next": came_from(web.url("pages.dashboard"))}
    for theme in web.THEMES:
        if theme != web.theme():
            values = back | {"theme": theme}
            made.append(_named(THEME_WORDS[theme], THEME_ICONS[theme], web.url("pages.set_theme"), values))
    for code, name in LANGUAGES.items():
        if code != i18n.language():
            values = back | {"lang": code}
            made.append(_named(_("Language"), "language", web.url("pages.set_language"), values, f": {name}"))
    return made


def _named(label: str, icon: str, url: str, values: dict[str, str] | None = None, end: str = "") -> Option:
    return Option(gettext(label) + end, icon, url, fields=values, also=label)


def _page(place: Place) -> Option:
    return _named(place.label, place.icon, place.url)


def _matching(options: Iterable[Option], text: str) -> Iterable[Option]:
    """Those whose label has every word of the text."""
    words = text.casefold().split()
    return (option for option in options if all(word in f"{option.label} {option.also}".casefold() for word in words))


# -- VMs and hosts ---------------------------------------------------------------------------------------------


async def _vms(text: str) -> list[VmRow]:
    """The VMs that have every word of the text in their name, title or host: the closest first. Three queries."""
    query = Vm.all()
    for word in text.split()[:8]:
        query = query.filter(Q(name__icontains=word) | Q(title__icontains=word) | Q(host__name__icontains=word))
    closeness = Case(
        When(Q(name__iexact=text) | Q(title__iexact=text), then="0"),
        When(Q(name__istartswith=text) | Q(title__istartswith=text), then="1"),
        default="2",
    )
    query = query.annotate(closeness=closeness).order_by("closeness", "title", "name", "id").limit(VMS_SHOWN)
    return await vm_rows(await listed(query))


async def _able(wanted: str) -> list[VmRow]:
    """Some VMs for which the action makes sense."""
    query = Vm.filter(creating=False, host__enabled=True).order_by("title", "name", "id")
    if wanted != CONSOLE:
        query = query.filter(state__in=list(ALLOWED[PowerAction(wanted)]))
    rows = await vm_rows(await listed(query.limit(VMS_SHOWN)))
    return [row for row in rows if _act(row, wanted).reason is None][:OFFERED]


def _vm(row: VmRow) -> Option:
    vm = row.vm
    name = f"{vm.name} · " if vm.title and vm.title != vm.name else ""
    return Option(vm.title or vm.name, "device-desktop", row.url, f"{name}{vm.host.name}")


def _acts(row: VmRow) -> list[Option]:
    return [_act(row, CONSOLE), *(_act(row, button.action) for button in row.buttons)]


def _act(row: VmRow, wanted: str) -> Option:
    """An action on a VM: the same form and question as on its own page."""
    name, host = row.vm.title or row.vm.name, row.vm.host.name
    if wanted == CONSOLE:
        label = say(_("Open console of {name}"), name=name)
        return Option(label, "terminal-2", row.console_url, host, reason=row.console_reason)
    button = next(button for button in row.buttons if button.action == wanted)
    values = {"action": button.action}
    return Option(f"{button.label} {name}", button.icon, row.power_url, host, values, button.confirm, button.reason)


async def _hosts(actor: Actor, text: str) -> list[Option]:
    query = Host.all()
    for word in text.split()[:8]:
        query = query.filter(name__icontains=word)
    made = []
    for host in await query.order_by("name").limit(HOSTS_SHOWN):
        made.append(Option(host.name, "server", web.url("pages.host", host=host.name)))
        if host.enabled and Permission.MANAGE in actor.permissions:
            label = say(_("Create VM on {host}"), host=host.name)
            made.append(Option(label, "plus", web.url("pages.vm_new", host=host.name)))
    return made


# -- what is typed ---------------------------------------------------------------------------------------------


def _verbs() -> list[tuple[str, str]]:
    """Words for actions, in the reader's language and in English, the longest first; and the actions."""
    words = {
        (word.casefold(), str(action)) for action, (label, _icon) in ACTIONS.items() for word in (label, gettext(label))
    }
    console = (_("Console"), _("Open console"), _("Open console of"))
    words |= {(word.casefold(), CONSOLE) for label in console for word in (label, gettext(label))}
    return sorted(words, key=lambda pair: (-len(pair[0]), pair))


def _verb(text: str) -> tuple[str | None, str]:
    """The action that a text names, and the rest of it: ``start web-1``, ``web-1 start``, ``启动web-1``; or, when the
    text is the beginning of one action's word only, that action alone."""
    low = text.casefold()
    for word, action in _verbs():
        if low == word:
            return action, ""
        if low.startswith(word + " ") or (not word.isascii() and low.startswith(word)):
            return action, text[len(word) :].strip()
        if low.endswith(" " + word):
            return action, text[: -len(word)].strip()
    begun = {action for word, action in _verbs() if len(low) > 1 and word.startswith(low)}
    return (begun.pop() if len(begun) == 1 else None), ""
