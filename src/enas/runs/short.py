"""This module does the short trainings from scratch of a derivation, side by side, each once.

A line of `short.jsonl` in the run folder holds what a training reached. A derivation that was
killed finds it there. Trainings give the same figures however many there are side by side.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from enas import plugins
from enas.procedures.halving import ShortTraining, trained
from enas.procedures.taught import Outcome, Short
from enas.runs.files import open_to_append, stamped, stamped_lines, write_atomically
from enas.runs.jobs import Engine, Jobs, engine_of
from enas.runs.loop import Listener, silent
from enas.runs.plan import Plan, problem_source
from enas.runs.process import prepare
from enas.spaces.architecture import Architecture
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
    """Trains what it is given, unless the journal has it, as `jobs` asks; 1: in this process. Use
    it as a context: it ends its jobs."""

    def __init__(self, plan: Plan, folder: Path, task: Task, jobs: Jobs = 1, listen: Listener = silent):
        self.plan, self.task, self.jobs, self.listen = plan, task, jobs, listen
        self.file = folder / FILE
        # What a figure depends on, beside the architecture.
        code = [problem_source(plan.problem)["sha256"]] if plan.problem else []
        self.recipe = f"{seed_of(plan.settings.retrain, plan.settings.data, plan.settings.task, plan.seed, *code):016x}"
        if self.file.exists():  # a crash may have cut its last line short
            whole = self.file.read_bytes().rpartition(b"\n")
            write_atomically(self.file, whole[0] + whole[1])
        lines = stamped_lines(self.file)
        self.known = {_key(line): line for line in lines if line["recipe"] == self.recipe}
        # processor time of trainings made before or by others
        self.began, self.elsewhere = time.process_time(), 0.0
        self._engine: Engine | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *where: Any) -> None:
        if isinstance(error, KeyboardInterrupt) and self.known:
            error.add_note("the short trainings that are done are kept: the same command goes on")
        self._ends.__exit__(kind, error, *where)

    def spent(self) -> float:
        """Returns the processor time since the beginning in seconds, that of all trainings
        included."""
        return time.process_time() - self.began + self.elsewhere

    def __call__(self, wanted: Sequence[Short]) -> Iterator[Outcome]:
        """Yields what each training reached, in order."""
        lines = {short: self._line(short) for short in wanted}
        new = [short for short in wanted if _key(lines[short]) not in self.known]
        made = iter(self._made(new))
        for short in wanted:
            line = self.known.get(_key(lines[short]))
            if line is None:
                outcome = next(made)
                line = {**lines[short], "reward": outcome.reward, "seconds": round(outcome.seconds, 3)}
                self._write(line)
                self.elsewhere += outcome.seconds if self._engine is not None else 0.0
            else:
                self.elsewhere += line["seconds"]
            yield Outcome(line["reward"], line["seconds"])

    def rewards(self, steps: int, archs: Sequence[Architecture], rounds: int) -> Iterator[float]:
        """Yields the reward of each finalist after rounds of `steps` (`enas.procedures.halving`).
        Each is trained from the beginning: it gives the same figures, on any machine."""
        return (outcome.reward for outcome in self([Short(arch, steps, 0, rounds) for arch in archs]))

    def _line(self, short: Short) -> Record:
        """Returns what the journal says of a training before it is made."""
        line = {"id": short.arch.id, "steps": short.steps, "seed": short.seed, "recipe": self.recipe}
        return {**line, "rounds": short.rounds} if short.rounds > 1 else line

    def _write(self, line: Record) -> None:
        with open_to_append(self.file) as file:
            file.write(stamped(json.dumps(line)).encode() + b"\n")
        self.known[_key(line)] = line

    def _made(self, wanted: Sequence[Short]) -> Iterator[Outcome]:
        if self.jobs == 1:
            return (outcome(self.plan, self.task, short) for short in wanted)
        if self._engine is None and wanted:
            self._engine = self._ends.enter_context(engine_of(self.plan, self.jobs, self.listen))
        return self._side_by_side(self._engine, wanted) if self._engine is not None else iter(())

    def _side_by_side(self, engine: Engine, wanted: Sequence[Short]) -> Iterator[Outcome]:
        config = json.dumps(self.plan.to_dict("search"))
        for job in [engine.start(_trained, config, short) for short in wanted]:
            if (reached := job.result()) is None:
                raise ValueError("short trainings were stopped on the cluster: the same command goes on")
            yield reached


def _key(line: Record) -> tuple[str, int, int, int]:
    return line["id"], line["steps"], line["seed"], line.get("rounds", 1)


def outcome(plan: Plan, task: Task, short: Short) -> Outcome:
    """Trains, and says what it reached and took."""
    began = time.process_time()
    reward = trained(short_training(plan, task, short.seed), short.arch, short.steps, short.rounds)
    return Outcome(reward, time.process_time() - began)


@functools.lru_cache(1)
def _planned(config: str) -> tuple[Plan, Task]:
    """Returns the plan and its task, which a worker makes once."""
    record = json.loads(config)
    plugins.trust(*plugins.dotted(record))  # it runs in the parent too
    plan = Plan.of(record)
    prepare(plan.device, plan.threads)
    return plan, plan.task(plan.load_data(), plan.settings.task)


def _trained(config: str, short: Short) -> Outcome:
    return outcome(*_planned(config), short)
