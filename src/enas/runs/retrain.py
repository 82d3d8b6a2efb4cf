"""This module trains from scratch with a folder for the training, inside a run or anywhere."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas import plugins
from enas.procedures.events import Begun, Diverged, Done, Finished, RolledBack, Stopped, Trained, TrainEpochEnd
from enas.procedures.ranks import Ranks, joined
from enas.procedures.retrain import Retrain
from enas.procedures.settings import RetrainSettings
from enas.runs.architectures import architecture_of, best_of, is_run
from enas.runs.files import lines
from enas.runs.folder import Follower, RunFolder
from enas.runs.jobs import Jobs, engine_of, run_all, told_to_stop
from enas.runs.loop import Listener, after, drive, never, silent
from enas.runs.models import reference_for
from enas.runs.plan import Plan, check_source
from enas.runs.planning import preset_plan
from enas.runs.presets import registry as presets
from enas.runs.process import prepare
from enas.runs.results import Result, Retrained, Training
from enas.spaces.architecture import Architecture, Reference, model_from_dict
from enas.spaces.published import NAMED
from enas.state import Record, seed_of

RETRAINED = "retrain"  # folder of a run with its trainings
Row = Record  # a line of the table of trainings: rank, id, folder and figures


def retrain_folder(run: Path, arch: Architecture | Reference, seed: int, plan: Plan, own: Plan | None = None) -> Path:
    """Returns where a run keeps this training. A training by other settings than the run's own
    recipe has a folder of its own. `own` is the run's plan, where its folder is open already."""
    ours, own = plan.settings.retrain, own or Plan.recorded(RunFolder.open(run))
    recipe = "" if ours == own.settings.retrain else f"-{seed_of(ours):016x}"[:7]
    return run / RETRAINED / f"{arch.id}{recipe}-seed{seed}"


def retrain(
    plan: Plan,
    arch: Architecture | Reference,
    out: str | Path,
    *,
    seed: int = 0,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> dict[str, float] | None:
    """Trains `arch`, or a hand-designed model, from scratch by the plan's `retrain` settings, in
    folder `out`. Returns its final metrics, or None where it was stopped.

    A training that is already there goes on, and if it is finished, it is only read. Raises a
    ValueError if it had other settings.
    """
    if isinstance(arch, Architecture):
        plan.space.check(arch)
    with joined(plan.device) as ranks:
        plan = plan.shared(ranks)
        config = plan.to_dict("retrain", train_seed=seed, architecture=arch.to_dict())
        with _folder(Path(out), config, plan, arch, seed) if ranks.first else Follower(Path(out), config) as folder:
            folder.lock()
            return run_retrain(folder, plan, arch, seed, listen, stop, ranks)


def _folder(path: Path, config: Record, plan: Plan, arch: Architecture | Reference, seed: int) -> RunFolder:
    """Returns the folder of a training, which may exist already."""
    if (path / "config.json").exists():
        folder = RunFolder.open(path)
        there = Plan.of(folder.config, path / "config.json")
        if (
            there.settings.retrain,
            there.settings.data,
            folder.config["train_seed"],
            model_from_dict(folder.config["architecture"]),
        ) != (plan.settings.retrain, plan.settings.data, seed, arch):
            raise ValueError(f"'{path}' holds a training with other settings: choose another --out")
        check_version(path, plan)
        return folder
    return RunFolder.create(path, config)


def check_version(training: Path, plan: Plan) -> None:
    """Raises a ValueError where a training was made by another version of a problem's file. Those
    of a run lie together, beside its compare.json."""
    inside = training.parent.name == RETRAINED and (training.parent.parent / "config.json").exists()
    check_source(training, plan, f"'{training.parent}' and compare.json" if inside else "")


def run_retrain(
    folder: RunFolder,
    plan: Plan,
    arch: Architecture | Reference,
    seed: int,
    listen: Listener,
    stop: Callable[[], str | None],
    ranks: Ranks,
) -> dict[str, float] | None:
    """Runs a training in its folder to the end, or until `stop`. Returns its final metrics, or None
    where it was stopped. A finished training is only read."""
    if (done := ranks.told(lambda: Result.find(folder.path))) is not None:
        listen(Done(folder.path, done.to_json()))
        return done.metrics
    settings = plan.settings.retrain
    prepare(plan.device, plan.threads, settings.compute.precision)
    train_seed = seed_of(plan.seed, "retrain", seed)
    data = plan.load_data()
    task = dataclasses.replace(plan, seed=train_seed).task(data, settings.task, settings.train_on)
    model: Any = plan.model(settings.network, task, arch, train_seed)
    procedure = Retrain(settings, task, model, train_seed, ranks)
    state = ranks.told(folder.restore)
    if state is not None:
        folder.put(state, procedure)
    folder.clock("begin", epoch=procedure.epoch, step=procedure.step, threads=plan.threads, ranks=ranks.size)
    listen(Begun(folder.path, resumed_at=procedure.epoch, data=task.about, ranks=_shares(plan, ranks)))
    finished: dict[str, float] = {}

    def record(event: object) -> None:
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
    if ranks.first:
        Result.from_json(finished).write(folder.path)
    listen(Done(folder.path, finished))
    return finished


def _shares(plan: Plan, ranks: Ranks) -> str:
    """Returns in words how ranks share a training, or "" for one process."""
    if ranks.size == 1:
        return ""
    size = getattr(plan.settings.retrain.task, "batch_size", 0)
    each = f"the {size} examples of a batch, {ranks.most(size)} at most each" if size else "each batch"
    rate = plan.settings.retrain.optimizer.learning_rate
    return f"{ranks.size} ranks share out {each}; batch and rate ({rate:g}) are the recipe's; batch norm takes each share's"


# ------------------------------------------------------------------------------- many side by side
@dataclass(frozen=True)
class Job:
    """A `Job` is a training from scratch: of which model, in which folder, with which seed."""

    model: Architecture | Reference
    folder: Path
    seed: int


def passed_over(job: Job, result: Result) -> None:
    """Takes a training that is done, and does nothing with it."""


def retrain_many(
    plan: Plan,
    trainings: Sequence[Job],
    *,
    jobs: Jobs = None,
    listen: Listener = silent,
    stop: Callable[[], str | None] = never,
    finished: Callable[[Job, Result], None] = passed_over,
) -> tuple[list[Result | None], str | None]:
    """Trains from scratch as `jobs` asks. Trainings that are done already are only read. `finished`
    is called once with each training that is done.

    Returns the results in order, with None for those that were stopped, and the reason why they
    were.
    """
    config, length = plan.to_dict("retrain"), plan.settings.retrain.epochs

    def told(results: Sequence[Result | None]) -> None:
        epochs = sum(length if result else logged(job.folder) for job, result in zip(trainings, results, strict=True))
        done = sum(result is not None for result in results)
        listen(Trained(epochs, len(trainings) * length, done, len(trainings)))

    return run_all(
        engine_of(plan, jobs, listen),
        _train,
        [(config, job) for job in trainings],
        told=told,
        stop=stop,
        finished=lambda i, result: finished(trainings[i], result),
    )


def logged(folder: Path) -> int:
    """Returns how many epochs of a run are logged, for progress bars."""
    return sum(1 for _ in lines(folder / "metrics.jsonl"))


def _train(config: Record, job: Job) -> Result | None:
    plugins.trust(*plugins.dotted(config))  # it runs in the parent too
    try:
        figures = retrain(Plan.of(config), job.model, job.folder, seed=job.seed, stop=told_to_stop)
        return None if figures is None else Result.from_json(figures)
    except Diverged as error:
        return Result({}, diverged=str(error))


# ------------------------------------------------------------------------------- by what names it
def retrain_plan(
    what: str | Path | None, arch: str | None = None, preset: str | None = None, recipe: str | None = None
) -> Plan:
    """Returns the plan by which `enas retrain` trains: that of a run, or a preset's for the space
    of an architecture, or for the hand-designed model `arch`. Raises a ValueError where names do
    not go together."""
    if what is not None and is_run(what):
        if preset or recipe:
            raise ValueError(f"'{what}' is a run and trains by its own preset and recipe; --retrain flags change settings")
        return Plan.recorded(RunFolder.open(Path(what)))
    if arch is not None:
        if what is not None:
            raise ValueError(f"--arch names a hand-designed model, beside a run or nothing; got '{what}'")
        return preset_plan(preset or presets.preset_for_reference(arch), recipe)
    if what is None:
        raise ValueError("name what to train: a run folder, an architecture file or a name; see `enas retrain --help`")
    space = architecture_of(what).space
    return preset_plan(preset or presets.preset_for(space["name"]), recipe).with_space(space)


def retrain_named(
    plan: Plan,
    what: str | Path | None,
    *,
    reference: str | None = None,
    parameters: int | None = None,
    top: int = 1,
    seed: int = 0,
    out: Path | None = None,
    jobs: Jobs = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> list[Row] | None:
    """Trains from scratch what `what` names: the `top` best of a run, as `jobs` asks, or an
    architecture. With `reference`, trains that hand-designed model, with as many parameters as the
    run's best. Returns the results, the chosen one first, or None where it was stopped."""
    run = Path(what) if what is not None and is_run(what) else None
    if parameters is not None and reference is None:
        raise ValueError("--parameters is of a hand-designed model: name it with --arch")
    if run is not None and out is None and reference is None:
        return _best(plan, run, top, seed, jobs, after(max_seconds), listen)
    if jobs is not None:
        raise ValueError("--jobs trains the best of a run side by side; leave it out, as here one network is trained")
    if reference is not None:
        model: Architecture | Reference = reference_for(plan, reference, run, parameters)
        name = model.id
    else:
        assert what is not None
        model = architecture_of(what)
        name = Path(what).stem if what in NAMED or os.path.isfile(what) else f"{model.space['name']}-{model.id}"
    if out is None and run is not None:
        out = retrain_folder(run, model, seed, plan)
    out = out or Path("runs") / f"{name}-{plan.preset}-{plan.recipe}" / f"seed{seed}"
    metrics = retrain(plan, model, out, seed=seed, stop=after(max_seconds), listen=listen)
    return None if metrics is None else [{"rank": 1, "id": model.id, "folder": str(out), **metrics}]


def retrain_best(
    run: str | Path,
    *,
    top: int = 1,
    seed: int = 0,
    settings: RetrainSettings | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    jobs: Jobs = None,
    max_seconds: float | None = None,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> list[Row] | None:
    """Trains the `top` best derived architectures from scratch, as `jobs` asks, or one after the
    other. Writes `retrained.json`. Returns the results, the chosen one first, or None where it was
    stopped.

    More than one are ordered by their validation figure: the choice never looks at the test set,
    which each training reads once, at its end. Raises a ValueError where there is nothing to choose
    by.
    """
    plan = Plan.recorded(RunFolder.open(Path(run))).on(data, device, threads)
    plan = plan if settings is None else plan.with_settings(retrain=settings)
    return _best(plan, Path(run), top, seed, jobs, after(max_seconds, stop), listen)


def _best(
    plan: Plan, run: Path, top: int, seed: int, jobs: Jobs, stop: Callable[[], str | None], listen: Listener
) -> list[Row] | None:
    with joined(plan.device) as ranks, RunFolder.open(run) as folder:
        if jobs is not None and ranks.size > 1:
            raise ValueError("ranks train one network together: leave out --jobs, or torchrun")
        if ranks.first:
            folder.lock("retrain")
        rows = _best_locked(plan, run, top, seed, jobs, stop, listen)
        if rows is not None and ranks.first:
            trained = tuple(Training.from_json(row) for row in rows)
            Retrained(plan.settings.retrain.train_on, trained[0].id, trained).write(run)
        return rows


def _best_locked(
    plan: Plan, run: Path, top: int, seed: int, jobs: Jobs, stop: Callable[[], str | None], listen: Listener
) -> list[Row] | None:
    best = best_of(run)
    if not 1 <= top <= len(best):
        raise ValueError(f"--top is between 1 and the {len(best)} architectures in best.json; got {top}")
    if top > 1 and plan.settings.retrain.train_on != "train":
        raise ValueError("--top above 1 chooses on validation data; retrain.train_on 'train+validation' leaves none")
    trainings = [Job(arch, retrain_folder(run, arch, seed, plan), seed) for arch in best[:top]]
    figures = (
        _one_by_one(plan, trainings, stop, listen) if jobs is None else _by_jobs(plan, run, trainings, jobs, stop, listen)
    )
    if figures is None:
        return None
    rows: list[Row] = [
        {"rank": rank, "id": job.model.id, "folder": str(job.folder.relative_to(run)), **metrics}
        for rank, (job, metrics) in enumerate(zip(trainings, figures, strict=True), 1)
    ]
    if top > 1:
        rows.sort(key=lambda row: plan.metric.cost(row[f"validation_{plan.metric.name}"]))
    return rows


def _one_by_one(
    plan: Plan, trainings: Sequence[Job], stop: Callable[[], str | None], listen: Listener
) -> list[dict[str, float]] | None:
    figures = []
    for job in trainings:
        if (metrics := retrain(plan, job.model, job.folder, seed=job.seed, stop=stop, listen=listen)) is None:
            return None
        figures.append(metrics)
    return figures


def _by_jobs(
    plan: Plan, run: Path, trainings: Sequence[Job], jobs: Jobs, stop: Callable[[], str | None], listen: Listener
) -> list[dict[str, float]] | None:
    results, why = retrain_many(plan, trainings, jobs=jobs, listen=listen, stop=stop)
    if why is not None:
        listen(Stopped(run, why, again="the same command"))
        return None
    for job, result in zip(trainings, results, strict=True):
        if result is not None and result.diverged is not None:
            raise Diverged(f"{job.model.id}: {result.diverged}")
    return [result.metrics for result in results if result is not None]


def shortened(plan: Plan, epochs: int | None = None, cutout: int | None = None, highest_filters: int | None = None) -> Plan:
    """Returns the plan with its training from scratch changed by short flags. Raises a ValueError
    where it has no such setting."""
    settings = plan.settings.retrain
    if epochs is not None:
        settings = dataclasses.replace(settings, epochs=epochs)
    if cutout is not None:
        if not hasattr(settings.task, "cutout"):
            raise ValueError(f"--cutout blanks squares of images; preset '{plan.preset}' has none")
        settings = dataclasses.replace(settings, task=dataclasses.replace(settings.task, cutout=cutout))
    if highest_filters is not None:
        if not hasattr(settings.network, "widened"):
            raise ValueError(f"--highest-filters widens convolutional networks; preset '{plan.preset}' has none")
        settings = dataclasses.replace(settings, network=settings.network.widened(highest_filters))
    return plan.with_settings(retrain=settings)
