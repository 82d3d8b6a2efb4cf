"""Laws of the value layer: spaces, architectures, wiring. Nothing in here needs torch."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from enas.spaces.architecture import Architecture
from enas.spaces.cells import Edge, Node, possible_edges
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro, from_tokens
from enas.spaces.decisions import Anchor, Decision, InputChoice, OpChoice, OpSubset, SubsetChoice, When
from enas.spaces.registry import SPACES, space_of
from enas.spaces.space import SearchSpace
from laws import FULL, SMALL, TOYS, of_cell, of_walk, one_line, p_value, samples

ALL = SMALL | {f"{name}-full": space for name, space in FULL.items()}
every_space = pytest.mark.parametrize("space", ALL.values(), ids=ALL)
small_space = pytest.mark.parametrize("space", SMALL.values(), ids=SMALL)

# Published with the authors' code.
NORMAL, REDUCE = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


# -------------------------------------------------------------------------------- an architecture
@every_space
def test_an_architecture_survives_json(space: SearchSpace) -> None:
    for arch in samples(space, 20):
        for text in (arch.to_json(), arch.to_json(indent=None)):
            back = Architecture.from_json(text)
            assert back == arch
            assert hash(back) == hash(arch)
            assert back.id == arch.id
            assert back.choices == arch.choices  # subsets are tuples again
            assert back.provenance == ()
            assert space.check(back) is back
            assert space.wire(back) is space.wire(arch)


@every_space
def test_order_and_provenance_do_not_count(space: SearchSpace) -> None:
    for arch in samples(space, 5):
        data = arch.to_dict()
        turned = {
            key: dict(reversed(value.items())) if isinstance(value, dict) else value
            for key, value in reversed(data.items())
        }
        named = Architecture.from_dict(turned | {"provenance": {"source": "by hand", "seeds": [1, 2]}})
        assert (named, named.id, hash(named)) == (arch, arch.id, hash(arch))
        back = Architecture.from_json(named.to_json())
        assert dict(back.provenance) == {"source": "by hand", "seeds": [1, 2]}
        assert dict(arch.with_provenance(run="x").provenance) == {"run": "x"}
        assert arch.with_provenance(run="x") == arch
        assert dict(space.architecture(arch.choices, {"run": "y"}).provenance) == {"run": "y"}
        before = {key: data[key] for key in ("space", "choices")}  # there were no versions
        assert Architecture.from_dict(before) == arch
        with one_line(ValueError, "version 2", "a later enas wrote it"):
            Architecture.from_dict({**data, "version": 2})


@small_space
def test_different_choices_are_different_values(space: SearchSpace) -> None:
    archs = list(space.enumerate())
    assert len(set(archs)) == len({arch.id for arch in archs}) == len(archs)
    other = SearchSpace("other", space.walk, space.cells)
    assert not set(archs) & {other.architecture(arch.choices) for arch in archs}


def test_a_subset_has_one_form() -> None:
    space, _ = TOYS["subset"]
    ordered = space.architecture({"c.skips": ["b", "e"]})
    assert ordered.choices["c.skips"] == ("b", "e")
    assert space.architecture({"c.skips": ("e", "b")}) == ordered
    assert space.architecture({"c.skips": "b"}).choices["c.skips"] == ("b",)
    by_hand = Architecture.of(space.spec, {"c.skips": ("e", "b")}, {"source": "by hand"})
    assert by_hand != ordered
    assert space.check(by_hand) == ordered
    assert dict(space.check(by_hand).provenance) == {"source": "by hand"}
    layers, _ = TOYS["layers"]
    ops = {f"c.n{i}.op0": "conv" for i in (1, 2, 3)}
    written = Architecture.of(layers.spec, {**ops, "c.n2.skips": "a", "c.n3.skips": ("n1", "a")})
    assert [node.skips for node in layers.wire(written)["c"].nodes] == [(), ("a",), ("a", "n1")]


@pytest.mark.parametrize("name", FULL)
def test_an_architecture_names_its_space(name: str) -> None:
    entry = SPACES[name]
    for settings in (entry.settings(), *entry.small):
        space = entry.make(settings)
        for arch in samples(space, 3):
            again = space_of(Architecture.from_json(arch.to_json()).space)
            assert again.spec == space.spec
            assert again.walk == space.walk
            assert again.check(arch) is arch


OTHER_PROCESS = """
import json, pickle, sys
import enas.spaces.space, enas.spaces.architecture, enas.spaces.registry
from enas.spaces.architecture import Architecture
archs = pickle.load(sys.stdin.buffer)
again = [Architecture.from_json(arch.to_json()) for arch in archs]
assert archs == again
assert [hash(arch) for arch in archs] == [hash(arch) for arch in again]
assert set(archs) == set(again)
print(json.dumps({"ids": [arch.id for arch in archs], "torch": "torch" in sys.modules, "hash": hash("a")}))
"""


def test_values_travel_between_processes_that_hold_no_torch() -> None:
    archs = [arch for space in ALL.values() for arch in samples(space, 2)]
    for arch in archs:  # everything that is computed once and kept
        assert hash(arch) == hash(arch)
        assert arch.choices.keys() == dict(arch.choice_items).keys()
        assert arch.space["name"]
        assert arch.id
        assert pickle.loads(pickle.dumps(arch)) == copy.deepcopy(arch) == arch
    found = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", OTHER_PROCESS],
            input=pickle.dumps(archs),
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        found.append(json.loads(done.stdout))
    assert found[0]["hash"] != found[1]["hash"]  # the two processes do hash strings differently
    for process in found:
        assert process["ids"] == [arch.id for arch in archs]
        assert not process["torch"]


# ----------------------------------------------------------------------------------------- counts
@small_space
def test_size_counts_the_enumeration(space: SearchSpace) -> None:
    archs = list(space.enumerate())
    assert len(archs) == len(set(archs)) == space.size()
    for arch in archs:
        assert space.check(arch) is arch


@pytest.mark.parametrize(("space", "count"), TOYS.values(), ids=TOYS)
def test_size_by_hand(space: SearchSpace, count: int) -> None:
    assert space.size() == count


# The paper's counts (2.1, 2.3, 2.4), two digits, and ours where they differ.
PAPER_COUNTS = {"conv_micro": (2.6e25, 1.3e11), "conv_macro": (1.6e29, None)}


@pytest.mark.parametrize("name", sorted(PAPER_COUNTS.keys() & SPACES.keys()))
def test_the_counts_of_the_paper(name: str) -> None:
    size, paper = PAPER_COUNTS[name]
    space = FULL[name]
    assert float(f"{space.size():.1e}") == size
    if paper is not None:
        assert space.paper_size is not None
        assert float(f"{space.paper_size:.1e}") == paper


def test_the_micro_count_written_out() -> None:
    per_cell = math.prod((inputs * 5) ** 2 for inputs in range(2, 7))
    assert conv_micro().size() == per_cell**2
    assert conv_micro().paper_size == (5 * math.factorial(5)) ** 4


def guided(decision: Decision) -> bool:
    return isinstance(decision, SubsetChoice) and decision.k is None and decision.rate != 0.5


@small_space
def test_random_architectures_are_uniform_but_for_guided_subsets(space: SearchSpace) -> None:
    """Each active decision uniform given those before it, so without nesting the whole space is; a
    guided subset takes each option with its own rate."""

    def probability(arch: Architecture) -> float:
        p = 1.0
        for decision in space.decisions:
            if decision.name in arch.choices and guided(decision):
                assert isinstance(decision, SubsetChoice)
                taken, options = len(arch.choices[decision.name]), len(decision.options)
                p *= decision.rate**taken * (1 - decision.rate) ** (options - taken)
            elif decision.name in arch.choices:
                p /= sum(1 for _ in decision.answers())
        return p

    expected = {arch: probability(arch) for arch in space.enumerate()}
    permitted = sum(expected.values())  # what a limit forbids is drawn anew
    expected = {arch: p / permitted for arch, p in expected.items()}
    if not any(decision.when or guided(decision) for decision in space.decisions):
        assert math.isclose(min(expected.values()), 1 / space.size(), rel_tol=1e-9)
        assert math.isclose(max(expected.values()), 1 / space.size(), rel_tol=1e-9)
    assert p_value(samples(space, max(600, 10 * space.size()), seed=3), expected) > 1e-3


# --------------------------------------------------------------------------------- order and wire
def test_decisions_go_by_inputs_then_ops_then_subset() -> None:
    space = of_cell(
        "order",
        Node("n1", (Edge("a", OpChoice(("x", "y"))), Edge(InputChoice(("a", "b")), "x"))),
        Node(
            "n2",
            (Edge(InputChoice(("a", "n1")), OpChoice(("x", "y"))), Edge(InputChoice(("b", "n1")), OpChoice(("x", "y")))),
            SubsetChoice(("a", "b", "n1")),
        ),
    )
    assert [f"<{s.name}>" if isinstance(s, Anchor) else s.name for s in space.walk] == [
        *("<c.a>", "<c.b>"),
        *("c.n1.input1", "c.n1.op0", "<c.n1>"),
        *("c.n2.input0", "c.n2.input1", "c.n2.op0", "c.n2.op1", "c.n2.skips", "<c.n2>"),
    ]


def test_the_micro_walk() -> None:
    def cell(name: str) -> list[str]:
        steps = [f"{name}.prev_prev", f"{name}.prev"]
        for node in ("n2", "n3"):
            steps += [f"{name}.{node}.{part}" for part in ("input0", "input1", "op0", "op1")] + [f"{name}.{node}"]
        return steps

    space = conv_micro(ConvMicroSettings(num_nodes=2))
    assert [step.name for step in space.walk] == cell("normal") + cell("reduce")
    assert [d.options for d in space.decisions if d.name.startswith("reduce.n3.input")] == [("prev_prev", "prev", "n2")] * 2


@every_space
def test_wire_obeys_the_space(space: SearchSpace) -> None:
    """Every wired edge is one the supernet holds; nothing is kept that no output needs; loose ends
    are read by nobody."""
    for arch in samples(space, 10):
        wired = space.wire(arch)
        assert list(wired) == [cell.name for cell in space.cells]
        for cell in space.cells:
            graph = wired[cell.name]
            assert {edge for node in graph.nodes for edge in node.edges} <= set(possible_edges(cell))
            names = [node.name for node in graph.nodes]
            reads = {name for node in graph.nodes for name in node.reads}
            assert set(graph.inputs) == reads & set(cell.inputs)
            assert reads - set(cell.inputs) >= set(names) - set(graph.outputs)
            order = [*cell.inputs, *names]
            assert all(order.index(name) < order.index(node.name) for node in graph.nodes for name in node.reads)
            if cell.output == "loose_ends":
                assert names == [node.name for node in cell.nodes]
                assert not reads & set(graph.outputs)
            else:
                leaves = (cell.nodes[-1].name,) if cell.output == "last" else cell.output
                assert graph.outputs == leaves or (graph.outputs == () and not graph.nodes)


@small_space
def test_possible_edges_are_exactly_those_that_some_architecture_wires(space: SearchSpace) -> None:
    free = replace(space, limit=None)  # a supernet has weights for what a limit forbids, too
    for cell in space.cells:
        seen = {e for arch in free.enumerate() for node in free.wire(arch)[cell.name].nodes for e in node.edges}
        assert seen == set(possible_edges(cell))


def test_a_space_remembers_no_more_graphs_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enas.spaces.space.MOST_WIRED", 3)
    space = conv_micro()
    for arch in samples(space, 10):
        assert space.wire(arch) is space.wire(arch)
        assert len(space._wired) <= 3


def test_wire_prunes_what_nothing_needs() -> None:
    space, _ = TOYS["layers"]
    lone = of_cell(
        "pruned",
        Node("n1", (Edge("a", "conv"),)),
        Node("n2", (Edge("b", "pool"),), SubsetChoice(("n1",))),
        Node("n3", (Edge(InputChoice(("a", "n2")), OpChoice(("conv", "pool"))),), SubsetChoice(("a", "n1", "n2"))),
        output="last",
    )

    def graph(source: str, *skips: str, below: tuple[str, ...] = ()) -> tuple[tuple[str, ...], list[str]]:
        choices = {"c.n2.skips": below, "c.n3.input0": source, "c.n3.op0": "conv", "c.n3.skips": skips}
        cell = lone.wire(lone.architecture(choices))["c"]
        assert cell.outputs == ("n3",)
        return cell.inputs, [node.name for node in cell.nodes]

    assert graph("a") == (("a",), ["n3"])
    assert graph("a", "n1") == (("a",), ["n1", "n3"])
    assert graph("n2") == (("b",), ["n2", "n3"])
    assert graph("a", below=("n1",)) == (("a",), ["n3"])  # read by a node that is itself pruned
    assert graph("n2", below=("n1",)) == (("a", "b"), ["n1", "n2", "n3"])
    assert graph("a", "n2") == (("a", "b"), ["n2", "n3"])
    assert [node.name for node in space.wire(next(space.enumerate()))["c"].nodes] == ["n1", "n2", "n3"]


def test_the_cell_of_figure_5() -> None:
    """Paper 2.4, B = 4: node 3 reads node 2 twice (sep 5x5, identity), node 4 reads node 3 (avg
    pool) and node 1 (sep 3x3). The paper's nodes 1 and 2 are the cell's inputs, its node 4 the only
    loose end."""
    space = conv_micro(ConvMicroSettings(num_nodes=2))
    cell = {
        "n2.input0": "prev",
        "n2.op0": "sep_conv_5x5",
        "n2.input1": "prev",
        "n2.op1": "identity",
        "n3.input0": "n2",
        "n3.op0": "avg_pool_3x3",
        "n3.input1": "prev_prev",
        "n3.op1": "sep_conv_3x3",
    }
    arch = space.architecture({f"{name}.{key}": value for name in ("normal", "reduce") for key, value in cell.items()})
    graph = space.wire(arch)["normal"]
    assert graph.inputs == ("prev_prev", "prev")
    assert graph.outputs == ("n3",)
    assert [(e.node, e.slot, e.input, e.op) for node in graph.nodes for e in node.edges] == [
        ("n2", 0, "prev", "sep_conv_5x5"),
        ("n2", 1, "prev", "identity"),
        ("n3", 0, "n2", "avg_pool_3x3"),
        ("n3", 1, "prev_prev", "sep_conv_3x3"),
    ]
    assert [node.reads for node in graph.nodes] == [("prev",), ("n2", "prev_prev")]
    assert arch == from_tokens("1 1 1 4 2 2 0 0", "1 1 1 4 2 2 0 0")


def test_the_released_micro_cells() -> None:
    arch = from_tokens(NORMAL, REDUCE, {"source": "released"})
    space = conv_micro()
    assert space.check(arch) is arch
    short = {"sep_conv_3x3": "sep3", "sep_conv_5x5": "sep5", "avg_pool_3x3": "avg", "max_pool_3x3": "max", "identity": "id"}
    number = {"prev_prev": "0", "prev": "1"}

    def read(cell: str) -> dict[str, str]:
        return {
            node.name: " + ".join(f"{short[e.op]}({number.get(e.input, e.input)})" for e in node.edges)
            for node in space.wire(arch)[cell].nodes
        }

    assert read("normal") == {
        "n2": "avg(0) + sep3(0)",
        "n3": "id(0) + sep5(0)",
        "n4": "id(0) + sep5(1)",
        "n5": "sep3(1) + sep5(0)",
        "n6": "avg(0) + sep5(1)",
    }
    assert read("reduce") == {
        "n2": "sep3(1) + sep3(1)",
        "n3": "max(0) + avg(0)",
        "n4": "sep5(1) + sep5(n3)",
        "n5": "sep3(1) + id(0)",
        "n6": "max(0) + sep5(1)",
    }
    assert space.wire(arch)["normal"].outputs == ("n2", "n3", "n4", "n5", "n6")
    assert space.wire(arch)["reduce"].outputs == ("n2", "n4", "n5", "n6")


@small_space
def test_neighbours_are_all_answers_one_change_away(space: SearchSpace) -> None:
    for decision in space.decisions:
        answers = list(decision.answers())
        for answer in answers:
            neighbours = decision.neighbours(answer)
            members = {
                b: {o for o in decision.options if decision.contains(b, o) != decision.contains(answer, o)} for b in answers
            }
            distance = (
                1 if isinstance(decision, SubsetChoice) and decision.k is None else 2
            )  # one more or less; an exchange
            assert set(neighbours) == {other for other in answers if len(members[other]) == distance}
            assert len(set(neighbours)) == len(neighbours)
            assert all(decision.check(other) == other and answer in decision.neighbours(other) for other in neighbours)


@pytest.mark.parametrize("space", ALL.values(), ids=ALL)
def test_anchors_stand_earlier_in_the_walk_one_per_option(space: SearchSpace) -> None:
    earlier: list[str] = []
    for step in space.walk:
        if isinstance(step, Anchor):
            earlier.append(step.name)
        elif step.anchors is None:
            assert isinstance(step, OpChoice | OpSubset)
        else:
            assert [anchor.split(".")[-1] for anchor in step.anchors] == list(step.options)
            assert set(step.anchors) <= set(earlier)


def test_a_limit_holds_for_every_way_to_an_architecture() -> None:
    """The laws of all small spaces hold for the limited ones; here, that nothing but the limit
    makes them smaller."""
    for name in ("limited", "limited_pairs"):
        space, count = TOYS[name]
        free = replace(space, limit=None)
        permitted = {arch for arch in free.enumerate() if space.within_limit(arch.choices)}
        assert permitted == set(space.enumerate())
        assert len(permitted) == count < free.size()
        for arch in set(free.enumerate()) - permitted:
            with pytest.raises(ValueError, match=rf"the limit of space '{name}' forbids the answer .* to 'c\."):
                space.check(arch)
    nothing = of_walk("nothing", OpChoice(("x", "y"), name="c.op"), limit=lambda *_: (False, False))
    with pytest.raises(ValueError, match="the limit of space 'nothing' forbids all of 10,000 random architectures"):
        nothing.sample(random.Random(0))


@pytest.mark.parametrize("space", FULL.values(), ids=FULL)
def test_addresses_are_names_of_the_state_dict(space: SearchSpace) -> None:
    assert space.address is not None
    for cell, position in itertools.product(space.cells, (0, 1)):
        for edge in possible_edges(cell):
            name = space.address(edge, position)
            assert all(part and part.isprintable() and " " not in part for part in name.split(".")), name


# ----------------------------------------------------------------------------------------- errors
MICRO = conv_micro(ConvMicroSettings(num_nodes=1))
ANSWERS = {
    f"{cell}.n2.{part}": answer
    for cell in ("normal", "reduce")
    for part, answer in (("input0", "prev"), ("op0", "identity"), ("input1", "prev"), ("op1", "identity"))
}
NESTED, SUBSET, PAIR = TOYS["nested_ops"][0], TOYS["subset"][0], TOYS["two_of_four"][0]
HERE = "is not asked here: it depends on"


def cells(*nodes: Node) -> object:
    return of_cell("wrong", *nodes)


# what is done; what the message must say: the rule and what came
ERRORS = {
    "unknown decision": (lambda: MICRO.architecture({**ANSWERS, "normal.n9.op0": "x"}), "no decision 'normal.n9.op0'"),
    "missing decision": (
        lambda: MICRO.architecture({k: v for k, v in ANSWERS.items() if k != "reduce.n2.op1"}),
        "answers every decision; 'reduce.n2.op1' is missing (one of sep_conv_3x3, ",
    ),
    "unknown op": (
        lambda: MICRO.architecture(ANSWERS | {"normal.n2.op1": "conv_7x7"}),
        "'normal.n2.op1' takes one of sep_conv_3x3, sep_conv_5x5, avg_pool_3x3, max_pool_3x3, identity; got 'conv_7x7'",
    ),
    "later input": (
        lambda: MICRO.architecture(ANSWERS | {"normal.n2.input0": "n2"}),
        "takes one of prev_prev, prev; got 'n2'",
    ),
    "op as a list": (lambda: MICRO.architecture(ANSWERS | {"normal.n2.op1": ["identity"]}), "got ['identity']"),
    "op as an offset": (lambda: MICRO.architecture(ANSWERS | {"normal.n2.op1": 4}), "got 4"),
    "inactive": (lambda: NESTED.architecture({"c.op": "skip", "c.kernel": "3"}), f"'c.kernel' {HERE}"),
    "inactive below": (
        lambda: NESTED.architecture({"c.op": "conv", "c.kernel": "3", "c.relu": "after"}),
        f"'c.relu' {HERE}",
    ),
    "active and missing": (lambda: NESTED.architecture({"c.op": "conv"}), "'c.kernel' is missing (one of 3, 5)"),
    "other space": (
        lambda: MICRO.check(from_tokens(NORMAL, REDUCE)),
        "needs an architecture of space conv_micro(num_nodes=1); got one of conv_micro(num_nodes=5)",
    ),
    "wired in another space": (lambda: MICRO.wire(from_tokens(NORMAL, REDUCE)), "got one of conv_micro(num_nodes=5)"),
    "answers of another space": (
        lambda: MICRO.check(Architecture.of(MICRO.spec, {**ANSWERS, "normal.n2.op0": "none"})),
        "'normal.n2.op0' takes one of",
    ),
    "subset too small": (lambda: PAIR.architecture({"c.skips": ["a"]}), "'c.skips' takes exactly 2 names; got 1: ['a']"),
    "subset too large": (lambda: PAIR.architecture({"c.skips": "abd"}), "takes a subset of a, b, d, e; got ['abd']"),
    "subset of 3": (lambda: PAIR.architecture({"c.skips": list("abd")}), "exactly 2 names; got 3: ['a', 'b', 'd']"),
    "unknown member": (
        lambda: SUBSET.architecture({"c.skips": ["a", "z"]}),
        "takes a subset of a, b, d, e; got ['a', 'z']",
    ),
    "member twice": (lambda: SUBSET.architecture({"c.skips": ["a", "a"]}), "takes a subset of a, b, d, e; got ['a', 'a']"),
    "subset as a number": (lambda: SUBSET.architecture({"c.skips": 3}), "'c.skips' takes a list of names; got 3"),
    "subset as null": (lambda: SUBSET.architecture({"c.skips": None}), "'c.skips' takes a list of names; got None"),
    "no JSON": (lambda: Architecture.from_json("{"), "read from JSON, and this is not JSON"),
    "JSON list": (lambda: Architecture.from_json("[1]"), 'the "space" part is missing'),
    "no space": (lambda: Architecture.from_json('{"choices": {}}'), 'the "space" part is missing'),
    "no name": (lambda: Architecture.from_json('{"space": {"n": 1}, "choices": {}}'), 'the "space" part is missing'),
    "no choices": (lambda: Architecture.from_json('{"space": {"name": "x"}}'), '"choices" is missing'),
    "choice is a number": (
        lambda: Architecture.from_json('{"space": {"name": "x"}, "choices": {"op": 3}}'),
        "the answer to decision 'op' is a name or a list of names; got 3",
    ),
    "choice is a list of numbers": (
        lambda: Architecture.from_json('{"space": {"name": "x"}, "choices": {"op": [3]}}'),
        "the answer to decision 'op' is a name or a list of names; got [3]",
    ),
    "setting is a mapping": (
        lambda: Architecture.from_json('{"space": {"name": "x", "ops": {"a": 1}}, "choices": {}}'),
        "a setting of a space is a name, a number or a list of them; got {'a': 1}",
    ),
    "provenance is a text": (
        lambda: Architecture.from_json('{"space": {"name": "x"}, "choices": {}, "provenance": "me"}'),
        "\"provenance\" of an architecture is a mapping; got 'me'",
    ),
    "unknown space": (lambda: space_of({"name": "nas"}), "the space of an architecture is one of "),
    "unknown setting": (
        lambda: space_of({"name": "conv_micro", "nodes": 5}),
        "has settings num_nodes, ops, prior; got 'nodes'",
    ),
    "setting of another type": (
        lambda: space_of({"name": "conv_micro", "num_nodes": "5"}),
        "'num_nodes' of space 'conv_micro' is of type int; got '5'",
    ),
    "no nodes": (lambda: space_of({"name": "conv_micro", "num_nodes": 0}), "between 1 and 256; got 0"),
    "ops twice": (
        lambda: ConvMicroSettings(ops=("identity", "identity")),
        "distinct names, at least one; got ['identity', ",
    ),
    "token is a word": (lambda: from_tokens("0 0 0 x", REDUCE), "whole numbers; got '0 0 0 x'"),
    "token is missing": (lambda: from_tokens(NORMAL, REDUCE[:-2]), "four tokens per node (input, op, input, op); got 19"),
    "no tokens": (lambda: from_tokens("", ""), "four tokens per node (input, op, input, op); got 0"),
    "token too large": (
        lambda: from_tokens("0 0 2 0", "0 0 0 0"),
        "node 0 of the normal cell reads inputs 0 to 1 by ops 0 to 4; got input 2, op 0",
    ),
    "op too large": (
        lambda: from_tokens("0 0 1 0", "0 0 1 0 2 5 0 0"),
        "node 1 of the reduce cell reads inputs 0 to 2 by ops 0 to 4; got input 2, op 5",
    ),
    "token is negative": (lambda: from_tokens("0 0 -1 0", "0 0 0 0"), "got input -1, op 0"),
    "cells of two sizes": (lambda: from_tokens("0 0 0 0", NORMAL), "the same number of nodes; got [1, 5]"),
    "input comes later": (
        lambda: cells(Node("n1", (Edge("n2", "x"),)), Node("n2", (Edge("a", "x"),))),
        "node 'n1' takes input 'n2', which does not come earlier; it may take a or b",
    ),
    "choice of itself": (lambda: cells(Node("n1", (Edge(InputChoice(("a", "n1")), "x"),))), "takes input 'n1', which does"),
    "skip from later": (
        lambda: cells(Node("n1", (), SubsetChoice(("n2",)))),
        "takes input 'n2', which does not come earlier",
    ),
    "options twice": (lambda: OpChoice(("x", "x")), "distinct names, at least one; got ['x', 'x']"),
    "no options": (lambda: InputChoice(()), "distinct names, at least one; got []"),
    "prior too short": (lambda: OpChoice(("x", "y"), prior=(1.0,)), "one number per option (2); got 1"),
    "k too large": (lambda: SubsetChoice(("x", "y"), k=3), "between 0 and the number of options (2); got 3"),
    "name twice": (
        lambda: of_walk("wrong", OpChoice(("x",), name="c.op"), OpChoice(("y",), name="c.op")),
        "names of decisions are distinct; 'c.op' stands twice in space 'wrong'",
    ),
    "when of nothing": (
        lambda: of_walk("wrong", OpChoice(("x",), name="c.op", when=When("c.other", "y"))),
        "'c.op' may depend on an option of an earlier decision; got When(decision='c.other', answer='y')",
    ),
    "least of a subset": (lambda: SubsetChoice(("a", "b"), least=3), "between 0 and its number of members; got 3"),
    "too few of a subset": (
        lambda: OpSubset(("a", "b"), name="c.some", least=1).check(()),
        "decision 'c.some' takes at least 1 names; got []",
    ),
    "when of no option": (
        lambda: of_walk("wrong", OpChoice(("x",), name="c.op"), OpChoice(("y",), name="c.b", when=When("c.op", "y"))),
        "'c.b' may depend on an option of an earlier decision",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_the_rule_and_what_came(name: str) -> None:
    wrong, says = ERRORS[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared below)
        wrong()
    message = str(caught.value)
    assert says in message
    assert len(message.splitlines()) == 1
