"""This module holds the command `enas report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import command, parse


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
    from enas.runs.compared import Compared

    print(f"wrote {write_report(flags.run)}")
    if (compared := Compared.find(flags.run)) is not None:
        print(f"verdict: {compared.verdict}")
    return 0
