"""Many trainings side by side, in processes of their own; they stop in good order, and what is done
is not done again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.networks.kernels import keep_memory
from enas.procedures.events import Diverged, Trained
from enas.runs.loop import Listener, never, silent
from enas.runs.plan import Plan
from enas.runs.process import cores, ignore_interrupts, signals
from enas.runs.records import Result, epochs
from enas.runs.retrain import retrain
from enas.spaces.architecture import Architecture, Reference
from enas.state import Record


@dataclass(frozen=True)
class Job:
    """A training from scratch: of which model, in which folder, by which seed."""

    model: Architecture | Reference
    folder: Path
    seed: int


def side_by_side(plan: Plan) -> int:
    """Returns how many trainings a machine does at a time: its memory says on a GPU, else its
    cores."""
    return 1 if plan.device.startswith("cuda") else max(1, cores() // plan.threads)


def passed_over(job: Job, result: Result) -> None:
    """Takes in a training that is done, and does nothing with it."""


def retrain_many(
    plan: Plan,
    jobs: Sequence[Job],
    *,
    workers: int,
    listen: Listener = silent,
    stop: Callable[[], str | None] = never,
    finished: Callable[[Job, Result], None] = passed_over,
) -> tuple[list[Result | None], str | None]:
    """Trains `workers` jobs at a time, each in a process of the plan's number of threads, where it
    gives the same figures as by itself. What is done already is only read. `finished` is called
    once with each training that is done.

    Returns the results in order, None for those that were stopped, and why they were."""
    results: list[Result | None] = [None] * len(jobs)
    why: str | None = None
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    config = plan.to_dict("retrain")
    with signals() as caught, ProcessPoolExecutor(workers, context, initializer=_worker, initargs=(halt,)) as pool:
        futures = {pool.submit(_train, config, job): i for i, job in enumerate(jobs)}
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                if not future.cancelled():
                    i = futures[future]
                    if (result := future.result()) is not None:
                        results[i] = result
                        finished(jobs[i], result)
            length, done_jobs = plan.settings.retrain.epochs, sum(result is not None for result in results)
            trained = sum(length if result else len(epochs(job.folder)) for job, result in zip(jobs, results, strict=True))
            listen(Trained(trained, len(jobs) * length, done_jobs, len(jobs)))
            why = why or caught.why or stop()
            if why and not halt.is_set():
                halt.set()
                for future in waiting:
                    future.cancel()
    return results, why


_halt: Any = None  # in a worker: an event that is set when it should stop in good order


def _worker(halt: Any) -> None:
    global _halt
    _halt = halt
    keep_memory()
    ignore_interrupts()


def _train(config: Record, job: Job) -> Result | None:
    def stop() -> str | None:
        return "stopped" if _halt.is_set() else None

    try:
        figures = retrain(Plan.of(config), job.model, job.folder, seed=job.seed, stop=stop)
        return None if figures is None else Result.from_json(figures)
    except Diverged as error:
        return Result({}, diverged=str(error))
