"""Public SSH keys: those that ssh-keygen makes are taken as they are, and all else is refused by its line."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from panel.engines.fake.world import world
from panel.errors import InvalidInput
from panel.services.keys import KINDS, MOST_KEYS, check_keys
from tests.api.kit import make_vm
from tests.conftest import ApiClient

MADE = [("ed25519", ""), ("rsa", "2048"), ("rsa", "4096"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")]
GOOD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBx1TnRCfQ3lCJGPxD7xhN6Dqpb0V9EB3tLBqJZ9Yw8m"


def keygen(folder: Path, kind: str, bits: str = "") -> str:
    path = folder / f"{kind}{bits}"
    size = ["-b", bits] if bits else []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "me@here", "-f", path], check=True, timeout=60
    )
    return path.with_suffix(".pub").read_text()


def packed(*fields: bytes) -> str:
    """A key of these fields."""
    return base64.b64encode(b"".join(len(field).to_bytes(4) + field for field in fields)).decode()


@pytest.mark.parametrize(("kind", "bits"), MADE)
def test_what_ssh_keygen_makes(tmp_path: Path, kind: str, bits: str) -> None:
    line = keygen(tmp_path, kind, bits)
    assert check_keys([line], "ssh_keys") == (line.strip(),)
    kind, body, _comment = line.split(" ", 2)
    assert check_keys([f"{kind}  {body}"], "ssh_keys") == (f"{kind} {body}",)
    with pytest.raises(InvalidInput, match="cut off"):
        check_keys([f"{kind} {body[:-8]}"], "ssh_keys")
    for other in KINDS.keys() - {kind}:
        with pytest.raises(InvalidInput, match="cut off"):
            check_keys([f"{other} {body}"], "ssh_keys")


def test_keys_of_security_keys() -> None:
    point = b"\x04" + bytes(64)
    lines = [
        f"sk-ssh-ed25519@openssh.com {packed(b'sk-ssh-ed25519@openssh.com', bytes(32), b'ssh:')} token",
        f"sk-ecdsa-sha2-nistp256@openssh.com {packed(b'sk-ecdsa-sha2-nistp256@openssh.com', b'nistp256', point, b'ssh:')}",
    ]
    assert check_keys(lines, "ssh_keys") == tuple(lines)


def test_each_once_and_no_empty_lines() -> None:
    assert check_keys(["", f"  {GOOD} one ", " ", f"{GOOD} two"], "ssh_keys") == (f"{GOOD} one",)


def test_an_rsa_key_that_is_too_short() -> None:
    key = rsa.generate_private_key(65537, 1024).public_key()
    with pytest.raises(InvalidInput, match="too short"):
        check_keys([key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()], "ssh_keys")


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "Give the public one"),
        (f'command="rm -rf /" {GOOD}', "options before its key"),
        (f"no-pty,from=10.0.0.0/8 {GOOD}", "options before its key"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "begins with one of: ssh-ed25519"),
        ("hello", "begins with one of"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "begins with one of"),
        ("ssh-ed25519", "Copy the whole line"),
        ("ssh-ed25519 !!!!", "Copy the whole line"),
        (f"{GOOD[:-1]}*", "Copy the whole line"),
        ("ssh-ed25519 " + packed(b"ssh-ed25519", bytes(31)), "Copy the whole line"),
        ("ssh-ed25519 " + packed(b"ssh-ed25519", bytes(32), b""), "Copy the whole line"),
        ("ecdsa-sha2-nistp256 " + packed(b"ecdsa-sha2-nistp256", b"", b"\x04"), "Copy the whole line"),
        ("ssh-ed25519 " + base64.b64encode(b"\xff\xff\xff\xff").decode(), "Copy the whole line"),
        (f"{GOOD} a\nssh-ed25519 AAAA", "one line"),
        (f"{GOOD} a\0b", "one line"),
        (f"{GOOD} {'x' * 9000}", "one line"),
    ],
)
def test_what_is_none(line: str, mend: str) -> None:
    with pytest.raises(InvalidInput, match=mend) as caught:
        check_keys([GOOD, line], "ssh_keys")
    assert caught.value.field == "ssh_keys"
    assert "line 2" in str(caught.value)
    assert line not in str(caught.value)


def test_not_too_many() -> None:
    lines = [f"ssh-ed25519 {packed(b'ssh-ed25519', bytes([number]) * 32)}" for number in range(MOST_KEYS + 1)]
    assert len(check_keys(lines[:-1], "ssh_keys")) == MOST_KEYS
    with pytest.raises(InvalidInput, match=f"at most {MOST_KEYS} keys"):
        check_keys(lines, "ssh_keys")


async def test_by_the_api(api: ApiClient, fake_host: str) -> None:
    await make_vm(api, "web", os_name="Debian 12", hdd_num=4, ssh_keys=[f"{GOOD} me"])
    (vm,) = world("world1").vms.values()
    assert vm.ssh_keys == [f"{GOOD} me"]
    body = {"vm_uuid": "other", "cpu_num": 1, "ram_num": 64, "hdd_num": 4, "os_name": "Debian 12"}
    status, answer = await api("POST", f"/api/client/create/{fake_host}", body | {"ssh_keys": ["ssh-rsa AAAA"]})
    assert (status, answer["data"]) == (400, {"field": "ssh_keys"})
    status, answer = await api("POST", f"/api/client/create/{fake_host}", body | {"ssh_keys": GOOD})
    assert status == 400, "a list"
    status, answer = await api("POST", f"/api/client/create/{fake_host}", body | {"ssh_keys": [GOOD], "os_name": ""})
    assert (status, answer["data"]) == (400, {"field": "ssh_keys"})
    assert "empty disk" in answer["msg"]
