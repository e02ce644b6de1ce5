"""``vmrun`` on the host, over SSH: what vmrest cannot do inside a guest.

No shell ever reads what others chose. On Windows a script that never changes takes program and arguments, in base64, from its
standard input and starts the program itself; elsewhere ``sh`` reads one quoted command from its standard input. Passwords of
guests go into them in base64 too. They do stand in the arguments of ``vmrun``, which knows no other way: whoever may list the
processes of the host's account can see them for that moment.

Source: "Using vmrun to Control Virtual Machines" (the vendor's manual).
"""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath, PureWindowsPath

from panel.engines.common.ssh import SshConnection, short
from panel.engines.vmware_workstation.paths import host_path
from panel.errors import Conflict, EngineFailure, InvalidInput
from panel.i18n import gettext_noop as _

SECONDS = 60.0
NOT_FOUND = frozenset({126, 127})
POWERSHELL = (
    "$ErrorActionPreference='Stop'\n"
    "$w=@($input|ForEach-Object {[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($_))})\n"
    "$i=New-Object Diagnostics.ProcessStartInfo\n"
    "$i.FileName=$w[0]\n"
    "$i.Arguments=$w[1]\n"
    "$i.UseShellExecute=$false\n"
    "$i.RedirectStandardInput=$true\n"
    "$i.RedirectStandardOutput=$true\n"
    "$i.RedirectStandardError=$true\n"
    "try {$p=[Diagnostics.Process]::Start($i)} catch {exit 127}\n"
    "$p.StandardInput.Close()\n"
    "[Console]::Out.Write($p.StandardOutput.ReadToEnd()+$p.StandardError.ReadToEnd())\n"
    "$p.WaitForExit()\n"
    "exit $p.ExitCode\n"
)
WINDOWS_COMMAND = "powershell -NoProfile -NonInteractive -EncodedCommand " + base64.b64encode(
    POWERSHELL.encode("utf-16-le")
).decode("ascii")
GUEST_SHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"


@dataclass(frozen=True, slots=True)
class GuestLogin:
    """An account inside the guests that may set passwords."""

    user: str
    password: str = field(repr=False)


def program(launch_path: str) -> PurePath:
    """Where ``vmrun`` is: in Workstation's own folder, or what ``launch_path`` itself names."""
    path = host_path(launch_path)
    if path.stem.lower() == "vmrun":
        return path
    return path / ("vmrun.exe" if isinstance(path, PureWindowsPath) else "vmrun")


def command(path: PurePath, arguments: Sequence[str]) -> tuple[str, bytes]:
    """What SSH is to run, and its standard input."""
    if isinstance(path, PureWindowsPath):  # by the rules of Microsoft's C runtime, which vmrun reads its arguments by
        words = (str(path), subprocess.list2cmdline(arguments))
        return WINDOWS_COMMAND, "".join(f"{_base64(word)}\r\n" for word in words).encode("ascii")
    return "sh -s", f"exec {shlex.join([str(path), *arguments])}\n".encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def password_call(vmx: str, windows_guest: bool, login: GuestLogin, user: str, password: str) -> list[str]:
    """The arguments that set ``user``'s password in the guest."""
    head = ["-T", "ws", "-gu", login.user, "-gp", login.password]
    if windows_guest:
        script = (
            "function Word($t) {[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($t))}\n"
            f"$u=Word '{_base64(user)}'\n"
            f"$p=ConvertTo-SecureString (Word '{_base64(password)}') -AsPlainText -Force\n"
            "try {Set-LocalUser -Name $u -Password $p -ErrorAction Stop} catch {exit 1}\n"
        )
        encoded = base64.b64encode(script.encode("utf-16-le")).decode("ascii")
        words = ["-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]
        return [*head, "runProgramInGuest", vmx, GUEST_SHELL, *words]
    line = _base64(f"{user}:{password}\n")
    script = f'if [ "$(id -u)" = 0 ]; then S=; else S="sudo -n"; fi; echo {line} | base64 -d | $S chpasswd'
    return [*head, "runScriptInGuest", vmx, "/bin/sh", script]


def check_login(user: str, password: str) -> None:
    """``InvalidInput`` for what no guest takes."""
    if not user or ":" in user or not user.isprintable() or len(user) > 64:
        raise InvalidInput(_("A user's name is 1 to 64 printable characters without a colon."), field="user")
    if not password or any(ord(char) < 32 or ord(char) == 127 for char in password):
        raise InvalidInput(_("A password is one line without control characters."), field="password")


class Vmrun:
    """Runs it on one host."""

    def __init__(self, ssh: SshConnection, path: PurePath, login: GuestLogin) -> None:
        self._ssh = ssh
        self._path = path
        self.login = login

    async def check(self) -> None:
        """See that it is there and runs. Raises as ``set_password``."""
        await self._run(["-T", "ws", "list"], ())

    async def set_password(self, vmx: str, windows_guest: bool, user: str, password: str) -> None:
        """Set a password in a running guest.

        Raises:
            Conflict: no Tools there, the guest refuses our login or the password, or vmrun is not where it should be.
            HostUnreachable, EngineTimeout: the host does not answer.
        """
        check_login(user, password)
        await self._run(password_call(vmx, windows_guest, self.login, user, password), (password, self.login.password))

    async def _run(self, arguments: Sequence[str], secrets: Sequence[str]) -> None:
        line, stdin = command(self._path, arguments)
        answer = await self._ssh.execute(line, stdin, SECONDS)
        if answer.returncode == 0:
            return
        said = (answer.stdout + b"\n" + answer.stderr).decode(errors="replace")
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            said = said.replace(secret, "***")
        raise self._refusal(answer.returncode, said)

    def _refusal(self, code: int, said: str) -> Conflict | EngineFailure:
        host = self._ssh.endpoint.name
        if code in NOT_FOUND:
            return Conflict(
                _("There is no vmrun at {path} on host {host}. Set launch_path to Workstation's own folder."),
                path=str(self._path), host=host,
            )  # fmt: skip
        if re.search(r"tools are not running|not running in the virtual", said, re.IGNORECASE):
            return Conflict(
                _("VMware Tools, the guest's agent, do not answer in the VM. Install them, or wait for its start.")
            )
        if re.search(r"invalid user name or password", said, re.IGNORECASE):
            return Conflict(
                _("The guest refuses the login of {user} (guest_user, guest_pass), by which passwords are set."),
                user=self.login.user,
            )
        if re.search(r"guest program exited|non-zero exit code", said, re.IGNORECASE):
            return Conflict(
                _(
                    "The guest did not take the password: no such user, a password against its rules, or guest_user "
                    "may not set it."
                )
            )
        reason = short(said.replace("Error:", "")) or f"exit code {code}"
        return EngineFailure(_("vmrun failed on host {host}: {reason}"), host=host, reason=reason)
