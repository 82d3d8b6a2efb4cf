"""This module holds the command `enas report`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from enas.cli.commands import command, parse

if TYPE_CHECKING:
    from enas.reports.run import Run


@dataclass(frozen=True)
class ReportFlags:
    """Write one self-contained page about a run: curves, ops over time, the cells drawn, the ranked
    list, the verdict.

    enas report runs/mine
    """

    run: Positional[Path]
    """Run folder of a search, at any stage."""


@command("report", "one page about a run: curves, drawings, ranking, verdict")
def report(args: list[str]) -> int:
    flags = parse(ReportFlags, args, "report")
    from enas.reports.page import write_report
    from enas.reports.run import read_run

    print(f"wrote {write_report(flags.run)}")
    run = read_run(flags.run)
    if run.compared is not None:
        print(f"verdict: {run.compared.verdict}")
    print(*notes(run), sep="", end="")
    return 0


def notes(run: Run) -> Iterator[str]:
    """Yields a line for everything that a reader of the verdict has to know besides."""
    for what, verb in run.notes_on_verdict():
        yield f"note: {what}{f': enas {verb} {shlex.quote(str(run.path))}' * bool(verb)}\n"
