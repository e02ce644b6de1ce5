"""The NoCloud seed: what cloud-init reads from it."""

from __future__ import annotations

import io
from dataclasses import replace

import pycdlib
import pytest
import yaml

from panel.engines.libvirt.seed import check_login, hostname_of, seed_files, seed_image
from panel.engines.types import NicMode, NicSpec, VmSpec
from panel.errors import InvalidInput

REF = "11111111-2222-3333-4444-555555555555"
SPEC = VmSpec(REF, "vm_1.a", "t", 1, 128, 1, (NicSpec("e", NicMode.NAT, "52:54:00:00:00:01"),), password="s3: #x")


def test_the_files_are_yaml() -> None:
    files = {name: yaml.safe_load(text) for name, text in seed_files(SPEC).items()}
    assert files["meta-data"] == {"instance-id": REF, "local-hostname": "vm-1-a"}
    user = files["user-data"]
    assert user["chpasswd"] == {"expire": False, "list": "root:s3: #x\n"}
    assert user["ssh_pwauth"] is True
    assert files["network-config"] == {
        "version": 2,
        "ethernets": {"nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": True}},
    }


def test_keys() -> None:
    """With and without a password; root's own are let in, other users' leave root as the image has it."""
    keys = ('ssh-ed25519 AAAA a: "b" #c', "ssh-rsa BBBB 密钥")
    user = yaml.safe_load(seed_files(replace(SPEC, ssh_keys=keys))["user-data"])
    assert (user["ssh_authorized_keys"], user["disable_root"], user["ssh_pwauth"]) == (list(keys), False, True)
    user = yaml.safe_load(seed_files(replace(SPEC, ssh_keys=keys, password=None))["user-data"])
    assert (user["ssh_authorized_keys"], user["disable_root"], "ssh_pwauth" in user) == (list(keys), False, False)
    user = yaml.safe_load(seed_files(replace(SPEC, ssh_keys=keys, password=None, user="debian"))["user-data"])
    assert (user["ssh_authorized_keys"], "disable_root" in user) == (list(keys), False)


def test_static_addresses() -> None:
    """As cloud-init's documentation of version 2 has them; IPv4 by DHCP only where none is given."""
    both = NicSpec(
        "e", NicMode.BRIDGE, "52:54:00:00:00:01", addresses=("203.0.113.9/24", "2001:db8::9/64"),
        gateways=("203.0.113.1", "fe80::1"), dns=("9.9.9.9", "2620:fe::fe"),
    )  # fmt: skip
    beside = NicSpec("f", NicMode.NAT, "52:54:00:00:00:02", addresses=("fd00::9/64",))
    text = seed_files(replace(SPEC, nics=(both, beside)))["network-config"]
    assert yaml.safe_load(text)["ethernets"] == {
        "nic0": {
            "match": {"macaddress": "52:54:00:00:00:01"},
            "dhcp4": False,
            "dhcp6": False,
            "accept-ra": False,
            "addresses": ["203.0.113.9/24", "2001:db8::9/64"],
            "routes": [{"to": "0.0.0.0/0", "via": "203.0.113.1"}, {"to": "::/0", "via": "fe80::1"}],
            "nameservers": {"addresses": ["9.9.9.9", "2620:fe::fe"]},
        },
        "nic1": {
            "match": {"macaddress": "52:54:00:00:00:02"},
            "dhcp4": True,
            "dhcp6": False,
            "accept-ra": False,
            "addresses": ["fd00::9/64"],
        },
    }


@pytest.mark.parametrize(
    "password", ["'", '"', "a: b", "- x", "#", "%", "密码", "a\\n", "{x}", "🚀", " lead", "trail "]
)
def test_odd_passwords_arrive(password: str) -> None:
    user = yaml.safe_load(seed_files(replace(SPEC, password=password))["user-data"])
    assert user["chpasswd"]["list"] == f"root:{password}\n"


@pytest.mark.parametrize("password", ["", "a\nb", "a\0b", "a\u2028b", "\x85", "x" * 129, "R", "$6$a$b"])
def test_passwords_that_no_guest_takes(password: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        seed_files(replace(SPEC, password=password))
    assert caught.value.field == "os_pass"
    assert not password or password not in str(caught.value) or len(password) == 1


@pytest.mark.parametrize("user", ["", "a:b", "root\n", "-x", "A b"])
def test_user_names(user: str) -> None:
    with pytest.raises(InvalidInput):
        check_login(user, "fine")


def test_without_a_password_nothing_is_said_of_it() -> None:
    assert "chpasswd" not in seed_files(replace(SPEC, password=None))["user-data"]


def test_host_names() -> None:
    assert hostname_of(replace(SPEC, hostname="web-1.example")) == "web-1.example"
    assert hostname_of(replace(SPEC, name="...")) == "vm"
    for wrong in ("a b", "-a", "a_b", "x" * 64, "a\nruncmd: [x]"):
        with pytest.raises(InvalidInput) as caught:
            hostname_of(replace(SPEC, hostname=wrong))
        assert caught.value.field == "hostname"


def test_the_image_is_an_iso_with_the_label() -> None:
    data = seed_image(SPEC)
    assert f"instance-id: {REF}\n".encode() in data
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(data))
    assert iso.pvd.volume_identifier.strip() == b"cidata"
    for kind in ("rr_path", "joliet_path"):
        out = io.BytesIO()
        iso.get_file_from_iso_fp(out, **{kind: "/user-data"})
        assert out.getvalue().decode() == seed_files(SPEC)["user-data"]
    iso.close()
