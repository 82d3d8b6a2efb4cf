"""This module makes the macro space (paper 2.3): convolutional networks of L layers, each with an
op and a set of skips.

The paper and its code differ in what a layer computes, and the setting `form` says which of the two
a space follows:

- `paper` (2.3, appendix B): layer k chooses any subset of the k - 1 layers before it. Their outputs
  are merged, and the op reads the merge. Where it chooses none, the op reads the preceding layer
  (the paper does not say; this is our decision).
- `released`: the op reads the preceding layer. The layer chooses a subset of the stem and of the
  layers before the preceding one, which is merged after the op.

In both forms a layer decides its op first, then its subset, and there are 6^L x 2^(L(L-1)/2)
networks. The last layer is the output. Layers that it does not depend on are pruned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from enas.ranges import SIZE, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge, check_ops
from enas.spaces.decisions import OpChoice, SubsetChoice
from enas.spaces.space import SearchSpace, number_of, recorded, whole_numbers

# in the order of the released code
OPS = ("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
STEM, CELL = "stem", "network"
SKIP_RATE = 0.4  # rate of skips in random networks (paper 3.3, guided random search)
Form = Literal["paper", "released"]


@dataclass(frozen=True)
class ConvMacroSettings:
    """These settings describe the macro space: networks of layers with skips."""

    num_layers: int = 12
    """Number of layers, L (paper 2.3: 12; the released final network has 24)."""
    ops: tuple[str, ...] = OPS
    """Ops that a layer can choose from (paper 2.3: six)."""
    form: Form = "paper"
    """Layers read and merge skips in this way: as in the paper, or as released."""

    def __post_init__(self) -> None:
        check_ranges(self, "space", num_layers=SIZE)
        check_ops(self.ops)
        check_name("space.form", self.form, get_args(Form))


def conv_macro(settings: ConvMacroSettings = ConvMacroSettings()) -> SearchSpace:
    """Returns the search space for these settings. It has 1.6e29 architectures for L = 12 (paper
    2.3)."""
    layers = [f"l{k}" for k in range(1, settings.num_layers + 1)]
    nodes = []
    for k, name in enumerate(layers):
        previous = layers[k - 1] if k else STEM
        options = skip_options(settings.form, layers, k)
        nodes.append(
            Node(
                name,
                (Edge(previous, OpChoice(settings.ops)),),
                SubsetChoice(options, rate=SKIP_RATE) if options else None,
                merge="before" if settings.form == "paper" else "after",
            )
        )
    return SearchSpace.of_cells(
        "conv_macro",
        (Cell(CELL, (STEM,), tuple(nodes), output="last"),),
        settings=recorded(settings, "num_layers", "ops", "form"),
        backbone="macro",
        address=address,
        paper_size=len(settings.ops) ** settings.num_layers * 2 ** (settings.num_layers * (settings.num_layers - 1) // 2),
    )


def skip_options(form: str, layers: Sequence[str], k: int) -> tuple[str, ...]:
    """Returns the names that the layer at index k (from 0) can skip to: k options in both forms.
    `layers` are the names of all layers."""
    return tuple(layers[:k]) if form == "paper" else (STEM, *layers)[:k]


def address(edge: WiredEdge, position: int) -> str:
    """Returns the name of an edge's weights: each op of a layer has its own weights, whatever the
    layer reads. Edges with equal names share weights."""
    return f"layers.{edge.node}.{edge.op}"


def from_tokens(tokens: str, provenance: Mapping[str, object] | None = None) -> Architecture:
    """Reads an architecture in the form of the released code: a row per layer, `op skip skip ...`,
    all separated by spaces. The row of layer k has k - 1 skips (0 or 1): of the stem, then of
    layers 1 to k - 2. Raises a ValueError for other texts."""
    numbers = whole_numbers(tokens, "a macro network")
    choices: dict[str, object] = {}
    k, start = 0, 0
    while start < len(numbers):
        op, bits = numbers[start], numbers[start + 1 : start + 1 + k]
        if len(bits) < k or not 0 <= op < len(OPS) or any(bit not in (0, 1) for bit in bits):
            raise ValueError(
                f"layer {k + 1} is an op from 0 to {len(OPS) - 1} and {k} skips of 0 or 1; got {op} and {bits}"
            )
        choices[f"{CELL}.l{k + 1}.op0"] = OPS[op]
        if k:
            names = skip_options("released", [f"l{j}" for j in range(1, k + 1)], k)
            choices[f"{CELL}.l{k + 1}.skips"] = [name for name, bit in zip(names, bits, strict=True) if bit]
        start, k = start + 1 + k, k + 1
    if not k:
        raise ValueError("a macro network has at least one layer; got no tokens")
    return conv_macro(ConvMacroSettings(num_layers=k, form="released")).architecture(choices, provenance)


def to_tokens(arch: Architecture) -> str:
    """Returns an architecture in the form of the released code. Raises a ValueError where skips are
    merged before the op, as in the paper, and for an op that has no number in the released code."""
    if arch.space.get("form") != "released":
        raise ValueError(
            "fixed_arc is of macro networks of form 'released', which merge skips after the op; this is of 'paper'"
        )
    layers = [f"l{k}" for k in range(1, int(str(arch.space["num_layers"])) + 1)]
    tokens: list[int] = []
    for k, layer in enumerate(layers):
        skips = arch.choices.get(f"{CELL}.{layer}.skips", ())
        tokens += [number_of(str(arch.choices[f"{CELL}.{layer}.op0"]), OPS)]
        tokens += [int(name in skips) for name in skip_options("released", layers, k)]
    return " ".join(map(str, tokens))
