"""This module describes cells: their edges and nodes as a space offers them, and as one
architecture wires them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from enas.spaces.architecture import Answer
from enas.spaces.decisions import Decision, InputChoice, OpChoice, SubsetChoice


@dataclass(frozen=True)
class Edge:
    """An `Edge` applies an op to an input. Each of the two is a fixed name or a decision."""

    input: str | InputChoice
    op: str | OpChoice


@dataclass(frozen=True)
class Node:
    """A `Node` sums its edges. It may also choose earlier nodes to merge (`skips`).

    With `merge="after"` the chosen nodes are merged together with the sum of the edges. With
    `merge="before"`, and at least one node chosen, the edges read the merged nodes in place of
    their own input.
    """

    name: str
    edges: tuple[Edge, ...]
    skips: SubsetChoice | None = None
    merge: Literal["after", "before"] = "after"


Combine = Literal["concat", "mean"]


@dataclass(frozen=True)
class Cell:
    """A `Cell` is a list of nodes in order, over named inputs. `output` says which nodes leave the
    cell, and `combine` says how they are joined."""

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: Literal["loose_ends", "last"] | tuple[str, ...] = "loose_ends"
    combine: Combine = "concat"


MERGED = "merged"  # the input of an edge that reads the merge of the chosen nodes
NONE = "none"  # the op that removes its edge


def check_ops(ops: tuple[str, ...], none_allowed: bool = False) -> None:
    """Raises a ValueError unless `ops` of a space are distinct names, at least one, and `none` is
    among them only where that is allowed."""
    if not ops or len(set(ops)) != len(ops):
        raise ValueError(f"space.ops are distinct names, at least one; got {list(ops)}")
    if NONE in ops and not none_allowed:
        raise ValueError(f"space.ops are ops that compute something; got '{NONE}'")


@dataclass(frozen=True)
class WiredEdge:
    """A `WiredEdge` is an edge with its answers filled in. The `address` of a space turns it into
    the name of a weight."""

    cell: str
    node: str
    slot: int
    input: str
    op: str


@dataclass(frozen=True)
class WiredNode:
    """A `WiredNode` is a node with its answers filled in: its edges, and the names of the nodes
    that it merges (`skips`)."""

    name: str
    edges: tuple[WiredEdge, ...]
    skips: tuple[str, ...] = ()

    @property
    def merged(self) -> bool:
        """Returns whether the chosen nodes are merged before the edges."""
        return any(edge.input == MERGED for edge in self.edges)

    @property
    def reads(self) -> tuple[str, ...]:
        """Returns the names of the inputs and nodes that this node reads, each once."""
        return (*dict.fromkeys(edge.input for edge in self.edges if edge.input != MERGED), *self.skips)


@dataclass(frozen=True)
class WiredCell:
    """A `WiredCell` is what one architecture makes of a cell: the inputs and nodes that an output
    needs, in order. A cell without any edge to its output has no outputs, and gives zero."""

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[WiredNode, ...]
    outputs: tuple[str, ...]
    combine: Combine = "concat"


def possible_edges(cell: Cell) -> Iterator[WiredEdge]:
    """Yields every edge that some architecture of the space wires. A supernet has weights for
    these."""
    for node in cell.nodes:
        for slot, edge in enumerate(node.edges):
            inputs = edge.input.options if isinstance(edge.input, Decision) else (edge.input,)
            inputs += (MERGED,) if node.skips is not None and node.merge == "before" else ()
            ops = edge.op.options if isinstance(edge.op, Decision) else (edge.op,)
            for source, op in itertools.product(inputs, (op for op in ops if op != NONE)):
                yield WiredEdge(cell.name, node.name, slot, source, op)


def wired(cell: Cell, choices: Mapping[str, Answer]) -> WiredCell:
    """Returns the graph that `choices` make of a cell. Nodes and inputs that no output needs are
    left out."""

    def answer(part: str | Decision) -> str:
        return str(choices[part.name]) if isinstance(part, Decision) else part

    nodes: list[WiredNode] = []
    empty: set[str] = set()  # nodes without edges and skips
    for node in cell.nodes:
        skips = tuple(choices[node.skips.name]) if node.skips is not None else ()
        merged = bool(skips) and node.merge == "before"
        edges = tuple(
            WiredEdge(cell.name, node.name, slot, MERGED if merged else answer(edge.input), answer(edge.op))
            for slot, edge in enumerate(node.edges)
        )
        edges = tuple(edge for edge in edges if edge.op != NONE and edge.input not in empty)
        if edges or skips:
            nodes.append(WiredNode(node.name, edges, skips))
        else:
            empty.add(node.name)
    read = {name for node in nodes for name in node.reads}
    if cell.output == "last":
        outputs: tuple[str, ...] = (cell.nodes[-1].name,)
    elif cell.output == "loose_ends":
        outputs = tuple(n.name for n in nodes if n.name not in read)
    else:
        outputs = cell.output
    outputs = tuple(name for name in outputs if name not in empty)
    live = set(outputs)
    for wired_node in reversed(nodes):
        if wired_node.name in live:
            live.update(wired_node.reads)
    inputs = tuple(name for name in cell.inputs if name in live)
    return WiredCell(cell.name, inputs, tuple(node for node in nodes if node.name in live), outputs, cell.combine)
