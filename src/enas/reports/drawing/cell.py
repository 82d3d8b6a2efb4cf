"""This module draws a cell: `graph` says which boxes and arrows it has, and `layout` places them.

A node is one block: its ops side by side, with their sum below, or a single box, where it is one op
of one input. Blocks stand in ranks, and an arrow passes a rank only in a lane of its own. Between
two ranks there are no boxes, so no arrow can run through one.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

import fast_sugiyama

from enas.reports.drawing.boxes import BOX_H, BOX_PAD, MARGIN, OUTPUT, TITLE_H, Arrow, Box, Drawing, op_kind, text_width
from enas.reports.drawing.text import NOTHING, TITLES, cell_title, op_title
from enas.spaces.cells import MERGED, WiredCell, WiredNode

# each layout would log some fifty lines of level INFO
for chatty in ("rust-sugiyama", "connected_components"):
    logging.getLogger(chatty).setLevel(logging.WARNING)

# All lengths are in points (1/72 inch).
OP_GAP = 8.0  # between the ops of a node
SUM_GAP = 15.0  # from the ops of a node down to their sum
PANEL_PAD = 7.0  # from the boxes of a node to the border of its panel
PORT = 14.0  # between arrow heads on a sum
LANE = 6.0  # room for an arrow that passes by
GAP = 13.0  # between neighbours in a rank
RANK_GAP = 16.0  # between ranks, at least; more where an arrow travels far sideways
RANK_SLOTS = 6  # most arrows into one rank; others go a rank down, so that a cell fits a page


# ------------------------------------------------------------------------------------------ graph
def _plain(node: WiredNode) -> bool:
    """Returns whether a node is one op of one input, and so a single box."""
    return len(node.edges) == 1 and not node.skips


def _op_name(node: str, slot: int) -> str:
    return f"{node}.op{slot}"


def graph(cell: WiredCell) -> tuple[list[Box], list[Arrow]]:
    """Returns the boxes and arrows of a cell without places: inputs, ops, sums, and the output."""
    boxes = [Box(name, TITLES.get(name, name.replace("_", " ")), "input") for name in cell.inputs]
    arrows: list[Arrow] = []
    for node in cell.nodes:
        if _plain(node):
            (edge,) = node.edges
            boxes.append(Box(node.name, f"{node.name}  {op_title(edge.op)}", op_kind(edge.op)))
            arrows.append(Arrow(edge.input, node.name))
            continue
        for edge in node.edges:
            name = _op_name(node.name, edge.slot)
            boxes.append(Box(name, op_title(edge.op), op_kind(edge.op)))
            arrows += [Arrow(source, name) for source in (node.skips if edge.input == MERGED else (edge.input,))]
            arrows.append(Arrow(name, node.name))
        arrows += [Arrow(skip, node.name) for skip in node.skips if not node.merged]
        adds = len(node.edges) + len(node.skips) > 1
        boxes.append(Box(node.name, f"{node.name} = sum" if adds else node.name, "sum"))
    label = cell.combine if len(cell.outputs) > 1 else "output" if cell.outputs else f"output: {NOTHING}"
    boxes.append(Box(OUTPUT, label, "output"))
    arrows += [Arrow(name, OUTPUT) for name in cell.outputs]
    return boxes, arrows


# ----------------------------------------------------------------------------------------- layout
@dataclass(eq=False)
class _Slot:
    """A `_Slot` is the place where an arrow enters a block: at an op, or without a box between the
    ops, straight to the sum."""

    source: _Block
    box: Box | None = None
    dx: float = 0.0  # from the middle of the block

    @property
    def w(self) -> float:
        return self.box.w if self.box else LANE


@dataclass(eq=False)
class _Block:
    """A `_Block` is a place in a rank: an input, a node with its ops, the output, or without a box
    a lane."""

    rank: int
    box: Box | None = None  # its lowest box, which arrows leave
    slots: list[_Slot] = field(default_factory=list)
    readers: list[tuple[_Block, _Slot]] = field(default_factory=list)
    x: float = 0.0  # the middle
    w: float = LANE

    def arrange(self) -> None:
        """Puts the slots in the order of their sources, so that arrows into one block do not
        cross."""
        self.slots.sort(key=lambda slot: slot.source.x)
        inner = sum(slot.w for slot in self.slots) + OP_GAP * (len(self.slots) - 1)
        x = -inner / 2
        for slot in self.slots:
            slot.dx = x + slot.w / 2
            x += slot.w + OP_GAP
        if self.box:
            self.w = max(inner, self.box.w) + 2 * PANEL_PAD * bool(self.slots)


def layout(cell: WiredCell) -> Drawing:
    """Returns a drawing with a place for everything in `graph(cell)`. It is the same on every
    run."""
    ranks, trunks = _build(cell)
    _order(ranks)
    _spread(ranks, trunks)
    return _place(cell, ranks)


def _ranks(cell: WiredCell) -> dict[str, int]:
    """Returns the rank of each input and node. Inputs are in rank 0. A node is below everything
    that it reads, where few lanes are needed."""
    rank = dict.fromkeys(cell.inputs, 0)
    slots = {node.name: len(node.edges) + len(node.skips) for node in cell.nodes}
    readers = {name: [n.name for n in cell.nodes if name in n.reads] for name in (*rank, *slots)}

    def first(node: WiredNode) -> int:
        return 1 + max((rank[name] for name in node.reads), default=0)

    def used(r: int, but: str = "") -> int:
        return sum(slots[name] for name in slots if name != but and rank.get(name) == r)

    def room(node: WiredNode, r: int) -> bool:
        others = used(r, but=node.name)
        return others == 0 or others + slots[node.name] <= RANK_SLOTS

    for node in cell.nodes:
        rank[node.name] = next(r for r in range(first(node), len(slots) + 2) if room(node, r))
    last = max(rank.values(), default=0)

    def cost() -> float:  # ranks that arrows pass; among equals, even ranks
        length = sum(max((rank[r] for r in readers[name]), default=last + 1) - rank[name] for name in rank)
        return length + 0.01 * sum(used(r) ** 2 for r in range(last + 1))

    best, moved = cost(), True
    while moved:
        moved = False
        # later nodes first, so that numbers grow downward where nothing else decides
        for node in reversed(cell.nodes):
            home = rank[node.name]
            end = min((rank[name] for name in readers[node.name]), default=last + 1)
            for r in range(first(node), end):
                if room(node, r):
                    rank[node.name] = r
                    if cost() < best - 1e-9:
                        best, home, moved = cost(), r, True
                    rank[node.name] = home
    return rank


def _build(cell: WiredCell) -> tuple[list[list[_Block]], list[list[_Block]]]:
    """Returns the blocks by rank, and for each box the lanes that its arrows take. All arrows out
    of a box carry the same values. So they share one lane in each rank, a trunk, and part where
    they are read."""
    rank = _ranks(cell)
    rank[OUTPUT] = 1 + max(rank.values(), default=-1)
    ranks: list[list[_Block]] = [[] for _ in range(rank[OUTPUT] + 1)]
    sized = {b.name: replace(b, w=max(math.ceil(text_width(b.label)) + 2 * BOX_PAD, 40.0)) for b in graph(cell)[0]}
    chain: dict[str, list[_Block]] = {}  # a box's block and its lanes so far

    def add(block: _Block) -> _Block:
        ranks[block.rank].append(block)
        for slot in block.slots:
            slot.source.readers.append((block, slot))
        return block

    def source(name: str, reader_rank: int) -> _Block:
        blocks = chain[name]
        while blocks[-1].rank < reader_rank - 1:
            blocks.append(add(_Block(blocks[-1].rank + 1, slots=[_Slot(blocks[-1])])))
        return blocks[reader_rank - 1 - blocks[0].rank]

    for name in cell.inputs:
        chain[name] = [add(_Block(0, sized[name], w=sized[name].w))]
    for node in cell.nodes:
        r = rank[node.name]
        slots = [
            _Slot(source(edge.input, r), None if _plain(node) else sized[_op_name(node.name, edge.slot)])
            for edge in node.edges
        ]
        slots += [_Slot(source(name, r)) for name in node.skips]
        box = sized[node.name]
        chain[node.name] = [add(_Block(r, replace(box, w=max(box.w, PORT * len(slots) + 8)), slots))]
    loose = [_Slot(source(name, rank[OUTPUT])) for name in cell.outputs]
    add(_Block(rank[OUTPUT], sized[OUTPUT], loose, w=sized[OUTPUT].w))
    return ranks, [blocks[1:] for blocks in chain.values() if len(blocks) > 1]


def _order(ranks: list[list[_Block]]) -> None:
    """Orders each rank so that few arrows cross. It works on numbers, because the order of names is
    not stable."""
    blocks = [block for rank in ranks for block in rank]
    number = {block: i for i, block in enumerate(blocks)}
    edges = sorted({(number[slot.source], number[block]) for block in blocks for slot in block.slots})
    if not edges:  # a cell of ops "none" alone, whose output is the only block
        return
    places = fast_sugiyama.from_edges(edges, dummy_vertices=False).to_dict()
    for i, block in enumerate(blocks):
        block.x = places[i][0]
    for rank in ranks:
        rank.sort(key=lambda block: block.x)


def _spread(ranks: list[list[_Block]], trunks: list[list[_Block]], rounds: int = 40) -> None:
    """Sets the final x of all blocks.

    Rank by rank, every block moves as near to its sources and readers as order and widths allow. A
    pull is divided by its length. So many arrows run straight and few bend, as for a sum of
    lengths, and not for a sum of squares.
    """
    *inner, (out,) = ranks

    def pull(block: _Block, slot: _Slot) -> float:
        lanes = (block.box is None) + (slot.source.box is None)
        # a long arrow should run straight
        return 2**lanes / (abs(block.x + slot.dx - slot.source.x) + 1)

    for i in range(rounds):
        for rank in inner[:: 1 if i % 2 == 0 else -1]:
            aims, weights = [], []
            for block in rank:
                block.arrange()
                pulls = [(pull(block, slot), slot.source.x - slot.dx) for slot in block.slots]
                pulls += [(pull(to, slot), to.x + slot.dx) for to, slot in block.readers if to is not out]
                weights.append(sum(weight for weight, _ in pulls) or 1e-3)
                aims.append(sum(weight * x for weight, x in pulls) / weights[-1] if pulls else block.x)
            _apart(rank, aims, weights)
        for trunk in trunks if i >= rounds // 2 else ():
            _straighten(trunk, ranks)
    for rank in inner:
        for block in rank:
            # short numbers in files, and no trace of the machine's last digits
            block.x = round(block.x, 1)
    ends = [slot.source.x for slot in out.slots] or [out.x]
    # the output is as wide as the arrows that reach it
    out.x, out.w = (min(ends) + max(ends)) / 2, max(out.w, max(ends) - min(ends) + 40)
    for slot in out.slots:
        slot.dx = slot.source.x - out.x


def _apart(rank: list[_Block], aims: list[float], weights: list[float]) -> None:
    """Sets x as near to `aims` as possible (in weighted squares) so that neighbours keep their
    distance. This is isotonic regression of the aims, each minus the room that the blocks to its
    left need. It is solved exactly by pooling adjacent violators."""
    room = [0.0] * len(rank)
    for i in range(1, len(rank)):
        room[i] = room[i - 1] + (rank[i - 1].w + rank[i].w) / 2 + GAP
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for aim, need, weight in zip(aims, room, weights, strict=True):
        pools.append((aim - need, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, wa, na), (b, wb, nb) = pools[-2:]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    means = [mean for mean, _, count in pools for _ in range(count)]
    for block, mean, need in zip(rank, means, room, strict=True):
        block.x = mean + need


def _straighten(trunk: list[_Block], ranks: list[list[_Block]]) -> None:
    """Gives all lanes of a trunk one x where there is room: that of its source or of a near
    reader."""
    low, high = float("-inf"), float("inf")
    for lane in trunk:
        rank = ranks[lane.rank]
        i = rank.index(lane)
        if i > 0:
            low = max(low, rank[i - 1].x + (rank[i - 1].w + LANE) / 2 + GAP)
        if i + 1 < len(rank):
            high = min(high, rank[i + 1].x - (rank[i + 1].w + LANE) / 2 - GAP)
    if low <= high:
        mean = sum(lane.x for lane in trunk) / len(trunk)
        ends = [trunk[0].slots[0].source.x, *(to.x + slot.dx for lane in trunk for to, slot in lane.readers if to.box)]
        near = min(ends, key=lambda x: abs(x - mean))
        for lane in trunk:
            lane.x = min(max(near if abs(near - mean) < 5 else mean, low), high)


def _place(cell: WiredCell, ranks: list[list[_Block]]) -> Drawing:
    """Returns the drawing. It sets the heights, and the arrows, which go straight down in a rank
    and sideways between two ranks."""
    title = cell_title(cell.name)
    left = min(block.x - block.w / 2 for rank in ranks for block in rank)
    right = max(block.x + block.w / 2 for rank in ranks for block in rank)
    width = math.ceil(max(right - left, text_width(title, bold=True))) + 2 * MARGIN
    shift = round(width / 2 - (left + right) / 2, 1)
    boxes: dict[str, Box] = {}
    panels: list[Box] = []
    # for each block, the box that its arrows leave, and their points so far
    tails: dict[_Block, tuple[str, tuple[tuple[float, float], ...]]] = {}
    points: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {}
    top = MARGIN + TITLE_H - PANEL_PAD
    for r, rank in enumerate(ranks):
        if r:
            far = max((abs(slot.source.x - block.x - slot.dx) for block in rank for slot in block.slots), default=0.0)
            top += RANK_GAP + min(far // 8, 30)
        tall = any(slot.box for block in rank for slot in block.slots)  # is there a row of ops?
        bottom = top + 2 * PANEL_PAD + BOX_H + (BOX_H + SUM_GAP) * tall
        for block in rank:
            x = block.x + shift
            if block.box is None:
                name, before = tails[block.slots[0].source]
                tails[block] = name, (*before, (x, top), (x, bottom))
                continue
            ops = [slot for slot in block.slots if slot.box]
            w = block.w if r == len(ranks) - 1 else block.box.w
            box = replace(block.box, x=x - w / 2, y=top + PANEL_PAD + (BOX_H + SUM_GAP) * bool(ops), w=w)
            boxes[box.name] = box
            if block.slots and block.box.kind == "sum":
                height = box.y + BOX_H + PANEL_PAD - top
                panels.append(Box(box.name, "", "panel", x - block.w / 2, top, block.w, height))
            for i, slot in enumerate(block.slots):
                name, before = tails[slot.source]
                at = x + slot.dx
                port = (x + (i - (len(block.slots) - 1) / 2) * PORT if ops else at, box.y)
                clear = ((at, box.y - SUM_GAP + 2),) if ops else ()  # bend only below the other ops
                if slot.box:
                    op = replace(slot.box, x=at - slot.w / 2, y=top + PANEL_PAD)
                    boxes[op.name] = op
                    points[name, op.name] = (*before, (at, top), (at, op.y))
                    points[op.name, box.name] = ((at, op.y + BOX_H), *clear, port)
                else:
                    points[name, box.name] = (*before, (at, top), *clear, port)
            tails[block] = box.name, ((x, box.y + BOX_H), (x, bottom))
        top = bottom
    named, arrows = graph(cell)
    return Drawing(
        title, width, top + MARGIN - PANEL_PAD, tuple(boxes[box.name] for box in named),
        tuple(replace(arrow, points=points[arrow.source, arrow.target]) for arrow in arrows), tuple(panels),
    )  # fmt: skip
