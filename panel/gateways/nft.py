"""The gateway of one host: makes a ``RuleSet`` true with nftables, and says what is really there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from panel.errors import EngineFailure, PanelError
from panel.gateways import accepts
from panel.gateways.forwarding import missing_switches, set_switches
from panel.gateways.hairpin import bridged_frames_are_translated, set_hairpin
from panel.gateways.kernel import Applied, Difference, DifferenceKind, Flow, KernelState, Traffic, compare, parse
from panel.gateways.ruleset import FAMILIES, TABLE, render, render_clear
from panel.gateways.runner import Completed, Runner, failure, must
from panel.gateways.types import RuleSet, is_interface
from panel.i18n import Text
from panel.i18n import gettext_noop as _

_TRIES = 3  # an apply begins anew when someone changed our tables between its look and its transaction
_MAX_ENDED = 2000  # ports whose open connections are ended in one apply
_PROBE = (
    "add table bridge openidcs_probe\nadd chain bridge openidcs_probe x { type filter hook prerouting priority 0; }\n"
)
_IPTABLES = {4: ("iptables-save", "iptables-restore"), 6: ("ip6tables-save", "ip6tables-restore")}


class NftGateway:
    """One host's rules. Only the tables ``inet openidcs`` and ``bridge openidcs`` are ever written (and, where libvirt or Docker
    leave no other way, tagged rules in iptables' FORWARD).

    Every method raises ``EngineFailure`` (nft is missing, refuses, or we are not root), ``EngineTimeout`` or what the runner
    raises (``HostUnreachable``). An apply that fails leaves the old rules in force.
    """

    def __init__(self, runner: Runner, *, seconds: float = 30.0) -> None:
        """``seconds`` is the most that one program may take."""
        self._runner = runner
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._guard: bool | None = None
        self._expected: tuple[str, KernelState] | None = None

    async def apply(self, ruleset: RuleSet) -> Applied:
        """Make it so: our tables in one transaction, then what they need around them. Repeating it changes nothing."""
        async with self._lock:
            guard = await self._guarded()
            before = await self._replace(ruleset, guard)
            opened = await self._sync_accepts(ruleset)
            await self._sync_hairpin(before, ruleset if guard else RuleSet())
            switches = await missing_switches(self._runner, ruleset)
            await set_switches(self._runner, switches)
            warnings = []
            if not guard:
                warnings.append(Text(_("This host's kernel has no bridge filter: guests can use others' addresses.")))
            ended, complaint = await self._end_flows(before.flows, _wanted_flows(ruleset))
            warnings += [complaint] if complaint else []
            vms = {guest.vm for guest in ruleset.guests}
            return Applied(
                revision=ruleset.revision,
                guarded=guard,
                switches=tuple(f"{switch.name}={switch.value}" for switch in switches),
                accepts=opened,
                retired={vm: count for vm, count in before.traffic.items() if vm not in vms},
                ended=ended,
                warnings=tuple(warnings),
            )

    async def read(self) -> KernelState:
        """What is in the kernel now."""
        found = KernelState()
        for family in FAMILIES:
            answer = await self._run(["nft", "-j", "list", "table", family, TABLE])
            if answer.returncode == 0:
                found = found.with_other(parse(answer.stdout))
            elif answer.missing or not _absent(answer):
                raise failure("nft", "nftables", answer)
        return found

    async def counters(self) -> dict[str, Traffic]:
        """Bytes per VM, as they stand now."""
        for family in reversed(FAMILIES):
            argv = ["nft", "-j", "list", "counters", "table", family, TABLE]
            answer = await self._run(argv)
            if answer.returncode == 0:
                traffic = parse(answer.stdout).traffic
                if traffic:
                    return dict(traffic)
            elif answer.missing or not _absent(answer):
                raise failure("nft", "nftables", answer)
        return {}

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """How the kernel differs from ``ruleset``; empty when it does not."""
        async with self._lock:
            guard = await self._guarded()
            differences = compare(await self._expect(render(ruleset, guard=guard)), await self.read())
            for switch in await missing_switches(self._runner, ruleset):
                found = f"sysctl {switch.name}"
                differences.append(Difference(DifferenceKind.MISSING, "sysctl", "", found, expected=switch.value))
            for version in _IPTABLES:
                todo = await self._plan_accepts(ruleset, version)
                for kind, rules in ((DifferenceKind.MISSING, todo.added), (DifferenceKind.FOREIGN, todo.removed)):
                    differences += [Difference(kind, "accept", f"iptables {version}", rule) for rule in rules]
            return differences

    async def clear(self) -> None:
        """Remove all that is ours. Forwarding stays switched on: others may have come to need it."""
        async with self._lock:
            families = FAMILIES if await self._guarded() else FAMILIES[:1]
            await self._sync_hairpin(await self.read(), RuleSet())  # while the rule against reflections still stands
            text = render_clear(families)
            await must(self._runner, ["nft", "-f", "-"], "nftables", stdin=text, seconds=self._seconds)
            await self._sync_accepts(RuleSet())

    async def _run(self, argv: list[str], stdin: str = "") -> Completed:
        return await self._runner.run(argv, stdin=stdin, seconds=self._seconds)

    async def _guarded(self) -> bool:
        """Whether the kernel has the bridge family; asked once."""
        if self._guard is None:
            answer = await self._run(["nft", "-c", "-f", "-"], _PROBE)
            if answer.returncode != 0 and (answer.missing or not _absent(answer)):
                raise failure("nft", "nftables", answer)
            self._guard = answer.returncode == 0
        return self._guard

    async def _replace(self, ruleset: RuleSet, guard: bool) -> KernelState:
        """The transaction; returns what was there before. Tried in an empty namespace first."""
        wanted = (await self._expect(render(ruleset, guard=guard))).shapes()
        for left in reversed(range(_TRIES)):
            before = await self.read()
            fitting = {thing for thing, shape in before.shapes().items() if wanted.get(thing) == shape}
            text = render(ruleset, before.present, fitting, guard=guard)
            answer = await self._run(["nft", "-f", "-"], text)
            if answer.returncode == 0:
                return before
            if not left or answer.missing or (await self.read()).present == before.present:
                raise _refused(answer)
        raise AssertionError  # the last round returned or raised

    async def _expect(self, text: str) -> KernelState:
        """What the kernel would list after ``text``: asked of the kernel itself, in an empty network namespace that ends with
        the program. So whatever words this nft and this kernel choose, equal rules are equal."""
        if self._expected is None or self._expected[0] != text:
            script = "nft -f - && nft -j list ruleset"
            argv = ["unshare", "--net", "sh", "-c", script]
            answer = await self._run(argv, text)
            if answer.returncode != 0:
                program = "unshare" if answer.missing or "unshare" in answer.stderr else "nft"
                raise failure(program, "util-linux", answer) if program == "unshare" else _refused(answer)
            self._expected = (text, parse(answer.stdout))
        return self._expected[1]

    async def _plan_accepts(self, ruleset: RuleSet, version: int) -> accepts.AcceptPlan:
        """A host without iptables needs none of this."""
        answer = await self._run([_IPTABLES[version][0], "-t", "filter"])
        if answer.returncode != 0:
            return accepts.AcceptPlan()
        return accepts.plan(answer.stdout, ruleset.networks, version)

    async def _sync_accepts(self, ruleset: RuleSet) -> tuple[str, ...]:
        added: list[str] = []
        for version, (_save, restore) in _IPTABLES.items():
            todo = await self._plan_accepts(ruleset, version)
            if todo.restore:
                await must(self._runner, [restore, "--noflush", "-w", "5"], "iptables", stdin=todo.restore)
                added += todo.added
        return tuple(added)

    async def _sync_hairpin(self, before: KernelState, ruleset: RuleSet) -> None:
        ports = {guest.interface for guest in ruleset.guests if guest.interface}
        gone = {port for port in before.ports if is_interface(port)} - ports
        on = ports if ports and await bridged_frames_are_translated(self._runner) else set()
        await set_hairpin(self._runner, on, gone)

    async def _end_flows(self, before: frozenset[Flow], wanted: frozenset[Flow]) -> tuple[int | None, Text | None]:
        """End the open connections of removed forwards: the kernel remembers a translation as long as it is used."""
        gone = _port_by_port(before - wanted) - _port_by_port(wanted - before)
        commands = [_ending(flow) for flow in sorted(gone, key=lambda f: (f.protocol, f.first)) if _is_plain(flow)]
        if not commands:
            return 0, None
        script = ["command -v conntrack >/dev/null || exit 99", *commands[:_MAX_ENDED], "exit 0", ""]
        try:
            answer = await self._run(["sh", "-s"], "\n".join(script))
        except PanelError as error:
            return None, error.text
        if answer.returncode == 0:
            return len(answer.stdout.splitlines()), None
        if answer.returncode == 99:
            return None, Text(
                _("Open connections of removed forwards go on until they end: apt-get install conntrack.")
            )
        return None, failure("conntrack", "conntrack", answer).text


def _refused(answer: Completed) -> PanelError:
    """A transaction that the kernel did not take; it takes all or nothing."""
    error = failure("nft", "nftables", answer)
    if answer.missing or "not permitted" in answer.stderr:
        return error
    return EngineFailure(
        _("The host's kernel refused the rules, and the old ones stay in force: {reason}"),
        reason=error.text.params.get("reason", ""),
    )


def _absent(answer: Completed) -> bool:
    """The table, or its whole family, is not there."""
    return "No such file" in answer.stderr or "not supported" in answer.stderr


def _wanted_flows(ruleset: RuleSet) -> frozenset[Flow]:
    """What the forwards of ``ruleset`` open."""
    return frozenset(
        Flow(
            f.protocol.value,
            f.external_start,
            f.external_end,
            f.internal_ip,
            None if f.external_start == f.internal_start and f.external_start != f.external_end else f.internal_start,
        )
        for f in ruleset.forwards
    )


def _port_by_port(flows: Iterable[Flow]) -> set[Flow]:
    """Ranges taken apart, so that a range that shrinks loses only what it loses."""
    found = set()
    for flow in flows:
        for step in range(flow.last - flow.first + 1):
            port = flow.first + step
            internal = port if flow.internal_port is None else flow.internal_port + step
            found.add(Flow(flow.protocol, port, port, flow.address, internal))
    return found


def _is_plain(flow: Flow) -> bool:
    """What comes from the kernel is checked before it meets a shell."""
    return flow.protocol in ("tcp", "udp") and set(flow.address) <= set("0123456789abcdef.:")


def _ending(flow: Flow) -> str:
    family = "ipv6" if ":" in flow.address else "ipv4"
    ports = f"--orig-port-dst {flow.first} --reply-port-src {flow.internal_port}"
    return f"conntrack -D -f {family} -p {flow.protocol} --reply-src {flow.address} {ports} 2>/dev/null"
