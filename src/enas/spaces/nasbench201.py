"""This module makes the space of NAS-Bench-201 (Dong & Yang 2020): a cell of four nodes and six
edges, each with one of five ops.

Every node reads all nodes before it, each by the op that the edge chose, and sums the results. The
op `none` removes an edge, so a node, or even the whole cell, may have nothing to read. The accuracy
of each of the 5^6 = 15,625 cells is published, so a search can be compared with the truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from enas.ranges import Range, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge, check_ops
from enas.spaces.decisions import OpChoice
from enas.spaces.space import SearchSpace, recorded

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")  # in published order
INPUT = "n0"  # the cell's input, which the publication calls node 0


@dataclass(frozen=True)
class NasBench201Settings:
    """These settings describe the space of NAS-Bench-201: one cell."""

    num_nodes: int = 4
    """Nodes per cell, its input counted (published: 4)."""
    ops: tuple[str, ...] = OPS
    """Ops that an edge can choose from (published: five)."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_nodes=Range("between 2 and 64", 2, 64))
        check_ops(self.ops, none_allowed=True)


def nasbench201(settings: NasBench201Settings = NasBench201Settings()) -> SearchSpace:
    """Returns the search space for these settings. The published one has 15,625 cells."""
    names = [INPUT, *(f"n{i}" for i in range(1, settings.num_nodes))]
    nodes = tuple(
        Node(name, tuple(Edge(source, OpChoice(settings.ops)) for source in names[:i]))
        for i, name in enumerate(names)
        if i > 0
    )
    shown = recorded(settings, "num_nodes", "ops")
    cell = Cell("cell", (INPUT,), nodes, output="last")
    return SearchSpace.of_cells("nasbench201", (cell,), settings=shown, backbone="nasbench201", address=address)


def address(edge: WiredEdge, position: int) -> str:
    """Returns the name of an edge's weights: each position of a cell in the network, edge and op
    has its own weights. Edges with equal names share weights."""
    return f"cells.{position}.{edge.node}.{edge.input}.{edge.op}"


def from_string(text: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads the published form, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+...`: each node is a list
    of `|op~node|`, and nodes are joined by `+`. Raises a ValueError for another form or an unknown
    op."""
    choices: dict[str, str] = {}
    parts = text.strip().split("+")
    for i, part in enumerate(parts, start=1):
        edges = re.fullmatch(r"\|(.+)\|", part.strip())
        pairs = [edge.rsplit("~", 1) for edge in edges.group(1).split("|")] if edges else []
        if [pair[1:] for pair in pairs] != [[str(source)] for source in range(i)]:
            raise ValueError(f"node {i} of a cell is |op~0|...|op~{i - 1}|, and nodes are joined by +; got {part!r}")
        choices |= {f"cell.n{i}.op{source}": op for source, (op, _) in enumerate(pairs)}
    return nasbench201(NasBench201Settings(num_nodes=len(parts) + 1)).architecture(choices, provenance)


def to_string(arch: Architecture) -> str:
    """Returns the published form of an architecture of this space."""
    nodes = arch.space["num_nodes"]
    assert isinstance(nodes, int)
    return "+".join(
        "|" + "|".join(f"{arch.choices[f'cell.n{i}.op{source}']}~{source}" for source in range(i)) + "|"
        for i in range(1, nodes)
    )
