"""What is in the kernel, how it differs from the wish, and what is never touched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from panel.errors import EngineFailure
from panel.gateways.kernel import Difference, DifferenceKind
from panel.gateways.nft import NftGateway
from panel.gateways.runner import Completed, LocalRunner
from panel.gateways.types import RuleSet
from tests.gateways.world import A4, A6, GUEST_A, GW4, WAN4, World, forward, wish

pytestmark = pytest.mark.live
RULES = wish(forward("web", 8080), forward("range", 2000, inner=2000, count=9), forward("six", 8080, A6), revision=7)


def kinds(differences: list[Difference]) -> set[tuple[str, str, str]]:
    """Kind, what and subject of each."""
    return {(d.kind.value, d.what, d.subject) for d in differences}


async def test_applying_again_changes_nothing(world: World, gateway: NftGateway) -> None:
    assert await gateway.read() == await gateway.read()
    first = await gateway.apply(RULES)
    before = await gateway.read()
    assert before.revision == 7
    assert before.families == {"inet", "bridge"}
    assert "net.ipv4.ip_forward=1" in first.switches
    second = await gateway.apply(RULES)
    after = await gateway.read()
    assert (after.items, after.present, after.flows) == (before.items, before.present, before.flows)
    assert second.switches == ()
    assert second.ended == 0
    assert await gateway.drift(RULES) == []


async def test_drift_by_hand_shows_and_is_put_right(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    await gateway.apply(RULES)

    async def by_hand(*commands: str) -> set[tuple[str, str, str]]:
        world.run("gw", "nft", "-f", "-", stdin="\n".join(commands) + "\n")
        found = kinds(await gateway.drift(RULES))
        await gateway.apply(RULES)
        assert await gateway.drift(RULES) == []
        assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
        return found

    table = "inet openidcs"
    flushed = await by_hand(f"flush table {table}")
    assert ("missing", "rule", "revision 7") in flushed
    assert await by_hand(f"delete table {table}") == {("missing", "table", "table inet openidcs")}
    assert await by_hand(f"delete element {table} forward4 {{ tcp . 8080 }}") == {("missing", "element", "forward web")}
    added = await by_hand(f"add element {table} forward4 {{ udp . 1 : 10.99.0.12 . 22 }}")
    assert {(kind, what) for kind, what, _ in added} == {("foreign", "element")}
    changed = await by_hand(
        f"delete element {table} forward4 {{ tcp . 8080 }}",
        f'add element {table} forward4 {{ tcp . 8080 comment "forward web" : 10.99.0.12 . 80 }}',
    )
    assert changed == {("changed", "element", "forward web")}
    assert await by_hand(f'add rule {table} forward tcp dport 25 counter drop comment "mine"') == {
        ("foreign", "rule", "mine")
    }
    assert {what for _, what, _ in await by_hand(f"insert rule {table} forward ip ttl 3 drop")} == {"rule"}
    made = await by_hand(
        f"add chain {table} mine",
        f"add set {table} things {{ type ipv4_addr; }}",
        f"add counter {table} c",
        f"add quota {table} q over 10 mbytes",
        f"add rule {table} mine ip daddr @things counter name c quota name q drop",
    )
    assert {
        ("foreign", "chain", "chain mine"),
        ("foreign", "set", "set things"),
        ("foreign", "quota", "quota q"),
    } <= made
    world.run("gw", "sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert kinds(await gateway.drift(RULES)) == {("missing", "sysctl", "sysctl net.ipv4.ip_forward")}


async def test_an_order_by_hand_is_drift(world: World, gateway: NftGateway) -> None:
    await gateway.apply(RULES)
    listed = world.run("gw", "nft", "-a", "list", "chain", "bridge", "openidcs", "frames")
    handle = next(line for line in listed.splitlines() if "goto arps" in line).split()[-1]
    world.run("gw", "nft", "delete", "rule", "bridge", "openidcs", "frames", "handle", handle)
    again = 'add rule bridge openidcs frames ether type arp goto arps comment "house frames 2"'
    world.run("gw", "nft", "-f", "-", stdin=again + "\n")
    assert kinds(await gateway.drift(RULES)) == {("changed", "order", "chain frames")}


async def test_an_older_shape_of_our_tables_is_replaced(world: World, gateway: NftGateway) -> None:
    old = (
        "table inet openidcs { set far4 { type ether_addr; }; chain forward { type filter hook input priority 9; }; }\n"
    )
    world.run("gw", "nft", "-f", "-", stdin=old)
    await gateway.apply(RULES)
    assert await gateway.drift(RULES) == []


async def test_drift_names_forward_and_vm(world: World, gateway: NftGateway) -> None:
    await gateway.apply(RULES)
    found = await gateway.drift(replace(RULES, forwards=RULES.forwards[:1], guests=(GUEST_A,)))
    assert {d.forward for d in found if d.what == "element" and d.forward} <= {f.id for f in RULES.forwards}
    assert any(d.kind is DifferenceKind.FOREIGN and d.vm == "vm-b" for d in found)


FOREIGN = """
table inet other {
  set s { type ipv4_addr; elements = { 192.0.2.1 } }
  chain input { type filter hook input priority 0; policy accept; ip saddr @s drop; }
  chain post { type nat hook postrouting priority 100; oifname "none" masquerade; }
}
table bridge filter { chain forward { type filter hook forward priority -200; policy accept; }; }
table ip openidcs { chain x { }; }
"""


async def test_foreign_tables_are_the_same_before_and_after(world: World, gateway: NftGateway) -> None:
    world.run("gw", "nft", "-f", "-", stdin=FOREIGN)
    world.run("gw", "iptables", "-A", "FORWARD", "-s", "192.0.2.7", "-j", "DROP")
    world.run("gw", "iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.7", "-j", "MASQUERADE")

    def listed() -> str:
        return world.run("gw", "nft", "-s", "-a", "list", "ruleset")

    before = listed()
    await gateway.apply(RULES)
    assert before in listed()  # ours come behind
    assert "table ip openidcs" in before
    await gateway.apply(replace(RULES, forwards=()))
    await gateway.clear()
    assert listed() == before
    await gateway.clear()
    assert listed() == before


class Meddler(LocalRunner):
    """Changes what an apply sends, or what the host holds meanwhile."""

    def __init__(self, world: World, tail: str = "", meanwhile: str = "") -> None:
        super().__init__(("ip", "netns", "exec", world.names["gw"]))
        self.world, self.tail, self.meanwhile = world, tail, meanwhile

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        if list(argv) == ["nft", "-f", "-"]:
            if self.meanwhile:
                self.world.run("gw", "nft", "-f", "-", stdin=self.meanwhile)
                self.meanwhile = ""
            stdin += self.tail
        return await super().run(argv, stdin=stdin, seconds=seconds)


async def test_a_failure_half_way_leaves_the_old_rules_in_force(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    await gateway.apply(RULES)
    before = await gateway.read()
    for tail in ("add rule inet openidcs forward jump nowhere\n", "nonsense\n", "delete chain inet openidcs never\n"):
        with pytest.raises(EngineFailure, match="old ones stay in force"):
            await NftGateway(Meddler(world, tail)).apply(wish(revision=8))
    after = await gateway.read()
    assert (after.items, after.revision) == (before.items, 7)
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"


async def test_a_change_between_the_look_and_the_transaction_is_taken_in(world: World, gateway: NftGateway) -> None:
    await gateway.apply(RULES)
    world.run("gw", "nft", "add", "chain", "inet", "openidcs", "mine")
    meddled = NftGateway(Meddler(world, meanwhile="delete chain inet openidcs mine\n"))
    assert (await meddled.apply(replace(RULES, revision=8))).revision == 8
    assert (await gateway.read()).revision == 8


async def test_traffic_goes_on_while_rules_are_replaced(world: World, gateway: NftGateway) -> None:
    """New connections and an open one, all the while: no moment without rules."""
    world.serve("a", 80)
    await gateway.apply(RULES)
    client = world.socket("wan")
    client.connect((GW4, 8080))
    assert client.recv(100)
    done = threading.Event()

    async def replace_rules() -> None:
        for number in range(12):
            await gateway.apply(replace(RULES, revision=number))
        done.set()

    def use() -> list[str | None]:
        said = []
        while not done.is_set():
            client.sendall(b"ping")
            assert client.recv(10) == b"ping"
            said.append(world.call("wan", GW4, 8080, seconds=0.9))
        return said

    task = asyncio.create_task(replace_rules())
    said = await asyncio.to_thread(use)
    await task
    assert len(said) > 50
    assert set(said) == {f"a 80 {WAN4}"}


async def test_many_applies_at_once_end_with_one_of_them(world: World, gateway: NftGateway) -> None:
    wishes = [wish(forward("web", 8000 + number), revision=number) for number in range(6)]
    await asyncio.gather(*(gateway.apply(each) for each in wishes))
    revision = (await gateway.read()).revision
    assert revision is not None
    assert await gateway.drift(wishes[revision]) == []


async def test_libvirts_reject_is_dealt_with_and_left_as_it_was(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    for line in (
        "-N LIBVIRT_FWI",
        "-A FORWARD -j LIBVIRT_FWI",
        "-A LIBVIRT_FWI -o br0 -d 10.99.0.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A LIBVIRT_FWI -o br0 -j REJECT",
    ):
        world.run("gw", "iptables", *line.split())
    before = world.run("gw", "iptables", "-S")
    rules = wish(forward("web", 8080))
    applied = await gateway.apply(rules)
    assert len(applied.accepts) == 1
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
    assert (await gateway.apply(rules)).accepts == ()
    world.run("gw", "iptables", "-D", "FORWARD", "-j", "LIBVIRT_FWI")
    world.run("gw", "iptables", "-I", "FORWARD", "-j", "LIBVIRT_FWI")  # libvirt came back and put itself first
    assert world.call("wan", GW4, 8080) is None
    assert "accept" in {d.what for d in await gateway.drift(rules)}
    await gateway.apply(rules)
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
    await gateway.clear()
    assert world.run("gw", "iptables", "-S") == before


async def test_a_forward_policy_of_drop_is_dealt_with(world: World, gateway: NftGateway) -> None:
    world.serve("a", 80)
    world.serve("wan", 81)
    world.run("gw", "iptables", "-P", "FORWARD", "DROP")
    await gateway.apply(wish(forward("web", 8080)))
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
    assert world.call("a", WAN4, 81) == f"wan 81 {GW4}"
    assert world.call("b", GW4, 8080) == "a 80 10.99.0.1"
    assert await gateway.drift(wish(forward("web", 8080))) == []
    world.run("gw", "iptables", "-P", "FORWARD", "ACCEPT")
    await gateway.apply(wish(forward("web", 8080)))
    assert world.run("gw", "iptables", "-S", "FORWARD").splitlines() == ["-P FORWARD ACCEPT"]


async def test_an_empty_wish(world: World, gateway: NftGateway) -> None:
    applied = await gateway.apply(RuleSet())
    assert applied.switches == ()
    assert await gateway.drift(RuleSet()) == []
    assert A4 not in str(await gateway.read())
