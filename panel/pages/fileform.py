"""A form with a file, read as a stream: fields first, and then the file as it comes. Quart's own parser would keep all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from quart import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

MOST_FIELDS = 20
LONGEST_FIELD = 16 * 1024  # bytes
WAITING = 8 * 1024**2  # bytes of what came that wait to be read: more than the body hands out at once
FIELDS_SECONDS = 60.0  # for all that is before the file
REST_SECONDS = 3600.0  # for what nobody wants any more


@dataclass(frozen=True, slots=True)
class FileForm:
    """``fields`` are those before the file; ``file`` is what the browser calls it, empty when none was chosen; ``data`` can be
    read once."""

    fields: dict[str, str]
    file: str
    data: AsyncIterator[bytes]

    async def rest(self) -> None:
        """Read what is left of the file, and forget it."""
        with suppress(TimeoutError, InvalidInput):
            async with asyncio.timeout(REST_SECONDS):
                async for _part in self.data:
                    pass


async def file_form() -> FileForm:
    """The form of this request up to its file. Empty when it is no form with a file. ``InvalidInput`` for a broken one."""
    boundary = request.mimetype_params.get("boundary", "").encode("ascii", "ignore")
    if request.mimetype != "multipart/form-data" or not boundary:
        return FileForm({}, "", _nothing())
    events = _events(MultipartDecoder(boundary, WAITING, max_parts=MOST_FIELDS), request.body)
    try:
        async with asyncio.timeout(FIELDS_SECONDS):
            return await _up_to_the_file(events)
    except TimeoutError as error:
        raise _broken() from error


async def _up_to_the_file(events: AsyncIterator[Any]) -> FileForm:
    fields: dict[str, str] = {}
    name, value = "", bytearray()
    async for event in events:
        if isinstance(event, File):
            return FileForm(fields, event.filename, _file(events))
        if isinstance(event, Field):
            name, value = event.name, bytearray()
        elif isinstance(event, Data):
            value += event.data
            if len(value) > LONGEST_FIELD:
                raise _broken()
            if not event.more_data:
                fields[name] = value.decode("utf-8", "replace")
    return FileForm(fields, "", _nothing())


async def _events(decoder: MultipartDecoder, body: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    try:
        async for data in body:
            decoder.receive_data(data)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            yield event
    except (ValueError, AttributeError, RequestEntityTooLarge) as error:  # AttributeError: a part without a line's end
        raise _broken() from error


async def _file(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for event in events:
        if isinstance(event, Data):
            yield event.data
            if not event.more_data:
                return
    raise _broken()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _broken() -> InvalidInput:
    return InvalidInput(_("{field}: the form did not come whole. Reload the page and try again."), field="file")
