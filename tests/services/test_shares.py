"""Which process watches which hosts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from panel.services.shares import Group, Node, grouped, share

ONE, TWO = Node("one", "m1"), Node("two", "m2")


def test_hosts_of_one_machine_stay_together() -> None:
    groups = grouped({1: "a", 2: None, 3: "a", 4: None}, {1: None, 3: "one"}, {2: "m1"})
    assert groups == [Group((1, 3), "one"), Group((2,), None, "m1"), Group((4,))]
    assert grouped({1: "here", 2: "here"}, {}, {1: "m1", 2: "m2"}) == [Group((1,), None, "m1"), Group((2,), None, "m2")]


def test_a_host_goes_only_where_it_is_reached() -> None:
    groups = [Group((number,), None, "m1") for number in range(4)]
    assert set(share([ONE, TWO], groups).values()) == {"one"}
    assert share([TWO], groups) == {}


def test_nobody_moves_without_a_reason() -> None:
    groups = [Group((1,), "one"), Group((2,), "one"), Group((3,), "two")]
    assert share([ONE, TWO], groups) == {1: "one", 2: "one", 3: "two"}
    groups += [Group((4,), "one")]
    assert Counter(share([ONE, TWO], groups).values()) == {"one": 2, "two": 2}


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["one", "two", "six", None])), max_size=30))
def test_it_is_fair_and_comes_to_rest(drawn: list[tuple[int, str | None]]) -> None:
    nodes = [ONE, TWO, Node("six", "m1")]
    groups, first = [], 0
    for size, owner in drawn:
        groups.append(Group(tuple(range(first, first + size)), owner))
        first += size
    plan = share(nodes, groups)
    assert plan.keys() == set(range(first)), "every host has somebody"
    load = Counter({node.id: 0 for node in nodes}) + Counter()
    load.update({node.id: 0 for node in nodes})
    load.update(plan.values())
    assert max(load.values()) - min(load.values()) <= 3, "but for the size of a group"
    settled = [Group(group.hosts, plan[group.hosts[0]]) for group in groups]
    assert share(nodes, settled) == plan, "planned again, nothing moves"
