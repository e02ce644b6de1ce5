"""What is installed besides the panel: locked by hash, and under licences that we may use."""

from __future__ import annotations

import re

import pytest

from scripts.licences import FILE, LOCKS, ROOT, WITH_CARE, licence_of, locked, refused, table


def test_the_list_is_current() -> None:
    assert FILE.read_text("utf-8") == table(), "run .venv/bin/python scripts/licences.py"


@pytest.mark.parametrize("name", LOCKS)
def test_every_licence_is_one_that_we_may_use(name: str) -> None:
    found = {package: licence for package in locked(name) if (licence := licence_of(package)) is not None}
    assert len(found) > 30
    bad = {package: parts for package, licence in found.items() if (parts := refused(package, licence))}
    assert not bad


def test_a_licence_that_we_may_not_use_is_found() -> None:
    assert refused("x", "AGPL-3.0-only") == ["AGPL-3.0-only"]
    assert refused("x", "MIT AND (Apache-2.0 OR SSPL-1.0)") == ["SSPL-1.0"]
    assert refused("x", "unknown") == ["unknown"]


def test_what_is_copyleft_to_run_is_a_library() -> None:
    assert {name for name in WITH_CARE if "GPL" in WITH_CARE[name]} & set(locked("run")) == {
        "libvirt-python", "pycdlib", "asyncssh",
    }  # fmt: skip


@pytest.mark.parametrize("name", [*LOCKS, "tools"])
def test_every_package_is_locked_by_hash(name: str) -> None:
    """A registry that was taken over cannot put another file in its place."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert entries
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
