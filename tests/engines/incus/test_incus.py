"""Incus' and LXD's words, without a server: keys, names, sizes, limits, refusals."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.engines.common.checks import NAME
from panel.engines.incus.client import SOCKETS, refusal, socket_of
from panel.engines.incus.engine import changed
from panel.engines.incus.images import runs_vms
from panel.engines.incus.keys import own_pair, read_pair, token_fingerprint
from panel.engines.incus.marks import Found, cpus_of, instance_name, size_of
from panel.engines.incus.operations import progress
from panel.engines.incus.snapshots import keeps_memory, read_snapshots, rolled_back
from panel.engines.types import VmChange
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from tests.certs import made

SEED = bytes(range(32))


def test_a_seed_makes_one_pair_for_ever() -> None:
    assert own_pair(SEED) == own_pair(SEED)
    assert own_pair(SEED).certificate != own_pair(SEED[::-1]).certificate
    assert "PRIVATE" not in repr(own_pair(SEED))
    own_pair(SEED).load(ssl.create_default_context())


def test_a_pair_survives_a_form_field() -> None:
    own = made("panel")
    for text in (own.pem + own.key_pem, own.key_pem + own.pem, (own.pem + own.key_pem).replace("\n", " ")):
        read_pair(text).load(ssl.create_default_context())


def test_a_pair_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_pair(made("a").pem + made("b").key_pem).load(ssl.create_default_context())
    assert caught.value.field == "server_pass"


@pytest.mark.parametrize("secret", ["", "change-me", "AAAA", "e30="])
def test_a_password_is_no_token(secret: str) -> None:
    assert token_fingerprint(secret) == ""


@given(st.from_regex(NAME, fullmatch=True), st.from_regex(NAME, fullmatch=True))
def test_each_name_has_an_instance_name_of_its_own(one: str, other: str) -> None:
    for name in (one, other):
        made_name = instance_name(name)
        assert 1 <= len(made_name) <= 63
        assert made_name[0].isalpha()
        assert made_name.replace("-", "").isalnum()
        assert made_name.isascii()
        assert not made_name.endswith("-")
    assert (instance_name(one) == instance_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 2**29),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("1024", 1024),
        ("2kB", 2000),
        ("50%", None),
        ("", None),
        (None, None),
    ],
)
def test_sizes(text: str | None, size: int | None) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "count"), [("2", 2), ("0-3", 4), ("0-1,5", 3), ("7-7", 1), ("", 8), (None, 8), ("50%", 8), ("a-b", 8)]
)
def test_cpus(text: str | None, count: int) -> None:
    assert cpus_of(text, 8) == count


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("Instance not found", 404, NotFound),
        ("The instance is already running", 400, Conflict),
        ('Instance "a" already exists', 409, Conflict),
        ("Failed to run: zfs create", 500, EngineFailure),
    ],
)
def test_refusals(reason: str, status: int, kind: type[Exception]) -> None:
    error = refusal("h", reason, status)
    assert type(error) is kind
    assert reason in str(error)


def test_progress() -> None:
    assert progress({"metadata": {"create_instance_from_image_unpack_progress": "Unpack: 45% (80MB/s)"}}) == 45
    assert progress({"metadata": {"fds": {"0": "99%"}}}) is None
    assert progress({"metadata": None}) is None


def test_sockets() -> None:
    assert socket_of("unix:///run/x.socket") == socket_of("/run/x.socket") == "/run/x.socket"
    assert socket_of("192.0.2.1:8443") == ""
    assert socket_of("") in SOCKETS


@pytest.mark.parametrize(("driver", "there"), [("lxc | qemu", True), ("qemu", True), ("lxc", False)])
def test_vms_are_there_when_the_server_says_so(driver: str, there: bool) -> None:
    assert runs_vms({"environment": {"driver": driver}}) is there


def test_a_change_touches_nothing_else() -> None:
    """What others set stays; a disk that a profile gives becomes the instance's own when it grows."""
    root = {"type": "disk", "path": "/", "pool": "p", "size": "1GiB"}
    raw = {
        "name": "a",
        "config": {"user.mine": "1"},
        "devices": {},
        "expanded_devices": {"root": root},
        "profiles": ["x"],
    }
    body = changed(Found(raw), VmChange(cpu_count=2, memory_mib=64, disk_gib=2))
    assert body == {
        "config": {"user.mine": "1", "limits.cpu": "2", "limits.memory": "64MiB"},
        "devices": {"root": {**root, "size": "2GiB"}},
        "profiles": ["x"],
    }
    assert changed(Found(raw), VmChange(disk_gib=1)) is None
    with pytest.raises(InvalidInput):
        changed(Found({**raw, "expanded_devices": {}}), VmChange(disk_gib=2))


def snapshots(now: str, *taken: tuple[str, int, str]) -> list[tuple[str, str, bool]]:
    """Of an instance whose mark is ``now``: each snapshot's name, parent, and whether the instance is on it."""
    rows = [
        {"name": name, "created_at": moment(at), "stateful": False, "config": {"user.openidcs.snapshot": mark}}
        for name, at, mark in taken
    ]
    found = Found({"name": "a", "config": {"user.openidcs.snapshot": now}, "snapshots": rows})
    return [(one.name, one.parent, one.current) for one in read_snapshots(found)]


def moment(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}.123456789Z"


def test_snapshots_tell_their_parents() -> None:
    assert snapshots("", ("b", 2, ""), ("a", 1, "")) == [("a", "", False), ("b", "a", True)]
    back = f"a {moment(3)}"
    taken = (("a", 1, ""), ("b", 2, ""))
    assert snapshots(back, *taken) == [("a", "", True), ("b", "a", False)], "rolled back"
    after = (*taken, ("c", 4, back), ("d", 5, back))
    assert snapshots(back, *after)[2:] == [("c", "a", False), ("d", "c", True)], "and gone on from there"
    assert snapshots(f"gone {moment(3)}", *taken) == [("a", "", False), ("b", "a", False)]
    assert snapshots("a", *taken)[1] == ("b", "a", True), "a mark without a time is an old one"


def test_a_snapshot_of_long_ago_has_no_time() -> None:
    rows = [{"name": "x", "created_at": "0001-01-01T00:00:00Z", "stateful": True}]
    (one,) = read_snapshots(Found({"name": "a", "snapshots": rows}))
    assert (one.taken_at, one.memory) == (None, True)
    assert read_snapshots(Found({"name": "a", "snapshots": None})) == ()


@pytest.mark.parametrize(
    ("kind", "status", "config", "kept"),
    [
        ("virtual-machine", "Running", {"migration.stateful": "true"}, True),
        ("virtual-machine", "Stopped", {"migration.stateful": "true"}, False),
        ("virtual-machine", "Running", {}, False),
        ("container", "Running", {"migration.stateful": "true"}, False),
    ],
)
def test_memory_is_kept_where_the_server_can(kind: str, status: str, config: dict[str, str], kept: bool) -> None:
    assert keeps_memory(Found({"name": "a", "type": kind, "status": status, "config": config})) is kept


def test_a_rollback_leaves_addresses_as_they_are() -> None:
    def one(mac: str, **device: str) -> Found:
        nic = {"type": "nic", "hwaddr": mac, "network": "n", **device}
        return Found({"name": "a", "config": {"user.x": "1"}, "devices": {"eth0": nic}})

    now = one("52:54:00:00:00:01", **{"ipv4.address": "10.0.0.9"})
    then = one("52:54:00:00:00:01", **{"ipv4.address": "10.0.0.2", "ipv6.address": "fd00::2"})
    body = rolled_back(now, then, "first x")
    assert body["devices"] == now.devices
    assert body["config"] == {"user.x": "1", "user.openidcs.snapshot": "first x"}
    other = one("52:54:00:00:00:02", **{"ipv4.address": "10.0.0.3"})
    assert rolled_back(now, other, "first")["devices"] == other.devices, "another card is as it was then"
