"""What vmrest takes, by operation: the request bodies of the vendor's document (``test_vmrest.py`` compares)."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_INT32 = {"type": "integer", "format": "int32"}
_INT16 = {"type": "integer", "format": "int16"}

BODIES: dict[str, dict[str, Any]] = {
    "VMParameter": {"type": "object", "properties": {"processors": _INT32, "memory": _INT32}},
    "VMCloneParameter": {
        "type": "object",
        "required": ["name", "parentId"],
        "properties": {"name": _TEXT, "parentId": _TEXT},
    },
    "ConfigVMParamsParameter": {"type": "object", "properties": {"name": _TEXT, "value": _TEXT}},
    "VMPowerOperation": {"type": "string", "enum": ["on", "off", "shutdown", "suspend", "pause", "unpause"]},
    "NICDeviceParameter": {
        "type": "object",
        "required": ["type", "vmnet"],
        "properties": {"type": {"type": "string", "enum": ["custom", "bridged", "nat", "hostonly"]}, "vmnet": _TEXT},
    },
    "PortforwardParameter": {
        "type": "object",
        "required": ["guestIp", "guestPort"],
        "properties": {"guestIp": _TEXT, "guestPort": _INT16, "desc": _TEXT},
    },
    "MacToIPParameter": {"type": "object", "required": ["IP"], "properties": {"IP": _TEXT}},
}
