"""The drawing of whole networks: nothing lies over a box or a label, and every connection is drawn
once."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from enas.reports.drawing import render
from enas.reports.drawing.boxes import OUTPUT, Drawing, text_width
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.published import named
from enas.spaces.space import SearchSpace, wire

MARKS = {"stem": "32 x 32, 36 filters", "l2": "16 x 16, 72 filters"}


def drawn(layers: int, form: str, skips: float, seed: int = 0) -> tuple[SearchSpace, Architecture, Drawing]:
    space = conv_macro(ConvMacroSettings(num_layers=layers, form=form))  # type: ignore[arg-type]
    rng = random.Random(f"{layers} {form} {skips} {seed}")
    choices = {
        d.name: rng.choice(d.options) if d.name.endswith("op0") else [o for o in d.options if rng.random() < skips]
        for d in space.decisions
    }
    arch = space.architecture(choices)
    (cell,) = space.cells
    return space, arch, render._layout(cell, wire(space, arch)[cell.name], MARKS)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("layers", [1, 2, 3, 12, 24])
@pytest.mark.parametrize("skips", [0.0, 0.4, 1.0])
def test_nothing_lies_over_anything(layers: int, form: str, skips: float) -> None:
    space, arch, drawing = drawn(layers, form, skips)
    for a, b in combinations(drawing.boxes, 2):
        assert a.y + a.h < b.y or b.y + b.h < a.y
    for box in drawing.boxes:
        assert text_width(box.label) <= box.w
        assert box.x >= 0
        assert box.x + box.w <= drawing.width
        assert box.y + box.h <= drawing.height
    lines: dict[float, list[tuple[float, float, str]]] = {}
    for arrow in drawing.arrows:
        for (x0, y0), (x1, y1) in pairwise(arrow.points):
            assert x0 == x1 or y0 == y1
            assert max(x0, x1) <= drawing.width
            for box in drawing.boxes:  # a line may touch a border, it never enters
                inside_x = min(x0, x1) < box.x + box.w and max(x0, x1) > box.x
                inside_y = min(y0, y1) < box.y + box.h and max(y0, y1) > box.y
                assert not (inside_x and inside_y)
            if x0 == x1 and len(arrow.points) > 2:
                lines.setdefault(x0, []).append((y0, y1, arrow.source))
    for on_lane in lines.values():  # lines of two layers never share a stretch of a lane
        for (a0, a1, a), (b0, b1, b) in combinations(on_lane, 2):
            assert a == b or a1 < b0 or b1 < a0
    for note in drawing.notes:
        assert note.x - text_width(note.text) >= 0
        assert note.x < min(box.x for box in drawing.boxes)
    wired = wire(space, arch)["network"]
    reads = {(name, node.name) for node in wired.nodes for name in node.reads} | {(wired.outputs[0], OUTPUT)}
    shown = [(arrow.source, arrow.target) for arrow in drawing.arrows]
    assert len(shown) == len(set(shown))
    assert set(shown) == reads


def test_neighbours_differ_in_colour() -> None:
    _, _, drawing = drawn(24, "released", 1.0)
    inks = list(dict.fromkeys((arrow.source, arrow.ink) for arrow in drawing.arrows if len(arrow.points) > 2))
    assert all(a != b for (_, a), (_, b) in pairwise(inks))


def test_all_forms_of_a_whole_network() -> None:
    arch = named("enas_macro")
    space = conv_macro(ConvMacroSettings(num_layers=24, form="released"))
    text = render.svg(space, arch, MARKS)
    shown = {element.text for element in ElementTree.fromstring(text).iter() if element.tag.endswith("text")}
    assert {"whole network", "l24  conv 3x3", MARKS["stem"]} <= shown
    assert render.svg(space, arch, MARKS) == text
    lines = render.to_text(space, arch).splitlines()
    assert lines[0] == "whole network"
    assert "  l4  = conv 5x5(l3) + l2" in lines
    assert '"network.l2" -> "network.l4"' in render.to_dot(space, arch)
