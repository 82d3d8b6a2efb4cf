"""What the command line shows while it works: progress bars and tables (rich)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from enas.procedures.events import (
    Begun,
    Done,
    EpochEnd,
    Member,
    RolledBack,
    Scored,
    Step,
    Stopped,
    Trained,
    TrainEpochEnd,
    TrainStep,
)
from enas.procedures.preview import Cost
from enas.runs.files import read_json
from enas.tasks.metrics import metric_in

NO_FIGURES = str.maketrans("", "", "0123456789.+-")
REFRESH = 0.2  # seconds between updates: a step of a small network takes less than a redraw


def span(seconds: float) -> str:
    """1:05:00, 12:30 or 45 s."""
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}:{s % 3600 // 60:02}:{s % 60:02} h"
    return f"{s // 60}:{s % 60:02} min" if s >= 60 else f"{s} s"


class Display:
    """A listener that draws. Use as a context; without a terminal it prints a line an epoch instead of a bar."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.task: Any = None
        self.last = self.start = time.monotonic()
        self.cost: Cost | None = None
        self.done_shared = self.done_controller = 0
        self.shown: dict[str, float] = {}
        self.printed = (time.monotonic(), -1)
        self.alarmed: set[str] = set()
        self.stopped: str | None = None  # why, where a run ended before its end

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, event: Any) -> None:
        if isinstance(event, Begun):
            self._begun(event)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, EpochEnd):
            m = event.metrics
            parts = [f"{name} {m[key]:.3f}" for name, key in SHOWN if key in m]
            self._line(f"epoch {event.epoch}: {', '.join(parts)}", event.epoch)
            for text in m.get("alarms", ()):
                kind = text.translate(NO_FIGURES)
                if kind not in self.alarmed:  # each is said once; the report has them all
                    self.alarmed.add(kind)
                    self.console.print(f"alarm, epoch {event.epoch}: {text}", soft_wrap=True)
        elif isinstance(event, TrainStep):
            self._bar(
                "train", event.epoch * event.steps + event.step, None, f"epoch {event.epoch + 1} loss {event.loss:.3f}"
            )
        elif isinstance(event, TrainEpochEnd):
            m = event.metrics
            metric = metric_in(m)
            figure = f", validation {metric.name} {metric.text(m[f'validation_{metric.name}'])}" if metric else ""
            self._line(f"epoch {event.epoch}: loss {m['train_loss']:.3f}{figure}", event.epoch)
        elif isinstance(event, RolledBack):
            self.console.print(
                f"{event.why} at epoch {event.epoch + 1}, step {event.step + 1}: back to the start of the epoch, and on at"
                f" {event.factor:g} times the rate",
                soft_wrap=True,
            )
        elif isinstance(event, Scored):
            self._bar(f"score on {event.stage}", event.done, event.total, f"{event.done} of {event.total}")
        elif isinstance(event, Member):
            self._bar("score the ensemble", event.done, event.total, f"{event.done} of {event.total} configurations")
        elif isinstance(event, Trained):
            text = f"{event.finished} of {event.trainings} trainings"
            self._bar("train side by side", event.epochs, event.of_epochs, text, force=True)
        elif isinstance(event, Stopped):
            self.stopped = event.why
            again = event.again or f"enas resume {event.folder}"
            self.console.print(f"stopped, {event.why}: everything is saved; go on with: {again}", soft_wrap=True)
        elif isinstance(event, Done) and event.result is None and self.cost is not None:
            self.console.print(
                f"searched in {span(time.monotonic() - self.start)}; run folder: {event.folder}", soft_wrap=True
            )
            self.console.print(
                f"figures so far are of shared weights, not what a network reaches alone\nnext: enas derive {event.folder}",
                soft_wrap=True,
            )

    @property
    def status(self) -> int:
        """Exit status: 0, also where time was up as asked; as a shell has it after a signal."""
        return {"interrupted": 130, "terminated": 143}.get(self.stopped or "", 0)

    def _begun(self, event: Begun) -> None:
        self.start = time.monotonic()
        if event.data:
            self.console.print(f"data: {event.data}", soft_wrap=True)
        if event.cost is None:
            at = f", from epoch {event.resumed_at + 1}" if event.resumed_at else ""
            self.console.print(f"training in {event.folder}{at}")
            return
        self.cost = cost = event.cost
        self.console.print(
            f"{'searching' if event.resumed_at is None else 'resuming'} into {event.folder}:"
            f" about {span(cost.seconds)} to go"
            f" ({cost.shared_steps} shared steps of {1000 * cost.shared_seconds:.0f} ms,"
            f" {cost.controller_steps} controller steps of {1000 * cost.controller_seconds:.0f} ms)"
        )

    def _step(self, event: Step) -> None:
        if event.phase == "shared":
            self.done_shared += 1
            self.shown["loss"] = sum(event.values) / len(event.values)
        else:
            self.done_controller += 1
            self.shown |= {k: v for k, v in event.metrics.items() if k in ("reward", "entropy")}
        if self.cost is None or time.monotonic() - self.last < REFRESH:
            return
        cost = self.cost
        work = self.done_shared * cost.shared_seconds + self.done_controller * cost.controller_seconds
        left = max(0.0, cost.seconds - work) * (time.monotonic() - self.start) / max(work, 1e-9)
        figures = " ".join(f"{k} {v:.3f}" for k, v in self.shown.items())
        self._bar(f"epoch {event.epoch + 1} {event.phase:10}", work, cost.seconds, f"{figures} left {span(left)}")

    def _bar(self, what: str, done: float, total: float | None, text: str, force: bool = False) -> None:
        now = time.monotonic()
        if not self.console.is_terminal or (now - self.last < REFRESH and not force):
            return
        self.last = now
        if self.task is None:
            self.task = self.progress.add_task(what, total=total, text=text)
        self.progress.update(self.task, description=what, completed=done, total=total, text=text)

    def _line(self, text: str, epoch: int) -> None:
        """Without a terminal: the first epoch, then one every ten seconds. With one, only the bar moves."""
        now = time.monotonic()
        if not self.console.is_terminal and (self.printed[1] < 0 or now - self.printed[0] > 10):
            self.console.print(text)
            self.printed = (now, epoch)


SHOWN = (("loss", "shared_loss"), ("reward", "reward"), ("entropy", "entropy"))


def ranking(run: Path) -> None:
    """The table of best.json."""
    best = read_json(Path(run) / "best.json")
    score = "validation_reward" if best["score_on"] == "validation" else "minibatch_reward"
    alone = "alone_reward" in best["ranked"][0]["shared_weights"]
    score = "alone_reward" if alone else score
    shown = [("reward", score)]
    if metric := metric_in(best["ranked"][0]["shared_weights"]):
        shown.append((f"validation {metric.name}", f"validation_{metric.name}"))
    by = "validation reward after a short training alone" if alone else f"{score.replace('_', ' ')} of shared weights"
    table = Table(title=f"ranked by {by} (a ranking, not results)")
    table.title_justify = "left"
    for column in ("rank", "architecture", *(name for name, _ in shown), "parameters"):
        table.add_column(column, justify="left" if column == "architecture" else "right")
    for entry in best["ranked"][:10]:
        scores = [f"{entry['shared_weights'][key]:.3f}" for _, key in shown]
        table.add_row(str(entry["rank"]), entry["id"], *scores, f"{entry['parameters']:,}")
    Console().print(table)
    if found := best.get("policy_against_uniform"):
        Console(highlight=False).print(
            f"on the same shared weights and minibatch: median reward {found['policy_median']:.3f} of the policy's, "
            f"{found['uniform_median']:.3f} of uniform ones; the policy's is better {found['policy_beats_uniform']:.0%} of"
            " the time",
            soft_wrap=True,
        )


def trainings(rows: list[dict[str, Any]], train_on: str) -> None:
    """The table of trainings alone."""
    metric = metric_in(rows[0])
    assert metric is not None
    kept = "choose by" if train_on == "train" else "trained on validation data too: no"
    kept += f" validation {metric.name}"
    table = Table(title=f"trained alone, from scratch ({kept}); test set read once each", title_justify="left")
    for column in ("architecture", "validation", "test", "parameters", "folder"):
        table.add_column(column, overflow="fold")
    for row in rows:
        keys = (f"validation_{metric.name}", f"test_{metric.name}")
        scores = [metric.text(row[key]) if key in row else "-" for key in keys]
        table.add_row(row["id"], *scores, f"{row['parameters']:,}", row["folder"])
    Console().print(table)
