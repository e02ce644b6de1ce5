"""A VNC server with a password, as a viewer without one sees it (RFC 6143): the browser never has the password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from panel.engines.consoletypes import Greeting
from panel.errors import Conflict, EngineTimeout, HostUnreachable
from panel.i18n import gettext_noop as _

OPEN_SECONDS = 10.0
VERSION = b"RFB 003.008\n"
# What the viewer says, and what it is told then: its version, one security type (None); its choice, and that it is well. Not at
# once: noVNC looks at what follows its own words only when more comes.
STEPS = ((len(VERSION), b"\x01\x01"), (1, bytes(4)))
LONGEST_PASSWORD = 8
_PASSWORD = 2  # security type "VNC authentication"
_NONE = 1

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def reply(password: str, challenge: bytes) -> bytes:
    """RFC 6143, 7.2.2: the challenge in DES with the password as its key, the bits of each byte reversed."""
    key = password.encode("latin-1", "replace")[:LONGEST_PASSWORD].ljust(LONGEST_PASSWORD, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    cipher = Cipher(TripleDES(mirrored * 3), modes.ECB())  # noqa: S305 - the protocol's own; three equal keys are plain DES
    encryptor = cipher.encryptor()
    return encryptor.update(challenge) + encryptor.finalize()


async def open_screen(
    host: str, port: int, password: str, dial: Callable[[], Awaitable[Streams]] | None = None
) -> Streams:
    """Connect (by ``dial``, when it is no plain TCP port of a host that the panel reaches; ``port`` 0: no port at all) and
    authenticate. What comes back speaks RFB 3.8 from its first byte and asks for no password.

    Raises:
        HostUnreachable, EngineTimeout: nobody there, or nobody who speaks RFB.
        Conflict: it wants another password, or none that we can give.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            reader, writer = await (dial() if dial else asyncio.open_connection(host, port))
            await _log_in(reader, writer, password)
    except TimeoutError as error:
        _abort(writer)
        silent = (
            _("The VM's screen ({host}, port {port}) did not answer within {seconds} s.")
            if port
            else _("The VM's screen on host {host} did not answer within {seconds} s.")
        )
        raise EngineTimeout(silent, host=host, port=port, seconds=round(OPEN_SECONDS)) from error
    except (OSError, asyncio.IncompleteReadError) as error:
        _abort(writer)
        if dial:
            raise HostUnreachable(
                _("The VM's screen on host {host} hung up before it had greeted. Is the VM still running?"), host=host
            ) from error
        raise HostUnreachable(
            _("Nobody answers on the port of the VM's screen ({host}, port {port}). Open it in the host's firewall for the "
              "panel's machine."),
            host=host, port=port,
        ) from error  # fmt: skip
    except BaseException:
        _abort(writer)
        raise
    reader.feed_data(VERSION)  # the server says nothing more before the viewer's ClientInit: nothing is before it
    return reader, _AfterGreeting(writer, reader)


async def _log_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str) -> None:
    version = await reader.readexactly(len(VERSION))
    if not version.startswith(b"RFB 003.") or version < b"RFB 003.007\n":
        raise Conflict(_("What answers on the port of the VM's screen does not speak VNC (RFB 3.7 or newer)."))
    writer.write(VERSION if version >= VERSION else version)
    offered = await reader.readexactly((await reader.readexactly(1))[0])
    wanted = _PASSWORD if _PASSWORD in offered else _NONE if _NONE in offered else 0
    if not wanted:
        raise Conflict(_("The VM's screen asks for a kind of login that the panel does not know."))
    writer.write(bytes([wanted]))
    if wanted == _PASSWORD:
        writer.write(reply(password, await reader.readexactly(16)))
    if (wanted == _PASSWORD or version >= VERSION) and any(await reader.readexactly(4)):
        raise Conflict(_("The VM's screen refuses the password that its settings have. Restart the VM."))


def _abort(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.transport.abort()


class _AfterGreeting(asyncio.StreamWriter):
    """Keeps what the viewer says to our greeting from the server, who has been greeted already. Whoever takes the transport from
    under this has to do as ``greeting`` says."""

    def __init__(self, inner: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        protocol: Any = inner.transport.get_protocol()
        super().__init__(inner.transport, protocol, reader, asyncio.get_running_loop())
        self.greeting = Greeting(STEPS)
        self._to_viewer = reader

    def write(self, data: bytes | bytearray | memoryview) -> None:
        rest, answer = self.greeting.hear(bytes(data)) if self.greeting.left else (data, b"")
        if answer:
            self._to_viewer.feed_data(answer)
        if rest:
            super().write(rest)
