"""What a cell is made of: edges and nodes as a space describes them, and wired ones as an
architecture chose them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.spaces.decisions import InputChoice, OpChoice, SubsetChoice


@dataclass(frozen=True)
class Edge:
    """An op applied to an input; either may be a fixed name or a decision."""

    input: str | InputChoice
    op: str | OpChoice


@dataclass(frozen=True)
class Node:
    """The sum of its edges, and an optional choice of earlier nodes to merge.

    `merge`: chosen nodes come in "after" the edges, beside what these give; or "before", and then the edges read the merge
    in place of their input, which they read only where none is chosen."""

    name: str
    edges: tuple[Edge, ...]
    skips: SubsetChoice | None = None
    merge: Literal["after", "before"] = "after"


Combine = Literal["concat", "mean"]


@dataclass(frozen=True)
class Cell:
    """Nodes in order, over named inputs. `output`: which nodes leave the cell; names are those of nodes. `combine`: what is
    made of them."""

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: Literal["loose_ends", "last"] | tuple[str, ...] = "loose_ends"
    combine: Combine = "concat"


MERGED = "merged"  # what an edge reads where the chosen nodes are merged before it
NONE = "none"  # the op of an edge that is not there


def check_ops(ops: tuple[str, ...], none_allowed: bool = False) -> None:
    """Raises a ValueError unless the `ops` of a space's settings are distinct names, at least one."""
    if not ops or len(set(ops)) != len(ops):
        raise ValueError(f"space.ops are distinct names, at least one; got {list(ops)}")
    if NONE in ops and not none_allowed:
        raise ValueError(f"space.ops are ops that compute something; got '{NONE}'")


@dataclass(frozen=True)
class WiredEdge:
    """An edge with its answers filled in: what `address` turns into the name of a weight."""

    cell: str
    node: str
    slot: int
    input: str
    op: str


@dataclass(frozen=True)
class WiredNode:
    name: str
    edges: tuple[WiredEdge, ...]
    skips: tuple[str, ...] = ()

    @property
    def merged(self) -> bool:
        """Are the chosen nodes merged before the edges?"""
        return any(edge.input == MERGED for edge in self.edges)

    @property
    def reads(self) -> tuple[str, ...]:
        return (*dict.fromkeys(edge.input for edge in self.edges if edge.input != MERGED), *self.skips)


@dataclass(frozen=True)
class WiredCell:
    """What one architecture makes of a cell: only inputs and nodes that an output needs, in order. A cell whose edges lead
    nowhere has no outputs: it gives zero."""

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[WiredNode, ...]
    outputs: tuple[str, ...]
    combine: Combine = "concat"
