"""What Docker and Podman say when they refuse, and what becomes of it: their own sentences, as they were seen."""

from __future__ import annotations

import errno
import os

import pytest

from panel.engines.docker.address import Place, Way
from panel.engines.docker.failures import refusal, remote_socket, unreachable
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound, PanelError


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such container: ct1", NotFound),
        (404, 'no container with name or ID "ct1" found: no such container', NotFound),
        (404, "No such image: nope:1", InvalidInput),
        (404, "no such image: docker.io/library/nope:1: image not known", InvalidInput),
        (500, "initializing source docker://127.0.0.1:5009/x:1: pinging container registry", InvalidInput),
        (409, 'Conflict. The container name "/ct1" is already in use by container "6e4e".', Conflict),
        (500, 'container create: creating container storage: the container name "ct1" is already in use by ee97.', Conflict),
        (403, "Address already in use", Conflict),
        (500, "IPAM error: requested ip address 10.92.1.50 is already allocated to container ID ee97", Conflict),
        (409, "Container ct1 is paused, unpause the container before exec", Conflict),
        (400, "Client sent an HTTP request to an HTTPS server.\n", HostUnreachable),
        (500, "write /var/lib/docker/x: no space left on device", EngineFailure),
        (500, "something else", EngineFailure),
    ],
)  # fmt: skip
def test_refusals(status: int, message: str, kind: type[PanelError]) -> None:
    assert type(refusal("box", status, message)) is kind


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "no socket /run/docker.sock"),
        (errno.EACCES, "usermod -aG docker"),
        (errno.ECONNREFUSED, "Nobody listens"),
        (errno.EPIPE, "not as Docker does"),
    ],
)
async def test_a_socket_of_this_machine(code: int, words: str) -> None:
    error = RuntimeError("a library's own")
    error.__cause__ = OSError(code, os.strerror(code))
    assert words in str(await unreachable(Place(Way.SOCKET, "/run/docker.sock"), "box", error))


@pytest.mark.parametrize(
    ("found", "words"), [("missing", "no socket"), ("denied", "group docker"), ("there", "AllowStreamLocalForwarding")]
)
def test_a_socket_behind_ssh(found: str, words: str) -> None:
    assert words in str(remote_socket(Place(Way.SSH, "/run/docker.sock"), "box", found))


async def test_another_machine() -> None:
    place = Place(Way.TLS, host="box", port=2376)
    assert "refuses the connection" in str(
        await unreachable(place, "box", ConnectionRefusedError(errno.ECONNREFUSED, ""))
    )
    assert "tls_folder" in str(await unreachable(place, "box", ConnectionResetError(errno.ECONNRESET, "")))
    assert "No route to host" in str(await unreachable(place, "box", OSError(errno.EHOSTUNREACH, "")))
