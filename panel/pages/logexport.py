"""The log as a file: CSV for spreadsheets, JSON lines for programs; written as it is read, never held whole."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import orjson
from quart import Response, stream_with_context

from panel import i18n
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import LogEntry
from panel.pages.words import level_word, source_word, told
from panel.services.clock import now

BOM = "\ufeff"  # without it spreadsheets read Chinese as another encoding
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
HEAD = (
    _("When (UTC)"), _("Level"), _("What"), _("Action"), _("Object"), _("Who"), _("Through"), _("From"),
)  # fmt: skip


def download(lines: AsyncIterator[str], form: str, content_type: str) -> Response:
    """Lines as a file to keep, in the language of the page that asked."""
    language = i18n.language()

    @stream_with_context
    async def body() -> AsyncIterator[bytes]:
        i18n.set_language(language)
        async for line in lines:
            yield line.encode()

    response = Response(body(), content_type=content_type)
    response.timeout = None  # a long log takes as long as its reader
    response.headers["Content-Disposition"] = f'attachment; filename="openidcs-log-{now():%Y%m%d-%H%M%S}.{form}"'
    response.headers["Cache-Control"] = "no-store"
    return response


async def csv_lines(entries: AsyncIterator[LogEntry]) -> AsyncIterator[str]:
    """The log for people: words in the reader's language, and nothing that a spreadsheet would compute."""
    yield BOM + _row([gettext(name) for name in HEAD])
    async for entry in entries:
        yield _row(
            [
                f"{entry.at:%Y-%m-%d %H:%M:%S}",
                level_word(entry.level),
                told(entry.message),
                entry.action,
                entry.object_name,
                entry.actor,
                source_word(entry.source),
                entry.address,
            ]
        )


async def json_lines(entries: AsyncIterator[LogEntry]) -> AsyncIterator[str]:
    """The log for programs: the fields of the API's log. Only ``message`` is in the reader's language."""
    async for entry in entries:
        fields = {
            name: getattr(entry, name)
            for name in ("id", "at", "level", "actor", "source", "address", "action", "object_kind", "object_name")
        }
        yield orjson.dumps(fields | {"message": told(entry.message)}, option=orjson.OPT_APPEND_NEWLINE).decode()


def _row(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([harmless(cell) for cell in cells])
    return text.getvalue()


def harmless(cell: str) -> str:
    """``cell``, as text even where a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
