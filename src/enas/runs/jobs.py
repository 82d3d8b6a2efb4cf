"""Many trainings side by side, in processes of their own; they stop in good order, and what is done
is not done again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas import plugins
from enas.networks.kernels import keep_memory
from enas.procedures.events import Diverged, Trained
from enas.runs.files import lines
from enas.runs.loop import Listener, never, silent
from enas.runs.plan import Plan
from enas.runs.process import begin_worker, cores, signals
from enas.runs.results import Result
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
    error: BaseException | None = None
    context = multiprocessing.get_context("spawn")
    # workers read its end when it is closed: no lock that one could keep
    halted, halt = context.Pipe(duplex=False)
    config = plan.to_dict("retrain")
    with signals() as caught, halted, halt, _pool(workers, context, halted) as pool:
        futures = {pool.submit(_train, config, job): i for i, job in enumerate(jobs)}
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                if future.cancelled():
                    continue
                if (failed := future.exception()) is not None:
                    error = error or failed  # the others end in good order first
                elif (result := future.result()) is not None:
                    i = futures[future]
                    results[i] = result
                    finished(jobs[i], result)
            length, done_jobs = plan.settings.retrain.epochs, sum(result is not None for result in results)
            trained = sum(length if result else _epochs(job) for job, result in zip(jobs, results, strict=True))
            listen(Trained(trained, len(jobs) * length, done_jobs, len(jobs)))
            why = why or caught.why or stop()
            if (why or error) and not halt.closed:
                halt.close()
                for future in waiting:
                    future.cancel()
    if isinstance(error, BrokenProcessPool):
        raise ValueError(
            "a process that trained was ended from outside, as the system does where memory is short; what was saved is"
            " whole: the same command goes on, with fewer side by side (--workers 1)"
        ) from None
    if error is not None:
        raise error
    return results, why


def _epochs(job: Job) -> int:
    """Returns how many epochs of a training are logged, to show."""
    return sum(1 for _ in lines(job.folder / "metrics.jsonl"))


@contextmanager
def _pool(workers: int, context: Any, halted: Any) -> Iterator[ProcessPoolExecutor]:
    """Gives the processes; whatever ends the caller at once ends them at once."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_worker, initargs=(halted,))
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


_halted: Any = None  # in a worker: a pipe that is at its end when it should stop in good order


def _worker(halted: Any) -> None:
    global _halted
    _halted = halted
    begin_worker()
    keep_memory()


def _train(config: Record, job: Job) -> Result | None:
    def stop() -> str | None:
        return "stopped" if _halted.poll() else None

    plugins.trust(*plugins.dotted(config))  # it runs in the parent too
    try:
        figures = retrain(Plan.of(config), job.model, job.folder, seed=job.seed, stop=stop)
        return None if figures is None else Result.from_json(figures)
    except Diverged as error:
        return Result({}, diverged=str(error))
