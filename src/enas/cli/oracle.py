"""This module holds the command `enas oracle`, which compares strategies and searches with a table
of the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, limits_of, parse
from enas.grading.asked import Asked
from enas.tasks.metrics import METRICS

if TYPE_CHECKING:
    from enas.grading.oracle import Contest
    from enas.grading.ranking import Grade


@dataclass(frozen=True, kw_only=True)
class OracleFlags(Asked):
    """Compare strategies and searches with the truth: a table that has the accuracy of every
    architecture.

    enas oracle nasbench201 --table FILE      (each strategy by itself, over many seeds)
    enas oracle nasbench201 --table FILE --max-params 300k    (within a limit on the cost)
    enas oracle nasbench_macro --table FILE   (this benchmark publishes test accuracy only)
    enas oracle runs/demo --table scattered-micro   (a table that comes with enas)
    enas oracle runs/mine --table FILE        (a search: where its best stands, how it ranks)
    """

    what: Positional[str]
    """A space, `nasbench201` or `nasbench_macro`; the run folder of a search in it;
    or the preset of a table that `enas table` built of a whole space."""
    table: Path
    """File of accuracies in percent, which may be a .gz.
    nasbench201: a CSV with a column `arch`; nasbench_macro: the published JSON.
    It may also be a table that `enas table build` wrote.
    scattered-micro, text-rnn: the tables of these presets, which come with enas."""
    table_only: bool = False
    """Only play strategies against the table; this is the default for a space."""
    max_params: Maybe[str] = None
    """Largest number of parameters of what strategies ask for, such as 300k.
    They count in the benchmark's own network:
    `enas cost nasbench201 --recipe paper` says what architectures have."""
    max_macs: Maybe[str] = None
    """Largest number of multiply-accumulates of what strategies ask for, per image, such as 60M."""
    max_memory: Maybe[str] = None
    """Most bytes of activations that a training step of it keeps, by an estimate, such as 2G."""
    out: Maybe[Path] = None
    """Folder for oracle.json and the picture (default: runs/oracle-SPACE, or the run's)."""


@command("oracle", "strategies and searches against a table of the truth (NAS-Bench-201, NAS-Bench-Macro)")
def oracle(args: list[str]) -> int:
    flags = parse(OracleFlags, args, "oracle")
    from enas.grading.oracle import NO_LIMITS, Contest, Truth, held_against

    truth = Truth.read(flags.what, flags.table, flags, flags.table_only, limits_of(flags, NO_LIMITS))
    if truth.note:
        print(f"note: {truth.note}")
    if truth.feasible is not None:
        print(f"within {truth.limits.about()}: {len(truth.feasible):,} of {len(truth.table.archs):,} architectures")
    out = flags.out or (truth.run.path if truth.run else Path("runs") / f"oracle-{truth.space.name}")
    with bar(truth.parts(flags)) as advance:
        result, regrets = held_against(truth, flags, out, advance)
    files = f"{out / 'oracle.json'}"
    if isinstance(result, Contest):
        from enas.reports.charts import regret_chart

        _show_contest(result)
        files = f"{regret_chart(regrets, out / 'oracle.svg')} and {files}"
    else:
        _show_grade(result)
    print(f"wrote {files}")
    return 0


@contextmanager
def bar(total: int | None) -> Iterator[Callable[[str], None]]:
    """Yields `advance(text)`, which is called after each of `total` parts. `total` is None where it
    is not known."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (TextColumn("{task.fields[text]}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, text="")

        def advance(text: str) -> None:
            progress.update(task, advance=1, text=text)

        yield advance


def _show_contest(contest: Contest) -> None:
    """Prints the results of each strategy."""
    columns, best = f"{contest.score} of the best by {contest.reward}", f"the best of all has {contest.best:.2f} %"
    print(f"{columns} so far, mean of {contest.seeds} seeds; {best}")
    marks = next(iter(contest.strategies.values())).score
    print("queries    " + "".join(f"{q:>8}" for q in marks) + f"   {'regret':18}in {contest.reward}")
    for name, found in contest.strategies.items():
        scores = "".join(f"{score.mean:8.2f}" for score in found.score.values())
        print(f"{name:11}{scores}   {found.regret!s:18}{found.regret_in_rewards}")
    for line in contest.verdict:
        print(f"verdict: {line}")


def _show_grade(grade: Grade) -> None:
    """Prints where a run's best stands, and how its shared weights rank."""
    metric = METRICS[grade.metric]
    if place := grade.derived:
        own = f", mean of {place.seeds} trainings of its own" if place.seeds else ""
        # an architecture that the table lacks stands beside its rows
        among = grade.space_size + bool(place.seeds)
        rank = f"better than {place.better_than:.1%} of all, rank {place.rank:,} of {among:,}"
        print(f"the derived architecture has {place.score:.2f}{metric.unit} ({grade.score}{own}): {rank}")
        if grade.best is not None:
            regret = metric.cost(place.score) - metric.cost(grade.best)
            print(f"the best of the table has {grade.best:.2f}{metric.unit}: regret {regret:.2f} {metric.points}")
    else:
        print(
            "no derived architecture has a place: `enas derive` picks one, `enas compare` trains one that the table lacks"
        )
    heading = f"ranking {grade.rankings[0].n} random architectures by"
    print(f"{heading:38}Kendall (95 %)         better half            pick   top five")
    for row in grade.rankings:
        tau, half = str(row.kendall), str(row.kendall_better_half)
        print(f"  {row.ranker:36}{tau:23}{half:23}{row.pick:5.2f}  {row.top_five:5.2f}")
