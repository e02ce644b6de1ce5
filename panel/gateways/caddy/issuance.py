"""What Caddy says of certificates that it could not get: in its log, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from panel.i18n import Text
from panel.i18n import gettext_noop as _

MOST = 512 * 1024  # bytes of the log that one look reads: the newest
# RFC 8555, 6.7: the types of problems
ACME = re.compile(r"urn:ietf:params:acme:error:(\w+) - (.*?)(?: \(order=|$)", re.DOTALL)
UNREACHABLE = re.compile(
    r"((?:connection refused|no such host|no route to host|network is unreachable|i/o timeout|deadline exceeded"
    r"|server misbehaving|x509: [^\"]*|certificate signed by [^\"]*).*)$"
)


class IssuanceLog:
    """Reads the log as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._at = 0
        self._problems: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """Why the last try of each domain failed, by domain; one that came through since is not among them. Blocks: a file."""
        try:
            with self._path.open("rb") as file:
                status = self._path.stat()
                if status.st_ino != self._inode or status.st_size < self._at:  # rotated
                    self._inode, self._at = status.st_ino, 0
                begin = max(self._at, status.st_size - MOST)
                file.seek(begin)
                lines = file.read(MOST).split(b"\n")
        except FileNotFoundError:
            return self._problems
        self._at = begin + sum(len(line) + 1 for line in lines[:-1])  # the last one may not be whole yet
        for line in lines[:-1]:
            self._take(line)
        return self._problems

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            name, message = entry["identifier"], entry["msg"]
        except (ValueError, KeyError, TypeError):
            return
        if message == "could not get certificate from issuer":
            self._problems[str(name)] = str(entry.get("error", ""))
        elif message in {"certificate obtained successfully", "certificate renewed successfully"}:
            self._problems.pop(str(name), None)


def explain(error: str) -> Text:
    """Why an authority gave no certificate, as far as it can be told."""
    refused = ACME.search(error)
    if refused:
        params = {"kind": refused[1], "reason": " ".join(refused[2].split())[:300]}
        return Text(_("The certificate authority refused: {reason} ({kind})"), params)
    unreachable = UNREACHABLE.search(error)
    if unreachable:
        return Text(_("The certificate authority cannot be reached: {reason}"), {"reason": unreachable[1][:300]})
    return Text(_("No certificate could be had: {reason}"), {"reason": error[-300:]})
