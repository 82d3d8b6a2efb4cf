"""Laws of drawings: whatever the cell, boxes stand free, arrows run round them, labels fit, and
equal means equal."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.text import Text

from enas.reports.drawing import boxes as shapes
from enas.reports.drawing import render
from enas.spaces.architecture import Architecture
from enas.spaces.cells import MERGED, Cell, Edge, Node, WiredCell, WiredEdge, WiredNode
from enas.spaces.conv_micro import OPS, ConvMicroSettings, conv_micro, from_tokens
from enas.spaces.decisions import InputChoice, OpChoice, SubsetChoice
from enas.spaces.published import named
from enas.spaces.registry import SPACES, space_of
from enas.spaces.space import SearchSpace, wire

RELEASED = from_tokens("0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1")


def micro(num_nodes: int, seed: int) -> tuple[SearchSpace, Architecture]:
    space = conv_micro(ConvMicroSettings(num_nodes=num_nodes))
    return space, space.sample(random.Random(seed))


def layers(num_nodes: int = 8) -> SearchSpace:
    """One edge a node, any skips, one output; the name of an op needs escaping wherever it is
    written."""
    ops = OpChoice(("conv_3x3", "max_pool_3x3", 'a <b> & "c" \\ $d$'))
    names = [f"layer{i}" for i in range(num_nodes)]
    nodes = [Node(names[0], (Edge("image", ops),))]
    nodes += [Node(names[i], (Edge(names[i - 1], ops),), SubsetChoice(tuple(names[:i]))) for i in range(1, num_nodes)]
    cell = Cell("whole", ("image", "unread"), tuple(nodes), "last")
    return SearchSpace.of_cells("layers", (cell,), settings={}, backbone="", address=lambda edge, position: edge.node)


def tree() -> SearchSpace:
    """One edge a node and no skips: the shape of the paper's recurrent cell."""
    ops = OpChoice(("tanh", "relu", "identity", "sigmoid"))
    names = [f"h{i}" for i in range(1, 13)]
    nodes = [Node(names[0], (Edge("x_and_h", ops),))]
    nodes += [Node(names[i], (Edge(InputChoice(tuple(names[:i])), ops),)) for i in range(1, 12)]
    cell = Cell("rnn_cell", ("x_and_h",), tuple(nodes))
    return SearchSpace.of_cells("tree", (cell,), settings={}, backbone="", address=lambda edge, position: edge.node)


def hand_made() -> WiredCell:
    """Nodes of 0, 1, 4 and 9 edges, with and without skips, one of them reading a source by op and
    by skip."""

    def edges(node: str, *sources: str) -> tuple[WiredEdge, ...]:
        return tuple(WiredEdge("c", node, slot, source, OPS[slot % 5]) for slot, source in enumerate(sources))

    nodes = (
        WiredNode("a", edges("a", "x"), ("x", "y")),
        WiredNode("b", (), ("x", "a")),
        WiredNode("c", edges("c", "x", "x", "a", "b"), ("y",)),
        WiredNode("d", edges("d", *"xyabcxyab")),
        WiredNode("e", (), ("d",)),
        WiredNode("constant", ()),
    )
    return WiredCell("c", ("x", "y"), nodes, ("c", "e", "constant"))


def one_box(node: WiredNode) -> bool:
    """A node that is one op of one input is drawn as that op."""
    return len(node.edges) == 1 and not node.skips


def cells() -> list[WiredCell]:
    drawn = [(conv_micro(), RELEASED)]
    drawn += [micro(num_nodes, seed) for num_nodes in range(1, 9) for seed in range(14)]
    drawn += [micro(12, seed) for seed in range(3)]
    drawn += [(space, space.sample(random.Random(seed))) for space in (layers(), tree()) for seed in range(8)]
    return [hand_made(), *(cell for space, arch in drawn for cell in wire(space, arch).values())]


@pytest.fixture(scope="module")
def drawn() -> list[tuple[WiredCell, shapes.Drawing]]:
    """Some 250 cells and their drawings."""
    return [(cell, render.layout(cell)) for cell in cells()]


def apart(a: shapes.Box, b: shapes.Box) -> bool:
    return a.x + a.w < b.x or b.x + b.w < a.x or a.y + a.h < b.y or b.y + b.h < a.y


def holds(outer: shapes.Box, inner: shapes.Box) -> bool:
    across = outer.x <= inner.x and inner.x + inner.w <= outer.x + outer.w
    return across and outer.y <= inner.y and inner.y + inner.h <= outer.y + outer.h


def spans(arrow: shapes.Arrow) -> list[shapes.Box]:
    """Rectangles that hold the drawn line: it is a chain of Bezier curves, each within the hull of
    its control points."""
    vertices = render.curve(arrow.points).vertices.tolist()
    codes = render.curve(arrow.points).codes.tolist()
    rectangles, i = [], 1
    while i < len(vertices):
        step = 3 if codes[i] == render.Curve.CURVE4 else 1
        xs, ys = zip(*vertices[i - 1 : i + step], strict=True)
        rectangles.append(shapes.Box("", "", "", min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)))
        i += step
    return rectangles


@pytest.mark.parametrize("name", [name for name in SPACES if name != "own"])
def test_every_edge_of_every_space_is_an_arrow_of_its_own(name: str) -> None:
    """Also where the last node is the output: a column of layers has room for one op each."""
    space = SPACES[name].make(SPACES[name].settings())
    for seed in range(8):
        arch = space.sample(random.Random(seed))
        for cell, drawing in zip(space.wire(arch).values(), render._drawings(space, arch, {}), strict=True):
            arrows = {(arrow.source, arrow.target) for arrow in drawing.arrows}
            for node in cell.nodes:
                for edge in node.edges:
                    into = node.name if len(node.edges) == 1 else f"{node.name}.op{edge.slot}"
                    sources = node.skips if edge.input == MERGED else (edge.input,)
                    assert {(source, into) for source in sources} <= arrows, (arch.id, edge)


@pytest.mark.parametrize("name", [name for name in SPACES if name != "own"])
def test_an_architecture_of_one_op_alone_is_drawn_in_every_form(name: str, tmp_path: Path) -> None:
    """Also one of ops "none", of which no node is left."""
    space = SPACES[name].make(SPACES[name].settings())
    sampled = space.sample(random.Random(0)).choices
    choices = [d for d in space.decisions if isinstance(d, OpChoice)]
    for op in {op: None for d in choices for op in d.options}:
        ops = {d.name: op for d in choices if op in d.options}
        arch = space.architecture({name: ops.get(name, answer) for name, answer in sampled.items()})
        for suffix in render.SUFFIXES:
            assert render.save(space, arch, tmp_path / f"drawn{suffix}").stat().st_size > 0
        for line in render.to_text(space, arch).splitlines():
            assert "=" not in line or line.split("=")[1].strip(), f"a row says nothing: {line}"


# --------------------------------------------------------------------------------------- geometry
@pytest.mark.slow
def test_nothing_overlaps(drawn):
    for _, drawing in drawn:
        page = shapes.Box("", "", "", 0, 0, drawing.width, drawing.height)
        for box in (*drawing.boxes, *drawing.panels):
            assert holds(page, box)
        for a, b in itertools.combinations(drawing.boxes, 2):
            assert apart(a, b), (a, b)
        for a, b in itertools.combinations(drawing.panels, 2):
            assert apart(a, b), (a, b)


def test_a_panel_holds_the_boxes_of_its_node_and_no_other(drawn):
    for cell, drawing in drawn:
        assert [panel.name for panel in sorted(drawing.panels, key=lambda p: p.name)] == sorted(
            n.name for n in cell.nodes if n.reads and not one_box(n)
        )
        for panel, box in itertools.product(drawing.panels, drawing.boxes):
            assert holds(panel, box) if box.name.split(".")[0] == panel.name else apart(panel, box)


def test_no_arrow_passes_through_a_box(drawn):
    for _, drawing in drawn:
        for arrow in drawing.arrows:
            others = [box for box in drawing.boxes if box.name not in (arrow.source, arrow.target)]
            ends = {name.split(".")[0] for name in (arrow.source, arrow.target)}
            # beside one, lines may start to bend
            panels = [panel for panel in drawing.panels if panel.name not in ends]
            others += [replace(panel, y=panel.y + 0.1, h=panel.h - 0.2) for panel in panels]
            for span, box in itertools.product(spans(arrow), others):
                assert apart(span, box), (arrow, box)


def test_arrows_run_downward_from_border_to_border(drawn):
    for _, drawing in drawn:
        boxes = {box.name: box for box in drawing.boxes}
        for arrow in drawing.arrows:
            source, target = boxes[arrow.source], boxes[arrow.target]
            (x0, y0), (x1, y1) = arrow.points[0], arrow.points[-1]
            assert y0 == source.y + source.h
            assert source.x < x0 < source.x + source.w
            assert y1 == target.y
            assert target.x < x1 < target.x + target.w
            assert all(above < below for (_, above), (_, below) in itertools.pairwise(arrow.points))
            # the ends touch their boxes, the rest stays clear of them too
            for span in spans(arrow)[1:-1]:
                assert apart(span, source)
                assert apart(span, target)


def test_labels_fit_their_boxes(drawn):
    for _, drawing in drawn:
        for box in drawing.boxes:
            assert shapes.text_width(box.label) + 8 <= box.w


def test_labels_as_rendered_lie_in_their_boxes():
    drawing = render.layout(wire(conv_micro(), RELEASED)["reduce"])
    fig = render._figure([drawing])
    fig.set_dpi(72)  # so that pixels are points, counted from the bottom
    texts = fig.findobj(Text)
    assert [text.get_text() for text in texts] == [drawing.title, *(box.label for box in drawing.boxes)]
    for text, box in zip(texts[1:], drawing.boxes, strict=True):
        extent = text.get_window_extent()
        shown = shapes.Box("", "", "", extent.x0, drawing.height - extent.y1, extent.width, extent.height)
        assert holds(box, shown), box


# ------------------------------------------------------------------------------------------ graph
def test_a_drawing_shows_the_wired_graph(drawn):
    for cell, drawing in drawn:
        ops = [edge for node in cell.nodes if not one_box(node) for edge in node.edges]
        single = [(edge.input, node.name) for node in cell.nodes if one_box(node) for edge in node.edges]
        skips = [(skip, node.name) for node in cell.nodes for skip in node.skips]
        names = [box.name for box in drawing.boxes]
        expected = {*cell.inputs, *(node.name for node in cell.nodes), shapes.OUTPUT}
        expected |= {f"{edge.node}.op{edge.slot}" for edge in ops}
        assert set(names) == expected
        assert len(names) == len(expected)
        arrows = [(arrow.source, arrow.target) for arrow in drawing.arrows]
        into = [(edge.input, f"{edge.node}.op{edge.slot}") for edge in ops]
        out_of = [(f"{edge.node}.op{edge.slot}", edge.node) for edge in ops]
        ends = [(name, shapes.OUTPUT) for name in cell.outputs]
        assert sorted(arrows) == sorted([*into, *out_of, *single, *skips, *ends])


def test_labels_of_the_released_cell():
    boxes, _ = render.graph(wire(conv_micro(), RELEASED)["reduce"])
    labels = {box.name: (box.label, box.kind) for box in boxes}
    assert labels["prev"] == ("previous cell", "input")
    assert labels["prev_prev"] == ("two cells back", "input")
    assert labels["n3.op0"] == ("max pool 3x3", "pool")
    assert labels["n4.op1"] == ("sep 5x5", "conv")
    assert labels["n5.op1"] == ("identity", "identity")
    assert labels["n5"] == ("n5 = sum", "sum")
    assert labels[shapes.OUTPUT] == ("concat", "output")


def test_an_op_of_another_space_is_titled_by_its_name():
    edge = WiredEdge("c", "n", 0, "x", "my_own_op")
    boxes, _ = render.graph(WiredCell("c", ("x",), (WiredNode("n", (edge,)),), ("n",)))
    assert [(box.label, box.kind) for box in boxes] == [
        ("x", "input"), ("n  my own op", "op"), ("output", "output"),
    ]  # fmt: skip


def test_what_leaves_a_recurrent_cell_is_a_mean():
    arch = named("enas_rnn")
    boxes, _ = render.graph(wire(space_of(arch.space), arch)["cell"])
    labels = {box.name: (box.label, box.kind) for box in boxes}
    assert labels["x_and_h"] == ("word and state before", "input")
    assert labels["h5"] == ("h5  tanh", "tanh")
    assert labels["h12"] == ("h12  relu", "relu")
    assert labels[shapes.OUTPUT] == ("mean", "output")
    assert render.to_text(space_of(arch.space), arch).endswith("out = mean(h4, h5, h8, h10, h11, h12)\n")


# ------------------------------------------------------------------------------------------- text
def test_text_of_the_released_cell():
    assert render.to_text(conv_micro(), RELEASED) == (
        "normal cell\n"
        "  n2  = avg pool 3x3(prev_prev) + sep 3x3(prev_prev)\n"
        "  n3  = identity(prev_prev) + sep 5x5(prev_prev)\n"
        "  n4  = identity(prev_prev) + sep 5x5(prev)\n"
        "  n5  = sep 3x3(prev) + sep 5x5(prev_prev)\n"
        "  n6  = avg pool 3x3(prev_prev) + sep 5x5(prev)\n"
        "  out = concat(n2, n3, n4, n5, n6)\n"
        "\n"
        "reduction cell\n"
        "  n2  = sep 3x3(prev) + sep 3x3(prev)\n"
        "  n3  = max pool 3x3(prev_prev) + avg pool 3x3(prev_prev)\n"
        "  n4  = sep 5x5(prev) + sep 5x5(n3)\n"
        "  n5  = sep 3x3(prev) + identity(prev_prev)\n"
        "  n6  = max pool 3x3(prev_prev) + sep 5x5(prev)\n"
        "  out = concat(n2, n4, n5, n6)\n"
    )


def test_text_names_skips_and_what_is_unused():
    space = layers(3)
    ops = {f"whole.layer{i}.op0": "conv_3x3" for i in range(3)}
    arch = space.architecture({**ops, "whole.layer1.skips": [], "whole.layer2.skips": ["layer0"]})
    assert render.to_text(space, arch) == (
        "whole cell\n"
        "  layer0 = conv 3x3(image)\n"
        "  layer1 = conv 3x3(layer0)\n"
        "  layer2 = conv 3x3(layer1) + layer0\n"
        "  out    = layer2\n"
        "  unused: unread\n"
    )


STRING = r'"((?:[^"\\]|\\.)*)"'


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@pytest.mark.parametrize(("space", "arch"), [(conv_micro(), RELEASED), (layers(), layers().sample(random.Random(1)))])
def test_dot_holds_the_same_graph(space, arch):
    boxes, arrows, depth = [], [], 0
    for line in render.to_dot(space, arch).splitlines():
        bare = re.sub(STRING, "S", line)
        assert '"' not in bare
        depth += bare.count("{") - bare.count("}")
        assert re.fullmatch(r"digraph S \{| *subgraph S \{| *\}| *(node|S)? ?\[.*\];| *label=S;| *S -> S;", bare), line
        strings = [unquoted(string) for string in re.findall(STRING, line)]
        if "->" in bare:
            arrows.append(tuple(strings))
        elif bare.strip().startswith("S ["):
            boxes.append(tuple(strings[:2]))
    assert depth == 0
    graphs = {name: render.graph(cell) for name, cell in wire(space, arch).items()}
    assert boxes == [(f"{name}.{box.name}", box.label) for name, (found, _) in graphs.items() for box in found]
    assert arrows == [(f"{name}.{a.source}", f"{name}.{a.target}") for name, (_, found) in graphs.items() for a in found]


# ------------------------------------------------------------------------------------------ files
def test_svg_can_stand_in_a_page_many_times():
    space = layers()
    arch = next(
        a
        for a in (space.sample(random.Random(s)) for s in itertools.count())
        if any("<b>" in o for o in a.choices.values())
    )
    text = render.svg(space, arch)
    assert text.startswith("<svg ")
    root = ET.fromstring(text)
    for element in root.iter():
        assert "id" not in element.attrib  # nothing to clash
        assert not element.tag.endswith(("style", "metadata", "script"))
    assert "url(" not in text
    assert "href=" not in text
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert root.attrib["width"] == f"{width:g}pt"
    assert root.attrib["height"] == f"{height:g}pt"
    shown = {element.text for element in root.iter() if element.tag.endswith("text")}
    drawings = [render._layout(cell, wire(space, arch)[cell.name], {}) for cell in space.cells]
    assert {box.label for drawing in drawings for box in drawing.boxes} <= shown


def test_equal_architectures_give_equal_bytes_whatever_the_settings():
    space, arch = micro(2, 0)
    twin = Architecture.from_json(arch.to_json())
    first = {kind: render._render(space, arch, kind, {}) for kind in ("svg", "png", "pdf")}
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "svg.fonttype": "path", "savefig.bbox": "tight"}):
        again = {kind: render._render(space, twin, kind, {}) for kind in ("svg", "png", "pdf")}
    assert again == first
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_another_process_draws_the_same_without_torch_or_pyplot():
    """Names hash differently in every process; the picture must not."""
    space, arch = micro(8, 3)
    code = (
        "import sys; from enas.reports.drawing import render as draw;"
        "from enas.spaces.architecture import Architecture; from enas.spaces.registry import space_of;"
        "a = Architecture.from_json(sys.stdin.read()); print(draw.svg(space_of(a.space), a), end='');"
        "sys.exit(str({'torch', 'matplotlib.pyplot'} & set(sys.modules) or ''))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run([sys.executable, "-c", code], input=arch.to_json(), capture_output=True, text=True, env=env)
    assert out.stderr.strip() == ""
    assert out.stdout == render.svg(space, arch)


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".svg", b"<svg "),
        (".png", b"\x89PNG"),
        (".pdf", b"%PDF"),
        (".dot", b"digraph "),
        (".txt", b"normal cell"),
        (".SVG", b"<svg "),
    ],
)
def test_save_writes_by_suffix_and_leaves_nothing_else(tmp_path, suffix, start):
    space, arch = micro(2, 0)
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(b"old")
    assert render.save(space, arch, str(path)) == path
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "shown"), [("cell.bmp", ".bmp"), ("cell", "cell")])
def test_save_says_which_suffixes_there_are(tmp_path, name, shown):
    with pytest.raises(ValueError, match=re.escape(f"a drawing is written as .svg, .png, .pdf, .dot, .txt; got '{shown}'")):
        render.save(conv_micro(), RELEASED, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cell.txt"
    path.write_text("old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        render.save(conv_micro(), RELEASED, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
