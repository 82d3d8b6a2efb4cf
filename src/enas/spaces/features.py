"""This module counts the parts of an architecture's graph; a regression predicts from these counts.
It does not import torch.

Where the nodes of a cell have no place of their own, as in NAS-Bench-201 or the micro space, the
parts are the ops of the cell and its paths. A path lists the ops on one way from an input to an
output. Two architectures that are wired alike have equal counts, whatever their nodes are called.
Paths ranked best in a study of encodings for predictors (White et al. 2020, arXiv 2007.04965), and
also here (docs/log, 2026-11-28).

In all other spaces (chains with skips, and networks of a user's own) each answer to a decision
counts as one part.
"""

from __future__ import annotations

from collections import Counter

from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, WiredCell
from enas.spaces.space import SearchSpace

MOST_PATHS = 64  # paths kept per node; five nodes with two edges each have at most 32


def features(space: SearchSpace, arch: Architecture) -> Counter[str]:
    """Returns how often each part occurs in an architecture, by a readable name. Raises a
    ValueError where the architecture is of another space."""
    if not space.cells or any(_has_places(cell) for cell in space.cells):
        return _answers(space, arch)
    counts = Counter[str]()
    for cell in space.wire(arch).values():
        counts.update(f"{cell.name}: {edge.op}" for node in cell.nodes for edge in node.edges)
        counts.update(f"{cell.name}: {path}" for path in _paths(cell))
    return counts


def _has_places(cell: Cell) -> bool:
    """Returns whether the nodes of a cell are layers with places of their own: they merge skips, or
    each has one edge from a fixed input."""
    chain = all(len(node.edges) == 1 and isinstance(node.edges[0].input, str) for node in cell.nodes)
    return chain or any(node.skips is not None for node in cell.nodes)


def _answers(space: SearchSpace, arch: Architecture) -> Counter[str]:
    """Returns a count of one for each answer, and for each member of a subset."""
    counts = Counter[str]()
    for name, answer in space.check(arch).choices.items():
        members = answer if isinstance(answer, tuple) else (answer,)
        counts.update(f"{name} = {member}" for member in members)
    return counts


def _paths(cell: WiredCell) -> list[str]:
    """Returns the ops on each way from an input to an output, such as `prev > identity > max`."""
    ways: dict[str, list[str]] = {name: [name] for name in cell.inputs}
    for node in cell.nodes:
        through = [f"{way} > {edge.op}" for edge in node.edges for way in ways[edge.input]]
        ways[node.name] = through[:MOST_PATHS]
    return [way for output in cell.outputs for way in ways[output]]
