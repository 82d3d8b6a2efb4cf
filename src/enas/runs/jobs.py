"""Many trainings side by side, in processes of their own; they stop in good order, and what is done
is not done again."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from enas.networks.kernels import keep_memory
from enas.procedures.events import Diverged, Trained
from enas.runs.files import read_lines
from enas.runs.loop import Listener, never, silent
from enas.runs.plan import Plan
from enas.runs.process import signals
from enas.runs.retrain import retrain
from enas.spaces.architecture import Architecture, Reference, model_from_dict
from enas.state import Record

DIVERGED = "diverged"


def retrain_many(
    plan: Plan,
    jobs: Sequence[tuple[Architecture | Reference, Path, int]],
    *,
    workers: int,
    listen: Listener = silent,
    stop: Callable[[], str | None] = never,
) -> tuple[list[Record | None], str | None]:
    """Trains each (architecture or reference, folder, seed), `workers` at a time, in processes of
    the plan's number of threads each, so that a training gives the same figures as by itself.

    Returns the results in order, None for those that were stopped, and the reason. A training that
    is done already is only read. One that diverged is {DIVERGED: how}.
    """
    results: list[Record | None] = [None] * len(jobs)
    why: str | None = None
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    config = plan.to_dict("retrain")
    with (
        signals() as caught,
        ProcessPoolExecutor(workers, context, initializer=_worker, initargs=(halt,)) as pool,
    ):
        futures = {
            pool.submit(_job, config, arch.to_dict(), str(folder), seed): i for i, (arch, folder, seed) in enumerate(jobs)
        }
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                if not future.cancelled():
                    results[futures[future]] = future.result()
            epochs = sum(len(read_lines(folder / "metrics.jsonl")) for _, folder, _ in jobs)
            listen(
                Trained(epochs, len(jobs) * plan.settings.retrain.epochs, sum(r is not None for r in results), len(jobs))
            )
            why = why or caught.why or stop()
            if why and not halt.is_set():
                halt.set()
                for future in waiting:
                    future.cancel()
    return results, why


_halt: Any = None  # in a worker: set when it should stop in good order


def _worker(halt: Any) -> None:
    global _halt
    _halt = halt
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _job(config: Record, arch: Record, folder: str, seed: int) -> Record | None:
    def stop() -> str | None:
        return "stopped" if _halt.is_set() else None

    try:
        return retrain(Plan.of(config), model_from_dict(arch), folder, seed=seed, stop=stop)
    except Diverged as error:
        return {DIVERGED: str(error)}
