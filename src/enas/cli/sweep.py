"""This module holds the command `enas sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from enas.cli.commands import JobsFlags, command, jobs_of, seconds
from enas.cli.search import SearchFlags, searched

if TYPE_CHECKING:
    from enas.runs.sweep import Swept


@dataclass(frozen=True, kw_only=True)
class SweepFlags(JobsFlags, SearchFlags):
    seeds: str = "0-9"
    """Seeds, such as 0-9 or 0,3,10-12; each has a run folder of its own."""
    until: Literal["search", "derive", "retrain"] = "retrain"
    """Last step of each seed: the search, the derivation, or the training from scratch."""
    slurm: bool = False
    """Print the line that does it as a job array of SLURM, and do nothing."""


@command("sweep", "the same search over many seeds: mean and standard deviation")
def sweep(args: list[str]) -> int:
    """Search with many seeds, derive and train from scratch, and say mean and standard deviation.
    The same command goes on where it was stopped. It takes all flags of `enas search` too.

    enas sweep digits-micro --seeds 0-9
    enas sweep digits-micro --seeds 0-4 --strategy evolution --until derive --out runs/evolution
    enas sweep digits-micro --seeds 0-9 --jobs ray      (on a cluster)
    enas sweep digits-micro --seeds 0-9 --slurm         (prints a job array of it)
    """
    from enas.cli.display import Display
    from enas.runs import slurm
    from enas.runs import sweep as sweeps

    flags, plan = searched(args, SweepFlags, sweep.__doc__, "sweep")
    if flags.seed is not None:
        raise ValueError("a sweep has many seeds: --seeds 0-9")
    seeds = sweeps.seeds_of(flags.seeds)
    if flags.slurm:
        words = slurm.without(args, {"--slurm": 0, "--jobs": 1, "--gpus-per-job": 1})
        each = slurm.without(words, {"--seeds": 1})
        line = slurm.array(["sweep", *each], "--seeds", flags.seeds, plan.threads, plan.device.startswith("cuda"))
        print(slurm.said(line, ["sweep", *words]))
        return 0
    out = flags.out or Path("runs") / f"sweep-{plan.preset}-{plan.recipe}".replace(":", "-")
    jobs = jobs_of(flags)
    with Display() as display:
        swept = sweeps.sweep(
            plan, out, seeds, until=flags.until, jobs=jobs, max_seconds=seconds(flags.max_time), listen=display
        )
    if swept is not None:
        table(swept)
    return display.status


def table(swept: Sequence[Swept]) -> None:
    """Prints the figures of every seed, and their summary."""
    from rich.console import Console
    from rich.table import Table

    from enas.runs.sweep import summed_up

    summary, names = summed_up(swept), list(swept[0].figures)
    table = Table(title=f"{len(swept)} seed{'s' * (len(swept) != 1)}", title_justify="left")
    for column in ("seed", *names):
        table.add_column(column, justify="right", overflow="fold")
    for one in swept:
        table.add_row(str(one.seed), *(f"{one.figures[name]:.4g}" for name in names))
    table.add_section()
    for what in next(iter(summary.values()), ()):
        table.add_row(what, *(f"{summary[name][what]:.4g}" for name in names))
    console = Console(highlight=False)
    console.print(table)
    about = {"reward": "mean of the last epoch, of shared weights", "derived": "reward of the best, as it was ranked"}
    if said := "; ".join(f"{name}: {what}" for name, what in about.items() if name in names):
        console.print(said, soft_wrap=True)
    console.print(f"run folders: {', '.join(str(one.folder) for one in swept)}", soft_wrap=True)
