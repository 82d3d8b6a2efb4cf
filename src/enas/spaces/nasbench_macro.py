"""This module makes the space of NAS-Bench-Macro (Su et al. 2021): a chain of eight layers, each
with one of three ops.

A layer reads the one before it. The test accuracy of each of the 3^8 = 6,561 chains is published.
An identity that changes neither width nor size (in all layers but the first of a stage) does
nothing. The publication therefore trained only one of the chains that differ in nothing but the
places of such identities within a stage: 3,969 networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from enas.ranges import SIZE, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge, check_ops
from enas.spaces.decisions import OpChoice
from enas.spaces.space import SearchSpace, recorded

OPS = ("identity", "mb3_k3", "mb6_k5")  # the digits 0, 1 and 2 of the published form
STEM, CELL = "stem", "network"


@dataclass(frozen=True)
class NasBenchMacroSettings:
    """These settings describe the space of NAS-Bench-Macro: a chain of layers."""

    num_layers: int = 8
    """Number of layers (published: 8)."""
    ops: tuple[str, ...] = OPS
    """Ops that a layer can choose from (published: three)."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_layers=SIZE)
        check_ops(self.ops)


def nasbench_macro(settings: NasBenchMacroSettings = NasBenchMacroSettings()) -> SearchSpace:
    """Returns the search space for these settings. The published one has 6,561 chains."""
    names = [STEM, *(f"l{k}" for k in range(1, settings.num_layers + 1))]
    nodes = tuple(Node(name, (Edge(before, OpChoice(settings.ops)),)) for before, name in pairwise(names))
    shown = recorded(settings, "num_layers", "ops")
    cell = Cell(CELL, (STEM,), nodes, output="last")
    return SearchSpace.of_cells("nasbench_macro", (cell,), settings=shown, backbone="nasbench_macro", address=address)


def address(edge: WiredEdge, position: int) -> str:
    """Returns the name of an edge's weights: each op of a layer has its own weights. Edges with
    equal names share weights."""
    return f"layers.{edge.node}.{edge.op}"


def from_string(text: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads the published form, one digit per layer, such as `22212220`. Raises a ValueError for
    other texts."""
    digits = text.strip()
    if not digits or any(digit not in "012" for digit in digits):
        raise ValueError(
            f"a chain is a digit per layer: {', '.join(f'{i} {op}' for i, op in enumerate(OPS))}; got {text!r}"
        )
    choices = {f"{CELL}.l{k}.op0": OPS[int(digit)] for k, digit in enumerate(digits, start=1)}
    return nasbench_macro(NasBenchMacroSettings(num_layers=len(digits))).architecture(choices, provenance)


def to_string(arch: Architecture) -> str:
    """Returns the published form of an architecture of this space. Raises a ValueError for an op
    without a digit."""
    chosen = [arch.choices[f"{CELL}.l{k}.op0"] for k in range(1, len(arch.choices) + 1)]
    for op in chosen:
        if op not in OPS:
            raise ValueError(f"the published form has digits for {', '.join(OPS)}; got '{op}'")
    return "".join(str(OPS.index(op)) for op in chosen)
