"""How a route of the API is made: authenticate, read the query and the body, call, answer in the envelope."""

from __future__ import annotations

import codecs
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from quart import Blueprint, Response, request
from quart_schema import document_querystring, document_request, document_response, operation_id, security_scheme, tag

from panel import web
from panel.api.reasons import refusal
from panel.api.wire import Body, Envelope, Query, to_jsonable
from panel.errors import InvalidInput, Unauthorized
from panel.i18n import gettext_noop as _
from panel.security import Actor, Source

M = TypeVar("M", bound=BaseModel)

DEEPEST = 32  # levels of a body; the deepest documented one has four
FORM = re.compile(rb"\s*[\w.%+\[\]-]+=|--[\w-]+\r?\n")  # urlencoded, or multipart: what PHP sends of an array
SAFE = {"GET", "HEAD", "OPTIONS"}

Handler = Callable[..., Awaitable[Any]]


async def authenticate() -> Actor:
    """The actor behind ``Authorization: Bearer`` or a login session.

    Raises:
        Unauthorized: neither is there, or not good.
        Forbidden: a session's browser was sent here by another site.
    """
    scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return await web.services().access.by_token(token.strip(), web.client_address())
    actor = await web.session_actor(Source.API)
    if actor is None:
        raise Unauthorized(_("Send the access token as `Authorization: Bearer <token>`, or log in."))
    if request.method not in SAFE:
        web.check_origin()
    return actor


def endpoint(
    blueprint: Blueprint,
    method: str,
    path: str,
    *,
    answer: type[BaseModel],
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    public: bool = False,
    limit: Callable[[Handler], Handler] | None = None,
) -> Callable[[Handler], Handler]:
    """Add a route to ``blueprint`` and to the OpenAPI document (``panel.api.document`` adds the errors).

    The handler gets the path's parameters, ``actor`` (unless ``public``), ``body`` and ``query`` by name, and returns an
    instance of ``answer`` (or a dict of its fields). ``limit`` is a decorator of quart-rate-limiter.
    """

    def decorate(handler: Handler) -> Handler:
        async def view(**values: Any) -> Response:
            if not public:
                values["actor"] = await authenticate()
            check_no_zero(request.view_args or {})
            check_no_zero(request.args)
            if query is not None:
                values["query"] = read_model(query, request.args.to_dict())
            if body is not None:
                values["body"] = read_model(body, await _read_json())
            return respond(await handler(**values))

        view.__name__, view.__doc__ = handler.__name__, handler.__doc__
        documented: Any = document_response(Envelope[answer], 200)(view)  # type: ignore[valid-type]
        if body is not None:
            documented = document_request(body)(documented)
        if query is not None:
            documented = document_querystring(query)(documented)
        if public:
            documented = security_scheme([])(documented)
        documented = tag([path.split("/")[1]])(documented)
        documented = operation_id(handler.__name__)(documented)
        if limit is not None:
            documented = limit(documented)
        blueprint.add_url_rule(path, handler.__name__, documented, methods=[method])
        return handler

    return decorate


async def _read_json() -> Any:
    """The body as JSON, whatever its content type says: old clients send none. An empty body is an empty object."""
    content = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        return {}
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _not_json(content, error) from error
    if not isinstance(value, dict):
        raise InvalidInput(_("The body must be a JSON object."))
    check_no_zero(value)
    return value


def _not_json(content: bytes, error: orjson.JSONDecodeError) -> InvalidInput:
    """Where it goes wrong, or what it is instead: a form, or text in another encoding."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return InvalidInput(_("The body is not UTF-8. JSON is always sent as UTF-8."))
    if FORM.match(content):
        return InvalidInput(_("The body is a form. Send it as JSON, such as {example}."), example='{"action": "start"}')
    return InvalidInput(
        _("The body is not JSON: see line {line}, column {column}."), line=error.lineno, column=error.colno
    )


def check_no_zero(value: Any) -> None:
    """``InvalidInput`` for text with a zero byte anywhere: no name has one, and PostgreSQL stores none. And for what is nested
    deeper than ``DEEPEST``: what reads it afterwards calls itself for each level."""
    level = [value]
    for _depth in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if "\0" in item:
                    raise InvalidInput(_("Text cannot contain a zero byte."))
            elif isinstance(item, Mapping):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise InvalidInput(_("The body is nested more than {most} levels deep."), most=DEEPEST)


def read_model(model: type[M], values: Any) -> M:
    """Check values against a model. ``InvalidInput`` names the first wrong field and what it should be."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_input=False)[0]) from error


def respond(data: Any) -> Response:
    """The envelope around an answer."""
    envelope = {"code": 200, "msg": "success", "data": data}
    content = orjson.dumps(envelope, default=to_jsonable, option=orjson.OPT_UTC_Z)
    return Response(content, content_type="application/json")
