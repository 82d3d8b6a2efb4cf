"""The recurrent space (paper 2.1, appendix A): a cell of N nodes with an activation and an input
each.

The first node reads the word and the state before it; node l > 1 reads one of the nodes 1 .. l - 1.
The mean of the loose ends leaves the cell. There are 4^N x (N - 1)! cells.

The corrected release of the authors' language model differs, and each difference is a setting: it
begins with one more node, a fixed tanh (`fixed_input`); all nodes but that one are averaged
(`output`); and every activation has weights of its own (`sharing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from enas.ranges import SIZE, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge, check_ops
from enas.spaces.decisions import InputChoice, OpChoice
from enas.spaces.space import SearchSpace, number_of, recorded, whole_numbers

OPS = ("tanh", "relu", "identity", "sigmoid")  # the order of the first release
CORRECTED_OPS = ("tanh", "relu", "sigmoid", "identity")  # the order of the corrected release
INPUT, CELL = "x_and_h", "cell"
# settings of the corrected release
CORRECTED = {"fixed_input": True, "output": "all", "sharing": "edge_op"}
Output = Literal["loose_ends", "all"]
Sharing = Literal["edge", "edge_op"]


@dataclass(frozen=True)
class RnnCellSettings:
    """The recurrent space: a cell of nodes."""

    num_nodes: int = 12
    """Number of nodes, N (paper 2.1: 12; corrected release: 9 in search, then 8)."""
    ops: tuple[str, ...] = OPS
    """Activations that a node can choose from (paper 2.1: four)."""
    fixed_input: bool = False
    """Adds a first node, always tanh, that does not leave the cell (corrected release)."""
    output: Output = "loose_ends"
    """What is averaged: nodes that no other reads (paper 2.1), or all (corrected release)."""
    sharing: Sharing = "edge"
    """Whether all activations of a node and its input share weights (paper, appendix A).
    Otherwise each has its own (released code)."""
    near_prior: bool = False
    """Make the controller prefer near inputs before it learns.
    The logit of an input is smaller by the square of its distance over 6.
    From the corrected release; the paper does not speak of it."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_nodes=SIZE)
        check_ops(self.ops)
        check_name("space.output", self.output, get_args(Output))
        check_name("space.sharing", self.sharing, get_args(Sharing))


def rnn_cell(settings: RnnCellSettings = RnnCellSettings()) -> SearchSpace:
    """Returns the space for these settings. Its size for N = 12 is 6.7e14; the paper's 4^N x N! is
    8.0e15 (it says 10^15)."""
    names = [f"h{i}" for i in range(1, settings.num_nodes + 1)]
    nodes: list[Node] = []
    if settings.fixed_input:
        nodes.append(Node("h0", (Edge(INPUT, "tanh"),)))
    for name in names:
        earlier = tuple(node.name for node in nodes)
        prior = tuple(-(distance**2) / 6 for distance in range(len(earlier), 0, -1)) if settings.near_prior else None
        nodes.append(Node(name, (Edge(InputChoice(earlier, prior) if earlier else INPUT, OpChoice(settings.ops)),)))
    return SearchSpace.of_cells(
        "rnn_cell",
        (Cell(CELL, (INPUT,), tuple(nodes), tuple(names) if settings.output == "all" else "loose_ends", "mean"),),
        settings=recorded(settings, "num_nodes", "ops", "fixed_input", "output", "sharing"),
        backbone="recurrent",
        address=ADDRESSES[settings.sharing],
        paper_size=len(settings.ops) ** settings.num_nodes * math.factorial(settings.num_nodes),
    )


def address(edge: WiredEdge, position: int) -> str:
    """Sharing: each layer, node and input has weights of its own, whatever the activation."""
    return f"layers.{position}.{edge.node}.{edge.input}"


def address_of_op(edge: WiredEdge, position: int) -> str:
    """Sharing: each activation has weights of its own."""
    return f"layers.{position}.{edge.node}.{edge.input}.{edge.op}"


ADDRESSES: Mapping[Sharing, Callable[[WiredEdge, int], str]] = {"edge": address, "edge_op": address_of_op}


def from_tokens(tokens: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads the first release's form: the op of node 1, then `input op` for each node,
    space-separated; input 0 is node 1. ValueError for other tokens."""
    numbers = whole_numbers(tokens, "a recurrent cell")
    if len(numbers) % 2 == 0:
        raise ValueError(f"a recurrent cell has an op, then two tokens per node (input, op); got {len(numbers)} tokens")
    ops, choices = [numbers[0], *numbers[2::2]], {}
    for i, op in enumerate(ops):
        choices[f"{CELL}.h{i + 1}.op0"] = _named(op, OPS, f"op of node {i + 1}")
        if i:
            choices[f"{CELL}.h{i + 1}.input0"] = _named(numbers[2 * i - 1], [f"h{j}" for j in range(1, i + 1)], "input")
    return rnn_cell(RnnCellSettings(num_nodes=len(ops))).architecture(choices, provenance)


def from_corrected_tokens(tokens: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads the corrected release's form: `input op` for each node; input 0 is the fixed tanh node.
    ValueError for other tokens."""
    numbers = whole_numbers(tokens, "a recurrent cell")
    if not numbers or len(numbers) % 2:
        raise ValueError(f"a recurrent cell has two tokens per node (input, op); got {len(numbers)} tokens")
    choices = {}
    for i, (source, op) in enumerate(zip(numbers[::2], numbers[1::2], strict=True), 1):
        choices[f"{CELL}.h{i}.input0"] = _named(source, [f"h{j}" for j in range(i)], f"input of node {i}")
        choices[f"{CELL}.h{i}.op0"] = _named(op, CORRECTED_OPS, f"op of node {i}")
    # CORRECTED
    settings = RnnCellSettings(len(numbers) // 2, fixed_input=True, output="all", sharing="edge_op")
    return rnn_cell(settings).architecture(choices, provenance)


def to_tokens(arch: Architecture) -> str:
    """Returns the form of the first release, or of the corrected one where its fixed first node is
    there. ValueError for a cell of neither."""
    space, numbers = arch.space, range(1, int(str(arch.space["num_nodes"])) + 1)
    ways = {key: space[key] for key in ("fixed_input", "output", "sharing") if key in space}
    if ways not in ({}, CORRECTED):
        raise ValueError(f"fixed_arc is of cells as in the paper, or with {CORRECTED}; this one has {ways}")
    ops, tokens = CORRECTED_OPS if ways else OPS, []
    for i in numbers:
        if f"{CELL}.h{i}.input0" in arch.choices:  # all but the first of the first release
            tokens.append(int(str(arch.choices[f"{CELL}.h{i}.input0"])[1:]) - (0 if ways else 1))
        tokens.append(number_of(str(arch.choices[f"{CELL}.h{i}.op0"]), ops))
    return " ".join(map(str, tokens))


def _named(number: int, names: tuple[str, ...] | list[str], what: str) -> str:
    if not 0 <= number < len(names):
        raise ValueError(f"{what} is a number from 0 to {len(names) - 1}; got {number}")
    return names[number]
