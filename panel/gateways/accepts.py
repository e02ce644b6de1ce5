"""The few rules that we need in iptables' FORWARD chain, because there a reject or a policy of DROP of someone else's would be
final: an accept in our own nft table cannot override it (nft(8): a drop is final, an accept ends only its own chain).

Rules of ours carry the comment ``openidcs-<bridge>``; nothing else in the chain is touched. They are needed

- ahead of libvirt's ``LIBVIRT_FWI`` for a network of libvirt's in mode ``nat``, which rejects what did not begin inside
  (https://libvirt.org/firewall.html); networks in mode ``open`` need none;
- where the chain's policy is DROP, as Docker sets it (https://docs.docker.com/engine/network/packet-filtering-firewalls/).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from panel.gateways.types import NatNetwork

_TAG = "openidcs-"


@dataclass(frozen=True, slots=True)
class AcceptPlan:
    """What to do to one family's FORWARD chain: the text for ``iptables-restore --noflush``, empty when all is well."""

    restore: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def plan(saved: str, networks: Iterable[NatNetwork], version: int) -> AcceptPlan:
    """Compare ``iptables-save -t filter`` (or ip6tables-save) with what ``networks`` need. Changes nothing where all is well.

    Args:
        saved: the output; empty where there is no filter table, which needs nothing.
    """
    rules = [shlex.split(line)[2:] for line in saved.splitlines() if line.startswith("-A FORWARD ")]
    lines = saved.splitlines()
    dropping = any(line.startswith(":FORWARD DROP") for line in lines)
    rejected = {words[words.index("-o") + 1] for words in _rejects(lines)}
    top: list[list[str]] = []
    end: list[list[str]] = []
    for network in networks:
        if version == 6 and not network.subnet6:
            continue
        tail = ["-m", "comment", "--comment", _TAG + network.bridge, "-j", "ACCEPT"]
        if dropping:
            state = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT"]
            top.append(["-o", network.bridge, *state, *tail])
            end.append(["-i", network.bridge, *tail])  # behind others' chains: Docker's isolation holds
        elif network.bridge in rejected:
            top.append(["-o", network.bridge, "-m", "conntrack", "--ctstate", "DNAT", *tail])
    ahead = _before_libvirt(rules)
    ours = [words for words in rules if _is_ours(words)]
    good = [words for words in ours if words in end or (words in top and words in ahead)]
    keep = [words for number, words in enumerate(good) if words not in good[:number]]
    remove = list(ours)
    for words in keep:
        remove.remove(words)
    add_top = [words for words in top if words not in keep]
    add_end = [words for words in end if words not in keep]
    if not (remove or add_top or add_end):
        return AcceptPlan()
    commands = [f"-D FORWARD {shlex.join(words)}" for words in remove]
    if any(words in keep for words in remove):  # -D takes the first of two equal rules: make it anew instead
        commands += [f"-D FORWARD {shlex.join(words)}" for words in keep]
        add_top, add_end = top, end
    commands += [f"-I FORWARD 1 {shlex.join(words)}" for words in add_top]
    commands += [f"-A FORWARD {shlex.join(words)}" for words in add_end]
    added = tuple(shlex.join(words) for words in (*add_top, *add_end))
    removed = tuple(shlex.join(words) for words in remove)
    return AcceptPlan("\n".join(["*filter", *commands, "COMMIT", ""]), added, removed)


def _rejects(lines: Iterable[str]) -> Iterable[list[str]]:
    for line in lines:
        words = shlex.split(line) if line.startswith("-A LIBVIRT_FWI ") else []
        if "-o" in words and "REJECT" in words:
            yield words


def _is_ours(words: list[str]) -> bool:
    return any(word == "--comment" and after.startswith(_TAG) for word, after in pairwise(words))


def _before_libvirt(rules: list[list[str]]) -> list[list[str]]:
    for number, words in enumerate(rules):
        if "LIBVIRT_FWI" in words:
            return rules[:number]
    return rules
