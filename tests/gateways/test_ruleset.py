"""The text of the transaction, and what nft says to it."""

from __future__ import annotations

import random
import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panel.gateways.kernel import compare, parse
from panel.gateways.ruleset import BASE_CHAINS, Leftover, counter_name, counter_vm, quote, render
from panel.gateways.types import RuleSet
from tests.gateways.strategies import rule_sets
from tests.gateways.world import forward, wish

LINE = re.compile(r"(add|flush|delete) (table|counter|set|map|element|chain|rule) (inet|bridge) openidcs( .*)?")


@given(rule_sets(), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_order_is_the_same_text_and_names_our_tables_only(
    rules: RuleSet, guard: bool, chance: random.Random
) -> None:
    parts = [list(part) for part in (rules.networks, rules.guests, rules.forwards, rules.outside_addresses)]
    for part in parts:
        chance.shuffle(part)
    networks, guests, forwards, outside = (tuple(part) for part in parts)
    again = RuleSet(networks, guests, forwards, outside, rules.revision)
    assert again == rules
    text = render(rules, guard=guard)
    assert render(again, guard=guard) == text
    assert all(LINE.fullmatch(line) for line in text.splitlines())
    for each in rules.forwards:
        assert f'comment "forward {each.id}"' in text


@given(st.text(max_size=200))
def test_quoting_lets_nothing_out(text: str) -> None:
    quoted = quote(text)
    assert re.fullmatch(r'"[A-Za-z0-9 ._:/%~-]{0,120}"', quoted)


@given(st.text(max_size=80), st.text(max_size=80))
def test_quoting_keeps_apart(one: str, two: str) -> None:
    assert (quote(one) == quote(two)) == (one == two)


@given(st.text("abcXYZ019._:-", min_size=1, max_size=64))
def test_counter_names_lead_back(vm: str) -> None:
    for direction in ("rx", "tx"):
        name = counter_name(direction, vm)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,250}", name)
        assert counter_vm(name) == (direction, vm)


@pytest.mark.parametrize("name", ["c1", "rx_", "rx_a-b", "zz_a", "rx_a_zz"])
def test_other_counters_are_nobodys(name: str) -> None:
    assert counter_vm(name) is None


def test_leftovers_go_and_counters_stay() -> None:
    present = {
        Leftover("bridge", "counter", counter_name("rx", "vm-a")),
        Leftover("bridge", "counter", "rx_gone"),
        Leftover("bridge", "map", "sentport"),
        Leftover("inet", "chain", "mine"),
    }
    lines = render(wish(), present).splitlines()
    assert "delete counter bridge openidcs rx_gone" in lines
    assert "delete chain inet openidcs mine" in lines
    assert lines.index("flush map bridge openidcs sentport") < lines.index("delete counter bridge openidcs rx_gone")
    assert not any(line.startswith("delete counter") and "vm" in line for line in lines)
    fitting = render(wish(), present, {Leftover("bridge", "map", "sentport")}).splitlines()
    assert "flush map bridge openidcs sentport" in fitting
    assert "delete map bridge openidcs sentport" not in fitting


def test_ranges_that_keep_their_ports_are_one_element() -> None:
    text = render(wish(forward("same", 2000, inner=2000, count=1000), forward("shift", 4000, inner=80, count=3)))
    assert 'tcp . 2000-2999 comment "forward same" : 10.99.0.11' in text
    assert text.count('comment "forward shift"') == 3
    assert 'tcp . 4002 comment "forward shift" : 10.99.0.11 . 82' in text


def test_every_base_chain_lets_others_be() -> None:
    text = render(wish())
    for (family, name), (kind, hook, priority) in BASE_CHAINS.items():
        head = f"type {kind} hook {hook} priority {priority}; policy accept;"
        assert f"add chain {family} openidcs {name} {{ {head} }}" in text


@pytest.mark.live
@given(rules=rule_sets(), guard=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_kernel_takes_every_rule_set_and_lists_it_the_same_again(rules: RuleSet, guard: bool) -> None:
    """In an empty namespace: first on nothing, then over itself with everything that is there removed."""
    text = render(rules, guard=guard)
    first = in_namespace(text)
    assert first.revision == rules.revision
    assert {flow.address for flow in first.flows} == {each.internal_ip for each in rules.forwards}
    for fitting in ((), first.present):
        second = in_namespace(text, render(rules, first.present, fitting, guard=guard))
        assert compare(first, second) == []
        assert second.present == first.present


def in_namespace(*texts: str):  # type: ignore[no-untyped-def]
    """What the kernel lists after some transactions, each checked (``nft -c``) first."""
    script = "".join(f"nft -c -f - <<'E'\n{text}E\nnft -f - <<'E'\n{text}E\n" for text in texts)
    argv = ["unshare", "--net", "sh", "-e"]
    done = subprocess.run(
        argv, input=script + "nft -j list ruleset\n", capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)
