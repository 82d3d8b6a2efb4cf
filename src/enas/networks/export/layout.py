"""This module lays out Python source as a formatter would, in lines of at most 88 columns. It does
not import torch."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 88


def name(text: str) -> str:
    """Returns a Python name for the name of a node or layer."""
    made = re.sub(r"\W", "_", text)
    return made if made.isidentifier() and not keyword.iskeyword(made) else f"n_{made}"


def call(indent: int, before: str, items: Sequence[str], after: str = ")") -> str:
    """Returns `before` + items + `after`, such as `x = f(` a, b `)`. It is one line, or has all
    items on a line of their own, or one line for each item."""
    pad, inner = " " * indent, " " * (indent + 4)
    joined = ", ".join(items)
    if len(line := f"{pad}{before}{joined}{after}") <= WIDTH:
        return line
    if len(line := f"{inner}{joined}") <= WIDTH:
        return f"{pad}{before}\n{line}\n{pad}{after}"
    return "\n".join([f"{pad}{before}", *(f"{inner}{item}," for item in items), f"{pad}{after}"])


def total(indent: int, target: str, terms: Sequence[str]) -> str:
    """Returns `target = a + b + c`. Where that is too long, each term stands on its own line."""
    pad, inner = " " * indent, " " * (indent + 4)
    line = f"{pad}{target} = {' + '.join(terms)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{pad}{target} = (", f"{inner}{terms[0]}", *(f"{inner}+ {term}" for term in terms[1:]), f"{pad})"])


def constant(target: str, values: Iterable[object]) -> str:
    """Returns a line that assigns a tuple to a constant of a module."""
    return collection(0, f"{target} = ", [literal(value) for value in values], "()")


def collection(indent: int, before: str, items: Sequence[str], brackets: str = "[]") -> str:
    """Returns a list or a tuple after `before`, on one line, or with one line for each item."""
    pad, inner, comma = " " * indent, " " * (indent + 4), "," if brackets == "()" and len(items) == 1 else ""
    line = f"{pad}{before}{brackets[0]}{', '.join(items)}{comma}{brackets[1]}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{pad}{before}{brackets[0]}", *(f"{inner}{item}," for item in items), f"{pad}{brackets[1]}"])


def literal(value: object) -> str:
    """Returns a string or a number as it is written in double quotes."""
    if not isinstance(value, str):
        return repr(value)
    text = repr(value)
    if text.startswith('"') or '"' in value:
        return text
    return f'"{text[1:-1]}"'


def docstring(paragraphs: Sequence[str]) -> str:
    """Returns the docstring of a module. A paragraph that has line breaks keeps them."""
    text = "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)
    text = text.replace("\\", "\\\\").replace('"""', r"\"\"\"")
    if text.endswith('"'):
        text = f'{text[:-1]}\\"'
    return f'"""{text}\n"""' if "\n" in text else f'"""{text}"""'


def _paragraph(text: str) -> str:
    if "\n" in text:
        return "\n".join(line.rstrip() for line in text.splitlines())
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def comment(text: str) -> str:
    """Returns a text as comment lines."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += textwrap.wrap(line, WIDTH - 2, subsequent_indent=indent) or [""]
    return "\n".join(f"# {line}".rstrip() for line in lines)
