"""Findings: the figures that a run folder holds for the paper's experiments, each with the settings it was made by.

Trainings alone (`retrain/*/result.json`) of the architecture that ranks first in best.json, of the one that validation
chose among several (retrained.json), and of hand-designed models; from compare.json the uniform architectures, the
disabled controller and the studies of local optima. No torch in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enas.runs.before import flat_settings
from enas.runs.files import Record, blaming, flat, read_records
from enas.tasks.metrics import METRICS

Settings = Mapping[str, Any]  # by dotted names, as JSON holds them
PAPER = {"ptb": "perplexity", "cifar10": "accuracy"}  # the paper's data sets, and what our files are judged by
SPACES = {"ptb-rnn": "rnn_cell", "cifar10-macro": "conv_macro", "cifar10-micro": "conv_micro"}  # of the paper's presets


@dataclass(frozen=True)
class Found:
    """One figure, as the paper gives it: an error in percent, a perplexity; of kind "local" its increase."""

    run: Path
    file: Path
    kind: str  # as Experiment's
    space: str  # of the search; none for a reference
    of: str
    preset: str
    recipe: str
    settings: Settings
    own: Settings  # the run's, which the figure's may differ from
    value: float = math.nan
    spread: float | None = None
    n: int = 1  # 0: a training that diverged
    extreme: float | None = None  # the best of the uniform ones; the largest increase of a study
    parameters: tuple[int, ...] = ()
    budget: int | None = None  # most parameters of a reference
    note: str = ""
    seeds: tuple[
        Any, ...
    ] = ()  # of the search and of the training: what is equal in them and all settings is the same again

    @property
    def data(self) -> str:
        return str(self.settings["data.dataset"])


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a figure is a finite number; got {value!r}")
    return float(value)


def _maybe(value: Any) -> float | None:
    """None where there is no number, such as a spread of one."""
    return None if value is None or value != value else number(value)


def _shown(value: Any, data: str) -> float:
    """Of an accuracy in percent the error; a perplexity as it is."""
    return 100 - number(value) if PAPER[data] == "accuracy" else number(value)


def _one(path: Path) -> Record | None:
    return next(iter(read_records(path)), None)


def findings(run: Path) -> tuple[list[Found], list[str]]:
    """What a search or a training holds for the table, and in words what it holds that no row is about. ValueError
    (Damaged) where a file is not what it should be."""
    config = _one(run / "config.json") or {}
    with blaming(run / "config.json"):
        command, settings = config["command"], flat_settings(config)
        preset, recipe, data = str(config["preset"]), str(config["recipe"]), settings["data.dataset"]
    if preset not in SPACES or data not in PAPER:
        return [], [f"preset {preset} on data set {data}, which no experiment of the paper is about"]
    if command == "search":
        like = Found(run, run, "", SPACES[preset], "", preset, recipe, settings, settings, seeds=_seeds(config, run))
        return _of_search(run, like)
    one = _training(run, run, settings) if command == "retrain" else None
    if one is None:
        return [], ["a training without a result yet" if command == "retrain" else f"a {command}"]
    return ([one], []) if one.kind == "reference" else ([], ["a training of an architecture outside of a search"])


def _seeds(config: Record, run: Path) -> tuple[Any, ...]:
    return (config.get("seed", str(run)),)


def _training(folder: Path, run: Path, own: Settings) -> Found | None:
    """A training alone; None while it has no result."""
    config, result = _one(folder / "config.json") or {}, _one(folder / "result.json")
    with blaming(folder / "config.json"):
        settings, preset, model = flat_settings(config), str(config["preset"]), config["architecture"]
        reference = str(model["reference"]) if "reference" in model else ""
        one = Found(
            run,
            folder / "result.json",
            "reference" if reference else "derived",
            "" if reference else SPACES[preset],
            reference,
            preset,
            str(config["recipe"]),
            settings,
            own,
            budget=int(model["parameters"]) if reference else None,
            seeds=(*_seeds(config, run), config["train_seed"]),
        )
        metric = METRICS[PAPER[one.data]]
    if result is None:
        ended = [record.get("why") for record in read_records(folder / "timing.jsonl")][-1:]
        return replace(one, file=folder / "timing.jsonl", n=0) if ended == ["diverged"] else None
    with blaming(folder / "result.json"):
        figure = result[f"test_{metric.name}"]
        if figure == math.inf:  # a perplexity that overflows
            return replace(one, n=0)
        return replace(one, value=_shown(metric.shown(number(figure)), one.data), parameters=(int(result["parameters"]),))


def _of_search(run: Path, like: Found) -> tuple[list[Found], list[str]]:
    found, unused, own = [], [], like.own
    first, done = "", own.get("search.epochs")
    if (best := _one(run / "best.json")) is not None:
        with blaming(run / "best.json"):
            first, done = str(best["ranked"][0]["id"]), int(best["searched_epochs"])
            own = {**own, **flat(best.get("settings", {}), "derive.")}  # flags that `derive` was given
            like = replace(like, own=own, settings={**like.settings, **own})
    chosen, note = _chosen(run, first)
    unfinished = 0
    is_enas = own.get("strategy") == "reinforce" and own.get("derive.draw", "policy") == "policy"
    for file in sorted(run.glob("retrain*/*/config.json")):
        folder = file.parent
        one = _training(folder, run, own)
        if one is None:
            unfinished += 1
        elif one.kind == "reference":
            found.append(one)
        elif is_enas:
            one = replace(one, settings={**one.settings, "search.epochs": done})
            if first and folder.name.startswith(f"{first}-"):
                found.append(one)
            elif str(folder.relative_to(run)) == chosen:
                found.append(replace(one, note=note))
    if unfinished:
        unused.append(f"{unfinished} training{'s' * (unfinished > 1)} without a result yet")
    if not is_enas:
        unused.append(
            f"a search of strategy {own.get('strategy')}, derived from samples of {own.get('derive.draw', 'policy')}:"
            " what it derived is not ENAS's"
        )
    if (compared := _one(run / "compare.json")) is not None:
        with blaming(run / "compare.json"):
            settings = {**own, "search.epochs": done, **flat(compared["recipe"], "retrain.")}
            compared_as = replace(like, file=run / "compare.json", settings=settings)
            found += [one for one in _compared(compared, compared_as) if is_enas or one.kind == "uniform"]
            if first and compared["derived_id"] != first:
                unused.append(
                    "compare.json is of an architecture that does not rank first any more; its uniform ones count"
                )
    return found, unused


def _chosen(run: Path, first: str) -> tuple[str, str]:
    """Folder of the training that validation chose among several, where it is not of the architecture that ranks first."""
    record = _one(run / "retrained.json")
    if record is None:
        return "", ""
    with blaming(run / "retrained.json"):
        rows, chosen = record["trainings"], record["chosen"]
        [row] = [row for row in rows if row["id"] == chosen]
        return ("", "") if chosen == first else (str(row["folder"]), f"chosen of {len(rows)} by validation")


def _compared(record: Record, like: Found) -> Iterator[Found]:
    data, metric = like.data, METRICS[PAPER[like.data]].name
    uniform = {*record.get(f"test_{metric}", record["parameters"])}
    uniform -= {"derived", str(record["derived_id"]), *record.get("references", {})}
    diverged = int(record.get("diverged", 0))
    yield replace(
        like,
        kind="uniform",
        value=_shown(number(record["derived"]) - number(record["difference"]), data),
        spread=number(record["uniform_spread"]),
        n=int(record["cells"]),
        extreme=_shown(record["uniform_best"], data),
        parameters=tuple(int(p) for name, p in record["parameters"].items() if name in uniform),
        note=f"{diverged} more diverged" if diverged else "",
    )
    disabled, local = record.get("disabled"), record.get("local")
    for part in (disabled, local):
        if part and part["metric"] != metric:
            raise ValueError(f"a part of it is of {part['metric']}, where the run is of {metric}")
    if disabled:
        one = replace(like, n=int(disabled["configurations"]))
        yield replace(one, kind="disabled", value=_shown(disabled["mean"], data), spread=_maybe(disabled["spread"]))
        yield replace(one, kind="ensemble", value=_shown(disabled["ensemble"], data))
    for study in local["studies"] if local else ():
        if study["changed"]:  # else there was nothing to change
            gap = study["difference"] or {"mean": study["largest"], "half_width": None}
            one = replace(like, kind="local", of=str(study["name"]), n=len(study["changed"]))
            spread, largest = _maybe(gap["half_width"]), number(study["largest"])
            yield replace(one, value=number(gap["mean"]), spread=spread, extreme=largest)
