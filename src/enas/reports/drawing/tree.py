"""This module draws a user's own network. Its modules are panels inside each other. In the place of
each choice its options stand side by side, with those taken in colour and the others grey.

Modules without a choice are one line of names, however many there are. What is below an option that
is not taken is not shown, and of a `Repeat` only the blocks that run are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from enas.reports.drawing.boxes import BOX_H, BOX_PAD, MARGIN, PALE, TITLE_H, Box, Drawing, Note, text_width
from enas.reports.drawing.text import op_title
from enas.spaces.architecture import Architecture
from enas.spaces.own import ModuleTree
from enas.spaces.space import SearchSpace

ROW = BOX_H + 6.0  # from a row down to the next
INSET = 10.0  # from a panel to what it holds
GAP = 6.0  # between options
WIDEST = 470.0  # largest width of a row of options; more options go on below
NAMED = 3  # up to so many modules without a choice are all named, else the first and the last


def modules(space: SearchSpace, arch: Architecture, tree: ModuleTree) -> Drawing:
    """Returns the drawing of a network's modules, with the options that an architecture takes."""
    return _Page(space, arch).drawing(tree)


class _Page:
    """A `_Page` holds rows from top to bottom, and the panels around them."""

    def __init__(self, space: SearchSpace, arch: Architecture):
        self.space, self.arch = space, arch
        self.boxes: list[Box] = []
        self.notes: list[Note] = []
        self.panels: list[tuple[float, float, float, int]] = []  # left, top, bottom, how deep
        self.y, self.right, self.deepest = MARGIN + TITLE_H, 0.0, 0

    def drawing(self, tree: ModuleTree) -> Drawing:
        """Returns the whole network."""
        title = f"{tree.kind}, as chosen"
        self.below(tree.parts if not tree.decision else (tree,), MARGIN, 1)
        right = max(self.right + INSET * self.deepest, MARGIN + text_width(title, True))
        panels = tuple(
            Box("", "", "panel", left, top, right - INSET * (deep - 1) - left, bottom - top)
            for left, top, bottom, deep in sorted(self.panels)
        )
        return Drawing(title, right + MARGIN, self.y + MARGIN - 6, tuple(self.boxes), (), panels, (), tuple(self.notes))

    def below(self, parts: Sequence[ModuleTree], x: float, deep: int) -> None:
        """Adds modules one below the other."""
        plain: list[str] = []
        for part in (*parts, None):
            if part is not None and not part.parts and not part.decision:
                plain.append(f"{part.name} {part.kind}")
                continue
            if plain:
                self.text(", ".join(plain if len(plain) <= NAMED else (plain[0], f"{len(plain) - 2} more", plain[-1])), x)
                self.y += ROW
            plain = []
            if part is not None and part.decision:
                self.choice(part, x, deep)
            elif part is not None:
                self.panel(part, x, deep)

    def panel(self, part: ModuleTree, x: float, deep: int) -> None:
        """Adds a module with what is below it."""
        top, self.deepest = self.y, max(deep, self.deepest)
        self.text(f"{part.name}  {part.kind}", x + INSET)
        self.y += ROW - 6
        self.below(part.parts, x + INSET, deep + 1)
        self.panels.append((x, top, self.y, deep))
        self.y += 6

    def choice(self, part: ModuleTree, x: float, deep: int) -> None:
        """Adds a choice with its options, and what is below those that are taken."""
        decision, answer = self.space.decision(part.decision), self.arch.choices[part.decision]
        left = self.text(part.decision, x, pale=False) + 2 * GAP
        at = left
        for i, option in enumerate(decision.options):
            width = text_width(op_title(option), False) + 2 * BOX_PAD
            if at + width - left > WIDEST and i:
                at, self.y = left, self.y + ROW
            kind = "op" if decision.contains(answer, option) else "left out"
            self.boxes.append(Box(f"{part.decision}.{option}", op_title(option), kind, at, self.y, width))
            at += width + GAP
            self.right = max(self.right, at - GAP)
        self.y += ROW
        counted = part.kind == "Repeat"
        for i, below in enumerate(part.parts):
            if i < int(str(answer)) if counted else decision.contains(answer, below.name):
                if below.decision:
                    self.choice(below, x + INSET, deep)
                elif below.parts:
                    self.panel(below, x + INSET, deep)

    def text(self, words: str, x: float, pale: bool = True) -> float:
        """Adds words in this row and returns where they end."""
        self.notes.append(Note(x + 2, self.y + BOX_H / 2, words, left=True, **({"ink": PALE} if pale else {})))
        end = x + 2 + text_width(words, False)
        self.right = max(self.right, end)
        return end
