"""Names that no name server answers for: the hosts that have them cost only themselves."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import Workstation
from tests.process import PanelProcess

pytestmark = pytest.mark.live

SERVER = "127.0.0.77"
SILENT = 8  # more than the library's own number of threads
USER, PASSWORD = "admin", "Double-1"
BIND = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


def answer(query: bytes) -> bytes | None:
    """Of a name server that knows ``*.good.test``, and says nothing of others."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    if labels[-2:] != [b"good", b"test"]:
        return None
    record = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 1, 4, 127, 0, 0, 1) if kind == 1 else b""
    return query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, int(bool(record)), 0, 0) + query[12 : at + 5] + record


@contextlib.contextmanager
def name_server() -> Iterator[set[bytes]]:
    """Serve until the end of the block. The queries that stay without an answer."""
    unanswered: set[bytes] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind((SERVER, 53))
        plain.settimeout(0.2)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    query, who = plain.recvfrom(2048)
                    if told := answer(query):
                        plain.sendto(told, who)
                    else:
                        unanswered.add(query[12:])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield unanswered
        finally:
            over.set()
            thread.join()


def host(name: str, address: str) -> dict[str, Any]:
    return {
        "server_name": name, "engine_type": "VMWareSetup", "server_addr": address, "server_user": USER,
        "server_pass": PASSWORD, "system_path": "D:/VMs", "images_path": "D:/Images",
    }  # fmt: skip


def test_others_are_looked_up_meanwhile(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(f"nameserver {SERVER}\n")
    panel = PanelProcess(tmp_path / "panel")
    panel.within = ("unshare", "-m", "sh", "-c", BIND, "sh", str(resolver))
    with (
        name_server() as unanswered,
        served(vmrest(Workstation(), USER, PASSWORD)) as base,
        ThreadPoolExecutor(SILENT) as pool,
    ):
        panel.start()
        try:
            dead = [host(f"dead{number}", f"http://h{number}.dead.test:8697") for number in range(SILENT)]
            asked = [pool.submit(panel.api, "POST", "/api/server/create", one) for one in dead]
            for one in asked:
                status, told = one.result()
                assert (status, "did not answer within 5" in told["msg"]) == (503, True), told
            assert len(unanswered) >= SILENT, "each is still being looked up: the system asks for ten seconds"
            panel.ok("POST", "/api/server/create", host("good", base.replace("127.0.0.1", "a.good.test")))
            panel.until("/api/server/detail/good", lambda found: found["health"] == "online", 20)
        finally:
            panel.kill()
