"""This module holds the command `enas compare`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import JobsFlags, Maybe, asks_for_help, command, jobs_of, parse, seconds, with_settings
from enas.grading.asked import Wanted
from enas.tasks.metrics import Metric, figure

if TYPE_CHECKING:
    from enas.runs.compared import Compared, StudyResult


@dataclass(frozen=True, kw_only=True)
class CompareFlags(Wanted, JobsFlags):
    run: Positional[Path]
    """Run folder of a search, after `enas derive`."""
    settings: Annotated[Any, arg(name="retrain")]
    epochs: Maybe[int] = None
    """Short for --retrain.epochs."""
    max_time: Maybe[str] = None
    """Stop in good order after this time; the same command goes on."""
    only: Maybe[int] = None
    """Do only this one of the trainings that are known from the start, by its index from 0;
    the command without this flag finds it done."""
    slurm: bool = False
    """Print the line that does these trainings as a job array of SLURM, and do nothing."""


@command("compare", "train the derived architecture and random ones alike: the verdict")
def compare(args: list[str]) -> int:
    """Say what the search was worth: is its architecture better than random ones that are trained
    alike? It ends with a verdict.

    enas compare runs/mine --cells 8 --seeds 4
    enas compare runs/mine --references resnet --sharing
    enas compare runs/mine --all --max-time 8h     (every experiment of paper 3.3 in turn)
    enas compare runs/mine --epochs 20             (all by another recipe: --retrain flags)
    enas compare runs/mine --jobs ray              (on a cluster)
    enas compare runs/mine --slurm                 (prints a job array of its trainings)
    """
    from enas.cli.display import Display
    from enas.grading.compare import compare_opened, train_only, trainings_of
    from enas.grading.opened import OpenedRun
    from enas.runs import slurm
    from enas.runs.compared import Compared
    from enas.runs.planning import preset_plan
    from enas.runs.presets import registry as presets
    from enas.runs.settings import retrain_types_of

    # the flag's earlier name
    args = [re.sub("^--workers(?==|$)", "--jobs", word) for word in args]
    run = OpenedRun.at(args[0]) if args and not args[0].startswith("-") else None
    if run is None and not asks_for_help(args):
        raise ValueError("name the run to compare: enas compare RUN; see `enas compare --help`")
    plan = run.plan if run else preset_plan(next(iter(presets.PRESETS)))
    Flags = with_settings(CompareFlags, compare.__doc__, retrain_types_of(plan.settings), "retrain")
    flags = parse(Flags, args, "compare", Flags(run=run.path if run else Path(), settings=plan.settings.retrain))
    assert run is not None
    recipe = flags.settings if flags.epochs is None else dataclasses.replace(flags.settings, epochs=flags.epochs)
    if flags.slurm:
        words = slurm.without(args, {"--slurm": 0, "--jobs": 1, "--gpus-per-job": 1})
        last = len(trainings_of(run, flags, recipe)) - 1
        line = slurm.array(["compare", *words], "--only", f"0-{last}", plan.threads, plan.device.startswith("cuda"))
        print(slurm.said(line, ["compare", *words]))
        return 0
    if flags.only is not None:
        with Display() as display:
            train_only(run, flags, flags.only, recipe, seconds(flags.max_time), display)
        return display.status
    with Display() as display:
        verdict = compare_opened(run, flags, recipe, jobs_of(flags), seconds(flags.max_time), display)
    if verdict is not None:
        print(*summary(Compared.read(run.path)), sep="\n")
    return display.status


def summary(compared: Compared) -> Iterator[str]:
    """Yields the results, one line per part, with the verdict last."""
    for row in compared.rankings:
        yield (
            f"ranking {row.n} random architectures by {row.ranker}: Kendall's tau {row.kendall}, in the better half"
            f" {row.kendall_better_half.value:.2f}; its pick {compared.metric.figure(row.pick)}"
        )
    for last in compared.learning[-1:]:
        shown = "is above" if last.mean > last.half_width else "is not shown to be above"
        yield (
            f"the policy {shown} uniform sampling on the same shared weights: reward {figure(last.mean, 4, '+')} +-"
            f" {figure(last.half_width, 4)} after epoch {last.epoch}"
        )
    if compared.ledger:
        yield f"cost: {compared.ledger}"
    if disabled := compared.disabled:
        unit = compared.metric.unit
        yield (
            f"disabled controller: shared weights of untrained sampling have {disabled.mean:.2f}{unit} on the test part"
            f" (standard deviation {disabled.spread:.2f} over {disabled.configurations} configurations), their ensemble"
            f" {disabled.ensemble:.2f}{unit}"
        )
    for study in compared.studies:
        yield f"local optimum, {study.about}: {in_words(study, compared.metric)}"
    for name, why in compared.left_out.items():
        yield f"left out: {name}: {why}"
    if back := compared.rolled_back:
        yield f"{len(back)} trainings diverged, and went on at a lower rate from the start of an epoch: {', '.join(back)}"
    yield f"verdict: {compared.verdict}"


def in_words(study: StudyResult, metric: Metric) -> str:
    """Returns the outcome of a study as text."""
    diverged = f", {study.diverged} more diverged" if study.diverged else ""
    if study.largest is None:
        return f"no network trained to its end{diverged}" if diverged else "there is nothing to change in this architecture"
    among = f" of {study.there_are}" if study.there_are else ""
    gap = study.difference
    worse = f"worse by {metric.figure(gap.mean, '+')} +- {metric.figure(gap.half_width)} {metric.points}, " if gap else ""
    networks = f"{len(study.changed)}{among} networks{diverged}"
    paper = study.paper if study.paper.startswith("not") else f"paper: {study.paper}"
    return f"{networks}, {worse}the worst by {metric.figure(study.largest, '+')} ({paper})"
