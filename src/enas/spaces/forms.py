"""This module reads and writes architectures in the forms that others use: published strings and
genotypes.

    |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|       nasbench201: a cell of NAS-Bench-201
    22212220                                             nasbench_macro: a chain of NAS-Bench-Macro
    0 2 0 0 0 4 0 1 ...                                  fixed_arc: numbers of the released code
    Genotype(normal=[('sep_conv_3x3', 0), ...], ...)     genotype: as DARTS writes cells
    {"space": {"name": ...}, "choices": {...}}           json: as this package does

A `fixed_arc` does not name its space, so every space that has such a form tries to read it. Where
several can, the space is taken whose published architectures have this many numbers. A user can
name the space by writing `SPACE: numbers`. A genotype can be expressed here only where its output
joins exactly the loose ends of a cell (for a recurrent cell: the loose ends, or all nodes). Text is
parsed, and never evaluated as Python.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from enas.ranges import check_name
from enas.spaces import conv_macro, conv_micro, nasbench201, nasbench_macro, rnn_cell
from enas.spaces.architecture import Architecture
from enas.spaces.registry import space_of

# ------------------------------------------------------------------------------------ fixed_arc
CORRECTED = "rnn_cell_corrected"


def _micro(tokens: str) -> Architecture:
    numbers = tokens.split()
    half = len(numbers) // 2
    return conv_micro.from_tokens(" ".join(numbers[:half]), " ".join(numbers[half:]))


# For each space: the function that reads its numbers, and how many numbers published architectures
# and scripts have.
TOKENS: dict[str, tuple[Callable[[str], Architecture], tuple[int, ...]]] = {
    "conv_micro": (_micro, (40,)),
    "conv_macro": (conv_macro.from_tokens, (78, 300)),
    "rnn_cell": (rnn_cell.from_tokens, (23,)),
    CORRECTED: (rnn_cell.from_corrected_tokens, (16, 18)),
}
WRITERS: Mapping[str, Callable[[Architecture], str]] = {
    "conv_micro": conv_micro.to_tokens,
    "conv_macro": conv_macro.to_tokens,
    "rnn_cell": rnn_cell.to_tokens,
}


def from_fixed_arc(text: str) -> Architecture:
    """Reads numbers of the released code, `0 2 0 ...` or `SPACE: 0 2 0 ...`. Raises a ValueError
    where no space can read them, or several can."""
    name, _, numbers = text.rpartition(":")
    if name.strip():
        check_name("the space of a fixed_arc", name.strip(), TOKENS)
        return TOKENS[name.strip()][0](numbers)
    found: dict[str, Architecture] = {}
    problems: dict[str, str] = {}
    for space, (read, _) in TOKENS.items():
        try:
            found[space] = read(numbers)
        except ValueError as error:
            problems[space] = str(error)
    count = len(numbers.split())
    usual = [space for space in found if count in TOKENS[space][1]] or list(found)
    if len(usual) > 1:
        raise ValueError(
            f"{count} numbers can be of {' or '.join(usual)}: write which, as '{usual[0]}: {numbers.strip()[:12]} ...'"
        )
    if not usual:
        likely = next((space for space, (_, sizes) in TOKENS.items() if count in sizes), None)
        why = problems[likely] if likely else "; ".join(f"{space}: {text}" for space, text in problems.items())
        raise ValueError(f"these {count} numbers are no fixed_arc: {why}")
    return found[usual[0]]


def to_fixed_arc(arch: Architecture) -> str:
    """Returns the numbers of the released code. Raises a ValueError where the released code has no
    such form for this architecture."""
    return _writer("fixed_arc", arch, WRITERS)(arch)


# ------------------------------------------------------------------------------------- genotypes
DARTS_OPS = {"skip_connect": "identity"}  # its names for ops of ours; all others are the same
CELLS = ("normal", "reduce")


def from_genotype(text: str) -> Architecture:
    """Reads `Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)`, or
    `Genotype(recurrent=..., concat=...)`. Raises a ValueError for other texts, and for cells that
    no space here can express."""
    fields = _fields(text)
    if fields.keys() == {"recurrent", "concat"}:
        return _recurrent(_edges(fields["recurrent"]), _nodes(fields["concat"]))
    if fields.keys() != {name + end for name in CELLS for end in ("", "_concat")}:
        raise ValueError(
            "a genotype has normal, normal_concat, reduce and reduce_concat, or recurrent and concat;"
            f" got {', '.join(fields) or 'none'}"
        )
    choices: dict[str, object] = {}
    counts = {cell: len(_edges(fields[cell])) // 2 for cell in CELLS}
    if len(set(counts.values())) != 1 or len(_edges(fields["normal"])) % 2:
        raise ValueError(f"the cells of a genotype have the same number of nodes, of two edges each; got {counts}")
    for cell in CELLS:
        for i, (op, source) in enumerate(_edges(fields[cell])):
            node, names = i // 2, (*conv_micro.INPUTS, *(f"n{j}" for j in range(2, 2 + i // 2)))
            op = DARTS_OPS.get(op, op)
            if op not in conv_micro.OPS:
                raise ValueError(
                    f"space conv_micro has no op '{op}', which the {cell} cell uses: {', '.join(conv_micro.OPS)}"
                )
            if not 0 <= source < len(names):
                raise ValueError(f"node {node} of the {cell} cell reads 0 to {len(names) - 1}; got {source}")
            choices[f"{cell}.n{node + 2}.op{i % 2}"], choices[f"{cell}.n{node + 2}.input{i % 2}"] = op, names[source]
    space = conv_micro.conv_micro(conv_micro.ConvMicroSettings(num_nodes=counts["normal"]))
    arch = space.architecture(choices)
    for cell in CELLS:
        ends, concat = _loose(space.wire(arch)[cell].outputs), _nodes(fields[f"{cell}_concat"])
        if ends != concat:
            raise ValueError(
                f"space conv_micro joins the nodes that no other reads, {_listed(ends)} in this {cell} cell;"
                f" the genotype joins {_listed(concat)}"
            )
    return arch


def _recurrent(edges: list[tuple[str, int]], concat: list[int]) -> Architecture:
    choices: dict[str, object] = {}
    for i, (op, source) in enumerate(edges, 1):
        if op not in rnn_cell.OPS:
            raise ValueError(f"space rnn_cell has no op '{op}': {', '.join(rnn_cell.OPS)}")
        if not 0 <= source < i:
            raise ValueError(f"node {i} of a recurrent genotype reads 0 to {i - 1}; got {source}")
        choices |= {f"{rnn_cell.CELL}.h{i}.input0": f"h{source}", f"{rnn_cell.CELL}.h{i}.op0": op}
    read = {source for _, source in edges}
    ways = {"all": list(range(1, len(edges) + 1)), "loose_ends": [i for i in range(1, len(edges) + 1) if i not in read]}
    output: Any = next((output for output, nodes in ways.items() if nodes == concat), None)
    if output is None:
        raise ValueError(
            f"space rnn_cell averages all nodes or those that no other reads, {_listed(ways['loose_ends'])};"
            f" the genotype averages {_listed(concat)}"
        )
    settings = rnn_cell.RnnCellSettings(len(edges), fixed_input=True, output=output, sharing="edge_op")
    return rnn_cell.rnn_cell(settings).architecture(choices)


def to_genotype(arch: Architecture) -> str:
    """Returns a cell as DARTS writes it. Raises a ValueError for an architecture of another
    space."""
    return _writer("genotype", arch, {"conv_micro": _micro_genotype, "rnn_cell": _rnn_genotype})(arch)


def _micro_genotype(arch: Architecture) -> str:
    names = {ours: theirs for theirs, ours in DARTS_OPS.items()}
    parts = []
    for cell, wired in space_of(arch.space).wire(arch).items():
        edges = []
        for i in range(int(str(arch.space["num_nodes"]))):
            numbers = (*conv_micro.INPUTS, *(f"n{j}" for j in range(2, 2 + i)))
            for slot in (0, 1):
                op, source = (str(arch.choices[f"{cell}.n{i + 2}.{what}{slot}"]) for what in ("op", "input"))
                edges.append((names.get(op, op), numbers.index(source)))
        parts.append(f"{cell}={edges}, {cell}_concat={_loose(wired.outputs)}")
    return f"Genotype({', '.join(parts)})"


def _rnn_genotype(arch: Architecture) -> str:
    if not arch.space.get("fixed_input"):
        raise ValueError("a recurrent genotype begins with a fixed tanh node: space.fixed_input, which this cell has not")
    numbers = range(1, int(str(arch.space["num_nodes"])) + 1)
    edges = [
        (str(arch.choices[f"{rnn_cell.CELL}.h{i}.op0"]), int(str(arch.choices[f"{rnn_cell.CELL}.h{i}.input0"])[1:]))
        for i in numbers
    ]
    (cell,) = space_of(arch.space).wire(arch).values()
    return f"Genotype(recurrent={edges}, concat={_loose(cell.outputs)})"


def _fields(text: str) -> dict[str, Any]:
    """Returns the keyword arguments of `Genotype(...)`, which are lists, tuples, names of ops,
    whole numbers and `range`. Raises a ValueError for any other text."""
    wrong = f"a genotype is Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[...], ...); got {_short(text)!r}"
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError(wrong)
        if call.args:
            raise ValueError(f"a genotype names its parts, normal=[...]; got {_short(text)!r}")
        return {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, RecursionError, MemoryError, TypeError):
        raise ValueError(wrong) from None
    except ValueError as error:
        raise ValueError(wrong if "malformed" in str(error) else str(error)) from None


def _value(node: ast.expr) -> Any:
    """Returns a literal, or the numbers of `range(a, b)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "list", "tuple"):
        values = [_value(arg) for arg in node.args]
        if node.func.id != "range":
            return list(*values)
        if all(isinstance(value, int) and abs(value) < 1000 for value in values):
            return list(range(*values))
        raise TypeError
    return ast.literal_eval(node)


def _edges(value: object) -> list[tuple[str, int]]:
    """Returns the pairs of op and input. Raises a ValueError for another form, such as an edge per
    list."""
    pairs = list(value) if isinstance(value, list | tuple) else []
    if not pairs or not all(
        isinstance(pair, list | tuple) and [type(part) for part in pair] == [str, int] for pair in pairs
    ):
        raise ValueError(f"edges of a genotype are pairs, [('sep_conv_3x3', 0), ...]; got {_short(str(value))}")
    return [(op, source) for op, source in pairs]


def _nodes(value: object) -> list[int]:
    """Returns the numbers of the joined nodes, in order."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    if not numbers or not all(type(number) is int for number in numbers):
        raise ValueError(f"what a genotype joins is a list of nodes, [2, 3]; got {_short(str(value))}")
    return sorted(numbers)


def _loose(names: Iterable[str]) -> list[int]:
    """Returns the numbers in the names of nodes such as `n2` and `h3`, in order."""
    return sorted(int(name[1:]) for name in names)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


# ------------------------------------------------------------------------------------- all forms
READERS: dict[str, tuple[re.Pattern[str], Callable[[str], Architecture]]] = {
    "nasbench201": (re.compile(r"\s*\|.*", re.DOTALL), nasbench201.from_string),
    "nasbench_macro": (re.compile(r"\s*[0-9]{8}\s*"), nasbench_macro.from_string),
    "fixed_arc": (re.compile(r"(\s*\w+\s*:\s*-?[0-9]+(\s+-?[0-9]+)*|\s*-?[0-9]+(\s+-?[0-9]+)+)\s*"), from_fixed_arc),
    "genotype": (re.compile(r"\s*Genotype\s*\(.*", re.DOTALL), from_genotype),
    "json": (re.compile(r"\s*\{.*", re.DOTALL), Architecture.from_json),
}


def read(text: str) -> Architecture | None:
    """Returns the architecture that a text writes in one of the forms, checked against its space.
    Returns None where the text looks like none of the forms. Raises a ValueError where it looks
    like one and is wrong."""
    for pattern, reader in READERS.values():
        if pattern.fullmatch(text):
            arch = reader(text)
            return space_of(arch.space).architecture(arch.choices, dict(arch.provenance))
    return None


def written(arch: Architecture, form: str) -> str:
    """Returns an architecture in the form of this name. Raises a ValueError where the form cannot
    express it."""
    check_name("a form", form, READERS)
    if form == "json":
        return arch.to_json()
    if form == "fixed_arc":
        return to_fixed_arc(arch)
    if form == "genotype":
        return to_genotype(arch)
    return _writer(form, arch, {"nasbench201": nasbench201.to_string, "nasbench_macro": nasbench_macro.to_string})(arch)


def _writer(
    form: str, arch: Architecture, writers: Mapping[str, Callable[[Architecture], str]]
) -> Callable[[Architecture], str]:
    """Returns the function that writes architectures of this one's space. Raises a ValueError where
    there is none. A form that is named after a space writes only architectures of that space."""
    space = str(arch.space["name"])
    spaces = [name for name in writers if form in (name, "fixed_arc", "genotype")]
    if space not in spaces:
        raise ValueError(f"the form '{form}' is of space {' and '.join(spaces)}; got an architecture of '{space}'")
    return writers[space]
