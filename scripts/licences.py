#!/usr/bin/env python3
"""Write ``docs/licences.md``: what the panel installs besides itself, and under which licence. Run in its environment."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"run": "to run the panel", "dev": "to work on it besides"}
FILE = ROOT / "docs/licences.md"
# as packages write them, in their expression, their classifiers or their field; what is left after AND, OR and commas
ALLOWED = {
    "Apache 2.0", "Apache-2.0", "Apache Software License",
    "BSD License", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "DFSG approved", "MIT",
    "MIT License", "MIT-0", "MIT-CMU", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0", "PSF-2.0",
    "Python Software Foundation License",
}  # fmt: skip
UNSAID = {"axe-playwright-python": "MIT"}  # only its licence file says it
WITH_CARE = {  # copyleft, and why it may be here
    "libvirt-python": "LGPL: used as a library, unchanged",
    "pycdlib": "LGPL: used as a library, unchanged",
    "asyncssh": "EPL-2.0 or GPL-2.0: used as a library, unchanged",
    "djlint": "GPL: a checker of templates, run at development only and never shipped",
}


def locked(name: str) -> list[str]:
    """The packages of a lock file, in order."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    return sorted({match[1].lower() for match in re.finditer(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)})


def licence_of(package: str) -> str | None:
    """What an installed package says of its licence; None when it is not installed (another Python's or system's)."""
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None
    expression = about.get("License-Expression")
    classifiers = [
        item.rpartition(" :: ")[2]
        for item in about.get_all("Classifier") or []
        if item.startswith("License ::") and item != "License :: OSI Approved"
    ]
    free = next(iter((about.get("License") or "").strip().splitlines()), "")
    return expression or ", ".join(classifiers) or free or UNSAID.get(package, "unknown")


def refused(package: str, licence: str) -> list[str]:
    """The parts of a licence that are not allowed, unless the package is here with care."""
    parts = [part.strip(" ()") for part in re.split(r" AND | OR |, ", licence)]
    return [] if package in WITH_CARE else [part for part in parts if part not in ALLOWED]


def table() -> str:
    """The document."""
    lines = [
        "# Licences", "",
        "Written by `.venv/bin/python scripts/licences.py`; a test holds it, and each licence against the list in that script.",
        "What the browser loads is in [decisions/0003](decisions/0003-vendored-assets.md) and beside the files themselves.",
    ]  # fmt: skip
    seen: set[str] = set()
    for name, title in LOCKS.items():
        lines += ["", f"## Locked in `requirements/{name}.txt`: {title}", "", "| package | licence |", "|---|---|"]
        for package in locked(name):
            licence = licence_of(package)
            if package in seen or licence is None:
                continue
            seen.add(package)
            note = f" ({WITH_CARE[package]})" if package in WITH_CARE else ""
            lines.append(f"| {package} | {licence}{note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
    sys.stdout.write(f"Wrote {FILE.relative_to(ROOT)}.\n")
