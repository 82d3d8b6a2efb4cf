"""This module runs many jobs side by side. They stop in good order, and a job that is done is not
done again.

An engine keeps one contract:

    start     a job is queued, and begins when what it needs is free
    poll      `concurrent.futures.wait`: which jobs have ended
    result    of its future: what it returned, or its error; None where it was stopped
    stop      what is queued does not begin; what is at work saves and ends

Processes of this machine keep this contract (`Processes`), and Ray does (`enas.runs.ray_jobs`). A
job runs in a process with the plan's number of threads, so that it gives the same figures wherever
it runs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, Self, TypeVar

from enas.blame import blamed_if_theirs, warn_in_one_line
from enas.networks.kernels import keep_memory
from enas.runs.loop import Listener, silent
from enas.runs.plan import Plan
from enas.runs.process import begin_worker, cores, signals
from enas.runs.ray_jobs import Cluster, RayJobs, asked

# as `--jobs`: how many run side by side, or where; None for as many as fit
Jobs = int | str | Cluster | None
R = TypeVar("R")


class Engine(Protocol):
    """An `Engine` runs jobs. It is a context: an error that ends the context ends the jobs at
    once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]: ...

    def stop(self) -> None: ...


def engine_of(plan: Plan, jobs: Jobs = None, listen: Listener = silent) -> Engine:
    """Returns the engine that `jobs` asks for, with the resources that a job of the plan needs.
    Raises a ValueError where `jobs` asks for none."""
    match asked(jobs):
        case Cluster() as cluster:
            return RayJobs(cluster, plan.threads, plan.device.startswith("cuda"), listen)
        case number:
            return Processes(number or side_by_side(plan))


def side_by_side(plan: Plan) -> int:
    """Returns how many trainings a machine does at a time. On a GPU it is one, because of its
    memory, and otherwise the cores decide."""
    return 1 if plan.device.startswith(("cuda", "mps")) else max(1, cores() // plan.threads)


class Processes:
    """A `Processes` engine runs so many processes side by side on this machine."""

    def __init__(self, number: int):
        self.number = number
        self.jobs: list[Future[Any]] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        # Workers notice when the pipe is closed. Unlike a lock, no worker can keep it.
        self.halted, self.halt = context.Pipe(duplex=False)
        self.before = set(multiprocessing.active_children())
        self.pool = ProcessPoolExecutor(self.number, context, initializer=_worker, initargs=(self.halted,))
        return self

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.jobs.append(self.pool.submit(_work, work, *arguments))
        return self.jobs[-1]

    def stop(self) -> None:
        self.halt.close()
        for job in self.jobs:
            job.cancel()

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            for child in set(multiprocessing.active_children()) - self.before:
                child.kill()
            self.pool.shutdown(wait=False, cancel_futures=True)
        else:
            self.pool.shutdown()
        self.halt.close()
        self.halted.close()


def run_all(
    engine: Engine,
    work: Callable[..., R | None],
    each: Sequence[tuple[Any, ...]],
    *,
    told: Callable[[Sequence[R | None]], None],
    stop: Callable[[], str | None],
    finished: Callable[[int, R], None],
) -> tuple[list[R | None], str | None]:
    """Does `work` on each tuple of arguments, as jobs. `told` is called again and again with the
    results so far, and `finished` once for each job that is done, with its index and its result.

    Returns the results in order, with None for those that were stopped, and the reason why they
    were. The first error is raised once the other jobs have ended in good order. A job that a
    signal stopped on its machine begins again, and goes on from its checkpoint.
    """
    results: list[R | None] = [None] * len(each)
    why: str | None = None
    error: BaseException | None = None
    is_stopped = False
    with signals() as caught, engine:
        places = {engine.start(work, *arguments): i for i, arguments in enumerate(each)}
        waiting = set(places)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for job in done:
                if job.cancelled():
                    continue
                i = places[job]
                if (failed := job.exception()) is not None:
                    error = error or failed
                elif (result := job.result()) is not None:
                    results[i] = result
                    finished(i, result)
                elif not (why or error or caught.why):
                    again = engine.start(work, *each[i])
                    places[again] = i
                    waiting.add(again)
            told(results)
            why = why or caught.why or stop()
            if (why or error) and not is_stopped:
                is_stopped = True
                engine.stop()
    if isinstance(error, BrokenProcessPool):
        raise ValueError(
            "a process that trained was ended from outside, as the system does where memory is short; what was saved is"
            " whole: the same command goes on, with fewer side by side (--jobs 1)"
        ) from None
    if error is not None:
        raise error
    return results, why


_halted: Any = None  # in a worker, a pipe that is closed when it should stop in good order


def _worker(halted: Any) -> None:
    global _halted
    _halted = halted
    warn_in_one_line()
    begin_worker()
    keep_memory()


def _work(work: Callable[..., R], *arguments: Any) -> R:
    """Does a job in a process of this machine."""
    with blamed_if_theirs():
        return work(*arguments)


def told_to_stop() -> str | None:
    """Returns the reason why the job of this process should stop, as its engine says, or None where
    it should not. Ray sends a signal instead, which every run obeys."""
    return "stopped" if _halted is not None and _halted.poll() else None
