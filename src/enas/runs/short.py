"""Short trainings from scratch of a derivation, side by side, each done once.

A line of `short.jsonl` in the run folder holds what a training reached. A derivation that was
killed finds it there. Trainings give the same figures however many there are side by side.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Self

from enas import plugins
from enas.networks.kernels import keep_memory
from enas.procedures.halving import ShortTraining, trained
from enas.procedures.taught import Outcome, Short
from enas.runs.files import open_to_append, stamped, stamped_lines, write_atomically
from enas.runs.plan import Plan
from enas.runs.process import begin_worker, prepare
from enas.state import Record, seed_of
from enas.tasks.task import Task

FILE = "short.jsonl"


def short_training(plan: Plan, task: Task, seed: int = 0) -> ShortTraining:
    """Returns how architectures of a plan are trained for a short time: by the recipe from scratch,
    but for its length. The task's batches are those of the search."""
    settings = plan.settings.retrain
    weights = plan.seed if seed == 0 else seed_of(plan.seed, "short", seed)
    return ShortTraining(
        lambda arch: plan.network(settings.network, task, arch, weights), task, settings.optimizer, weights
    )


class ShortTrainings:
    """Trains what it is given, unless the journal has it. Use it as a context: it ends its
    processes."""

    def __init__(self, plan: Plan, folder: Path, task: Task, workers: int = 1):
        self.plan, self.task, self.workers = plan, task, workers
        self.file = folder / FILE
        # What a figure depends on, beside the architecture.
        self.recipe = f"{seed_of(plan.settings.retrain, plan.settings.data, plan.settings.task, plan.seed):016x}"
        if self.file.exists():  # a crash may have cut its last line short
            whole = self.file.read_bytes().rpartition(b"\n")
            write_atomically(self.file, whole[0] + whole[1])
        lines = stamped_lines(self.file)
        self.known = {(line["id"], line["steps"], line["seed"]): line for line in lines if line["recipe"] == self.recipe}
        # processor time of trainings made before or by others
        self.began, self.elsewhere = time.process_time(), 0.0
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def spent(self) -> float:
        """Returns the processor time since the beginning in seconds, that of all trainings
        included."""
        return time.process_time() - self.began + self.elsewhere

    def __call__(self, wanted: Sequence[Short]) -> Iterator[Outcome]:
        """Yields what each training reached, in order."""
        new = [short for short in wanted if self._key(short) not in self.known]
        made = iter(self._made(new))
        for short in wanted:
            line = self.known.get(self._key(short))
            if line is None:
                outcome = next(made)
                line = {"id": short.arch.id, "steps": short.steps, "seed": short.seed, "recipe": self.recipe}
                line |= {"reward": outcome.reward, "seconds": round(outcome.seconds, 3)}
                self._write(line)
                self.elsewhere += outcome.seconds if self._pool is not None else 0.0
            else:
                self.elsewhere += line["seconds"]
            yield Outcome(line["reward"], line["seconds"])

    def _key(self, short: Short) -> tuple[str, int, int]:
        return short.arch.id, short.steps, short.seed

    def _write(self, line: Record) -> None:
        with open_to_append(self.file) as file:
            file.write(stamped(json.dumps(line)).encode() + b"\n")
        self.known[line["id"], line["steps"], line["seed"]] = line

    def _made(self, wanted: Sequence[Short]) -> Iterator[Outcome]:
        if self.workers == 1:
            return (outcome(self.plan, self.task, short) for short in wanted)
        if self._pool is None and wanted:
            context = multiprocessing.get_context("spawn")
            config = self.plan.to_dict("search")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_worker, initargs=(config,))
        return self._pool.map(_trained, wanted) if self._pool is not None else iter(())


def outcome(plan: Plan, task: Task, short: Short) -> Outcome:
    """Trains, and says what it reached and took."""
    began = time.process_time()
    reward = trained(short_training(plan, task, short.seed), short.arch, short.steps)
    return Outcome(reward, time.process_time() - began)


_here: Any = None  # in a worker: the plan and its task


def _worker(config: Record) -> None:
    global _here
    begin_worker()
    keep_memory()
    plugins.trust(*plugins.dotted(config))  # it runs in the parent too
    plan = Plan.of(config)
    prepare(plan.device, plan.threads)
    _here = plan, plan.task(plan.load_data(), plan.settings.task)


def _trained(short: Short) -> Outcome:
    plan, task = _here
    return outcome(plan, task, short)
