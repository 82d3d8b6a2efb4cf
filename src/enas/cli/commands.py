"""This module registers the commands, and reads their flags."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from enas.runs.ray_jobs import Cluster
    from enas.spaces.costs import Limits


def peek(args: list[str], names: tuple[str, ...]) -> dict[str, str | None]:
    """Returns the values of a few flags before all are read, because they decide which other flags
    there are."""
    values: dict[str, str | None] = dict.fromkeys(names)
    for i, word in enumerate(args):
        name, _, value = word.partition("=")
        if name in values:
            values[name] = value or (args[i + 1] if i + 1 < len(args) else None)
    return values


def asks_for_help(args: list[str]) -> bool:
    """Returns whether a command line asks for help."""
    return not {"-h", "--help"}.isdisjoint(args)


K = TypeVar("K")
# a flag whose own text says what happens without it
Maybe = Annotated[K | None, arg(help_behavior_hint="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobsFlags:
    """These flags say how many jobs run side by side, or where."""

    jobs: Maybe[str] = None
    """Number of jobs side by side (default: as many as the cores allow; on a GPU one);
    or ray, or ray://HOST:10001, for a cluster."""
    gpus_per_job: Maybe[float] = None
    """Share of a GPU per job on a cluster, such as 0.5 (default: 1, where the plan is for GPUs)."""


def jobs_of(flags: JobsFlags) -> int | Cluster | None:
    """Returns what `--jobs` and `--gpus-per-job` ask for. Raises a ValueError where nothing can do
    that."""
    from enas.runs.ray_jobs import asked

    return asked(flags.jobs, flags.gpus_per_job)


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {}


def command(name: str, about: str) -> Callable[[Callable[[list[str]], int]], Callable[[list[str]], int]]:
    """Registers a function as the command `name`. `about` is its line in the usage."""

    def register(function: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
        COMMANDS[name] = (about, function)
        return function

    return register


def parse(flags: Any, args: Sequence[str], name: str, default: Any = None) -> Any:
    """Returns the flags that `args` give. Raises a ValueError of one line for a bad flag."""
    errors = io.StringIO()
    # Lines of a text are joined, but each example needs a line of its own.
    about = re.sub(r"\n\s*(?=enas |torchrun )", "\n\n", inspect.getdoc(flags) or "")
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(optional)
    try:
        with contextlib.redirect_stderr(errors), registry:
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
        text = _in_one_line(errors.getvalue())
        raise ValueError(f"{text}; see `enas {name} --help`") from None


def _in_one_line(said: str) -> str:
    """Returns in one line what the parser says of bad arguments. The parser writes it in a box, or
    where the terminal lacks such characters, in lines under a title. After each rule comes another
    part."""
    lines = [line.strip("│ ") for line in said.splitlines()]
    lines = [line for line in lines if line and line[0] not in "╭╰"]
    blocks = [list(block) for rule, block in groupby(lines, lambda line: set(line) <= {"─", "-"}) if not rule]
    if "╭" not in said:
        del blocks[:1]  # the title
    what, *more = blocks or [["these arguments are not understood"]]
    text = re.sub(r"^Error parsing (config\.|\w+Flags: )?", "", " ".join(what))
    for title, *options in more:
        names = [line.split()[0] for line in options if line.startswith("--")]
        if title == "Perhaps you meant:" and (unknown := re.search(r"--[\w.-]+", text)):
            [nearest] = get_close_matches(unknown[0], names, n=1, cutoff=0.0)
            text += f"; perhaps you meant {nearest}"
    return text


def with_settings(flags: type[object], about: str | None, kind: type[object], group: str) -> Any:
    """Returns the flags with a field `settings` of type `kind`, in which each setting is a flag of
    its own below `--group`."""
    field = ("settings", Annotated[kind, arg(name=group)], dataclasses.field())
    made = dataclasses.make_dataclass(flags.__name__, [field], bases=(flags,), frozen=True)
    made.__doc__ = about
    return made


def optional(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Shows an optional flag by the value that it takes, `PATH`, rather than as `{None}|PATH`."""
    kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
    if info.type_origin not in (Union, UnionType) or len(kinds) != 1 or kinds[0] not in (int, float, str, Path):
        return None
    (kind,) = kinds
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=lambda words: None if words[0] == "None" and kind is not str else kind(words[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def limits_of(flags: Any, before: Limits) -> Limits:
    """Returns the limits `before`, replaced by those that flags give, such as `--max-params 3M`."""
    from enas.spaces.costs import amount, duration

    given = {f.name: getattr(flags, f.name, None) for f in dataclasses.fields(before)}
    values: dict[str, Any] = {
        name: (duration if name == "max_latency" else amount)(text) for name, text in given.items() if text is not None
    }
    return dataclasses.replace(before, **values)


def computed(settings: Any, flags: Any) -> Any:
    """Returns settings with the precision, parts and checkpointing that `--precision`,
    `--accumulate` and `--checkpoint-activations` ask for."""
    given = {name: getattr(flags, name) for name in ("precision", "accumulate", "checkpoint_activations")}
    changes = {name: value for name, value in given.items() if value not in (None, False)}
    return dataclasses.replace(settings, compute=dataclasses.replace(settings.compute, **changes))


def seconds(text: str | None) -> float | None:
    """Returns the seconds of a time such as 90, 90s, 20m or 1.5h, or None for None. Raises a
    ValueError for another form."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise ValueError(f"a time is a number and s, m, h or d, such as 90s or 20m; got '{text}'")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
