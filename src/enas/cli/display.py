"""This module shows what the command line does while it works: progress bars and tables (rich)."""

from __future__ import annotations

import shlex
import time
from functools import singledispatchmethod
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from enas.procedures.events import (
    Begun,
    Connected,
    Done,
    EpochEnd,
    Judged,
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
from enas.runs.results import Best, Pareto
from enas.spaces.costs import COST_UNITS
from enas.state import Record
from enas.tasks.metrics import figure, metric_in

NO_FIGURES = str.maketrans("", "", "0123456789.+-")
REFRESH = 0.2  # seconds between updates, since a small network's step takes less than a redraw


STAGES = {
    "shortlist": "pick a shortlist",
    "minibatch": "score on a minibatch",
    "uniform": "score random ones",
    "validation": "score on validation data",
    "alone": "train finalists",
    "short": "train for a short time",
    "final": "train the best for longer",
}


def span(seconds: float) -> str:
    """Returns seconds as text, such as 1:05:00 h, 12:30 min or 45 s."""
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}:{s % 3600 // 60:02}:{s % 60:02} h"
    return f"{s // 60}:{s % 60:02} min" if s >= 60 else f"{s} s"


class Display:
    """A `Display` is a listener that draws. It is used as a context. Without a terminal it prints
    one line per epoch in place of a bar."""

    def __init__(self, console: Console | None = None, says_next: bool = True):
        self.says_next = says_next
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.last = self.start = time.monotonic()
        self.cost: Cost | None = None
        self.done_shared = self.done_controller = 0
        self.shown: dict[str, float] = {}
        self.printed = (time.monotonic(), -1)
        self.alarmed: set[str] = set()
        self.stopped: str | None = None  # why a run stopped before its end, or None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    @singledispatchmethod
    def __call__(self, event: object) -> None:
        """Shows an event, by its class. An event with nothing to show is ignored."""

    @__call__.register
    def _(self, event: EpochEnd) -> None:
        metrics = event.metrics
        figures = ", ".join(f"{name} {figure(metrics[key], 3)}" for name, key in SHOWN if key in metrics)
        self._line(f"epoch {event.epoch}: {figures}", event.epoch)
        for alarm in metrics.get("alarms", ()):
            kind = alarm.translate(NO_FIGURES)
            if kind not in self.alarmed:  # each kind is said once; the report has them all
                self.alarmed.add(kind)
                self._say(f"alarm, epoch {event.epoch}: {alarm}")

    @__call__.register
    def _(self, event: TrainStep) -> None:
        text = f"epoch {event.epoch + 1} loss {event.loss:.3f}"
        self._bar("train", event.epoch * event.steps + event.step, None, text)

    @__call__.register
    def _(self, event: TrainEpochEnd) -> None:
        metrics = event.metrics
        metric = metric_in(metrics)
        scored = f", validation {metric.name} {metric.text(metrics[f'validation_{metric.name}'])}" if metric else ""
        self._line(f"epoch {event.epoch}: loss {metrics['train_loss']:.3f}{scored}", event.epoch)

    @__call__.register
    def _(self, event: RolledBack) -> None:
        self._say(
            f"{event.why} at epoch {event.epoch + 1}, step {event.step + 1}: back to the start of the epoch, and on at"
            f" {event.factor:g} times the learning rate"
        )

    @__call__.register
    def _(self, event: Scored) -> None:
        text = f"{event.done} of {event.total}"
        round_ = f"round {event.metrics['round']:g}, " if "round" in event.metrics else ""
        self._bar(STAGES[event.stage], event.done, event.total, round_ + text)

    @__call__.register
    def _(self, event: Judged) -> None:
        taus = ", ".join(f"{name} {tau}" for name, tau in event.taus.items())
        took = f"took {span(event.seconds)} of processor time"
        self._say(f"{event.trainings} short trainings taught what is good; with finals and all scores that {took}")
        if taus:
            self._say(f"they were ranked (Kendall's tau, 95 % interval) by {taus}")

    @__call__.register
    def _(self, event: Member) -> None:
        self._bar("score the ensemble", event.done, event.total, f"{event.done} of {event.total} configurations")

    @__call__.register
    def _(self, event: Trained) -> None:
        text = f"{event.finished} of {event.trainings} {event.what}"
        self._bar("side by side", event.epochs, event.of_epochs, text, force=True)

    @__call__.register
    def _(self, event: Connected) -> None:
        self._say(connected(event))

    @__call__.register
    def _(self, event: Stopped) -> None:
        self.stopped = event.why
        again = event.again or f"enas resume {shlex.quote(str(event.folder))}"
        self._say(f"stopped, {event.why}: everything is saved; go on with: {again}")

    @__call__.register
    def _(self, event: Done) -> None:
        if event.result is None and self.cost is None:
            self._say(f"the search in {event.folder} was finished before: there is nothing to resume")
        elif event.result is None:
            self._say(f"searched in {span(time.monotonic() - self.start)}; run folder: {event.folder}")
            self._say("figures so far are of shared weights, not what a network reaches when trained from scratch")
            if self.says_next:
                self._say(f"next: enas derive {shlex.quote(str(event.folder))}")

    @__call__.register
    def _(self, event: Begun) -> None:
        self.start = time.monotonic()
        if event.data:
            self._say(f"data: {event.data}")
        if event.ranks:
            self._say(event.ranks)
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

    @__call__.register
    def _(self, event: Step) -> None:
        if event.phase == "shared":
            self.done_shared += 1
            self.shown["loss"] = sum(event.values) / len(event.values)
        else:
            self.done_controller += 1
            self.shown |= {name: value for name, value in event.metrics.items() if name in ("reward", "entropy")}
        if self.cost is None or time.monotonic() - self.last < REFRESH:
            return
        cost = self.cost
        work = self.done_shared * cost.shared_seconds + self.done_controller * cost.controller_seconds
        left = max(0.0, cost.seconds - work) * (time.monotonic() - self.start) / max(work, 1e-9)
        figures = " ".join(f"{name} {figure(value, 3)}" for name, value in self.shown.items())
        self._bar(f"epoch {event.epoch + 1} {event.phase:10}", work, cost.seconds, f"{figures} left {span(left)}")

    @property
    def status(self) -> int:
        """Returns the exit status. It is 0, also where time was up as asked, and after a signal it
        is that of a shell."""
        return {"interrupted": 130, "terminated": 143}.get(self.stopped or "", 0)

    def _say(self, text: str) -> None:
        """Prints a line that may be longer than the terminal is wide."""
        self.console.print(text, soft_wrap=True)

    def _bar(self, what: str, done: float, total: float | None, text: str, force: bool = False) -> None:
        now = time.monotonic()
        if not self.console.is_terminal or (now - self.last < REFRESH and not force):
            return
        self.last = now
        if self.task is None:
            self.task = self.progress.add_task(what, total=total, text=text)
        self.progress.update(self.task, description=what, completed=done, total=total, text=text)

    def _line(self, text: str, epoch: int) -> None:
        """Prints the first epoch, and then one line every ten seconds, where there is no terminal.
        With a terminal, only the bar moves."""
        now = time.monotonic()
        if not self.console.is_terminal and (self.printed[1] < 0 or now - self.printed[0] > 10):
            self.console.print(text)
            self.printed = (now, epoch)


def connected(event: Connected) -> str:
    """Returns the line about a cluster that jobs go to."""
    gpus = f", {event.gpus} GPUs" if event.gpus else ""
    link = f"; dashboard: http://{event.dashboard}" if event.dashboard else ""
    machines = f"{event.machines} machine{'s' * (event.machines != 1)}"
    return f"jobs go to Ray: {machines}, {event.cpus} cores{gpus}{link}"


SHOWN = (("loss", "shared_loss"), ("reward", "reward"), ("entropy", "entropy"))
RANKED_BY = {
    "short": "short trainings from scratch and what a regression makes of them",
    "alone": "validation reward after short training from scratch, the longest trained first",
    "validation": "validation reward of shared weights",
    "minibatch": "minibatch reward of shared weights",
}


def ranking(run: Path) -> None:
    """Prints the table of best.json for a run."""
    best = Best.read(Path(run))
    shared, stage = best.ranked[0].shared_weights, best.ranked_by
    by = RANKED_BY[stage]
    if any("final_reward" in entry.shared_weights for entry in best.ranked):
        by = "trainings from scratch, short ones and the final, longer ones"
    columns = {"short reward" if stage == "short" else "reward": f"{stage}_reward"}
    columns |= {"rounds": "alone_round"} if stage == "alone" else {}
    if "final_reward" in shared:
        columns["final reward"] = "final_reward"
    if metric := metric_in(shared):
        columns[f"validation {metric.name}"] = f"validation_{metric.name}"
    table = Table(title=f"ranked by {by} (a ranking, not results)", title_justify="left")
    for column in ("rank", "architecture", *columns, "parameters"):
        table.add_column(column, justify="left" if column == "architecture" else "right", overflow="fold")
    for entry in best.ranked[:10]:
        said = entry.shared_weights
        scores = [figure(said[key], 0 if key == "alone_round" else 3) if key in said else "-" for key in columns.values()]
        table.add_row(str(entry.rank), entry.id, *scores, f"{entry.parameters:,}")
    Console().print(table)
    if best.pareto:
        _pareto(best.pareto)
    if learned := best.policy_against_uniform:
        Console(highlight=False).print(
            "on the same shared weights and minibatch, the median reward is"
            f" {figure(learned.policy_median, 3)} for the policy's architectures and"
            f" {figure(learned.uniform_median, 3)} for random ones;"
            f" the policy's is better {learned.policy_beats_uniform:.0%} of the time",
            soft_wrap=True,
        )


def _pareto(front: Pareto) -> None:
    """Prints the architectures that no other one beats in reward and cost at once."""
    factor, unit = COST_UNITS[front.kind]
    console, table = Console(highlight=False), Table()
    console.print(
        f"{len(front.points)} of {len(front.scored)} that were scored on one minibatch by shared weights have a"
        " larger reward than all that cost as much or less:",
        soft_wrap=True,
    )
    table.add_column("architecture")
    table.add_column(unit, justify="right")
    table.add_column("reward", justify="right")
    for point in front.points:
        table.add_row(point.id, f"{point.cost * factor:,.4g}", figure(point.reward, 3))
    console.print(table)


def trainings(rows: list[Record], train_on: str) -> None:
    """Prints the table of trainings from scratch."""
    metric = metric_in(rows[0])
    assert metric is not None
    chosen_by = "choose by" if train_on == "train" else "trained on validation data too: no"
    table = Table(title=f"trained from scratch ({chosen_by} validation {metric.name}); test set read once each")
    table.title_justify = "left"
    for column in ("architecture", "validation", "test", "parameters", "folder"):
        table.add_column(column, overflow="fold")
    for row in rows:
        keys = (f"validation_{metric.name}", f"test_{metric.name}")
        scores = [metric.text(row[key]) if key in row else "-" for key in keys]
        table.add_row(row["id"], *scores, f"{row['parameters']:,}", row["folder"])
    Console().print(table)
