"""This module holds the command `enas judges`, which says what ranks architectures, and at what
cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse
from enas.grading.asked import JudgesWanted


@dataclass(frozen=True, kw_only=True)
class JudgesFlags(JudgesWanted):
    """Compare everything that could judge an architecture with a table of the truth: parameters,
    scores without training, shared weights, short trainings, and what these teach.

    enas judges scattered-micro --table scattered-micro     (a table that comes with enas)
    enas judges nasbench201 --table FILE --data data --cells 60
    """

    what: Positional[str]
    """A preset in the space of the table, or `module:function` of a problem."""
    table: Path
    """The table: one that `enas table build` wrote,
    or a published one of nasbench201 or nasbench_macro."""
    out: Maybe[Path] = None
    """Folder for judges.json (default: runs/judges-PRESET)."""


@command("judges", "what ranks architectures, and at what cost: every judge against a table")
def judges(args: list[str]) -> int:
    flags = parse(JudgesFlags, args, "judges")
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from enas.cli.oracle import bar
    from enas.grading.judges import JudgeFigures, judge

    out = flags.out or Path("runs") / f"judges-{flags.what}".replace(":", "-")
    with bar(None) as advance:
        found = judge(
            flags.what, flags.table, flags, out, lambda e: None if isinstance(e, JudgeFigures) else advance(str(e))
        )
    title = f"{found.cells} architectures of {found.table}: mean {found.mean:.2f}, best {found.best:.2f}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("judge", overflow="fold")  # where lines are short; figures stay whole
    for column in ("tau", "better\nhalf", "where\nled", "pick", "five\nbest", "regret", "s\nbefore", "s\neach"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found.judged:
        r = one.ranking
        figures = (r.pick, r.top_five, one.regret, one.before)
        led = "" if one.led is None else f"{one.led.value:.2f}"
        taus = (f"{r.kendall.value:.2f}", f"{r.kendall_better_half.value:.2f}", led)
        name = one.judge if r.n == found.cells else f"{one.judge} ({r.n} others)"
        table.add_row(name, *taus, *(f"{figure:.2f}" for figure in figures), f"{one.each:.3f}")
    Console().print(table)
    print("tau: Kendall's, of all and of the better half; pick: the truth of a judge's first; s: seconds of a processor")
    if found.led_mean is not None:
        print(f"where led: the tau of {found.led} more that shared weights prefer (mean {found.led_mean:.2f})")
    print(f"wrote {out / 'judges.json'}")
    return 0
