"""This module holds the command `enas check`."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse, seconds

WIDTH = 100


@dataclass(frozen=True)
class CheckFlags:
    """Ask the laws of something of yours, and say in words what breaks. It may be a problem, a
    space of cells, an op, a strategy, a data set, a task or a preset. The exit status is 1 where a
    law does not hold.

    enas check my_project:problem
    enas check my_ops:blur
    enas check my_data:load --data folder
    """

    what: Positional[str]
    """Name that is registered, or `package.module:thing`."""
    architectures: int = 16
    """Largest number of architectures to build and run."""
    seed: int = 0
    """Seed of the architectures, the weights and the batches."""
    max_time: str = "30s"
    """Time after which no further architecture is looked at."""
    data: Maybe[Path] = None
    """Folder of the data set."""


@command("check", "the laws, asked of a problem, space, op, strategy, data set or preset of yours")
def check(args: list[str]) -> int:
    flags = parse(CheckFlags, args, "check")
    from enas.grading.case import Asked
    from enas.grading.check import check as results_of
    from enas.reports.drawing.text import to_text

    if flags.architectures < 1:
        raise ValueError(f"--architectures is at least 1; got {flags.architectures}")
    asked = Asked(flags.architectures, flags.seed, seconds(flags.max_time) or 0.0)
    found = left_out = 0
    for result in results_of(flags.what, asked, flags.data, to_text):
        about = f" ({result.about})" if result.about and result.tried else ""
        came_to = "FAILED" if result.finding is not None else "ok" if result.tried else "-"
        print(f"{came_to:6}  {result.law}{about}{'' if result.tried else ' (not asked)'}")
        left_out += not result.tried
        if result.finding is not None:
            found += 1
            print(textwrap.fill(result.finding, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8))
    laws = "law does" if found == 1 else "laws do"
    print(
        f"\n{found} {laws} not hold for {flags.what}"
        if found
        else f"\nall laws {'that were asked ' if left_out else ''}hold for {flags.what}"
    )
    return 1 if found else 0
