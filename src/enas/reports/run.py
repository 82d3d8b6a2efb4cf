"""This module reads a run for its report: what its folder holds, whatever stage it is at."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from enas.reports.html import fill
from enas.runs.compared import Compared
from enas.runs.records import Config, epochs
from enas.runs.results import Best, Retrained
from enas.state import Values
from enas.tasks.metrics import METRICS

REWARDS = {"accuracy": "accuracy", "loss": "exp(−cross-entropy)"}  # by the setting task.reward
UNKNOWN = METRICS["accuracy"]  # used where a record names no metric


@dataclass(frozen=True)
class Run:
    """A `Run` is the content of a run folder. None stands for what is not there yet."""

    path: Path
    config: Config
    metrics: list[Values]  # a record per epoch
    best: Best | None
    retrained: Retrained | None
    compared: Compared | None

    def setting(self, name: str) -> object:
        """Returns a setting by its dotted name, or None."""
        return self.config.settings.get(name)

    @property
    def loss(self) -> str:
        """Returns the name of the loss: cross-entropy, where a task of this package computes it."""
        task = (self.config.names or {}).get("task", "")
        return "loss" if task == "own" or ":" in task else "cross-entropy"

    def number(self, name: str) -> int:
        """Returns a setting that is a whole number, by its dotted name."""
        return int(str(self.config.settings[name]))

    def ranks_first(self, id: str) -> bool:
        """Returns whether the architecture with this id ranks first."""
        return self.best is None or self.best.ranked[0].id == id

    def notes_on_verdict(self) -> Iterator[tuple[str, str]]:
        """Yields what a reader of the verdict has to know besides it. With each comes the command
        that changes it, or ""."""
        if self.compared is None or self.best is None:
            return
        first, chosen = self.best.ranked[0].id, self.retrained.chosen if self.retrained else ""
        if not self.ranks_first(self.compared.derived_id):
            yield "This verdict is of an architecture that does not rank first any more", "compare"
        elif chosen != first and chosen in [entry.id for entry in self.best.ranked]:
            yield f"The verdict is of {first}, which ranks first; retrain chose {chosen}", ""

    def note(self, what: str, verb: str) -> Markup:
        """Returns a note that says what is missing, with the commands that make it. Without a
        command, it is the text alone."""
        if not verb:
            return fill('<p class="note">{what}.</p>\n', what=what)
        verbs = [verb] if self.best or verb in ("resume", "derive") else ["derive", verb]
        path = shlex.quote(str(self.path))
        commands = Markup(", then ").join(fill("<code>enas {verb} {path}</code>", verb=v, path=path) for v in verbs)
        return fill('<p class="note">{what}: {commands}</p>\n', what=what, commands=commands)

    @property
    def title(self) -> str:
        """Returns `mine` for runs/mine, and `digits-micro-quick/seed0` for a folder without a
        name."""
        *_, parent, name = ("", "", *self.path.resolve().parts)
        return f"{parent}/{name}" if re.fullmatch(r"seed\d+", name) else name


def read_run(path: Path) -> Run:
    """Reads a run folder. Raises a ValueError where `path` is no search, or a file is damaged."""
    config = Config.read(path)
    if config.command != "search":
        raise ValueError(f"a report is of a search; '{path}' is a {config.command}")
    return Run(path, config, list(epochs(path)), Best.find(path), Retrained.find(path), Compared.find(path))
