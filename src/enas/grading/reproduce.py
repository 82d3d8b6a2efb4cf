"""This module puts the paper's experiments beside ours (`enas reproduce`).

There is a row for each experiment of paper.py. Every figure of ours is a finding in a run folder
(findings.py); there is no figure without one. Figures with equal settings stand together. Each line
names its settings of size that are below those of the recipe `paper`. This module does not import
torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from enas.grading.findings import SPACES, Finding, Settings, findings
from enas.grading.paper import EXPERIMENTS, Experiment
from enas.runs.files import Damaged, flat
from enas.runs.records import Config

# Settings of size, by the last part of their names. A larger value is closer to the paper's size,
# except for the stem's stride.
SIZES = (
    "epochs", "train", "filters", "double_filters", "cells", "hidden", "layers", "num_nodes", "num_layers", "stem_stride",
)  # fmt: skip
# settings of width of our networks; the width of a reference follows from its budget
WIDTHS = ("filters", "double_filters", "cells", "hidden", "layers")
LEAST = 0.95  # least share of the paper's parameters in a network that counts as large
SHORT = {"data.train": "training data", "space.num_nodes": "nodes", "space.num_layers": "layers"}
OF_SEARCH = ("space.", "data.", "network.", "task.", "search.")
READ_BY = {  # settings that a figure of a kind depends on
    "derived": ("",),
    "local": ("",),
    "uniform": ("space.", "data.", "retrain."),
    "reference": ("data.", "retrain."),
    "disabled": OF_SEARCH,
    "ensemble": OF_SEARCH,
}
NO_MATTER = ("retrain.task.reward", "network.computation", "retrain.network.computation")


@dataclass(frozen=True)
class Below:
    """A `Below` is a setting of size that is below that of the recipe `paper`, with both values in
    words."""

    name: str
    ours: str
    paper: str
    of_search: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.ours} of {self.paper}"


@dataclass(frozen=True)
class Ours:
    """An `Ours` value holds figures with equal settings together."""

    value: float | None  # None: every training diverged
    spread: float | None
    over: str  # what the standard deviation is over, and how many
    extreme: float | None  # best of the random architectures, or largest increase of a study
    parameters: tuple[int, ...]
    preset: str
    recipe: str
    smaller: tuple[Below, ...]  # settings of size below the paper's
    # all settings that differ from the recipe `paper`: our value and the paper's
    differs: Mapping[str, tuple[Any, Any]]
    files: tuple[Path, ...]
    apart: tuple[str, ...] = ()  # settings that tell it from lines of the same sizes

    @property
    def full(self) -> bool:
        """Returns whether neither settings of size nor parameters are below the paper's."""
        return not self.smaller


@dataclass(frozen=True)
class Row:
    """A `Row` is an experiment of the paper, with our figures for it."""

    section: str
    experiment: Experiment
    ours: tuple[Ours, ...] = ()  # the fullest first

    @property
    def status(self) -> str:
        """Returns in words whether the experiment was run here."""
        if self.ours:
            return "run"
        return "others' method, not in this package" if self.experiment.kind == "others" else "not run"


@dataclass
class Survey:
    """A `Survey` is the whole table. It also lists the folders that could not be read, and why, and
    the content that belongs to no row."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    runs: int = 0


def paper_settings() -> dict[str, Settings]:
    """Returns the settings of the recipe `paper` for the paper's presets, by dotted names as in a
    `Config`."""
    from enas.runs.presets.registry import config_of, preset
    from enas.runs.settings import to_dict

    recipes = {name: flat(json.loads(json.dumps(to_dict(config_of(name, "paper"))))) for name in SPACES}
    return {name: recipe | {"strategy": preset(name).names.strategy} for name, recipe in recipes.items()}


def survey(folders: Sequence[Path], papers: Mapping[str, Settings], scan: Path | None = None) -> Survey:
    """Returns every row, with the figures of the runs in `folders` (each a run, or a folder of
    runs) and of those below `scan`.

    `papers` holds the settings of the recipe `paper` by preset. Raises a ValueError where one of
    `folders` is neither a run nor holds one, and where it is a run that is damaged. A damaged run
    that was found below a folder is skipped and named.
    """
    table, by_run = Survey(), dict[Path, list[Finding]]()
    for folder in (*folders, *([scan] if scan else [])):
        named = (folder / Config.FILE).exists()
        runs = [folder] if named else list(_runs_below(folder))
        if not runs and folder is not scan:
            raise ValueError(f"a run is a folder with a config.json; '{folder}' has none, nor a run in it")
        for run in runs:
            if (key := run.resolve()) in by_run:
                continue
            by_run[key] = []
            try:
                by_run[key], unused = findings(run)
                table.unused += [f"{run}: {why}" for why in unused]
            except (Damaged, OSError) as error:
                if named and folder is not scan:
                    raise
                table.skipped.append(f"{run}: {error}")
    table.runs = len(by_run)
    everything = [finding for some in by_run.values() for finding in some]
    table.rows = [
        Row(section, experiment, tuple(_ours(experiment, everything, papers)))
        for section, experiments in EXPERIMENTS.items()
        for experiment in experiments
    ]
    return table


def _runs_below(folder: Path) -> Iterator[Path]:
    """Yields the folders with a config.json below a folder. It does not look inside a run, whose
    content belongs to it."""
    for path, folders, names in os.walk(folder):
        folders.sort()
        if Config.FILE in names:
            folders.clear()
            yield Path(path)


# ---------------------------------------------------------------------------- which row, together
Group = tuple[str, str, int | None, str, frozenset[tuple[str, str]]]


def _group(finding: Finding) -> Group:
    """Returns the key that is equal for all findings of one line."""
    read_by = frozenset((name, repr(v)) for name, v in finding.settings.items() if name.startswith(READ_BY[finding.kind]))
    return finding.preset, finding.recipe, finding.budget, finding.note if finding.kind == "derived" else "", read_by


def _ours(experiment: Experiment, everything: Iterable[Finding], papers: Mapping[str, Settings]) -> list[Ours]:
    """Returns the lines of an experiment, one for each set of equal settings."""
    groups: dict[Group, list[Finding]] = {}
    for finding in everything:
        if _is_of(finding, experiment, papers[finding.preset]):
            groups.setdefault(_group(finding), []).append(finding)
    lines = [_together(_once(group), experiment, papers[group[0].preset]) for group in groups.values()]
    return sorted((_told_apart(line, lines) for line in lines), key=lambda line: (len(line.smaller), len(line.differs)))


def _once(group: Sequence[Finding]) -> list[Finding]:
    """Returns the findings without those that repeat the same seeds, since these are no second
    sample. The larger one counts."""
    return list({finding.seeds: finding for finding in sorted(group, key=lambda finding: finding.n)}.values())


def _told_apart(line: Ours, lines: Sequence[Ours]) -> Ours:
    """Returns the line with the settings in which it differs from lines that would otherwise read
    the same."""
    alike = [o for o in lines if (o.preset, o.recipe, o.smaller) == (line.preset, line.recipe, line.smaller)]
    names = dict.fromkeys(name for other in alike for name in other.differs)
    mixed = [name for name in names if len({str(other.differs.get(name)) for other in alike}) > 1]
    values = {name: line.differs[name][0] if name in line.differs else "as in paper" for name in mixed}
    return replace(line, apart=tuple(f"{name.removeprefix('retrain.')} {value}" for name, value in values.items()))


def _is_of(finding: Finding, experiment: Experiment, paper: Settings) -> bool:
    asked = (experiment.kind, experiment.data, experiment.space, experiment.of)
    if (finding.kind, finding.data, finding.space, finding.of) != asked:
        return False
    if finding.kind == "reference" or (finding.kind == "derived" and finding.space == "conv_micro"):
        return bool(finding.settings.get("retrain.task.cutout")) == ("retrain.task.cutout" in experiment.changes)
    if finding.kind == "derived" and finding.space == "conv_macro":
        return _wider(finding, paper) == ("retrain.network.filters" in experiment.changes)
    return True


def _wider(finding: Finding, paper: Settings) -> bool:
    """Returns whether only its filters differ from the run's, and are more, or whether they are
    more than those of `paper`."""

    def highest(settings: Settings) -> int:
        width = int(settings.get("retrain.network.filters", 0))
        return width * 4 if settings.get("retrain.network.double_filters") else width

    changed = {
        name for name, value in finding.own.items() if name.startswith("retrain.") and finding.settings.get(name) != value
    }
    more = changed == {"retrain.network.filters"} and highest(finding.settings) > highest(finding.own)
    return more or highest(finding.settings) > highest(paper)


def _together(group: Sequence[Finding], experiment: Experiment, paper: Settings) -> Ours:
    first = group[0]
    alive = [finding for finding in group if finding.n]
    notes = list(dict.fromkeys(finding.note for finding in group if finding.note))
    lost = sum(finding.lost for finding in group) + (len(group) - len(alive) if alive else 0)
    notes += [f"{lost} more diverged"] if lost else []
    value, spread, over = _statistics(alive) if alive else (None, None, f"n = {len(group)}")
    extremes = [finding.extreme for finding in alive if finding.extreme is not None]
    extreme = (max if first.kind == "local" else min)(extremes) if extremes else None
    smaller, differs = _against(first, experiment, {**paper, **experiment.changes})
    over, parameters = ", ".join([over, *notes]), tuple(sorted(p for finding in group for p in finding.parameters))
    files = tuple(finding.file for finding in group)
    return Ours(value, spread, over, extreme, parameters, first.preset, first.recipe, smaller, differs, files)


def _statistics(group: Sequence[Finding]) -> tuple[float, float | None, str]:
    """Returns mean, standard deviation, and what this is over. For several searches it is over
    their means, since one more search is one more sample."""
    first, values, n = group[0], [finding.value for finding in group], sum(finding.n for finding in group)
    searches = list(dict.fromkeys(finding.run for finding in group))
    # random architectures count together, whichever search they were drawn for
    if first.kind == "uniform":
        value = sum(finding.n * finding.value for finding in group) / n
        squares = sum(
            (finding.n - 1) * (finding.spread or 0.0) ** 2 + finding.n * (finding.value - value) ** 2 for finding in group
        )
        return value, math.sqrt(squares / (n - 1)) if n > 1 else None, f"n = {n} architectures"
    if first.kind == "reference" or (first.kind == "derived" and len(searches) == 1):
        return mean(values), stdev(values) if n > 1 else None, f"n = {n} seed{'s' * (n > 1)}"
    many = {"derived": "trainings", "local": f"network{'s' * (n > 1)}"}.get(first.kind, "configurations")
    if len(searches) > 1:
        means = [mean(finding.value for finding in group if finding.run == run) for run in searches]
        return mean(means), stdev(means), f"n = {len(means)} searches, {n} {many}"
    interval = ", 95 % interval" if first.kind == "local" and first.spread is not None else ""
    return first.value, first.spread, f"n = {n} {many}{interval}"


# ---------------------------------------------------------------------------- against the paper's
def _against(
    finding: Finding, experiment: Experiment, paper: Settings
) -> tuple[tuple[Below, ...], dict[str, tuple[Any, Any]]]:
    """Returns the settings of size that are below the recipe `paper`, those of the search last, and
    all settings that differ from it."""
    below: list[Below] = []
    differs: dict[str, tuple[Any, Any]] = {}
    for name, ours in finding.settings.items():
        last, theirs = name.rsplit(".", 1)[-1], paper.get(name, ours)
        matters = name.startswith(READ_BY[finding.kind]) and not name.startswith(NO_MATTER)
        if not matters or ours == theirs or (finding.budget and ".network." in name and last in WIDTHS):
            continue
        differs[name] = (ours, theirs)
        if last in SIZES and not name.startswith("strategy.") and _below(last, ours, theirs):
            of_search = name.startswith(("search.", "network."))
            below.append(Below(SHORT.get(name, last.replace("_", " ")), _count(ours), _count(theirs), of_search))
    size = finding.budget or (max(finding.parameters) if finding.kind == "derived" and finding.parameters else 0)
    if size and size < LEAST * 1e6 * (experiment.parameters or 0.0):
        below.append(Below("parameters", millions((size,)), f"{experiment.parameters:g} M"))
    return tuple(sorted(below, key=lambda part: part.of_search)), differs


def _below(name: str, ours: Any, theirs: Any) -> bool:
    if name == "stem_stride":
        return bool(ours > theirs)
    return ours is not None and (theirs is None or bool(ours < theirs))  # None: all of the data


def _count(value: Any) -> str:
    if value is None:
        return "all"
    return f"{value:,}" if type(value) is int else str(value)


def millions(parameters: Sequence[int]) -> str:
    """Returns numbers of parameters in millions, such as `24.0 M` or `0.0166 to 0.0684 M`, or ""
    for none."""
    ends = dict.fromkeys(f"{p / 1e6:#.3g}" for p in (*parameters[:1], *parameters[-1:]))
    return f"{' to '.join(ends)} M" if ends else ""
