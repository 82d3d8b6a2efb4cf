"""Laws of the drawing of a network's modules: nothing overlaps, what is taken is in colour."""

from __future__ import annotations

import itertools
import random

import pytest

from enas.reports.drawing import render
from enas.reports.drawing.boxes import Box, Drawing, text_width
from enas.reports.drawing.tree import modules
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice, OpSubset, When
from enas.spaces.own import ModuleTree
from enas.spaces.space import SearchSpace


def block(i: int) -> ModuleTree:
    kernel = ModuleTree("mixer", "OneOf", f"block{i}.kernel", (leaf("3"), leaf("5"), leaf("a_very_long_name_of_a_part")))
    return ModuleTree(str(i), "Block", "", (leaf("norm"), kernel, *(leaf(f"more{j}") for j in range(9))))


def leaf(name: str) -> ModuleTree:
    return ModuleTree(name, "Linear")


N = 3
OPTIONS = ("3", "5", "a_very_long_name_of_a_part")
TREE = ModuleTree(
    "",
    "Net",
    "",
    (
        leaf("stem"),
        ModuleTree("body", "Repeat", "depth", tuple(block(i) for i in range(N))),
        ModuleTree("again", "OneOf", "block0.kernel"),  # the same module in another place
        ModuleTree("merge", "SomeOf", "merge", tuple(leaf(f"option_{i}") for i in range(20))),
        leaf("head"),
    ),
)
SPACE = SearchSpace(
    "own",
    (
        OpChoice(tuple(map(str, range(1, N + 1))), name="depth"),
        *(
            OpChoice(
                OPTIONS, name=f"block{i}.kernel", when=When("depth", tuple(map(str, range(i + 1, N + 1)))) if i else None
            )
            for i in range(N)
        ),
        OpSubset(tuple(f"option_{i}" for i in range(20)), name="merge", least=1),
    ),
    tree=TREE,
)
RNG = random.Random(0)
ARCHS = [SPACE.sample(RNG) for _ in range(6)]


def apart(a: Box, b: Box) -> bool:
    return a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y


def inside(inner: Box, outer: Box) -> bool:
    return outer.x < inner.x and inner.x + inner.w < outer.x + outer.w and outer.y < inner.y < outer.y + outer.h


@pytest.mark.parametrize("arch", ARCHS)
def test_boxes_stand_free_and_show_what_is_taken(arch: Architecture) -> None:
    drawing: Drawing = modules(SPACE, arch, TREE)
    words = [Box("", "", "", note.x, note.y - 4, text_width(note.text, False), 8) for note in drawing.notes]
    for a, b in itertools.combinations([*drawing.boxes, *words], 2):
        assert apart(a, b)
    for box in (*drawing.boxes, *words):
        assert box.x > 0
        assert box.x + box.w < drawing.width
        assert box.y + box.h < drawing.height
        assert all(apart(box, panel) or inside(box, panel) for panel in drawing.panels)
    taken = {box.name for box in drawing.boxes if box.kind != "left out"}
    pairs = {(d, option) for d in SPACE.decisions if d.name in arch.choices for option in d.options}
    assert taken == {f"{d.name}.{option}" for d, option in pairs if d.contains(arch.choices[d.name], option)}
    assert {box.name for box in drawing.boxes} == {f"{d.name}.{option}" for d, option in pairs}
    # blocks that do not run are not shown
    assert len(drawing.panels) == int(str(arch.choices["depth"]))
    assert sum("9 more" in note.text or "more8" in note.text for note in drawing.notes) == len(drawing.panels)


def test_it_is_rendered_as_any_drawing() -> None:
    picture = render.svg(SPACE, ARCHS[0])
    assert "Net, as chosen" in picture
    assert picture == render.svg(SPACE, ARCHS[0])
