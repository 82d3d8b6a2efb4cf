"""This module holds what an exported file says of itself: where its network comes from, what its
inputs are, and a drawing in words. It does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace

Tokens = Literal["words", "marks", "characters"]


@dataclass(frozen=True)
class Images:
    """An `Images` value says what an image classifier reads, and what its outputs mean."""

    channels: int
    size: int
    """Height and width in pixels."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, between 0 and 1: an input is (x / 255 - mean) / std."""
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs."""
    crop: bool = False
    """True where the middle of an image that is not square is read, rather than all of it."""


@dataclass(frozen=True)
class Text:
    """A `Text` value says what a language model reads."""

    vocabulary: tuple[str, ...] = ()
    """Words in the order of the outputs."""
    tokens: Tokens = "words"
    """A text is cut at spaces; into words in lower case, numbers and marks; or into characters."""


@dataclass(frozen=True)
class About:
    """An `About` value holds what an exported file carries beside the network."""

    title: str
    """A line of text."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    drawing: str = ""
    """The architecture in words, a line per node."""
    reads: Images | Text | None = None
    """The network reads these. It is None where that is not known, so that the file cannot be given
    images or text by itself."""

    def metadata(self) -> dict[str, str]:
        """Returns everything but the drawing as JSON, by name. Files of every format carry this."""
        values: dict[str, object] = {"title": self.title, "provenance": dict(self.provenance)}
        if isinstance(self.reads, Images) and self.reads.classes:
            r = self.reads
            values |= {"classes": r.classes, "mean": r.mean, "std": r.std, "image_size": r.size, "channels": r.channels}
        elif isinstance(self.reads, Text) and self.reads.vocabulary:
            values |= {"vocabulary": self.reads.vocabulary, "tokens": self.reads.tokens}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def drawing_of(space: SearchSpace, arch: Architecture) -> str:
    """Returns the part of an architecture that an output needs, one line per node, such as `n2 =
    sep_conv_3x3(prev) + identity(n1)`. For a space without cells, returns one line per choice."""
    if not space.cells:
        return "\n".join(f"{name} = {arch.choices[name]}" for name in arch.choices)
    lines = []
    for cell in space.wire(arch).values():
        lines += ["", f"{cell.name}:"]
        for node in cell.nodes:
            read = [f"{edge.op}({', '.join(node.skips) if node.merged else edge.input})" for edge in node.edges]
            lines.append(f"  {node.name} = {' + '.join([*read, *([] if node.merged else node.skips)])}")
        whole = ", ".join(cell.outputs) or "0"
        lines.append(f"  out = {cell.combine}({whole})" if len(cell.outputs) > 1 else f"  out = {whole}")
    return "\n".join(lines[1:])
