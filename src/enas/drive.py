"""Drives a procedure and keeps its run folder: search, resume, retrain.

Every event is recorded and passed to a listener (the command line's progress bars). A checkpoint is written every half
minute, at the end, and when time is up or a signal comes; the step at hand is always finished first.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from enas.architecture import Architecture, Reference, model_from_dict
from enas.assemble import Setup
from enas.retrain import Finished, Retrain, RolledBack, TrainEpochEnd
from enas.run import RunFolder, read_json, tensorboard, write_json
from enas.search import Cost, Diverged, EpochEnd, Search, Step
from enas.training import State, prepare, seed_of

CHECKPOINT_SECONDS = 30.0
Listener = Callable[[Any], None]


def silent(event: Any) -> None:
    """Listens to nothing."""


@dataclass(frozen=True)
class Begun:
    """A run begins or goes on: its folder, and for a search what the rest will cost."""

    folder: Path
    cost: Cost | None = None
    resumed_at: int | None = None  # epochs that were done then
    data: str = ""  # in a few words


@dataclass(frozen=True)
class Stopped:
    """A run ended before its end, in good order; `again` is what goes on, where it is not `enas resume`."""

    folder: Path
    why: str
    again: str | None = None


@dataclass(frozen=True)
class Trained:
    """How far a number of trainings are: epochs of all, and trainings finished."""

    epochs: int
    of_epochs: int
    finished: int
    trainings: int


@dataclass(frozen=True)
class Done:
    """A command reached its end; `folder` holds what it made."""

    folder: Path
    result: Any = None


# ----------------------------------------------------------------------------------------------------- the drive
class _Signals:
    """Ctrl-C and SIGTERM, remembered until the step at hand is whole. A second Ctrl-C does not wait."""

    def __init__(self) -> None:
        self.why: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.why is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.why = "interrupted" if number == signal.SIGINT else "terminated"


@contextmanager
def signals() -> Iterator[_Signals]:
    caught = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drive(
    folder: RunFolder,
    procedure: Search | Retrain,
    record: Callable[[Any], None],
    listen: Listener,
    stop: Callable[[], str | None],
) -> str | None:
    """Run `procedure` to its end, or until `stop` or a signal says why not: then the reason. Checkpoints as it goes: one
    replaces another when the step after it was made too, so that training that diverges goes back to before."""
    last, packed = time.monotonic(), b""
    try:
        with signals() as caught:
            for event in procedure.run():
                made = not (isinstance(event, RolledBack) or (isinstance(event, Step) and event.skipped))
                if packed and made:
                    folder.keep(packed)
                packed = b""
                record(event)
                listen(event)
                why = caught.why or stop()
                if why is not None:
                    folder.checkpoint(_sound(procedure.state()))
                    if not isinstance(event, Finished):
                        return why
                elif made and time.monotonic() - last >= CHECKPOINT_SECONDS:
                    packed, last = folder.packed(_sound(procedure.state())), time.monotonic()
            folder.checkpoint(_sound(procedure.state()))
    except Diverged:
        folder.roll_back()
        folder.clock("end", why="diverged")
        raise
    return None


def _sound(state: State) -> State:
    """`state`; `Diverged` where it holds values that are not finite, which must not replace a good checkpoint."""
    for key, tensor in state.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(
                f"'{key}' holds values that are not finite; try a lower learning rate: what was saved is from before"
            )
    return state


def never() -> str | None:
    """Stops nothing."""
    return None


def after(seconds: float | None) -> Callable[[], str | None]:
    """Stops when `seconds` from now are over; None: never."""
    if seconds is None:
        return never
    end = time.monotonic() + seconds
    return lambda: "time is up" if time.monotonic() >= end else None


# --------------------------------------------------------------------------------------------------------- search
def search(
    plan: Setup,
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> Path:
    """Search by `plan`; the run folder. ValueError before anything is written where an input is bad."""
    if epochs is not None:
        changed = dataclasses.replace(plan.settings.search, epochs=epochs)
        plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, search=changed))
    path = Path(out) if out is not None else Path("runs") / f"{plan.preset}-{plan.recipe}" / f"seed{plan.seed}"
    if (path / "config.json").exists():
        RunFolder.create(path, {})  # raises, before minutes are spent on the data
    procedure = plan.search()
    cost = procedure.preview()
    with RunFolder.create(path, plan.to_dict("search")) as folder:
        folder.lock()
        folder.clock("begin", threads=plan.threads, estimated_seconds=round(cost.seconds, 1))
        listen(Begun(path, cost, data=procedure.task.about))
        _search(folder, procedure, listen, after(max_seconds))
    return path


def resume(run: str | Path, *, max_seconds: float | None = None, listen: Listener = silent) -> Path:
    """Continue a search or a retraining from its last checkpoint, as if it had never stopped."""
    path = Path(run)
    with RunFolder.open(path) as folder:
        folder.lock()
        plan = Setup.of(folder.config)
        if folder.config["command"] == "retrain":
            arch = model_from_dict(folder.config["architecture"])
            _retrain(folder, plan, arch, folder.config["train_seed"], listen, after(max_seconds))
            return path
        procedure = plan.search()
        state = folder.restore()
        if state is not None:
            procedure.load(state)
        folder.clock("resume", epoch=procedure.epoch, phase=procedure.phase, step=procedure.step)
        listen(Begun(path, procedure.preview(), procedure.epoch, procedure.task.about))
        _search(folder, procedure, listen, after(max_seconds))
    return path


def _search(folder: RunFolder, procedure: Search, listen: Listener, stop: Callable[[], str | None]) -> None:
    began = time.perf_counter()

    with tensorboard(folder.path, procedure.epoch) as writer:

        def record(event: Any) -> None:
            nonlocal began
            if isinstance(event, Step):
                for child, (arch, value) in enumerate(zip(event.archs, event.values, strict=True)):
                    where = {"phase": event.phase, "epoch": event.epoch + 1, "step": event.step, "child": child}
                    where |= {"skipped": event.skipped} if event.skipped else {}
                    figure = value if math.isfinite(value) else None  # JSON has no other numbers
                    folder.append_architecture(arch, {**where, "loss" if event.phase == "shared" else "reward": figure})
            elif isinstance(event, EpochEnd):
                folder.append("metrics", event.metrics)
                folder.clock("epoch", epoch=event.epoch, seconds=round(time.perf_counter() - began, 3))
                began = time.perf_counter()
                for name, value in event.metrics.items():
                    if isinstance(value, float):
                        writer.add_scalar(f"search/{name}", value, event.epoch)

        why = _drive(folder, procedure, record, listen, stop)
    folder.clock("end", why=why or "finished")
    listen(Stopped(folder.path, why) if why else Done(folder.path))


# -------------------------------------------------------------------------------------------------------- retrain
def retrain_folder(run: Path, arch: Architecture | Reference, seed: int, plan: Setup) -> Path:
    """Where a run keeps this training; one by other settings than the run's own recipe has a folder of its own."""
    ours = plan.settings.retrain
    recipe = "" if ours == Setup.of(RunFolder.open(run).config).settings.retrain else f"-{seed_of(ours):016x}"[:7]
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
        return _retrain(folder, plan, arch, seed, listen, stop)


def _retrain(
    folder: RunFolder,
    plan: Setup,
    arch: Architecture | Reference,
    seed: int,
    listen: Listener,
    stop: Callable[[], str | None],
) -> dict[str, float] | None:
    result = folder.path / "result.json"
    if result.exists():
        metrics = read_json(result)
        listen(Done(folder.path, metrics))
        return metrics
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

    why = _drive(folder, procedure, record, listen, stop)
    folder.clock("end", why=why or "finished")
    if why:
        listen(Stopped(folder.path, why))
        return None
    write_json(result, finished)
    listen(Done(folder.path, finished))
    return finished
