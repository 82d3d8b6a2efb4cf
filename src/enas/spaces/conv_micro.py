"""This module makes the micro space (paper 2.4): a normal cell and a reduction cell, which are
stacked into a convolutional network.

Each of `num_nodes` nodes adds two edges. An edge is an op on an earlier node or on one of the two
inputs of the cell, which are the outputs of the two previous cells. All loose ends (nodes that no
other node reads) leave the cell, concatenated. The reduction cell is decided second, and the
controller goes on from the state that the normal cell left. The paper's B counts the two inputs: B
= 7 is `num_nodes = 5`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from enas.ranges import SIZE, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge, check_ops
from enas.spaces.decisions import InputChoice, OpChoice
from enas.spaces.space import SearchSpace, number_of, recorded, whole_numbers

OPS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")  # released order
INPUTS = ("prev_prev", "prev")  # outputs of the two previous cells: released indices 0 and 1


@dataclass(frozen=True)
class ConvMicroSettings:
    """These settings describe the micro space: a normal and a reduction cell."""

    num_nodes: int = 5
    """Nodes per cell (paper 2.4: five). The paper's B counts the two inputs too: its B is 7."""
    ops: tuple[str, ...] = OPS
    """Ops that an edge can choose from (paper 2.4: five)."""
    prior: Literal["none", "released"] = "none"
    """The controller prefers this before it learns: nothing, or separable convolutions.
    Released code: their learnable bias starts at 10, and the normal cell adds a fixed 0.25."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_nodes=SIZE)
        check_ops(self.ops)
        check_name("space.prior", self.prior, ("none", "released"))


def conv_micro(settings: ConvMicroSettings = ConvMicroSettings()) -> SearchSpace:
    """Returns the search space for these settings. It has 2.6e25 architectures for B = 7; the
    paper's formula gives 1.3e11."""
    nodes = [f"n{i}" for i in range(2, 2 + settings.num_nodes)]

    def edge(cell: str, i: int) -> Edge:
        return Edge(InputChoice((*INPUTS, *nodes[:i])), _op_choice(settings, cell))

    cells = tuple(
        Cell(name, INPUTS, tuple(Node(node, (edge(name, i), edge(name, i))) for i, node in enumerate(nodes)))
        for name in ("normal", "reduce")
    )
    return SearchSpace.of_cells(
        "conv_micro",
        cells,
        settings=recorded(settings, "num_nodes", "ops"),
        backbone="micro",
        address=address,
        # (5 x (B - 2)!)^4, the paper's formula as written (2.4)
        paper_size=(len(settings.ops) * math.factorial(settings.num_nodes)) ** 4,
    )


def _op_choice(settings: ConvMicroSettings, cell: str) -> OpChoice:
    if settings.prior == "none":
        return OpChoice(settings.ops)
    separable = [op.startswith("sep_conv") for op in settings.ops]
    prior = tuple(0.25 if favoured else -0.25 for favoured in separable) if cell == "normal" else None
    return OpChoice(settings.ops, prior, bias=tuple(10.0 if favoured else 0.0 for favoured in separable))


def address(edge: WiredEdge, position: int) -> str:
    """Returns the name of an edge's weights: each position, node, slot, input and op has its own
    weights. Edges with equal names share weights."""
    return f"cells.{position}.{edge.node}.{edge.slot}.{edge.input}.{edge.op}"


def from_tokens(normal: str, reduce: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads an architecture in the form of the released code: `input op input op` for each node,
    separated by spaces. Input 0 is the cell before the last, input 1 the last. Raises a ValueError
    for other tokens."""
    choices: dict[str, str] = {}
    lengths = set()
    for cell, text in (("normal", normal), ("reduce", reduce)):
        tokens = whole_numbers(text, "a micro cell")
        if not tokens or len(tokens) % 4:
            raise ValueError(f"a micro cell has four tokens per node (input, op, input, op); got {len(tokens)}")
        lengths.add(len(tokens) // 4)
        for node, start in enumerate(range(0, len(tokens), 4)):
            names = (*INPUTS, *(f"n{i}" for i in range(2, 2 + node)))
            for slot in (0, 1):
                source, op = tokens[start + 2 * slot : start + 2 * slot + 2]
                if not 0 <= source < len(names) or not 0 <= op < len(OPS):
                    raise ValueError(
                        f"node {node} of the {cell} cell reads inputs 0 to {len(names) - 1} by ops 0 to"
                        f" {len(OPS) - 1}; got input {source}, op {op}"
                    )
                choices[f"{cell}.n{node + 2}.input{slot}"] = names[source]
                choices[f"{cell}.n{node + 2}.op{slot}"] = OPS[op]
    if len(lengths) != 1:
        raise ValueError(f"normal and reduction cell have the same number of nodes; got {sorted(lengths)}")
    return conv_micro(ConvMicroSettings(num_nodes=lengths.pop())).architecture(choices, provenance)


def to_tokens(arch: Architecture) -> str:
    """Returns an architecture in the form of the released code, the normal cell first. Raises a
    ValueError for an op that has no number there."""
    tokens = []
    for cell in ("normal", "reduce"):
        for i in range(int(str(arch.space["num_nodes"]))):
            names = (*INPUTS, *(f"n{j}" for j in range(2, 2 + i)))
            for slot in (0, 1):
                op = str(arch.choices[f"{cell}.n{i + 2}.op{slot}"])
                tokens += [names.index(str(arch.choices[f"{cell}.n{i + 2}.input{slot}"])), number_of(op, OPS)]
    return " ".join(map(str, tokens))
