"""This module writes drawings in words: the names of ops and cells, and an architecture as text for
the terminal."""

from __future__ import annotations

from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace

TITLES = {"network": "whole network", "prev": "previous cell", "prev_prev": "two cells back", "reduce": "reduction"}
TITLES |= {"choices": "choices in your network", "x_and_h": "word and state before", "cell": "cell"}
NOTHING = "nothing"  # in place of names where there are none


def op_title(op: str) -> str:
    """Returns the name of an op as drawings show it."""
    return op if ":" in op else op.replace("sep_conv", "sep").replace("_", " ")


def cell_title(name: str) -> str:
    """Returns the name of a cell as drawings show it."""
    title = TITLES.get(name, name.replace("_", " "))
    return title if title.endswith(("cell", "network")) else f"{title} cell"


def chosen(space: SearchSpace, arch: Architecture) -> list[tuple[str, str]]:
    """Returns the decisions that are asked, in order, with their answers in words."""
    answers = [(d.name, arch.choices[d.name]) for d in space.decisions if d.name in arch.choices]
    return [(name, a if isinstance(a, str) else " + ".join(a) or NOTHING) for name, a in answers]


def to_text(space: SearchSpace, arch: Architecture) -> str:
    """Returns one line per node, such as `n3 = sep 3x3(prev) + identity(n2)`. Unused nodes come
    last."""
    lines: list[str] = []
    if not space.cells:
        pad = max(map(len, arch.choices))
        said = (f"  {name:{pad}} = {answer}" for name, answer in chosen(space, arch))
        return "\n".join([cell_title("choices"), *said]) + "\n"
    wired = space.wire(arch)
    for whole in space.cells:
        cell = wired[whole.name]
        rows = {
            node.name: " + ".join(
                [f"{op_title(edge.op)}({', '.join(node.skips) if node.merged else edge.input})" for edge in node.edges]
                + ([] if node.merged else list(node.skips))
            )
            for node in cell.nodes
        }
        outputs = ", ".join(cell.outputs) or NOTHING
        rows["out"] = f"{cell.combine}({outputs})" if len(cell.outputs) > 1 else outputs
        pad = max(len(name) for name in rows)
        lines += ["", cell_title(cell.name), *(f"  {name:{pad}} = {row}" for name, row in rows.items())]
        unused = [n for n in (*whole.inputs, *(node.name for node in whole.nodes)) if n not in (*cell.inputs, *rows)]
        lines += [f"  unused: {', '.join(unused)}"] if unused else []
    return "\n".join(lines[1:]) + "\n"
