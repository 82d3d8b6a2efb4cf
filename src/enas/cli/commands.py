"""The registry of commands, and how their flags are read."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import arg


def peek(args: list[str], names: tuple[str, ...]) -> dict[str, str | None]:
    """Values of a few flags that decide what the other flags are."""
    found: dict[str, str | None] = dict.fromkeys(names)
    for i, word in enumerate(args):
        name, _, value = word.partition("=")
        if name in found:
            found[name] = value or (args[i + 1] if i + 1 < len(args) else None)
    return found


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {}


def command(name: str, about: str) -> Callable[[Callable[[list[str]], int]], Callable[[list[str]], int]]:
    def register(function: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
        COMMANDS[name] = (about, function)
        return function

    return register


def parse(flags: Any, args: Sequence[str], name: str, default: Any = None) -> Any:
    """Flags from `args`; a bad one is a ValueError of one line."""
    errors = io.StringIO()
    about = re.sub(r"\n\s*(?=enas )", "\n\n", inspect.getdoc(flags) or "")  # an example a line: lines of a text are joined
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                flags,
                prog=f"enas {name}",
                description=about,
                args=list(args),
                **({} if default is None else {"default": default}),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        lines = [line.strip("│ ").strip() for line in errors.getvalue().splitlines()]
        first = [line for line in lines if line and line[0] not in "╭╰"]
        stop = next((i for i, line in enumerate(first) if set(line) == {"─"}), len(first))
        text = re.sub(r"^Error parsing (config\.)?", "", " ".join(first[:stop])) or "these arguments are not understood"
        if "Perhaps you meant:" in first:
            text += f"; perhaps you meant {first[first.index('Perhaps you meant:') + 1].split()[0]}"
        raise ValueError(f"{text}; see `enas {name} --help`") from None


def with_recipe(flags: type[Any], about: str | None, preset: str) -> Any:
    """Flags whose `settings` are those of the preset's `retrain`, each a flag of its own."""
    from enas.runs.presets import registry as presets  # torch with it: only where it is needed

    made = dataclasses.make_dataclass(
        flags.__name__,
        [("settings", Annotated[presets.retrain_type(preset), arg(name="retrain")], dataclasses.field())],
        bases=(flags,),
        frozen=True,
    )
    made.__doc__ = about
    return made


def seconds(text: str) -> float:
    """Seconds of a span such as 90, 90s, 20m, 1.5h; ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise ValueError(f"a time is a number and s, m, h or d, such as 90s or 20m; got '{text}'")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
