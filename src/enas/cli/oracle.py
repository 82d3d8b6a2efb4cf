"""`enas oracle`: strategies and searches held against a table of the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse

if TYPE_CHECKING:
    from enas.grading.oracle import Contest
    from enas.grading.ranking import Grade


@dataclass(frozen=True)
class OracleFlags:
    """Hold strategies and searches against the truth: a table that has the accuracy of every architecture.

    enas oracle nasbench201 --table FILE           (each strategy by itself: what it learns from the table, over many seeds)
    enas oracle nasbench_macro --table FILE        (the same on NAS-Bench-Macro, which publishes test accuracy only)
    enas oracle runs/mine --table FILE             (a search with shared weights: where its best stands, how it ranks)
    """

    what: Positional[str]
    """The space, `nasbench201` or `nasbench_macro`; or the run folder of a search in it, derived."""
    table: Path
    """File of accuracies in percent, .gz or not. nasbench201: CSV with a column `arch`; nasbench_macro: the published
    JSON."""
    table_only: bool = False
    """Only play strategies against the table; naming the space does that anyway."""
    queries: int = 300
    """Number of architectures that a strategy may ask for."""
    seeds: int = 100
    """Number of seeds of each strategy."""
    reward: Maybe[str] = None
    """Column that is told as the reward (nasbench201: cifar10_valid_ep12, a short training, validated; nasbench_macro:
    test_acc_1, the first of its three runs, tested)."""
    score: Maybe[str] = None
    """Column that counts (nasbench201: cifar10_test_ep200, the full training, tested; nasbench_macro: mean_acc, the mean of
    its three runs, tested)."""
    cells: int = 200
    """For a run: number of random architectures whose shared-weight scores are held against the truth."""
    out: Maybe[Path] = None
    """Folder for oracle.json and the picture (default: runs/oracle-SPACE, or the run's)."""


@command("oracle", "strategies and searches against a table of the truth (NAS-Bench-201, NAS-Bench-Macro)")
def oracle(args: list[str]) -> int:
    flags = parse(OracleFlags, args, "oracle")
    from enas.grading.oracle import Asked, Contest, Truth, held_against
    from enas.strategies.registry import STRATEGIES

    asked = Asked(flags.queries, flags.seeds, flags.cells, flags.reward, flags.score)
    truth = Truth.read(flags.what, flags.table, asked, flags.table_only)
    if truth.benchmark.note:
        print(f"note: {truth.benchmark.note}")
    out = flags.out or (truth.run.path if truth.run else Path("runs") / f"oracle-{truth.space.name}")
    with _bar(flags.cells if truth.run else len(STRATEGIES) * flags.seeds) as advance:
        result = held_against(truth, asked, out, advance)
    if isinstance(result, Contest):
        _show_contest(result, out)
    else:
        _show_grade(result, truth.score)
        print(f"wrote {out / 'oracle.json'}")
    return 0


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """Yields `advance(text)`, to be called after each of `total` parts."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (TextColumn("{task.fields[text]}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, text="")

        def advance(text: str) -> None:
            progress.update(task, advance=1, text=text)

        yield advance


def _show_contest(contest: Contest, out: Path) -> None:
    """Prints what each strategy reached, and writes the picture."""
    from enas.reports.charts import regret_chart

    truth, marks, best = contest.truth, contest.marks, contest.best
    seeds = contest.asked.seeds
    print(f"{truth.score} of the best by {truth.reward} so far, mean of {seeds} seeds; the best of all has {best:.2f} %")
    print("queries    " + "".join(f"{q:>8}" for q in marks) + "   regret")
    for name, curves in contest.curves.items():
        means = curves.scores.mean(0)
        print(f"{name:11}" + "".join(f"{means[q - 1]:8.2f}" for q in marks) + f"   {contest.regret(name)}")
    regret_chart({name: curves.regret(best) for name, curves in contest.curves.items()}, out / "oracle.svg")
    for line in contest.verdicts:
        print(f"verdict: {line}")
    print(f"wrote {out / 'oracle.svg'} and {out / 'oracle.json'}")


def _show_grade(grade: Grade, score: str) -> None:
    """Prints where a run's best stands, and how its shared weights rank."""
    if place := grade.derived:
        rank = f"better than {place.better_than:.1%} of all, rank {place.rank:,} of {grade.space_size:,}"
        print(f"the derived architecture has {place.score:.2f} % ({score}): {rank}")
    else:
        print("nothing is derived yet: `enas derive` says which architecture this search would pick")
    heading = f"ranking {grade.rankings[0].n} random architectures by"
    print(f"{heading:38}Kendall (95 %)         better half            pick   top five")
    for row in grade.rankings:
        tau, half = str(row.kendall), str(row.kendall_better_half)
        print(f"  {row.ranker:36}{tau:23}{half:23}{row.pick:5.2f}  {row.top_five:5.2f}")
