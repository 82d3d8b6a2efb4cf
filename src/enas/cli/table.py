"""This module holds the command `enas table`, which makes tables of what architectures reach from
scratch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from enas.cli.commands import JobsFlags, Maybe, command, jobs_of, parse, seconds
from enas.grading.asked import TableWanted

if TYPE_CHECKING:
    from enas.grading.table import Built, Components


@dataclass(frozen=True, kw_only=True)
class TableFlags(TableWanted, JobsFlags):
    """Build or show a table of your own: what architectures of a preset reach from scratch, by its
    recipe. `enas oracle` reads such tables.

    enas table build digits-micro --cells 100 --out tables/digits.json.gz   (random ones, or all of
    a small space; the same command goes on where it was stopped)
    enas table show scattered-micro          (a table that comes with enas)
    enas table show tables/digits.json.gz    (signal, noise, best, and how it was made)
    """

    action: Positional[Literal["build", "show"]]
    """build: train the architectures and write the table; show: say what a table holds."""
    what: Positional[str]
    """build: a preset (`enas presets`), or `module:function` of a problem of your own.
    show: the file of a table, or a table that comes with enas (scattered-micro, text-rnn)."""
    recipe: Maybe[str] = None
    """Recipe of the preset."""
    out: Maybe[Path] = None
    """build: file of the table, .json or .json.gz; a folder beside it keeps what is done."""
    data: Maybe[Path] = None
    """Folder of the data set."""
    device: Maybe[str] = None
    """Device: cpu, cuda or cuda:1."""
    max_time: Maybe[str] = None
    """Stop in good order after this time; the same command goes on."""


@command("table", "build a table of what architectures reach from scratch, or show one")
def table(args: list[str]) -> int:
    flags = parse(TableFlags, args, "table")
    from enas.grading.table import Built, located

    if flags.action == "show":
        print(*lines(Built.read(located(Path(flags.what)))), sep="\n")
        return 0
    if flags.out is None:
        raise ValueError("`enas table build` writes a file: name it with --out, such as --out tables/mine.json.gz")
    from enas.grading.table import build
    from enas.runs.loop import after
    from enas.runs.planning import make_plan

    plan = make_plan(flags.what, flags.recipe, seed=flags.seed, data=flags.data, device=flags.device)
    wanted = TableWanted(**{name: getattr(flags, name) for name in TableWanted.__dataclass_fields__})
    stop = after(seconds(flags.max_time))
    with Trainings() as listen:
        built = build(plan, wanted, flags.out, jobs=jobs_of(flags), listen=listen, stop=stop)
    if built is not None:
        print(*lines(built), f"wrote {flags.out}", sep="\n")
    return listen.status


class Trainings:
    """A `Trainings` object shows how far trainings have come and how long the rest takes: by a bar,
    or without a terminal by one line per minute."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console(highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.task: Any = None
        self.start, self.first, self.printed = time.monotonic(), 0, 0.0
        self.of: int | None = None
        self.status = 0

    def __enter__(self) -> Trainings:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, event: object) -> None:
        from enas.cli.display import connected, span
        from enas.procedures.events import Connected, Stopped, Trained

        if isinstance(event, Stopped):
            self.status = {"interrupted": 130, "terminated": 143}.get(event.why, 0)
            self.console.print(
                f"stopped, {event.why}: what is done is in {event.folder}; go on with: {event.again}", soft_wrap=True
            )
        if isinstance(event, Connected):
            self.console.print(connected(event), soft_wrap=True)
        if not isinstance(event, Trained):
            return
        now = time.monotonic()
        if self.of != event.of_epochs:  # another round begins
            self.start, self.first, self.of = now, event.epochs, event.of_epochs
        done = event.epochs - self.first
        left = f"{span((event.of_epochs - event.epochs) * (now - self.start) / done)} to go" if done else ""
        text = f"{event.finished} of {event.trainings} trainings {left}"
        if self.console.is_terminal:
            self.task = self.progress.add_task("", text="") if self.task is None else self.task
            self.progress.update(self.task, description="train", completed=event.epochs, total=event.of_epochs, text=text)
        elif now - self.printed > 60:
            self.console.print(text, soft_wrap=True)
            self.printed = now


def lines(built: Built) -> Iterator[str]:
    """Yields what a table holds, one line per topic."""
    from enas.grading.table import FEWEST_ROWS, summary

    metric = built.figure
    unit, points = metric.unit, metric.points
    yield (
        f"{built.preset}, recipe {built.recipe}: {len(built.rows):,} of {built.size:,} architectures of"
        f" {built.space['name']}" + ("" if built.complete else f", drawn at random by seed {built.wanted['seed']}")
    )
    if len(built.rows) < FEWEST_ROWS:
        yield f"fewer than {FEWEST_ROWS} architectures are not summed up"
        return
    found = summary(built)
    counts = [row.seeds for row in built.rows]
    trained = ", ".join(f"{counts.count(k):,} with {k} seed{'s' * (k != 1)}" for k in sorted(set(counts)))
    diverged = f"; {found.diverged} trainings diverged" if found.diverged else ""
    yield f"trained from scratch: {trained}{diverged}"
    yield (
        f"test {metric.name}: mean {found.mean:.2f}{unit}, best {found.best:.2f}{unit}"
        f" (over {found.best_seeds} seed{'s' * (found.best_seeds != 1)}), worst {found.worst:.2f}{unit}"
    )
    for name, part in (("all", found.every), ("the better half", found.better_half)):
        yield f"of {name}: {_components(part, points)}"
    best = ", ".join(f"of {k}: {value:.2f}{unit}" for k, value in found.best_of.items())
    yield f"expected best {best}, drawn at random from the table"
    yield f"Kendall's tau of the number of parameters: {found.parameters}"
    made = ", ".join(f"{name} {version}" for name, version in built.versions.items())
    yield f"made {built.date} by {made}, on {built.machine.get('gpu', built.machine.get('cpu'))}"


def _components(part: Components, points: str) -> str:
    import math

    if math.isnan(part.noise):
        return "noise is not measured, as no architecture has two seeds"
    return (
        f"signal (between architectures) {part.signal:.2f} {points}, noise (between seeds) {part.noise:.2f},"
        f" ratio {part.ratio:.2f}"
    )
