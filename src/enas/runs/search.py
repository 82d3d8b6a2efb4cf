"""This module runs a search with its run folder."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path

from enas.procedures.events import Begun, Done, EpochEnd, Step, Stopped
from enas.procedures.ranks import joined
from enas.procedures.search import Search
from enas.runs.files import read_json
from enas.runs.folder import Follower, RunFolder, check_new
from enas.runs.loop import Listener, after, drive, never, silent
from enas.runs.plan import Plan
from enas.runs.planning import make_plan, named_plan
from enas.runs.presets.registry import PRESETS, config_of
from enas.runs.records import ticks
from enas.runs.settings import Settings
from enas.tasks.metrics import figure

# At most this share of a budget trains shared weights, which are one judge of several. The recipes
# of both demos give them a sixth and two fifths (docs/decisions.md).
SHARED = 0.25


def planned(
    preset: str | None = None,
    config: str | Path | None = None,
    recipe: str | None = None,
    strategy: str | None = None,
    device: str | None = None,
    space: str | None = None,
    task: str | None = None,
) -> Plan:
    """Returns the plan of a preset, or that of another search's config.json. The other arguments
    change it."""
    plan = _planned(preset, config, recipe, strategy, device)
    plan = plan if task is None else plan.with_task(task)
    return plan if space is None else plan.with_space_named(space)


def _planned(
    preset: str | None, config: str | Path | None, recipe: str | None, strategy: str | None, device: str | None
) -> Plan:
    if config is None:
        if preset is None:
            raise ValueError(f"name what to search: {', '.join(PRESETS)}; see `enas search --help`")
        return named_plan(preset, recipe, device=device, strategy=strategy)
    record = read_json(Path(config))
    if not isinstance(record, dict) or record.get("command") != "search":
        raise ValueError(f"--config takes the config.json of a search; got '{config}'")
    plan = dataclasses.replace(Plan.of(record, Path(config)), source=None)
    for name, asked in (("preset", preset), ("recipe", recipe)):
        if asked not in (None, record[name]):
            raise ValueError(f"--config repeats a search of {name} '{record[name]}'; leave out '{asked}'")
    return plan if strategy is None else plan.with_strategy(strategy)


def search_plan(
    plan: Plan,
    *,
    out: str | Path | None = None,
    max_seconds: float | None = None,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> Path:
    """Searches by `plan` and returns the run folder. Raises a ValueError for bad input before
    anything is written. Warns where the strategy gets no step to learn by."""
    path = (
        Path(out)
        if out is not None
        else Path("runs") / f"{plan.preset}-{plan.recipe}".replace(":", "-") / f"seed{plan.seed}"
    )
    stop = after(max_seconds, stop)
    with joined(plan.device) as ranks:
        if ranks.first:
            check_new(path)  # before minutes are spent on the data
        if why := never_learns(plan):
            warnings.warn(f"the strategy learns nothing in this search: {why}", stacklevel=2)
        plan = plan.shared(ranks)
        procedure = plan.search(ranks)
        cost = procedure.preview()
        config = plan.to_dict("search")
        with RunFolder.create(path, config) if ranks.first else Follower(path, config) as folder:
            folder.lock()
            folder.clock("begin", threads=plan.threads, ranks=ranks.size, estimated_seconds=round(cost.seconds, 1))
            listen(Begun(path, cost, data=procedure.task.about, ranks=shares(procedure)))
            run_search(folder, procedure, listen, stop)
    return path


def never_learns(plan: Plan) -> str:
    """Returns in words why the strategy of a search gets no step, and what to do. Returns "" where
    it gets some, where it does not learn, and where `derive` does not ask it."""
    search = plan.settings.search
    if not plan.learns or plan.settings.derive.draw == "uniform":
        return ""
    if not search.controller_steps:
        return "search.controller_steps is 0; give at least 1"
    if search.warmup_epochs < search.epochs:
        return ""
    return (
        f"every epoch warms up, as search.warmup_epochs is {search.warmup_epochs}; give more --search.epochs, or fewer"
        " --search.warmup-epochs"
    )


def with_epochs(plan: Plan, epochs: int, keeps_warmup: bool = False) -> Plan:
    """Returns the plan with another number of epochs. The same share of them warms up, but one at
    least is left to the strategy where it had any. With `keeps_warmup`, as many warm up as
    before."""
    search = plan.settings.search
    warm = search.warmup_epochs
    if not keeps_warmup:
        warm = round(warm * epochs / search.epochs)
        warm = min(warm, max(0, epochs - 1)) if search.warmup_epochs < search.epochs else warm
    return plan.with_settings(search=dataclasses.replace(search, epochs=epochs, warmup_epochs=warm))


def within(plan: Plan, budget: float) -> Plan:
    """Returns the plan whose search and derivation together take about `budget` seconds of
    processor time. The search has as many of its epochs as fit into a quarter of it, and short
    trainings get what is left. Raises a ValueError where not even one epoch fits."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("--budget is for one process; with several say --search.epochs, and derive with --budget")
    search = plan.settings.search
    each = plan.search().preview().seconds * plan.threads / search.epochs
    epochs = min(search.epochs, int(SHARED * budget / each))
    if not epochs:
        took = figure(each, 0 if each >= 10 else 2)
        raise ValueError(
            f"one epoch takes some {took} s of processor time, and shared weights get a quarter of --budget:"
            f" give at least {math.ceil(each / SHARED)}s, or fewer data or filters; got {budget:g}s"
        )
    derive = dataclasses.replace(plan.settings.derive, budget=budget - epochs * each)
    return with_epochs(plan, epochs).with_settings(derive=derive)


def finished(folder: Path) -> bool:
    """Returns whether a search went to its end."""
    last = deque(ticks(folder), maxlen=1)
    return any(tick.event == "end" and tick.why == "finished" for tick in last)


def shares(procedure: Search) -> str:
    """Returns in words how ranks share a search, or "" for one process."""
    n, children, rewards = procedure.ranks.size, procedure.settings.children, procedure.settings.architectures
    if n == 1:
        return ""
    text = f"{n} ranks share out the children of a step ({children}) and the rewards of a controller step ({rewards})"
    return text if children >= n else f"{text}; --search.children {n} would give each rank one child"


def run_search(folder: RunFolder, procedure: Search, listen: Listener, stop: Callable[[], str | None]) -> None:
    """Runs a search to its end, or until `stop`, and keeps its logs."""
    began, sent = time.perf_counter(), 0  # when the epoch began, and bytes sent before it

    with folder.tensorboard(procedure.epoch) as writer:

        def record(event: object) -> None:
            nonlocal began, sent
            if isinstance(event, Step):
                for child, (arch, value) in enumerate(zip(event.archs, event.values, strict=True)):
                    where = {"phase": event.phase, "epoch": event.epoch + 1, "step": event.step, "child": child}
                    where |= {"skipped": event.skipped} if event.skipped else {}
                    figure = value if math.isfinite(value) else None  # JSON has no other numbers
                    folder.append_architecture(arch, {**where, "loss" if event.phase == "shared" else "reward": figure})
            elif isinstance(event, EpochEnd):
                folder.append("metrics", event.metrics)
                seconds, ranks = round(time.perf_counter() - began, 3), procedure.ranks
                more = {"sent_bytes": ranks.sent - sent} if ranks.size > 1 else {}
                folder.clock("epoch", epoch=event.epoch, seconds=seconds, **more)
                began, sent = time.perf_counter(), ranks.sent
                for name, value in event.metrics.items():
                    if isinstance(value, float):
                        writer.add_scalar(f"search/{name}", value, event.epoch)

        why = drive(folder, procedure, record, listen, stop)
    folder.clock("end", why=why or "finished")
    listen(Stopped(folder.path, why) if why else Done(folder.path))


def search(
    preset: str,
    recipe: str | None = None,
    *,
    settings: Settings | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    max_seconds: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    strategy: str | None = None,
    listen: Listener = silent,
) -> Path:
    """Searches a preset's space and returns the run folder. `settings` come from
    `presets.config_of`, changed as you like. `strategy` is a registered name, or
    `package.module:thing` of your own. With `epochs`, the warm-up becomes shorter or longer in
    proportion, unless `settings` change it."""
    plan = make_plan(preset, recipe, settings, seed, data, device, threads, strategy)
    if epochs is not None:
        recipe_warmup = config_of(preset, recipe).search.warmup_epochs
        plan = with_epochs(plan, epochs, keeps_warmup=plan.settings.search.warmup_epochs != recipe_warmup)
    return search_plan(plan, out=out, max_seconds=max_seconds, listen=listen)
