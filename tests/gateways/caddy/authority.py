"""An ACME authority of a test's own: a second Caddy, in the namespace ``wan``, which proves domains over HTTP as others do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.gateways.world import WAN4, World

NAME = "ca.test"
DIRECTORY = f"https://{NAME}:8443/acme/local/directory"
REFUSAL = {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "Not a domain that we know."}


def _refusals(refuse: bool) -> list[dict[str, Any]]:
    """Before the authority is asked: no order is taken (RFC 8555, 7.4)."""
    if not refuse:
        return []
    answer = {
        "handler": "static_response",
        "status_code": 400,
        "headers": {"Content-Type": ["application/problem+json"], "Replay-Nonce": ["bm9uY2U"]},
        "body": json.dumps(REFUSAL),
    }
    return [{"match": [{"path": ["*/new-order"]}], "handle": [answer], "terminal": True}]


class Authority:
    """Serves ``DIRECTORY``. ``domains`` are those that lead to ``gw``."""

    def __init__(self, world: World, folder: Path, gw: str, *domains: str) -> None:
        self._world, self._folder = world, folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self._hosts("wan", f"127.0.0.1 {NAME}", *(f"{gw} {domain}" for domain in domains))
        self._hosts("gw", f"{WAN4} {NAME}")

    @property
    def root(self) -> Path:
        """The certificate that whoever asks it must trust."""
        return self._folder / "storage/pki/authorities/local/root.crt"

    def _hosts(self, where: str, *lines: str) -> None:
        """What ``ip netns exec`` shows as /etc/hosts there (ip-netns(8))."""
        folder = Path("/etc/netns") / self._world.names[where]
        folder.mkdir(parents=True)
        (folder / "hosts").write_text("".join(f"{line}\n" for line in ("127.0.0.1 localhost", *lines)))

    def start(self, *, refuse: bool = False) -> None:
        config = {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self._folder / "storage")},
            "apps": {
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
                "http": {
                    "servers": {
                        "ca": {
                            "listen": [":8443"],
                            "automatic_https": {"disable": True},
                            "tls_connection_policies": [{}],
                            "routes": [*_refusals(refuse), {"handle": [{"handler": "acme_server", "host": NAME}]}],
                        }
                    }
                },
                "tls": {
                    "certificates": {"automate": [NAME]},
                    "automation": {"policies": [{"subjects": [NAME], "issuers": [{"module": "internal"}]}]},
                },
            },
        }
        (self._folder / "caddy.json").write_text(json.dumps(config))
        command = ["ip", "netns", "exec", self._world.names["wan"], "caddy", "run", "--config"]
        environment = os.environ | dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(self._folder))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(self._folder / "caddy.json")], stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + 20
        while ":8443" not in self._world.run("wan", "ss", "-ltn") or not self.root.exists():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def close(self) -> None:
        self.stop()
        for where in ("wan", "gw"):
            shutil.rmtree(Path("/etc/netns") / self._world.names[where], ignore_errors=True)
