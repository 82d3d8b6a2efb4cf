"""This module makes the recurrent space (paper 2.1, appendix A): a cell of N nodes, each with an
activation and an input.

The first node reads the word and the previous state. Node l > 1 reads one of the nodes 1 .. l - 1.
The mean of the loose ends (nodes that no other node reads) leaves the cell. There are 4^N x (N -
1)! cells.

The corrected release of the authors' language model differs in three ways, and each is a setting
here. It begins with one more node, a fixed tanh (`fixed_input`). It averages all nodes but that one
(`output`). And every activation has weights of its own (`sharing`).
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
    """These settings describe the recurrent space: a cell of nodes."""

    num_nodes: int = 12
    """Number of nodes, N (paper 2.1: 12; corrected release: 9 in search, then 8)."""
    ops: tuple[str, ...] = OPS
    """Activations that a node can choose from (paper 2.1: four)."""
    fixed_input: bool = False
    """Adds a first node, always tanh, that does not leave the cell (corrected release)."""
    output: Output = "loose_ends"
    """Which nodes are averaged: those that no other reads (paper 2.1), or all (corrected)."""
    sharing: Sharing = "edge"
    """Whether all activations of a node and its input share weights (paper, appendix A).
    Otherwise each has its own (released code)."""
    near_prior: bool = False
    """Makes the controller prefer near inputs before it learns.
    The logit of an input is lowered by the square of its distance, divided by 6.
    This is from the corrected release; the paper does not speak of it."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_nodes=SIZE)
        check_ops(self.ops)
        check_name("space.output", self.output, get_args(Output))
        check_name("space.sharing", self.sharing, get_args(Sharing))


def rnn_cell(settings: RnnCellSettings = RnnCellSettings()) -> SearchSpace:
    """Returns the search space for these settings. It has 6.7e14 architectures for N = 12. The
    paper's formula 4^N x N! gives 8.0e15, and its text says 10^15."""
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
    """Returns the name of an edge's weights: each layer, node and input has its own weights,
    whatever the activation. Edges with equal names share weights."""
    return f"layers.{position}.{edge.node}.{edge.input}"


def address_of_op(edge: WiredEdge, position: int) -> str:
    """Returns the name of an edge's weights as `address` does, but each activation has its own
    weights too."""
    return f"layers.{position}.{edge.node}.{edge.input}.{edge.op}"


ADDRESSES: Mapping[Sharing, Callable[[WiredEdge, int], str]] = {"edge": address, "edge_op": address_of_op}


def from_tokens(tokens: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads the form of the first release: the op of node 1, then `input op` for each further node,
    separated by spaces. Input 0 is node 1. Raises a ValueError for other tokens."""
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
    """Reads the form of the corrected release: `input op` for each node, separated by spaces. Input
    0 is the fixed tanh node. Raises a ValueError for other tokens."""
    numbers = whole_numbers(tokens, "a recurrent cell")
    if not numbers or len(numbers) % 2:
        raise ValueError(f"a recurrent cell has two tokens per node (input, op); got {len(numbers)} tokens")
    choices = {}
    for i, (source, op) in enumerate(zip(numbers[::2], numbers[1::2], strict=True), 1):
        choices[f"{CELL}.h{i}.input0"] = _named(source, [f"h{j}" for j in range(i)], f"input of node {i}")
        choices[f"{CELL}.h{i}.op0"] = _named(op, CORRECTED_OPS, f"op of node {i}")
    # the same settings as `CORRECTED`
    settings = RnnCellSettings(len(numbers) // 2, fixed_input=True, output="all", sharing="edge_op")
    return rnn_cell(settings).architecture(choices, provenance)


def to_tokens(arch: Architecture) -> str:
    """Returns a cell in the form of the first release, or of the corrected release where the cell
    has the fixed first node. Raises a ValueError for a cell that is as in neither release."""
    space, numbers = arch.space, range(1, int(str(arch.space["num_nodes"])) + 1)
    ways = {key: space[key] for key in ("fixed_input", "output", "sharing") if key in space}
    if ways not in ({}, CORRECTED):
        raise ValueError(f"fixed_arc is of cells as in the paper, or with {CORRECTED}; this one has {ways}")
    ops, tokens = CORRECTED_OPS if ways else OPS, []
    for i in numbers:
        if f"{CELL}.h{i}.input0" in arch.choices:  # node 1 of the first release has no input
            tokens.append(int(str(arch.choices[f"{CELL}.h{i}.input0"])[1:]) - (0 if ways else 1))
        tokens.append(number_of(str(arch.choices[f"{CELL}.h{i}.op0"]), ops))
    return " ".join(map(str, tokens))


def _named(number: int, names: tuple[str, ...] | list[str], what: str) -> str:
    if not 0 <= number < len(names):
        raise ValueError(f"{what} is a number from 0 to {len(names) - 1}; got {number}")
    return names[number]
