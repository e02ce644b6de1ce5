"""The command line that another machine gets, and what its answers mean."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from panel.errors import EngineFailure, EngineTimeout
from panel.gateways.ssh import SshRunner


@dataclass
class Answer:
    returncode: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass
class Shell:
    """Writes down what it is told."""

    name: str = "root"
    answer: Answer = field(default_factory=Answer)
    slow: bool = False
    told: list[str] = field(default_factory=list)

    async def user(self) -> str:
        return self.name

    async def execute(self, command: str, stdin: bytes, seconds: float) -> Answer:
        self.told.append(command)
        if self.slow:
            raise EngineTimeout("slow")
        return self.answer


async def test_the_command_line() -> None:
    root, other = Shell(), Shell("ops")
    await SshRunner(root, path="/sbin").run(["nft", "-f", "a; b"], seconds=3)
    await SshRunner(other, path="/sbin").run(["nft"], seconds=3)
    assert root.told == ["exec timeout -s KILL 4 env LC_ALL=C PATH=/sbin nft -f 'a; b'"]
    assert other.told == ["exec sudo -n timeout -s KILL 4 env LC_ALL=C PATH=/sbin nft"]


@pytest.mark.parametrize("said", [b"sudo: a password is required\n", b"sh: 1: exec: sudo: not found\n"])
async def test_a_user_who_may_not_become_root(said: bytes) -> None:
    with pytest.raises(EngineFailure, match=r"ops may not become root .* NOPASSWD"):
        await SshRunner(Shell("ops", Answer(1, b"", said))).run(["nft"])


async def test_answers() -> None:
    failed = await SshRunner(Shell("ops", Answer(1, b"x", b"nft: no \xff\n"))).run(["nft"])
    assert (failed.returncode, failed.stdout, failed.stderr, failed.missing) == (1, "x", "nft: no \ufffd\n", False)
    assert (await SshRunner(Shell(answer=Answer(127))).run(["nft"])).missing
    with pytest.raises(EngineTimeout, match="nft did not end within 3 s"):
        await SshRunner(Shell(slow=True)).run(["nft"], seconds=3)
