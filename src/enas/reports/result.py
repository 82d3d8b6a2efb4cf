"""This module holds a run as a value in Python, which `enas.search` returns. Its methods are the
commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from enas.reports.derive import derive
from enas.reports.page import write_report
from enas.runs.architectures import best_of
from enas.spaces.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

    from enas.grading.verdict import Verdict
    from enas.tasks.problem import Problem


@dataclass(frozen=True)
class Run:
    """A `Run` is the folder of a search. It can be used wherever a path can."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]):
        object.__setattr__(self, "path", Path(path))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def best(self) -> Architecture:
        """Returns the architecture that ranks first. Raises a ValueError before `derive`."""
        return best_of(self.path)[0]

    def derive(self, **settings: Any) -> Run:
        """Ranks architectures by the shared weights, and returns this run. `settings` are those of
        `DeriveSettings`."""
        derive(self.path, **settings)
        return self

    def retrain(self, **arguments: Any) -> Run:
        """Trains the best architecture from scratch, as `enas.retrain_best` does, and returns this
        run."""
        from enas.runs.retrain import retrain_best

        retrain_best(self.path, **arguments)
        return self

    def compare(self, **arguments: Any) -> Verdict | None:
        """Trains random architectures too, as `enas.compare` does, and returns the verdict."""
        from enas.grading.compare import compare

        return compare(self.path, **arguments)

    def report(self) -> Path:
        """Writes the report of this run, and returns its path."""
        return write_report(self.path)

    def export(self, format: Literal["python", "onnx", "torch"] = "python", **arguments: Any) -> tuple[Path, ...]:
        """Writes the network that `retrain` chose as files that run without enas, and returns them.
        `arguments` are those of `enas.export`."""
        from enas.runs.export import export

        return export(self.path, format, **arguments).files

    def child(self) -> nn.Module:
        """Returns the network of the best architecture with the weights of its training from
        scratch, as a plain module. Raises a ValueError before `retrain`, and where the network is
        not your own."""
        from enas.runs.own import trained_child

        return trained_child(self.path)


def search(
    what: str | Problem, recipe: str | None = None, *, listen: Callable[[object], None] | None = None, **arguments: Any
) -> Run:
    """Searches and returns the run. `what` is a preset, the `module:function` of a problem, or the
    problem that such a function made. `arguments` are those of `enas.runs.search.search`."""
    from enas.runs.loop import silent
    from enas.runs.own import search_problem
    from enas.runs.presets.registry import is_preset
    from enas.runs.search import search as search_preset

    if isinstance(what, str) and (":" not in what or is_preset(what)):
        return Run(search_preset(what, recipe, listen=listen or silent, **arguments))
    if recipe is not None:
        raise ValueError(f"a problem of your own has no recipes; leave out '{recipe}'")
    return Run(search_problem(what, listen=listen or silent, **arguments))
