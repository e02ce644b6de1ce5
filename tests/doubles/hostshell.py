"""The SSH server of a Windows host with Workstation: tunnels to the host's own ports, and ``vmrun`` in a guest's stead.

What it runs is what PowerShell would: the panel's one script, which starts a program with the arguments of its input, read by
the rules of Microsoft's C runtime.
"""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from panel.engines.vmware_workstation.vmrun import POWERSHELL
from tests.doubles.vmrest_world import Machine, Workstation

USER, GUEST_USER, GUEST_PASSWORD = "operator", "openidcs", 'guest "pass" 100% \\ & ^'
LAUNCH_PATH = "C:/Program Files (x86)/VMware/VMware Workstation"
VMRUN = r"C:\Program Files (x86)\VMware\VMware Workstation\vmrun.exe"


def parted(options: dict[str, str]) -> dict[str, dict[str, str]]:
    """Options and secrets of a ``HostConnection``, as the panel parts them."""
    secret = {name: value for name, value in options.items() if name == "guest_pass"}
    return {"options": {name: value for name, value in options.items() if name not in secret}, "secrets": secret}


@dataclass
class Shell:
    """A server on ``port``. ``known_hosts``: a file that trusts it; ``key_file``: what it lets in; ``ran``: what was started."""

    port: int
    known_hosts: Path
    key_file: Path
    ran: list[list[str]]

    @property
    def options(self) -> dict[str, str]:
        """What the panel's form has to say."""
        return {
            "ssh_addr": f"127.0.0.1:{self.port}", "ssh_user": USER, "ssh_key_file": str(self.key_file),
            "guest_user": GUEST_USER, "guest_pass": GUEST_PASSWORD,
        }  # fmt: skip


@contextmanager
def shell(world: Workstation, folder: Path) -> Iterator[Shell]:
    """Serve it in a thread of its own."""
    host, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    key_file = folder / "client_key"
    client.write_private_key(key_file)
    key_file.chmod(0o600)
    loop, ran = asyncio.new_event_loop(), []  # type: ignore[var-annotated]

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == USER and key.public_data == client.public_data

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            return dest_host == "127.0.0.1"

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        told = await process.stdin.read()
        code, said = start(world, str(process.command), told, ran)
        process.stdout.write(said.encode())
        process.exit(code)

    async def begin() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Server, server_host_keys=[host], process_factory=run, encoding=None
        )

    thread = threading.Thread(target=loop.run_forever, name="hostshell", daemon=True)
    thread.start()
    acceptor = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    port = acceptor.get_port()
    known = folder / "ssh_known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}\n")
    try:
        yield Shell(port, known, key_file, ran)
    finally:

        async def end() -> None:
            acceptor.close()
            await acceptor.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def start(world: Workstation, command: str, told: bytes, ran: list[list[str]]) -> tuple[int, str]:
    """Exit code and output of a command line."""
    words = command.split(" ")
    script = base64.b64decode(words[-1]).decode("utf-16-le")
    if words[:-1] != ["powershell", "-NoProfile", "-NonInteractive", "-EncodedCommand"] or script != POWERSHELL:
        return 1, "no such command"
    program, arguments = (base64.b64decode(line).decode() for line in told.decode("ascii").split("\r\n")[:2])
    ran.append([program, *read_arguments(arguments)])
    if program != VMRUN:
        return 127, ""
    return vmrun(world, read_arguments(arguments))


def read_arguments(line: str) -> list[str]:
    """A command line as Microsoft's C runtime reads it ("Parsing C command-line arguments")."""
    found: list[str] = []
    rest = line.lstrip(" \t")
    while rest:
        word, quoted = "", False
        while rest and (quoted or rest[0] not in " \t"):
            slashes = re.match(r"\\*", rest)
            count = len(slashes[0]) if slashes else 0
            rest = rest[count:]
            if not rest.startswith('"'):
                word += "\\" * count
                if rest and (quoted or rest[0] not in " \t"):
                    word, rest = word + rest[0], rest[1:]
            elif count % 2:
                word, rest = word + "\\" * (count // 2) + '"', rest[1:]
            else:
                word, rest, quoted = word + "\\" * (count // 2), rest[1:], not quoted
        found.append(word)
        rest = rest.lstrip(" \t")
    return found


def vmrun(world: Workstation, words: list[str]) -> tuple[int, str]:
    """What the vendor's program says and does."""
    if words == ["-T", "ws", "list"]:
        running = [vm.path for vm in world.machines.values() if vm.state == "poweredOn"]
        return 0, "\n".join([f"Total running VMs: {len(running)}", *running])
    if len(words) < 9 or [words[0], words[1], words[2], words[4]] != ["-T", "ws", "-gu", "-gp"]:
        return 255, "Error: Invalid arguments"
    login, (action, vmx, program, *rest) = (words[3], words[5]), words[6:]
    vm = next((vm for vm in world.machines.values() if vm.path == vmx), None)
    if vm is None or vm.state != "poweredOn":
        return 255, f"Error: The virtual machine is not powered on: {vmx}"
    if not vm.tools or (vm.seconds() or 0) < world.boot_seconds:
        return 255, f"Error: The VMware Tools are not running in the virtual machine: {vmx}"
    if login != (GUEST_USER, GUEST_PASSWORD):
        return 255, "Error: Invalid user name or password for the guest OS"
    told = _posix(rest) if (action, program) == ("runScriptInGuest", "/bin/sh") else _windows(program, rest)
    windows = vm.params["guestOS"].startswith("win")
    if told is None or windows is not program.endswith("powershell.exe") or not _taken(vm, *told):
        return 255, "Error: Guest program exited with non-zero exit code: 1"
    return 0, ""


def _taken(vm: Machine, user: str, password: str) -> bool:
    if user not in vm.passwords:
        return False
    vm.passwords[user] = password
    return True


def _posix(rest: list[str]) -> tuple[str, str] | None:
    found = re.fullmatch(r".*; echo ([A-Za-z0-9+/=]+) \| base64 -d \| \$S chpasswd", rest[0])
    if not found:
        return None
    user, _colon, password = base64.b64decode(found[1]).decode().removesuffix("\n").partition(":")
    return user, password


def _windows(program: str, rest: list[str]) -> tuple[str, str] | None:
    script = base64.b64decode(rest[-1]).decode("utf-16-le")
    found = re.findall(r"Word '([A-Za-z0-9+/=]*)'", script)
    if len(found) != 2 or "Set-LocalUser" not in script:
        return None
    user, password = (base64.b64decode(text).decode() for text in found)
    return user, password
