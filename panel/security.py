"""Who is asking, what they may do, and how secrets are kept.

Nothing here knows the web framework: ``panel.api`` and ``panel.pages`` turn requests into an ``Actor``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from panel.errors import ConfigError, Forbidden

KEY_FILE = "secret.key"
TOKEN_PATTERN = re.compile(r"[\x21-\x7e]{8,256}")


class Permission(StrEnum):
    """What an actor may do."""

    VIEW = "view"
    OPERATE = "operate"  # power, consoles, passwords
    MANAGE = "manage"  # create, change, delete VMs and hosts
    ADMIN = "admin"  # tokens, configuration


class Source(StrEnum):
    """Through which door a request came."""

    PAGE = "page"
    API = "api"
    CLI = "cli"
    PANEL = "panel"


@dataclass(frozen=True, slots=True)
class Actor:
    """Someone who asks. ``credential`` names the session or token behind it (never the secret itself)."""

    name: str
    source: Source
    address: str = ""
    credential: str = ""
    permissions: frozenset[Permission] = frozenset(Permission)

    def require(self, permission: Permission) -> None:
        """Raise ``Forbidden`` unless allowed."""
        if permission not in self.permissions:
            raise Forbidden("This needs the permission {permission}.", permission=permission)


PANEL = Actor("panel", Source.PANEL)


def new_token() -> str:
    """A token nobody guesses: 43 URL-safe characters, 256 bits."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """SHA-256 of a high-entropy secret, hex: what is stored of tickets and cookies."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(left: str, right: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def veil(secret: str) -> str:
    """A secret under a pad of its own: no two are alike, so how well a page compresses tells nothing of it (BREACH)."""
    plain = secret.encode()
    pad = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(pad + _xor(pad, plain)).decode()


def unveil(veiled: str) -> str:
    """What ``veil`` was given; "" when that has not its form."""
    try:
        both = base64.b64decode(veiled, altchars=b"-_", validate=True)
        return _xor(both[: len(both) // 2], both[len(both) // 2 :]).decode()
    except (binascii.Error, ValueError):
        return ""


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


class SecretBox:
    """Encrypts what is stored (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)
        self._key = key

    @classmethod
    def open(cls, folder: Path) -> SecretBox:
        """The box of a data folder; its key file ``secret.key`` (0600) is made at the first start.

        Raises:
            ConfigError: the key cannot be written or read, is readable by others, or is no key.
        """
        path = folder / KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_key(path)
            if path.stat().st_mode & 0o077:
                raise ConfigError("{path} is readable by others: run chmod 600 on it.", path=path.name)
            return cls(path.read_bytes().strip())
        except ValueError as error:
            raise ConfigError("{path} is not a key: restore it from your backup.", path=path.name) from error
        except OSError as error:
            raise ConfigError("{path} cannot be used: {reason}.", path=path.name, reason=error.strerror) from error

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes, always the same for one purpose (HKDF with SHA-256, RFC 5869)."""
        return HKDF(hashes.SHA256(), 32, None, f"openidcs {purpose}".encode()).derive(self._key)

    def seal(self, plain: str) -> str:
        """Encrypt; the empty string stays empty."""
        return self._fernet.encrypt(plain.encode()).decode() if plain else ""

    def unseal(self, sealed: str) -> str:
        """Decrypt what ``seal`` made.

        Raises:
            ConfigError: it was made with another key, or changed since.
        """
        if not sealed:
            return ""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ConfigError("A stored secret cannot be read with this data folder's secret.key.") from error


def replace_key(folder: Path, key: str) -> Path | None:
    """Put another key into a data folder. Returns where the old one went, if there was one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = folder / KEY_FILE
    kept = path.with_name(f"{KEY_FILE}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    new = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        _write_key(new, key.encode())
        if path.exists():
            os.link(path, kept)
        new.replace(path)
    except OSError as error:
        raise ConfigError("{path} cannot be used: {reason}.", path=path.name, reason=error.strerror) from error
    finally:
        new.unlink(missing_ok=True)
    return kept if kept.exists() else None


def _write_key(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())


def _make_key(path: Path) -> None:
    """Create the key whole or not at all, and never over an existing one."""
    if path.exists():
        return
    temporary = path.with_name(
        f"{path.name}.{socket.gethostname()}.{os.getpid()}"
    )  # containers share folder and numbers
    temporary.unlink(missing_ok=True)  # left by a process of this number that was killed: numbers repeat in containers
    try:
        _write_key(temporary, Fernet.generate_key())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
