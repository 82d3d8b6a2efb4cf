"""This module holds the parts of drawings: boxes, arrows, lengths and colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

OUTPUT = "cell output"  # name of the output's box; no node has this name

# Fill and line of each kind of box. They are tints of Okabe and Ito's colours, which colour-blind
# readers can tell apart.
COLOURS = {
    "input": ("#ffffff", "#5b6470"),
    "conv": ("#d3e7f7", "#0072b2"),
    "dense": ("#f5dfeb", "#a3336f"),  # a convolution that is not separable
    "pool": ("#fde8c4", "#b87700"),
    "identity": ("#eeeeee", "#8a8a8a"),
    "op": ("#d5efe6", "#00815f"),
    "tanh": ("#d3e7f7", "#0072b2"),
    "relu": ("#fde8c4", "#b87700"),
    "sum": ("#ffffff", "#2b3138"),
    "output": ("#454d57", "#454d57"),
    "left out": ("#ffffff", "#d5d9de"),
    "panel": ("#f6f7f9", "#e3e6ea"),
}
ARROW, INK, PALE = "#5b6470", "#1c2127", "#737c87"

# The first font comes with matplotlib, so labels have the same width on every machine.
FAMILY = ["DejaVu Sans", "sans-serif"]
FONT = FontProperties(family=FAMILY, size=9)
BOLD = FontProperties(family=FAMILY, size=11, weight="bold")

# All lengths are in points (1/72 inch).
BOX_H = 22.0  # height of a box
BOX_PAD = 8.0  # from a label to the border of its box
MARGIN = 16.0
TITLE_H = 26.0


@dataclass(frozen=True)
class Box:
    """A `Box` has a label. `x`, `y` is its upper left corner, and y grows downward. Both are 0
    until `layout` places it."""

    name: str
    label: str
    kind: str  # a key of COLOURS
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    h: float = BOX_H


@dataclass(frozen=True)
class Arrow:
    """An `Arrow` goes from box to box, by name. `curve(points)` is the line that is drawn."""

    source: str
    target: str
    points: tuple[tuple[float, float], ...] = ()
    ink: str = ARROW


@dataclass(frozen=True)
class Dot:
    """A `Dot` marks where an arrow branches off a line."""

    x: float
    y: float
    ink: str


@dataclass(frozen=True)
class Note:
    """A `Note` is text beside a box. `x` is its right end, or with `left` its left end, and `y` is
    its middle."""

    x: float
    y: float
    text: str
    left: bool = False
    ink: str = INK


@dataclass(frozen=True)
class Drawing:
    """A `Drawing` is a cell with all places known. A panel is the ground below the boxes of a
    node."""

    title: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    panels: tuple[Box, ...]
    dots: tuple[Dot, ...] = ()
    notes: tuple[Note, ...] = ()


def op_kind(op: str) -> str:
    """Returns the kind of an op's box, a key of `COLOURS`."""
    if op in ("identity", "skip_connect"):
        return "identity"
    if op in ("tanh", "relu"):
        return op
    if op.startswith("conv"):
        return "dense"
    return "conv" if "conv" in op else "pool" if "pool" in op else "op"


@cache
def text_width(text: str, bold: bool = False) -> float:
    """Returns the width of a label in points, as matplotlib draws it."""
    return float(TextToPath().get_text_width_height_descent(text, BOLD if bold else FONT, ismath=False)[0])
