"""This module holds the command `enas reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse


@dataclass(frozen=True)
class ReproduceFlags:
    """Show the paper's experiments beside ours. There is a row for each of Tables 1 and 2 and of
    section 3.3, with our result, its size and recipe, and the command that runs it at full size.
    Nothing is trained: run folders are read.

    enas reproduce                                 (what is below runs/)
    enas reproduce runs/cifar results              (these too: run folders, or folders of them)
    enas reproduce --out reproduced.html           (.md .json .html)
    """

    runs: Positional[tuple[Path, ...]] = ()
    """Run folders, or folders of them, to read beside runs/."""
    out: Maybe[Path] = None
    """File to write the table to as well; the ending names the form."""


@command("reproduce", "the paper's tables beside what run folders hold")
def reproduce(args: list[str]) -> int:
    flags = parse(ReproduceFlags, args, "reproduce")
    from enas.grading.reproduce import paper_settings, survey
    from enas.reports.paper_table import FORMS, terminal, write

    if flags.out is not None and flags.out.suffix not in FORMS:
        raise ValueError(f"--out ends in {', '.join(FORMS)}; got '{flags.out}'")
    table = survey(flags.runs, paper_settings(), Path("runs"))
    print(terminal(table))
    if flags.out is not None:
        print(f"wrote {write(table, flags.out)}")
    return 0
