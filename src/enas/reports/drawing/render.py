"""This module draws an architecture as SVG, PNG, PDF, Graphviz DOT, or text for the terminal.

`cell`, `chain` and `tree` give boxes and arrows their places. `save`, `svg`, `to_dot` and `to_text`
write them.

The network that cells are stacked into is not drawn, and neither are the weights.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.transforms import Affine2D, Transform

from enas.reports.drawing.boxes import BOLD, BOX_H, COLOURS, FONT, INK, MARGIN, PALE, Box, Drawing, text_width
from enas.reports.drawing.cell import graph, layout
from enas.reports.drawing.chain import chain
from enas.reports.drawing.text import cell_title, chosen, to_text
from enas.reports.drawing.tree import modules
from enas.runs.files import write_atomically
from enas.spaces.architecture import Architecture
from enas.spaces.cells import Cell, WiredCell, WiredEdge, WiredNode
from enas.spaces.space import SearchSpace

SUFFIXES = (".svg", ".png", ".pdf", ".dot", ".txt")
NO_MARKS: Mapping[str, str] = MappingProxyType({})
CHOICES, INPUT = "choices", "input"
PAGE_W = 720.0  # most points of width for cells that stand side by side


# -------------------------------------------------------------------------------------- rendering
def curve(points: Sequence[tuple[float, float]]) -> Curve:
    """Returns the line that an arrow is drawn as. It leaves and enters vertically, and between two
    points it never leaves the rectangle that they span."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs(x0 - x1) < 1 or y0 == y1:
            vertices.append((x1, y1))
            codes.append(Curve.LINETO)
        else:
            vertices += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
            codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _figure(parts: Sequence[Drawing]) -> Figure:
    """Returns a page with the cells: side by side if they fit, else one below the other."""
    beside = sum(part.width for part in parts) <= PAGE_W
    total, most = (sum, max) if beside else (max, sum)
    width, height = total(part.width for part in parts), most(part.height for part in parts)
    fig = Figure(figsize=(width / 72, height / 72), facecolor="white")
    dx = dy = 0.0
    for part in parts:
        corner = Affine2D().translate(dx if beside else (width - part.width) / 2, dy - height)
        _paint(fig, part, corner.scale(1 / 72, -1 / 72) + fig.dpi_scale_trans)
        dx, dy = (dx + part.width, 0.0) if beside else (0.0, dy + part.height)
    return fig


def _paint(fig: Figure, drawing: Drawing, place: Transform) -> None:
    """Paints straight onto the figure, since axes would only add limits, clip paths and time."""

    def rounded(box: Box, radius: float) -> None:
        fill, line = COLOURS[box.kind]
        style = f"round,pad=0,rounding_size={radius}"
        fig.add_artist(FancyBboxPatch((box.x, box.y), box.w, box.h, style, fc=fill, ec=line, lw=0.9, transform=place))

    def text(x: float, y: float, label: str, font: FontProperties, ink: str = INK) -> None:
        centred = {"ha": "center", "va": "center_baseline"}
        fig.text(x, y, label, fontproperties=font, color=ink, parse_math=False, transform=place, fontdict=centred)

    text(drawing.width / 2, MARGIN + 6, drawing.title, BOLD)
    for panel in drawing.panels:
        rounded(panel, 6)
    drawn = set()
    for arrow in drawing.arrows:
        (x, y), before = arrow.points[-1], arrow.points[-2]
        sideways = before[1] == y
        end = (x + 3, y) if sideways else (x, y - 3)
        for piece in pairwise((*arrow.points[:-1], end)):  # the line ends within the head
            if piece not in drawn:  # a trunk is drawn once, since twice would be darker
                drawn.add(piece)
                fig.add_artist(PathPatch(curve(piece), fc="none", ec=arrow.ink, lw=1.0, capstyle="round", transform=place))
        head = [(x, y), *((x + 5.5, y + d) if sideways else (x + d, y - 5.5) for d in (-2.6, 2.6))]
        fig.add_artist(Polygon(head, fc=arrow.ink, lw=0, transform=place))
    for dot in drawing.dots:
        fig.add_artist(Circle((dot.x, dot.y), 2.0, fc=dot.ink, lw=0, transform=place))
    for note in drawing.notes:
        fig.text(
            note.x,
            note.y,
            note.text,
            fontproperties=FONT,
            color=note.ink,
            parse_math=False,
            transform=place,
            ha="left" if note.left else "right",
            va="center_baseline",
        )
    for box in drawing.boxes:
        rounded(box, BOX_H / 2 if box.kind in ("input", "sum", "output") else 4)
        ink = {"output": "white", "left out": PALE}.get(box.kind, INK)
        text(box.x + box.w / 2, box.y + box.h / 2, box.label, FONT, ink)


def _layout(whole: Cell, cell: WiredCell, marks: Mapping[str, str]) -> Drawing:
    """Returns a column of layers where each has one op and the last one is the output, and else a
    graph in ranks."""
    if whole.output == "last" and all(len(node.edges) == 1 for node in whole.nodes):
        return chain(cell, cell_title(cell.name), text_width, marks)
    return layout(cell)


def _drawings(space: SearchSpace, arch: Architecture, marks: Mapping[str, str]) -> list[Drawing]:
    """Returns one drawing per cell, or the drawing of a network's modules where the space knows
    them."""
    if space.tree is not None:
        return [modules(space, arch, space.tree)]
    return [_layout(cell, wired, marks) for cell, wired in _cells(space, arch)]


def _cells(space: SearchSpace, arch: Architecture) -> list[tuple[Cell, WiredCell]]:
    """Returns the cells as described and as wired. Choices without a cell stand in a column, in the
    order in which the network registers them."""
    if space.cells:
        return [(cell, space.wire(arch)[cell.name]) for cell in space.cells]
    nodes: list[WiredNode] = []
    for name, answer in chosen(space, arch):
        before = nodes[-1].name if nodes else INPUT
        nodes.append(WiredNode(name, (WiredEdge(CHOICES, name, 0, before, answer),)))
    whole = Cell(CHOICES, (INPUT,), (), output="last")
    return [(whole, WiredCell(CHOICES, (INPUT,), tuple(nodes), (nodes[-1].name,)))]


def _render(space: SearchSpace, arch: Architecture, kind: str, marks: Mapping[str, str]) -> bytes:
    """Returns the bytes of a drawing. A user's matplotlib settings, dates and versions are left
    out, so that equal drawings give equal files."""
    none = {
        "svg": ("Creator", "Date", "Format", "Type"),
        "png": ("Software",),
        "pdf": ("Creator", "Producer", "CreationDate"),
    }
    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # text stays text: small, searchable, read aloud
        matplotlib.rcParams["svg.fonttype"] = "none"
        # The reader of an SVG may not have the first font.
        matplotlib.rcParams["font.sans-serif"] = ["DejaVu Sans", "Verdana", "Arial"]
        fig = _figure(_drawings(space, arch, marks))
        fig.savefig(file, format=kind, dpi=200, metadata=dict.fromkeys(none[kind]))
    return file.getvalue()


def svg(space: SearchSpace, arch: Architecture, marks: Mapping[str, str] = NO_MARKS) -> str:
    """Returns an `<svg>` element, for a file or for a page that holds several. It has no prolog, no
    ids and no style sheet, and shrinks to the available width. `marks` holds notes beside layers,
    by name."""
    text = _render(space, arch, "svg", marks).decode()
    text = text[text.index("<svg ") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # a "<" of a label is escaped, so this is never within a label
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    label = quoteattr(f"cells of architecture {arch.id}")
    style = "max-width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt"
    return text.replace("<svg ", f'<svg role="img" aria-label={label} style="{style}" ', 1)


# ------------------------------------------------------------------------------------------- text
def to_dot(space: SearchSpace, arch: Architecture) -> str:
    """Returns the same graph as Graphviz DOT text, a cluster per cell."""

    def quoted(*names: str) -> str:
        return '"' + ".".join(names).replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = [f"digraph {quoted(arch.id)} {{", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for _, cell in _cells(space, arch):
        boxes, arrows = graph(cell)
        lines += [f"  subgraph {quoted('cluster_' + cell.name)} {{", f"    label={quoted(cell_title(cell.name))};"]
        for box in boxes:
            fill, line = COLOURS[box.kind]
            ink = "white" if box.kind == "output" else INK
            lines.append(
                f"    {quoted(cell.name, box.name)} [label={quoted(box.label)}, fillcolor={quoted(fill)},"
                f" color={quoted(line)}, fontcolor={quoted(ink)}];"
            )
        lines += [f"    {quoted(cell.name, a.source)} -> {quoted(cell.name, a.target)};" for a in arrows]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def save(space: SearchSpace, arch: Architecture, path: str | Path, marks: Mapping[str, str] = NO_MARKS) -> Path:
    """Writes a drawing in the format that the suffix names, and returns its path. `marks` holds
    notes beside layers, by name, where the format has room for them. Raises a ValueError for
    another suffix."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a drawing is written as {', '.join(SUFFIXES)}; got '{path.suffix or path.name}'")
    if suffix in (".png", ".pdf"):
        data = _render(space, arch, suffix[1:], marks)
    elif suffix == ".svg":
        data = svg(space, arch, marks).encode()
    else:
        data = (to_dot if suffix == ".dot" else to_text)(space, arch).encode()
    write_atomically(path, data)
    return path
