"""XML for libvirt, always built as a tree: a title or a name can never become markup."""

from __future__ import annotations

import unicodedata
from xml.etree import ElementTree as ET

from panel.errors import InvalidInput

Element = ET.Element
TITLE_LENGTH = 255
METADATA_NS = "urn:openidcs:vm:1"
ET.register_namespace("openidcs", METADATA_NS)


def node(parent: Element | None, tag: str, text: str | None = None, **attributes: str) -> Element:
    """A new element below ``parent`` (or a root). A trailing ``_`` of an attribute's name is dropped (``type_``)."""
    clean = {name.rstrip("_"): value for name, value in attributes.items()}
    element = ET.Element(tag, clean) if parent is None else ET.SubElement(parent, tag, clean)
    element.text = text
    return element


def parse(text: str) -> Element:
    """The tree of XML that libvirt wrote (it has no DTD; the standard parser loads no external entity)."""
    return ET.fromstring(text)  # noqa: S314 (from the hypervisor that we trust with the VMs themselves)


def serialize(root: Element) -> str:
    """The tree as text."""
    return ET.tostring(root, encoding="unicode")


def check_title(title: str) -> str:
    """``title`` as it is, or ``InvalidInput`` (``vm_name``) for what libvirt cannot keep.

    libvirt refuses a newline in a title; XML 1.0 forbids control characters, surrogates and U+FFFE/U+FFFF.
    """
    if len(title) > TITLE_LENGTH or not all(map(_legal, title)):
        raise InvalidInput(
            "The title must be one line of at most {count} printable characters.", field="vm_name", count=TITLE_LENGTH
        )
    return title


def clean(text: str) -> str:
    """``text`` without what XML forbids: for names that are only shown."""
    return "".join(filter(_legal, text))[:TITLE_LENGTH]


def _legal(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and char not in "\ufffe\uffff"
