"""What the API takes, by operation: the parameters of the vendor's schema (``test_pve.py`` compares), and who checks them.

``python -m tests.doubles.pve_schemas METHOD PATH ...`` adds operations, from the vendor's document where that is at hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.doubles.pve_world import RefusedError

OURS = Path(__file__).with_name("pve_schema.json")
CONTRACT = Path(__file__).parents[3] / "shared/contracts/pve-api-schema.json"
KEPT = {"type", "optional", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "format", "requires"}
OPERATIONS: dict[str, dict[str, dict[str, Any]]] = json.loads(OURS.read_text())
NOTES = {"description": {"type": "string", "optional": 1, "maxLength": 8192}}
WITH_NOTES = re.compile(r"(PUT .*/config|POST .*/(clone|snapshot|qemu|lxc))")
"""The vendor's document that is at hand has lost everything that is called ``description``, the parameter of these too."""

FORMATS = {
    "dns-name": r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    "pve-node": r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?",
    "pve-vmid": r"[1-9][0-9]{2,8}",
    "urlencoded": r"[-%a-zA-Z0-9_.!~*'()]*",
    "pve-storage-id": r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]",
}


def check(operation: str, given: dict[str, str]) -> None:
    """Refuses what the vendor's ``PVE::JSONSchema`` refuses, in its words."""
    known = OPERATIONS[operation] | (NOTES if WITH_NOTES.fullmatch(operation) else {})
    errors: dict[str, str] = {}
    for name, value in given.items():
        schema = known.get(name) or known.get(re.sub(r"\d+$", "[n]", name))
        if schema is None:
            errors[name] = "property is not defined in schema and the schema does not allow additional properties"
        elif wrong := _wrong(schema, value):
            errors[name] = wrong
    for name, schema in known.items():
        if not schema.get("optional") and name not in given:
            errors[name] = "property is missing and it is not optional"
        if name in given and (other := schema.get("requires")) and other not in given:
            errors[other] = f"missing property - '{name}' requires this property"
    if errors:
        raise RefusedError(400, "Parameter verification failed.\n", errors)


def _wrong(schema: dict[str, Any], value: str) -> str:
    kind = schema.get("type")
    if kind == "integer" and not re.fullmatch(r"-?\d+", value):
        return f"type check ('integer') failed - got '{value}'"
    if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"type check ('number') failed - got '{value}'"
    if kind == "boolean" and value.lower() not in {"0", "1", "yes", "no", "on", "off", "true", "false"}:
        return f"type check ('boolean') failed - got '{value}'"
    if kind in {"integer", "number"}:
        if "minimum" in schema and float(value) < schema["minimum"]:
            return f"value must have a minimum value of {schema['minimum']}"
        if "maximum" in schema and float(value) > schema["maximum"]:
            return f"value must have a maximum value of {schema['maximum']}"
    if len(value) > schema.get("maxLength", len(value)):
        return f"value may only be {schema['maxLength']} characters long"
    if len(value) < schema.get("minLength", 0):
        return f"value must be at least {schema['minLength']} characters long"
    if "enum" in schema and value not in schema["enum"]:
        return f"value '{value}' does not have a value in the enumeration '{', '.join(schema['enum'])}'"
    pattern = schema.get("pattern", "").replace("(?^:", "(?:") or FORMATS.get(str(schema.get("format")))
    if pattern and not re.fullmatch(pattern, value):
        return "value does not match the regex pattern"
    return ""


def parameters(document: dict[str, Any], operation: str) -> dict[str, dict[str, Any]]:
    """Of an operation in the vendor's document: what we keep of them. Formats that are schemas of their own by name only.
    ``KEPT`` are words of a parameter, not names of parameters: one that is called like a word of documentation stays."""
    method, _blank, path = operation.partition(" ")
    found = document[path][method].get("parameters", {})
    assert not found.get("additionalProperties")
    return {
        name: {
            key: "property-string" if key == "format" and isinstance(value, dict) else value
            for key, value in schema.items()
            if key in KEPT
        }
        for name, schema in found.get("properties", {}).items()
    }


def write(operations: dict[str, dict[str, dict[str, Any]]]) -> None:
    """``pve_schema.json``, a parameter on each line."""
    blocks = []
    for operation, known in operations.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(known[name], sort_keys=True)}" for name in sorted(known)]
        inner = "{\n" + ",\n".join(lines) + "\n }" if lines else "{}"
        blocks.append(f" {json.dumps(operation)}: {inner}")
    OURS.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def main() -> None:
    """Add what the command line names."""
    document = json.loads(CONTRACT.read_text())
    pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
    write(OPERATIONS | {f"{method} {path}": parameters(document, f"{method} {path}") for method, path in pairs})


if __name__ == "__main__":
    main()
