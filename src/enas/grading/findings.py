"""This module collects findings: the figures that a run folder holds for the paper's experiments,
each with the settings that it was made by.

There are trainings from scratch of the architecture that ranks first, of the one that validation
chose among several, and of hand-designed models. From a comparison there are the random
architectures, the disabled controller and the studies of local optima. This module does not import
torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enas.runs.compared import Compared
from enas.runs.files import blaming, flat
from enas.runs.records import Config
from enas.runs.results import Best, Result, Retrained
from enas.tasks.metrics import METRICS, Metric

Settings = Mapping[str, Any]  # by dotted names, as JSON holds them
# the paper's data sets, and the metric of each in our files
PAPER = {"ptb": "perplexity", "cifar10": "accuracy"}
# the space of each of the paper's presets
SPACES = {"ptb-rnn": "rnn_cell", "cifar10-macro": "conv_macro", "cifar10-micro": "conv_micro"}


@dataclass(frozen=True)
class Finding:
    """A `Finding` is a figure on the scale of the paper: error in percent, perplexity, and for
    "local" the increase."""

    run: Path
    file: Path
    kind: str  # as in `Experiment`
    space: str  # space of the search; "" for a reference
    of: str
    preset: str
    recipe: str
    settings: Settings
    own: Settings  # settings of the run, from which those of the figure may differ
    # seeds of the search and of the training; findings with equal seeds and settings are the same
    seeds: tuple[int | str, ...]
    value: float = math.nan
    spread: float | None = None
    n: int = 1  # number of figures; 0 for a training that diverged
    # figure of the best of the random architectures, or the largest increase of a study
    extreme: float | None = None
    parameters: tuple[int, ...] = ()
    budget: int | None = None  # most parameters of a reference
    note: str = ""
    lost: int = 0  # more architectures that diverged; they are in no other figure

    @property
    def data(self) -> str:
        return str(self.settings["data.dataset"])

    @property
    def metric(self) -> Metric:
        return METRICS[PAPER[self.data]]


def finite(value: float) -> float:
    """Returns the figure. Raises a ValueError where it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"a figure is a finite number; got {value!r}")
    return value


def error(value: float, metric: Metric) -> float:
    """Returns the error in percent for an accuracy in percent, and a perplexity unchanged."""
    return 100 - finite(value) if metric.larger_is_better else finite(value)


def findings(run: Path) -> tuple[list[Finding], list[str]]:
    """Returns the findings of a search or a training, and in words the content that belongs to no
    row of the table. Raises `Damaged` where a file is not as it should be."""
    config = Config.read(run)
    with blaming(run / Config.FILE):
        preset, data = config.preset, config.settings["data.dataset"]
    if preset not in SPACES or data not in PAPER:
        return [], [f"preset {preset} on data set {data}, which no experiment of the paper is about"]
    if config.command == "search":
        return _of_search(run, config)
    if config.command != "retrain":
        return [], [f"a {config.command}"]
    training = _training(run, run, config.settings)
    if training is None:
        return [], ["a training without a result yet"]
    return ([training], []) if training.kind == "reference" else ([], ["a training of an architecture outside of a search"])


def _seed(config: Config, run: Path) -> int | str:
    return str(run) if config.seed is None else config.seed


def _training(folder: Path, run: Path, own: Settings) -> Finding | None:
    """Returns the finding of a training from scratch, or None while it has no result."""
    config, result = Config.read(folder), Result.of(folder)
    if result is None:
        return None
    with blaming(folder / Config.FILE):
        model, seeds = config.architecture or {}, (_seed(config, run), config.train_seed)
        kind, space, of = ("derived", SPACES[config.preset], "")
        if "reference" in model:
            kind, space, of = ("reference", "", str(model["reference"]))
        budget = int(str(model["parameters"])) if of else None
        preset, recipe, settings = config.preset, config.recipe, config.settings
        like = Finding(run, folder / Result.FILE, kind, space, of, preset, recipe, settings, own, seeds, budget=budget)
        metric = like.metric
    if result.diverged:
        return replace(like, file=folder / "timing.jsonl", n=0)
    with blaming(like.file):
        figure = result.figures[f"test_{metric.name}"]
        if figure == math.inf:  # the perplexity overflowed
            return replace(like, n=0)
        return replace(like, value=error(metric.shown(figure), metric), parameters=(result.parameters,))


def _of_search(run: Path, config: Config) -> tuple[list[Finding], list[str]]:
    own, first, unused = dict(config.settings), "", []
    done = own.get("search.epochs")
    if (best := Best.find(run)) is not None:
        first, done = best.ranked[0].id, best.searched_epochs
        own |= flat(best.settings, "derive.")  # flags that `derive` was given
    chosen, note = _chosen(run, first)
    strategy, draw = own.get("strategy"), own.get("derive.draw", "policy")
    is_enas = strategy == "reinforce" and draw == "policy"
    trainings = {file.parent: _training(file.parent, run, own) for file in sorted(run.glob("retrain*/*/config.json"))}
    results = []
    for folder, training in trainings.items():
        if training is None:
            continue
        of_search = replace(training, settings={**training.settings, "search.epochs": done})
        if training.kind == "reference":
            results.append(training)
        elif is_enas and first and folder.name.startswith(f"{first}-"):
            results.append(of_search)
        elif is_enas and str(folder.relative_to(run)) == chosen:
            results.append(replace(of_search, note=note))
    if unfinished := list(trainings.values()).count(None):
        unused.append(f"{unfinished} training{'s' * (unfinished > 1)} without a result yet")
    if not is_enas:
        unused.append(f"a search of strategy {strategy}, derived from samples of {draw}: what it derived is not ENAS's")
    if (compared := Compared.find(run)) is not None:
        settings = {**own, "search.epochs": done, **flat(compared.recipe, "retrain.")}
        space, seeds = SPACES[config.preset], (_seed(config, run),)
        like = Finding(run, run / Compared.FILE, "", space, "", config.preset, config.recipe, settings, own, seeds)
        with blaming(like.file):
            results += [finding for finding in _compared(compared, like) if is_enas or finding.kind == "uniform"]
        if first and compared.derived_id != first:
            unused.append("compare.json is of an architecture that does not rank first any more; its random ones count")
    return results, unused


def _chosen(run: Path, first: str) -> tuple[str, str]:
    """Returns the folder of the training that validation chose among several, and a note that says
    so. Both are "" where the chosen architecture ranks first anyway."""
    record = Retrained.find(run)
    if record is None or record.chosen == first:
        return "", ""
    return record.best.folder, f"chosen of {len(record.trainings)} by validation"


def _compared(compared: Compared, like: Finding) -> Iterator[Finding]:
    verdict, metric = compared.verdict, like.metric
    if compared.metric != metric:
        raise ValueError(f"it is of {compared.metric.name}, where the run is of {metric.name}")
    yield replace(
        like,
        kind="uniform",
        value=error(verdict.derived - verdict.difference, metric),
        spread=finite(verdict.uniform_spread),
        n=verdict.cells,
        extreme=error(verdict.uniform_best, metric),
        parameters=tuple(compared.parameters[name] for name in compared.uniform),
        lost=verdict.diverged,
    )
    if disabled := compared.disabled:
        of_all = replace(like, n=disabled.configurations)
        yield replace(of_all, kind="disabled", value=error(disabled.mean, metric), spread=finite(disabled.spread))
        yield replace(of_all, kind="ensemble", value=error(disabled.ensemble, metric))
    for study in compared.studies:
        if study.largest is not None:  # else there was nothing to change
            largest, gap = finite(study.largest), study.difference
            value, spread = (finite(gap.mean), finite(gap.half_width)) if gap else (largest, None)
            like_study = replace(like, kind="local", of=study.name, n=len(study.changed))
            yield replace(like_study, value=value, spread=spread, extreme=largest)
