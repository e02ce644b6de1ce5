"""The parts that need no kernel: plans, parsers, runners, failures."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence

import pytest

from panel.errors import EngineFailure, EngineTimeout
from panel.gateways.accepts import plan
from panel.gateways.forwarding import Switch, missing_switches
from panel.gateways.kernel import KernelState, compare, parse
from panel.gateways.nft import NftGateway
from panel.gateways.ports import listening, parse_sockets, taken_ports
from panel.gateways.runner import Completed, LocalRunner
from panel.gateways.tc import Links, Queue, RateLimiter, download, ifb_name, upload
from panel.gateways.types import Protocol, RuleSet
from tests.gateways.world import GUEST_A, NETWORK, wish


class Scripted:
    """A runner that answers from a list of (beginning of the command, answer)."""

    def __init__(self, *answers: tuple[str, Completed]) -> None:
        self.answers = answers
        self.calls: list[str] = []

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        command = " ".join(argv)
        self.calls.append(command)
        for beginning, answer in self.answers:
            if command.startswith(beginning):
                return answer
        return Completed(0, "", "")


@pytest.mark.parametrize(
    ("answer", "mend"),
    [
        (Completed(127, "", "nft: No such file or directory"), "apt-get install nftables"),
        (Completed(255, "", 'exec of "nft" failed: No such file or directory'), "apt-get install nftables"),
        (Completed(1, "", "Error: Operation not permitted (you must be root)"), "needs root"),
    ],
)
async def test_failures_name_the_mend(answer: Completed, mend: str) -> None:
    gateway = NftGateway(Scripted(("nft", answer)))
    for call in (
        gateway.apply(RuleSet()),
        gateway.read(),
        gateway.counters(),
        gateway.drift(RuleSet()),
        gateway.clear(),
    ):
        with pytest.raises(EngineFailure, match=mend):
            await call


async def test_an_answer_that_is_no_json() -> None:
    with pytest.raises(EngineFailure, match="JSON"):
        await NftGateway(Scripted(("nft", Completed(0, "oops", "")))).read()


async def test_a_program_that_hangs_is_killed() -> None:
    begun = time.monotonic()
    with pytest.raises(EngineTimeout, match="sh did not end"):
        await LocalRunner().run(["sh", "-c", "sleep 30 & wait"], seconds=0.2)
    assert time.monotonic() - begun < 15
    task = asyncio.create_task(LocalRunner().run(["sleep", "30"]))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_program_that_is_not_there() -> None:
    assert (await LocalRunner().run(["no-such-program-here"])).missing
    assert (await LocalRunner(("env",)).run(["cat"], stdin="x")).stdout == "x"


LIBVIRT = """*filter
:FORWARD ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A LIBVIRT_FWI -d 10.99.0.0/24 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o br0 -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""
OURS = "-A FORWARD -o br0 -m conntrack --ctstate DNAT -m comment --comment openidcs-br0 -j ACCEPT\n"


def test_accepts_are_planned_where_they_are_needed() -> None:
    assert plan("", [NETWORK], 4).restore == ""
    assert plan("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n", [NETWORK], 4).restore == ""
    need = plan(LIBVIRT, [NETWORK], 4)
    assert need.restore.splitlines()[1] == OURS.replace("-A FORWARD", "-I FORWARD 1").strip()
    good = LIBVIRT.replace("-A FORWARD -j LIBVIRT_FWX\n", OURS + "-A FORWARD -j LIBVIRT_FWX\n")
    assert plan(good, [NETWORK], 4).restore == ""
    behind = LIBVIRT.replace("-A LIBVIRT_FWI -d", OURS + "-A LIBVIRT_FWI -d")
    assert [line[:2] for line in plan(behind, [NETWORK], 4).restore.splitlines()[1:-1]] == ["-D", "-I"]
    doubled = good.replace(OURS, OURS + OURS)
    assert [line[:2] for line in plan(doubled, [NETWORK], 4).restore.splitlines()[1:-1]] == ["-D", "-D", "-I"]
    assert plan(good, [], 4).restore.splitlines()[1] == OURS.replace("-A", "-D").strip()


def test_accepts_leave_rules_of_others_alone() -> None:
    text = '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment "it is openidcs-br0" -j DROP\nCOMMIT\n'
    assert plan(text, [NETWORK], 4).restore == ""


async def test_ipv6_forwarding_keeps_a_route_that_was_learned() -> None:
    runner = Scripted(
        ("sysctl -n net.ipv4", Completed(0, "1\n", "")),
        ("sysctl -n", Completed(0, "0\n", "")),
        ("ip -j -6 route", Completed(0, json.dumps([{"dst": "default", "dev": "eth0.5"}]), "")),
    )
    assert await missing_switches(runner, wish()) == [
        Switch("net/ipv6/conf/eth0.5/accept_ra", "2"),
        Switch("net.ipv6.conf.all.forwarding", "1"),
    ]
    assert await missing_switches(runner, RuleSet()) == []


async def test_ports_in_use() -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as loop:
        tcp.bind(("0.0.0.0", 0))
        tcp.listen()
        udp.bind(("0.0.0.0", 0))
        loop.bind(("127.0.0.1", 0))
        loop.listen()
        taken = await taken_ports(LocalRunner(), Protocol.TCP)
        assert tcp.getsockname()[1] in taken
        assert udp.getsockname()[1] in await taken_ports(LocalRunner(), Protocol.UDP)
        assert loop.getsockname()[1] not in taken
        assert loop.getsockname()[1] in {each.port for each in await listening(LocalRunner())}


def test_socket_tables() -> None:
    rows = [
        "/proc/net/tcp:  sl  local_address rem_address   st",
        "/proc/net/tcp:   0: 0100007F:0CEA 00000000:0000 0A 0",
        "/proc/net/tcp:   1: 0100007F:0CEA 0100007F:D218 01 0",
        "/proc/net/tcp6:   0: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0",
        "/proc/net/udp6:   0: 0000000000000000FFFF00000A00630A:0035 00000000000000000000000000000000:0000 07 0",
    ]
    found = [(each.protocol.value, each.address, each.port) for each in parse_sockets(rows)]
    assert found == [("tcp", "127.0.0.1", 3306), ("tcp", "2001:db8::1", 80), ("udp", "10.99.0.10", 53)]


def test_police_where_there_is_no_ifb() -> None:
    bare = Links(frozenset({"tap0"}), ())
    commands = upload("tap0", 8, bare, police=True)
    assert commands[0] == "qdisc add dev tap0 handle ffff: ingress"
    assert "police rate 8mbit burst 131072" in commands[1]
    ours = Links(frozenset({"tap0"}), (Queue("tap0", "htb", "1dc5:", True), Queue("tap0", "ingress", "ffff:", False)))
    assert download("tap0", 0, ours) == ["qdisc del dev tap0 root"]
    assert download("tap0", 0, bare) == []
    assert download("tap0", 5, Links(frozenset({"tap0"}), (Queue("tap0", "htb", "1:", True),))) == []
    assert len(ifb_name("a" * 15)) <= 15


async def test_a_refused_limit_is_an_error_and_a_vanished_port_is_none() -> None:
    links = ("ip -j link", Completed(0, '[{"ifname": "pa"}]', ""))
    queues = ("tc -j", Completed(0, "[]", ""))
    limited = [GUEST_A.__class__("vm", GUEST_A.mac, "pa", rate_down_mbit=5)]
    gone = Completed(1, "", 'Cannot find device "pa"\nCommand failed -:1\n')
    assert (await RateLimiter(Scripted(links, queues, ("tc -force", gone))).apply(limited)).limited == ("pa",)
    bad = Completed(1, "", "Error: Specified qdisc kind is unknown.\nCommand failed -:1\n")
    with pytest.raises(EngineFailure, match="Specified qdisc kind is unknown"):
        await RateLimiter(Scripted(links, queues, ("tc -force", bad))).apply(limited)


def test_nothing_compared_with_nothing() -> None:
    assert compare(KernelState(), parse('{"nftables": []}')) == []
