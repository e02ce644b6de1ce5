"""The OpenAPI document: the routes for programs, none of the pages, and what each error means, once for all routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quart_schema import OpenAPIProvider
from werkzeug.routing import Rule

from panel.api.wire import ErrorData, ErrorEnvelope

# By status: a name for programs, what it means and what mends it, and an answer as it comes (message, field at fault).
ERRORS: dict[int, tuple[str, str, str, str | None]] = {
    400: ("BadRequest", "The request is wrong: the field, and what it must be.", "ram_num is missing.", "ram_num"),
    401: (
        "Unauthorized", "No token, or not the one in force.",
        "Send the access token as `Authorization: Bearer <token>`, or log in.", None,
    ),
    403: ("Forbidden", "Known, but not allowed.", "This request came from another site.", None),
    404: ("NotFound", "What the address names does not exist.", "There is no host host9.", None),
    409: (
        "Conflict", "The state of the thing forbids it, another task has it, or its host cannot do it.",
        "VM vm-001 is running: start is not possible. Possible now: shutdown, suspend, reset, stop.", None,
    ),
    413: ("TooLarge", "More than the panel takes.", "The request is larger than 1048576 bytes.", None),
    429: ("TooManyRequests", "Slow down: `Retry-After` says how many seconds.",
          "Too many failed logins. Try again in 300 s.", None),
    500: ("Failure", "The hypervisor refused, with its reason; or the panel failed, and its log says why.",
          "Host host1 refuses: no space left on device.", None),
    503: ("Unreachable", "The hypervisor, or the panel's database, does not answer. Asking again later is safe for a GET.",
          "Host host1 does not answer.", None),
    507: ("StorageFull", "There is no room for what has to be stored.",
          "The disk of the data folder is full. Make room there, then try again.", None),
}  # fmt: skip


class ApiDocument(OpenAPIProvider):
    """Of the rules below ``/api``. What can go wrong with all is written once, and each route refers to it."""

    def generate_rules(self) -> Iterable[Rule]:
        """The rules below ``/api``."""
        return (rule for rule in super().generate_rules() if rule.rule.startswith("/api/"))

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """As the base class; each error is a reference."""
        paths, components = super().build_paths(rule)
        for operations in paths.values():
            for operation in operations.values():
                operation["responses"] |= {
                    str(status): {"$ref": f"#/components/responses/{name}"} for status, (name, *_rest) in ERRORS.items()
                }
        return paths, components

    def schema(self) -> dict[str, Any]:
        """The whole document."""
        document: dict[str, Any] = super().schema()
        template = "#/components/schemas/{model}"
        envelope = ErrorEnvelope.model_json_schema(ref_template=template)
        envelope.pop("$defs", None)
        document["components"]["schemas"] |= {
            "ErrorEnvelope": envelope,
            "ErrorData": ErrorData.model_json_schema(ref_template=template),
        }
        document["components"]["responses"] = {name: _response(status) for status, (name, *_rest) in ERRORS.items()}
        return document


def _response(status: int) -> dict[str, Any]:
    _name, meaning, message, field = ERRORS[status]
    example = {"code": status, "msg": message, "data": {"field": field} if field else None}
    content = {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}, "example": example}
    return {"description": meaning, "content": {"application/json": content}}
