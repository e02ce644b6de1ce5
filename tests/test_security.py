"""Secrets at rest, and who may do what."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.errors import ConfigError, Forbidden
from panel.security import Actor, Permission, SecretBox, Source, new_token, same, unveil, veil


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    box = SecretBox.open(tmp_path / "data")
    key = tmp_path / "data" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    sealed = box.seal("s")
    assert SecretBox.open(tmp_path / "data").unseal(sealed) == "s"
    assert [path.name for path in key.parent.iterdir()] == ["secret.key"]


def test_what_a_killed_start_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f"secret.key.{socket.gethostname()}.{os.getpid()}").write_bytes(b"half")
    SecretBox.open(tmp_path)


def test_a_bad_key_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    SecretBox.open(tmp_path)
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        SecretBox.open(tmp_path)
    key.chmod(0o600)
    key.write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="not a key"):
        SecretBox.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        SecretBox.open(tmp_path / "file")


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    sealed = SecretBox.open(tmp_path / "a").seal("s")
    other = SecretBox.open(tmp_path / "b")
    for wrong in (sealed, "nonsense", sealed[:-4] + "AAAA"):
        with pytest.raises(ConfigError):
            other.unseal(wrong)
    assert other.seal("") == ""
    assert other.unseal("") == ""


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text())
def test_same_is_equality(left: str, right: str) -> None:
    left, right = left.encode("utf-8", "replace").decode(), right.encode("utf-8", "replace").decode()
    assert same(left, right) == (left == right)
    assert same(left, left)


def test_permissions() -> None:
    viewer = Actor("v", Source.API, permissions=frozenset({Permission.VIEW}))
    viewer.require(Permission.VIEW)
    for permission in set(Permission) - {Permission.VIEW}:
        with pytest.raises(Forbidden, match=permission):
            viewer.require(permission)
    assert len({new_token() for _ in range(20)}) == 20


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=8))
def test_a_veil_is_lifted_and_never_the_same(secret: str) -> None:
    veils = {veil(secret) for _ in range(3)}
    assert len(veils) == 3
    assert {unveil(each) for each in veils} == {secret}


@pytest.mark.parametrize("nonsense", ["", "wrong", "AAA", "中文", "====", "A" * 43])
def test_what_is_no_veil_hides_nothing(nonsense: str) -> None:
    assert unveil(nonsense) == ""


def test_derived_secrets_are_the_same_for_one_purpose(tmp_path: Path) -> None:
    box, again = SecretBox.open(tmp_path), SecretBox.open(tmp_path)
    other = SecretBox.open(tmp_path / "other")
    assert box.derive("host a") == again.derive("host a")
    assert len({box.derive("host a"), box.derive("host b"), other.derive("host a")}) == 3
    assert len(box.derive("host a")) == 32
