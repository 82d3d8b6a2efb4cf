"""This module draws a whole network: its layers in a column, and beside it a line for each layer
that later ones skip to.

The line of a layer leaves its box to the right and runs down past all layers that read it. Where a
layer reads it, a dot marks the line, and an arrow turns into that layer's box. Lines keep to lanes
to the right of all boxes, so none crosses a box or a label, and neighbours differ in colour. A
layer that reads the one right above it has a straight arrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from enas.reports.drawing.boxes import BOX_H, BOX_PAD, MARGIN, OUTPUT, TITLE_H, Arrow, Box, Dot, Drawing, Note, op_kind
from enas.reports.drawing.text import op_title
from enas.spaces.cells import WiredCell

STEP = 17.0  # from a box down to the next
LANE = 9.0  # between lines
LIFT = 4.0  # arrows come in above the middle of a box, lines leave below it
HUES = ("#0072b2", "#b85c00", "#00815f", "#a3336f", "#5b6470", "#7a6a00", "#3f51a3", "#8a2f2f")


def chain(cell: WiredCell, title: str, text_width: Callable[[str, bool], float], marks: Mapping[str, str]) -> Drawing:
    """Returns a drawing of the layers of a wired cell with one op per node. `marks` holds a note
    for each layer, by its name. A note that is the same as the one above it is left out."""
    names = [*cell.inputs, *(node.name for node in cell.nodes), OUTPUT]
    labels = {name: name for name in cell.inputs}
    labels |= {node.name: f"{node.name}  {' + '.join(op_title(edge.op) for edge in node.edges)}" for node in cell.nodes}
    labels[OUTPUT] = "output" if cell.name == "choices" else "average, linear"
    kinds = dict.fromkeys(cell.inputs, "input") | {OUTPUT: "output"}
    kinds |= {node.name: op_kind(node.edges[0].op) for node in cell.nodes}
    reads = {node.name: node.reads for node in cell.nodes} | {OUTPUT: cell.outputs}

    width = max(math.ceil(text_width(label, False)) for label in labels.values()) + 2 * BOX_PAD
    noted_names = [name for name in names if name in marks]
    marks = {
        name: marks[name]
        for above, name in zip([None, *noted_names], noted_names, strict=False)
        if above is None or marks[above] != marks[name]
    }
    noted = max((math.ceil(text_width(mark, False)) + 12 for name, mark in marks.items() if name in names), default=0)
    left = MARGIN + noted
    right = left + width
    top = MARGIN + TITLE_H
    boxes = {
        name: Box(name, labels[name], kinds[name], left, top + i * (BOX_H + STEP), width) for i, name in enumerate(names)
    }
    middle = {name: box.y + BOX_H / 2 for name, box in boxes.items()}
    place = {name: i for i, name in enumerate(names)}

    skipped_by = {
        name: [later for later in names if name in reads.get(later, ()) and place[later] > place[name] + 1]
        for name in names
    }
    lanes: list[int] = []  # how far down each lane is taken
    lane_of: dict[str, int] = {}
    for name in names:
        if skipped_by[name]:
            free = next((i for i, end in enumerate(lanes) if end <= place[name]), len(lanes))
            lanes[free : free + 1] = [place[skipped_by[name][-1]]]
            lane_of[name] = free
    x = {name: right + 14 + LANE * lane for name, lane in lane_of.items()}

    arrows: list[Arrow] = []
    dots: list[Dot] = []
    for later in names:
        for name in reads.get(later, ()):
            if place[later] == place[name] + 1:
                down = ((left + width / 2, boxes[name].y + BOX_H), (left + width / 2, boxes[later].y))
                arrows.append(Arrow(name, later, down))
    for name in reversed(names):  # far lines first, so that near ones lie over them
        hue = HUES[place[name] % len(HUES)]
        for later in skipped_by[name]:
            out, into = middle[name] + LIFT, middle[later] - LIFT
            points = ((right, out), (x[name], out), (x[name], into), (right, into))
            arrows.append(Arrow(name, later, points, hue))
            dots.append(Dot(x[name], into, hue))
    wide = max([right, *x.values()]) + MARGIN
    wide = max(wide, math.ceil(text_width(title, True)) + 2 * MARGIN)
    notes = tuple(Note(left - 8, middle[name], mark) for name, mark in marks.items() if name in boxes)
    height = boxes[OUTPUT].y + BOX_H + MARGIN
    return Drawing(title, wide, height, tuple(boxes.values()), tuple(arrows), (), tuple(dots), notes)
