"""Training from scratch with its folder, inside a run or anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enas.procedures.events import Begun, Done, Finished, RolledBack, Stopped, TrainEpochEnd
from enas.procedures.retrain import Retrain
from enas.runs.architectures import best_of
from enas.runs.folder import RunFolder
from enas.runs.loop import Listener, after, drive, never, silent
from enas.runs.plan import Setup, setup
from enas.runs.process import prepare
from enas.runs.records import Result, Retrained, Training
from enas.spaces.architecture import Architecture, Reference, model_from_dict
from enas.state import seed_of


def retrain_folder(run: Path, arch: Architecture | Reference, seed: int, plan: Setup, own: Setup | None = None) -> Path:
    """Returns where a run keeps this training; one by other settings than the run's own recipe has a folder
    of its own. `own`: the run's plan, where its folder is open already."""
    ours, own = plan.settings.retrain, own or Setup.of(RunFolder.open(run).config)
    recipe = "" if ours == own.settings.retrain else f"-{seed_of(ours):016x}"[:7]
    return run / "retrain" / f"{arch.id}{recipe}-seed{seed}"


def retrain(
    plan: Setup,
    arch: Architecture | Reference,
    out: str | Path,
    *,
    seed: int = 0,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> dict[str, float] | None:
    """Train `arch`, or a hand-designed model, alone by the plan's `retrain` settings in folder `out`; its final metrics,
    None where it was stopped.

    A training that is there already goes on, and is read if it is finished; ValueError if it had other settings.
    """
    if isinstance(arch, Architecture):
        plan.space.check(arch)
    path = Path(out)
    config = plan.to_dict("retrain", train_seed=seed, architecture=arch.to_dict())
    if (path / "config.json").exists():
        folder = RunFolder.open(path)
        there = Setup.of(folder.config)
        if (
            there.settings.retrain,
            there.settings.data,
            folder.config["train_seed"],
            model_from_dict(folder.config["architecture"]),
        ) != (plan.settings.retrain, plan.settings.data, seed, arch):
            raise ValueError(f"'{path}' holds a training with other settings: choose another --out")
    else:
        folder = RunFolder.create(path, config)
    with folder:
        folder.lock()
        return run_retrain(folder, plan, arch, seed, listen, stop)


def run_retrain(
    folder: RunFolder,
    plan: Setup,
    arch: Architecture | Reference,
    seed: int,
    listen: Listener,
    stop: Callable[[], str | None],
) -> dict[str, float] | None:
    if (done := Result.find(folder.path)) is not None:
        listen(Done(folder.path, done.to_json()))
        return done.metrics
    prepare(plan.device, plan.threads)
    settings = plan.settings.retrain
    train_seed = seed_of(plan.seed, "retrain", seed)
    data = plan.load_data()
    task = dataclasses.replace(plan, seed=train_seed).task(data, settings.task, settings.train_on)
    model: Any = plan.model(settings.network, task, arch, train_seed)
    procedure = Retrain(settings, task, model, train_seed)
    state = folder.restore()
    if state is not None:
        procedure.load(state)
    folder.clock("begin", epoch=procedure.epoch, step=procedure.step, threads=plan.threads)
    listen(Begun(folder.path, resumed_at=procedure.epoch, data=task.about))
    finished: dict[str, float] = {}

    def record(event: Any) -> None:
        if isinstance(event, TrainEpochEnd):
            folder.append("metrics", event.metrics)
            folder.clock("epoch", epoch=event.epoch)
        elif isinstance(event, RolledBack):
            folder.clock("rolled back", epoch=event.epoch + 1, step=event.step + 1, why=event.why, factor=event.factor)
        elif isinstance(event, Finished):
            finished.update(event.metrics, parameters=model.num_parameters(aux=False))

    why = drive(folder, procedure, record, listen, stop)
    folder.clock("end", why=why or "finished")
    if why:
        listen(Stopped(folder.path, why))
        return None
    Result.from_json(finished).write(folder.path)
    listen(Done(folder.path, finished))
    return finished


def retrain_best(
    run: str | Path,
    *,
    top: int = 1,
    seed: int = 0,
    settings: Any = None,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> list[dict[str, Any]] | None:
    """Train the `top` best derived architectures alone, one after the other; results, the chosen one first.

    More than one are ordered by their validation figure: the choice never looks at the test set, which each reads once, at
    its end. Writes `retrained.json`. None where it was stopped. ValueError where there is nothing to choose by.
    """
    path = Path(run)
    best = best_of(path)
    plan = Setup.of(RunFolder.open(path).config)
    whole = plan.settings if settings is None else dataclasses.replace(plan.settings, retrain=settings)
    here = setup(
        plan.preset,
        plan.recipe,
        whole,
        plan.seed,
        data or plan.data,
        device or plan.device,
        plan.threads if threads is None else threads,
    )
    plan = dataclasses.replace(here, source=plan.source)
    if not 1 <= top <= len(best):
        raise ValueError(f"--top is between 1 and the {len(best)} architectures in best.json; got {top}")
    if top > 1 and plan.settings.retrain.train_on != "train":
        raise ValueError("--top above 1 chooses on validation data; retrain.train_on 'train+validation' leaves none")
    stop = after(max_seconds)
    rows: list[dict[str, Any]] = []
    for rank, arch in enumerate(best[:top], 1):
        folder = retrain_folder(path, arch, seed, plan)
        metrics = retrain(plan, arch, folder, seed=seed, stop=stop, listen=listen)
        if metrics is None:
            return None
        rows.append({"rank": rank, "id": arch.id, "folder": str(folder.relative_to(path)), **metrics})
    if top > 1:
        rows.sort(key=lambda row: plan.metric.cost(row[f"validation_{plan.metric.name}"]))
    trainings = tuple(Training.from_json(row) for row in rows)
    Retrained(plan.settings.retrain.train_on, trainings[0].id, trainings).write(path)
    return rows
