"""This module runs searches that differ only in their seed, each with the steps that are asked for
after it, and summarises them. The result of a method is a mean over seeds, and never one run.

Each seed has a run folder of its own, `seed0`, `seed1`, and so on. A seed that is done is not done
again. So the same sweep goes on where it was stopped, and uses what other machines have done.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from enas import plugins
from enas.procedures.events import Stopped, Trained
from enas.runs.derive import derive
from enas.runs.folder import RunFolder
from enas.runs.jobs import Jobs, engine_of, run_all, told_to_stop
from enas.runs.loop import Listener, after, never, silent
from enas.runs.plan import Plan, check_source
from enas.runs.records import Config, epochs
from enas.runs.results import Best, Retrained
from enas.runs.resume import resume
from enas.runs.retrain import logged, retrain_best
from enas.runs.search import finished, search_plan
from enas.state import Record

Until = Literal["search", "derive", "retrain"]
MOST_SEEDS = 1000
AGAIN = "the same command"
# stages of the rewards of a derived architecture, of which the last one that exists counts
STAGES = ("minibatch", "validation", "alone", "short", "final")


@dataclass(frozen=True)
class Swept:
    """A `Swept` value is a seed that is done: its run folder, and its figures by their names."""

    seed: int
    folder: Path
    figures: Mapping[str, float]


class _Halt(Exception):
    """This exception stops a derivation. The trainings that it made are in its journal."""


def seeds_of(text: str) -> tuple[int, ...]:
    """Returns the seeds of a text such as `0-9` or `0,3,10-12`. Raises a ValueError for another
    form."""
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", text):
        raise ValueError(f"--seeds are numbers and ranges, such as 0-9 or 0,3,10-12; got '{text}'")
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) - int(first) + 1 + len(seeds) > MOST_SEEDS:
            raise ValueError(f"a sweep has at most {MOST_SEEDS} seeds; got '{text}'")
        seeds |= dict.fromkeys(range(int(first), int(last or first) + 1))
    if not seeds:
        raise ValueError(f"a range of seeds goes up; got '{text}'")
    return tuple(seeds)


def sweep(
    plan: Plan,
    out: str | Path,
    seeds: Sequence[int],
    *,
    until: Until = "retrain",
    jobs: Jobs = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> list[Swept] | None:
    """Searches with each seed, then derives and trains the best from scratch, as far as `until`.

    Seeds run side by side as `jobs` asks; without it, a single seed runs in this process. Returns
    the seeds that are done, in order, or None where it was stopped. When it is called again, it
    goes on.
    """
    plans = {seed: dataclasses.replace(plan, seed=seed) for seed in seeds}
    folders = {seed: Path(out) / f"seed{seed}" for seed in seeds}
    figures = {seed: done_of(plans[seed], folders[seed], until) for seed in seeds}
    missing, stop = [seed for seed in seeds if figures[seed] is None], after(max_seconds)
    if jobs is None and len(seeds) == 1:
        figures |= {seed: one(plans[seed], folders[seed], until, stop, listen) for seed in missing}
    elif missing:

        def told(results: Sequence[object]) -> None:
            finished = len(seeds) - sum(result is None for result in results)
            searched = sum(logged(folder) for folder in folders.values())
            listen(Trained(searched, len(seeds) * plan.settings.search.epochs, finished, len(seeds), "searches"))

        results, why = run_all(
            engine_of(plan, jobs, listen),
            _sweep,
            [(plans[seed].to_dict("search"), str(folders[seed]), until) for seed in missing],
            told=told,
            stop=stop,
            finished=lambda i, result: None,
        )
        figures |= dict(zip(missing, results, strict=True))
        if why is not None and None in results:
            listen(Stopped(Path(out), why, again=AGAIN))
    swept = [Swept(seed, folders[seed], of) for seed, of in figures.items() if of is not None]
    return swept if len(swept) == len(seeds) else None


def _sweep(config: Record, folder: str, until: Until) -> dict[str, float] | None:
    plugins.trust(*plugins.dotted(config))  # it runs in the parent too
    return one(Plan.of(config), Path(folder), until, told_to_stop)


def one(
    plan: Plan, folder: Path, until: Until, stop: Callable[[], str | None] = never, listen: Listener = silent
) -> dict[str, float] | None:
    """Does what is missing of one seed, and returns its figures, or None where it was stopped."""

    def heard(event: object) -> None:
        listen(event)
        if stop() is not None:
            raise _Halt

    if not (folder / Config.FILE).exists():
        search_plan(plan, out=folder, stop=stop, listen=listen)
    elif not finished(folder):
        resume(folder, stop=stop, listen=listen)
    if not finished(folder):
        return None
    try:
        if until != "search" and Best.find(folder) is None:
            derive(folder, jobs=1, listen=heard)
    except _Halt:
        return None
    if until == "retrain" and Retrained.find(folder) is None:
        retrain_best(folder, stop=stop, listen=listen)
    return done_of(plan, folder, until)


def done_of(plan: Plan, folder: Path, until: Until) -> dict[str, float] | None:
    """Returns the figures of a seed that is done, or None where something of it is missing. Raises
    a ValueError where the folder holds a search by other settings."""
    if not (folder / Config.FILE).exists():
        return None
    there = Plan.recorded(RunFolder.open(folder))
    if any(getattr(there, name) != getattr(plan, name) for name in ("settings", "names", "seed", "limits")):
        raise ValueError(f"'{folder}' holds a search with other settings: choose another --out")
    check_source(folder, plan)
    needed = {"search": (), "derive": (Best,), "retrain": (Best, Retrained)}[until]
    if not finished(folder) or any(not (folder / file.FILE).exists() for file in needed):
        return None
    return figures_of(folder, until)


def figures_of(folder: Path, until: Until) -> dict[str, float]:
    """Returns the figures of a seed that is done: the mean reward of the last epoch, where the
    strategy had a step in it, the reward of the derived architecture, and its figures from
    scratch."""
    last = epochs(folder)[-1]
    figures = {"reward": float(last["reward"])} if "reward" in last else {}
    if until != "search":
        shared = Best.read(folder).ranked[0].shared_weights
        figures["derived"] = [shared[f"{stage}_reward"] for stage in STAGES if f"{stage}_reward" in shared][-1]
    if until == "retrain":
        metric = Plan.recorded(RunFolder.open(folder)).metric
        known = Retrained.read(folder).best.result.figures
        parts = [part for part in ("validation", "test") if f"{part}_{metric.name}" in known]
        figures |= {f"{part} {metric.name}": metric.shown(known[f"{part}_{metric.name}"]) for part in parts}
    return figures


def summed_up(swept: Sequence[Swept]) -> dict[str, dict[str, float]]:
    """Returns for each figure its mean, standard deviation (of a sample, for two seeds at least),
    least and largest value over seeds."""
    summary: dict[str, dict[str, float]] = {}
    for name in swept[0].figures:
        values = [one.figures[name] for one in swept]
        deviation = {"standard deviation": statistics.stdev(values)} if len(values) > 1 else {}
        summary[name] = {"mean": statistics.fmean(values), **deviation, "least": min(values), "largest": max(values)}
    return summary
