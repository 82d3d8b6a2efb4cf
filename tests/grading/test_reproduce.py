"""`enas reproduce`: the paper's figures, ours out of run folders and out of nothing else, labelled
by size."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from enas import api
from enas.cli.compare import CompareFlags
from enas.cli.main import main
from enas.grading.paper import EXPERIMENTS, MACRO, MICRO, RNN, Experiment
from enas.grading.reproduce import Ours, Row, Survey, paper_settings, survey
from enas.procedures.settings import RetrainSettings
from enas.reports.paper_table import FORMS, about, lines
from enas.runs.files import Damaged
from enas.runs.presets import registry as presets
from enas.runs.settings import to_dict

PAPERS = paper_settings()
ALL = [experiment for some in EXPERIMENTS.values() for experiment in some]
GUIDED = "guided random search, micro"


def put(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def changed(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings with others at `a__b__c`."""
    out = json.loads(json.dumps(settings))
    for name, value in changes.items():
        at, *parts = (out, *name.split("__"))
        for part in parts[:-1]:
            at = at[part]
        at[parts[-1]] = value
    return out


def settings_of(preset: str, recipe: str = "quick") -> dict[str, Any]:
    return json.loads(json.dumps(to_dict(presets.config_of(preset, recipe))))


def a_search(
    path: Path, preset: str = "cifar10-micro", recipe: str = "quick", done: int | None = None, **changes: Any
) -> Path:
    """A search, derived: `best` ranks first."""
    settings = changed(settings_of(preset, recipe), **changes)
    names = to_dict(presets.preset(preset).names)
    if isinstance(settings["strategy"], str):
        names["strategy"], settings["strategy"] = settings["strategy"], {}
    put(
        path / "config.json",
        {"command": "search", "preset": preset, "recipe": recipe, "names": names, "settings": settings},
    )
    done = settings["search"]["epochs"] if done is None else done
    entry = {"shared_weights": {}, "parameters": 12_345, "space": {"name": "conv_micro"}, "choices": {}}
    ranked = [{"rank": rank, "id": name, **entry} for rank, name in enumerate(("best", "second"), 1)]
    put(path / "best.json", {"searched_epochs": done, "ranked": ranked})
    return path


# the paper's
PARAMETERS = {"ptb-rnn": 24_000_000, "cifar10-macro": 21_300_000, "cifar10-micro": 4_600_000}


def a_training(
    folder: Path, figure: float | None, like: Path, seed: int = 0, reference: Any = None, **changes: Any
) -> Path:
    """A training of `folder.name` by the settings of the search `like`; no figure: it is not
    finished."""
    config = json.loads((like / "config.json").read_text())
    model = {"reference": reference[0], "parameters": reference[1]} if reference else {"space": {}, "choices": {}}
    config |= {"command": "retrain", "train_seed": seed, "architecture": model}
    config["settings"] = changed(config["settings"], **changes)
    put(folder / "config.json", config)
    if figure is not None:
        name = "perplexity" if config["preset"] == "ptb-rnn" else "accuracy"
        size = PARAMETERS[config["preset"]] if config["recipe"] == "paper" else 12_345
        put(folder / "result.json", {f"test_{name}": figure, "parameters": size + seed})
    return folder


def a_comparison(run: Path, **more: Any) -> None:
    settings = json.loads((run / "config.json").read_text())["settings"]
    metric, test = more.get("metric", "accuracy"), {"derived": [90.0, 90.0], "u1": [91.0], "u2": [85.0], "resnet": [80.0]}
    found = {
        "derived": 90.0, "derived_spread": 0.0, "seeds": 2, "uniform": 88.0, "rank": 1, "half_width": 1.0,
        "difference": 2.0, "uniform_spread": 1.5, "uniform_best": 91.0, "cells": 4, "diverged": 0,
        "references": {"resnet": [80.0, 1.0]}, "derived_id": "best", "recipe": settings["retrain"], "metric": "accuracy",
        "parameters": {"best": 12_345, "resnet": 99, "u1": 10_000, "u2": 20_000}, f"test_{metric}": test,
    }  # fmt: skip
    put(run / "compare.json", {**found, **more})


def row(table: Survey, name: str) -> Row:
    return next(row for row in table.rows if row.experiment.name.startswith(name))


def only(table: Survey, name: str) -> Ours:
    [ours] = next(row for row in table.rows if row.experiment.name == name).ours
    return ours


def below(ours: Ours) -> list[str]:
    """Settings of size below the paper's, as the JSON form has them."""
    return [f"{'search ' * part.of_search}{part}" for part in ours.smaller]


# ------------------------------------------------------------------------------- the paper's side
def test_every_row_of_the_paper() -> None:
    assert [len(some) for some in EXPERIMENTS.values()] == [10, 20, 9]
    assert len({experiment.name for experiment in ALL}) == len(ALL)
    for kind, count in (("reference", 4), ("derived", 5), ("uniform", 3), ("disabled", 1), ("ensemble", 1), ("local", 4)):
        assert sum(experiment.kind == kind for experiment in ALL) == count, kind
    said = {
        "ptb": (55.8, 56.0, 62.4, 81.2, 8, 3),
        "cifar10": (2.56, 4.23, 4.47, 3.87, 3.65, 3.54, 3.41, 2.89, 2.65, 5.86, 6.77, 8.92, 5.49, 1.7, 2.1),
    }
    for data, figures in said.items():  # what the prose says too
        assert set(figures) <= {experiment.figure for experiment in ALL if experiment.data == data}
    ours = {experiment.name: (experiment.figure, experiment.parameters) for experiment in ALL}
    assert ours[RNN] == (55.8, 24)
    assert ours[MACRO] == (4.23, 21.3)
    assert ours[f"{MACRO} + more channels"] == (3.87, 38.0)
    assert ours[MICRO] == (3.54, 4.6)
    texts = [experiment.text for experiment in ALL if experiment.kind == "local"]
    assert texts == ["up to +8", "up to +3", "+1.7 %", "+2.1 %"]
    assert dataclasses.replace(ALL[0], figure=None).text == "-"


def test_studies_and_presets_go_by_their_names() -> None:
    assert {e.of for e in ALL if e.kind == "local"} == {
        "identity_sigmoid",
        "relu_tanh",
        "plain_convolutions",
        "connections",
    }
    assert all(name in PAPERS[preset] for e in ALL for name in e.changes for preset in ("cifar10-micro", "cifar10-macro")
               if name != "retrain.network.filters" or preset == "cifar10-macro")  # fmt: skip
    wide = presets.config_of("cifar10-macro", "paper").retrain.network.widened(512).filters
    assert row(survey([], PAPERS), f"{MACRO} + more").experiment.changes == {"retrain.network.filters": wide}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [e for e in ALL if e.kind != "others"], ids=lambda e: e.name)
def test_every_command_parses(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where the work would begin, and by the recipe `paper`."""
    calls: list[str] = []
    plans: list[Any] = []

    def stub(name: str, result: Any = None) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            calls.append(name)
            plans.extend(arg for arg in (*args, *more.values()) if arg is not None)
            return result

        return call

    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "data"):  # both of the paper's data sets, by their names
        (folder / "cifar-10-batches-py").mkdir(parents=True)
        (folder / "ptb.train.txt").touch()
    monkeypatch.setattr("enas.runs.search.search_plan", stub("search"))
    for name in ("reports.derive.derive", "runs.retrain.retrain_named", "grading.compare.compare_opened"):
        monkeypatch.setattr(f"enas.{name}", stub(name.rpartition(".")[2]))
    monkeypatch.setattr("enas.cli.display.ranking", stub("ranking"))
    if experiment.space:
        preset = experiment.command.split("runs/")[1].split("-paper")[0]
        assert presets.preset(preset).names.space == experiment.space
        put(tmp_path / f"runs/{preset}-paper/seed0/config.json", api.make_plan(preset, "paper", data=".").to_dict("search"))
    for command in experiment.command.split(" && "):
        program, *args = shlex.split(command)
        assert program == "enas"
        flags = {word.removeprefix("--") for word in args if word.startswith("--")}
        if args[0] == "compare" and (missing := flags - {f.name for f in dataclasses.fields(CompareFlags)}):
            pytest.skip(f"compare has no --{missing.pop()} yet")
        assert main(args) == 0
    wanted = {"derived": {"retrain_named"}, "reference": {"retrain_named"}}.get(experiment.kind, {"compare_opened"})
    assert wanted <= set(calls)
    own = (plan.settings.retrain for plan in plans if isinstance(plan, api.Plan))
    retrain = next((settings for settings in plans if isinstance(settings, RetrainSettings)), None) or next(own)
    assert retrain.epochs == (150 if experiment.data == "ptb" else 310)
    assert not experiment.after or experiment.after in {e.name for e in ALL}


# --------------------------------------------------------------------------------------- our side
def test_no_figure_of_ours_without_a_run_folder(tmp_path: Path) -> None:
    for table in (survey([], PAPERS), survey([], PAPERS, tmp_path)):
        assert all(not row.ours for row in table.rows)
        assert {row.status for row in table.rows} == {"not run", "others' method, not in this package"}
        assert all(row.status == "not run" for row in table.rows if row.experiment.kind != "others")
    assert not {"ours", "value", "result"} & {f.name for f in dataclasses.fields(Experiment)}
    run = a_search(tmp_path / "run")
    result = a_training(run / "retrain" / "best-seed0", 0.5, run) / "result.json"
    assert only(survey([], PAPERS, tmp_path), MICRO).value == 50.0
    put(result, {"test_accuracy": 0.625, "parameters": 12_345})
    ours = only(survey([], PAPERS, tmp_path), MICRO)
    assert (ours.value, ours.files) == (37.5, (result,))
    result.unlink()
    assert row(survey([], PAPERS, tmp_path), MICRO).status == "not run"
    shutil.rmtree(run)
    for form in FORMS.values():
        assert "12,345" not in form(survey([], PAPERS, tmp_path))


def test_the_derived_architecture_over_seeds_and_searches(tmp_path: Path) -> None:
    for search, figures in enumerate([(0.50, 0.52), (0.60, 0.58, 0.62)]):
        run = a_search(tmp_path / f"seed{search}")
        for seed, value in enumerate(figures):
            a_training(run / "retrain" / f"best-seed{seed}", value, run, seed)
        a_training(run / "retrain" / "second-seed0", 0.99, run)
    one = only(survey([tmp_path / "seed0"], PAPERS), MICRO)
    assert (one.value, one.spread) == (pytest.approx(49.0), pytest.approx(stdev([50.0, 48.0])))
    assert one.over == "n = 2 seeds"
    both = only(survey([], PAPERS, tmp_path), MICRO)
    assert (both.value, both.spread) == (pytest.approx(44.5), pytest.approx(stdev([49.0, 40.0])))
    assert both.over == "n = 2 searches, 5 trainings"
    assert len(both.files) == 5
    named_too = survey([tmp_path / "seed0"], PAPERS, tmp_path)
    assert only(named_too, MICRO) == dataclasses.replace(both, files=only(named_too, MICRO).files), "none counts twice"


def test_the_same_seeds_again_are_no_second_sample(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("copy", 0), ("two", 1)):
        run = a_search(tmp_path / name)
        config = json.loads((run / "config.json").read_text())
        put(run / "config.json", {**config, "seed": seed})
        a_training(run / "retrain" / "best-seed0", 0.5 + seed / 10, run)
        a_comparison(run)
    table = survey([], PAPERS, tmp_path)
    assert only(table, MICRO).over == "n = 2 searches, 2 trainings"
    assert only(table, GUIDED).over == "n = 8 architectures"


def test_what_is_small_says_so(tmp_path: Path) -> None:
    run = a_search(tmp_path / "run", data__train=10_000)
    a_training(run / "retrain" / "best-seed0", 0.5, run)
    small = only(survey([], PAPERS, tmp_path), MICRO)
    assert not small.full
    for text in ("epochs 6 of 310", "filters 16 of 36", "training data 10,000 of all", "search epochs 4 of 310"):
        assert text in below(small)
    assert "0.0123 M, cifar10-micro quick; " in about(small)
    full = a_search(tmp_path / "paper", recipe="paper")
    a_training(full / "retrain" / "best-seed0", 0.96, full)
    first, second = row(survey([], PAPERS, tmp_path), MICRO).ours
    assert second == small
    assert (first.full, first.smaller, first.differs) == (True, (), {})
    shown = [size for _, _, size in lines(row(survey([], PAPERS, tmp_path), MICRO))]
    assert shown == ["yes", "no"]
    a_search(full, recipe="paper", done=7)
    assert below(row(survey([full], PAPERS), MICRO).ours[0]) == ["search epochs 7 of 310"], "as far as it came"


def test_full_size_is_checked_by_parameters_too(tmp_path: Path) -> None:
    """A network of 12 layers by the recipe `paper` has 4.8 M parameters on average, where the paper
    has 21.3 M."""
    run = a_search(tmp_path / "run", "cifar10-macro", "paper")
    folder = a_training(run / "retrain" / "best-seed0", 0.95, run)
    for parameters, full in ((4_800_000, False), (20_200_000, False), (20_300_000, True)):
        put(folder / "result.json", {"test_accuracy": 0.95, "parameters": parameters})
        ours = only(survey([run], PAPERS), "ENAS + macro search space")
        assert ours.full == full
        assert below(ours) == ([] if full else [f"parameters {parameters / 1e6:#.3g} M of 21.3 M"])


@pytest.mark.parametrize("preset", ["ptb-rnn", "cifar10-macro", "cifar10-micro"])
@pytest.mark.parametrize("recipe", ["paper", "modern", "released", "quick"])
def test_only_the_small_recipe_is_small(preset: str, recipe: str, tmp_path: Path) -> None:
    run = a_search(tmp_path / "run", preset, recipe)
    a_training(run / "retrain" / "best-seed0", 80.0 if preset == "ptb-rnn" else 0.5, run)
    [ours] = [ours for row in survey([run], PAPERS).rows for ours in row.ours]
    assert (recipe == "paper") == (not ours.differs)
    assert ours.full or recipe != "paper"
    assert not ours.full or recipe != "quick"


def test_variants_of_a_training_have_rows_of_their_own(tmp_path: Path) -> None:
    micro, macro = a_search(tmp_path / "micro"), a_search(tmp_path / "macro", "cifar10-macro")
    a_training(micro / "retrain" / "best-abc-seed0", 0.7, micro, retrain__task__cutout=16)
    a_training(macro / "retrain" / "best-seed0", 0.6, macro)
    a_training(macro / "retrain" / "best-abc-seed0", 0.65, macro, retrain__network__filters=32)
    table = survey([], PAPERS, tmp_path)
    assert not row(table, MICRO).ours
    assert only(table, f"{MICRO} + CutOut").value == pytest.approx(30)
    assert "task.cutout" not in str(only(table, f"{MICRO} + CutOut").differs)
    assert only(table, MACRO).value == pytest.approx(40)
    wide = only(table, f"{MACRO} + more channels")
    assert wide.value == pytest.approx(35)
    assert "filters 32 of 128" in below(wide)


def test_references_stand_in_the_rows_of_their_methods(tmp_path: Path) -> None:
    text, images = a_search(tmp_path / "text", "ptb-rnn", "paper"), a_search(tmp_path / "images")
    for seed in (0, 1):
        a_training(text / "retrain" / f"rhn-{seed}", 70.0 + seed, text, seed, ("rhn", 23_983_594))
    a_training(tmp_path / "alone" / "seed0", 69.0, text, 0, ("lstm", 24_000_000))
    a_training(images / "retrain" / "densenet_bc-9-seed0", 0.5, images, 0, ("densenet_bc", 9), retrain__task__cutout=16)
    a_training(images / "retrain" / "resnet-9-seed0", 0.5, images, 0, ("resnet", 9))
    table = survey([], PAPERS, tmp_path)
    rhn = only(table, "RHN (Zilly et al., 2017), VD, WT")
    assert (rhn.value, rhn.full, rhn.over) == (70.5, True, "n = 2 seeds")
    [lstm] = row(table, "LSTM (Inan").ours
    assert (lstm.full, below(lstm)) == (False, ["parameters 24.0 M of 51 M"])
    assert [e.experiment.name for e in table.rows if e.ours and e.experiment.data == "cifar10"] == [
        "DenseNet + CutOut (DeVries & Taylor, 2017)"
    ], "there is no ResNet in the paper's table"


def test_what_compare_found(tmp_path: Path) -> None:
    run = a_search(tmp_path / "micro")
    a_comparison(run)
    one = only(survey([run], PAPERS), GUIDED)
    assert (one.value, one.spread, one.extreme, one.over) == (12.0, 1.5, 9.0, "n = 4 architectures")
    assert one.parameters == (10_000, 20_000)
    # as many searches as there are lists: one spread of all
    first, second = [10.0, 12.0, 14.0, 13.0], [8.0, 9.0, 12.0]
    for name, errors in (("micro", first), ("again", second)):
        # they do not depend on its length
        run = a_search(tmp_path / name, search__epochs=9 if name == "again" else 4)
        mean_accuracy = 100 - mean(errors)
        a_comparison(run, difference=90 - mean_accuracy, uniform_spread=stdev(errors), uniform_best=100 - min(errors),
                     cells=len(errors), diverged=1 + 2 * (name == "again"))  # fmt: skip
    both = only(survey([], PAPERS, tmp_path), GUIDED)
    assert (both.value, both.spread) == (pytest.approx(mean(first + second)), pytest.approx(stdev(first + second)))
    assert (both.extreme, both.over) == (pytest.approx(8.0), "n = 7 architectures, 4 more diverged")


def test_the_disabled_controller_and_the_local_studies(tmp_path: Path) -> None:
    def study(name: str, mean: float | None, half: float, largest: float | None, changed: int = 3) -> dict[str, Any]:
        gap = None if mean is None else {"mean": mean, "half_width": half}
        entries = [{"id": str(i), "change": "", "test": [1.0]} for i in range(changed)]
        return {"name": name, "base": [90.0], "changed": entries, "difference": gap, "largest": largest}

    macro, text = a_search(tmp_path / "macro", "cifar10-macro"), a_search(tmp_path / "text", "ptb-rnn")
    disabled = {"metric": "accuracy", "mean": 80.0, "spread": 2.0, "ensemble": 85.0, "configurations": 250}
    studies = [study("plain_convolutions", None, 0.0, 1.25, changed=1), study("single_changes", 1.0, 0.1, 2.0)]
    a_comparison(macro, disabled=disabled, local={"metric": "accuracy", "studies": studies})
    studies = [study("identity_sigmoid", 4.0, 1.5, 9.0), study("relu_tanh", None, 0.0, None, changed=0)]
    a_comparison(text, derived=100.0, difference=-30.0, uniform_best=110.0, metric="perplexity",
                 local={"metric": "perplexity", "studies": studies})  # fmt: skip
    table = survey([], PAPERS, tmp_path)
    said = {row.experiment.name: [line[0] for line in lines(row)] for row in table.rows}
    assert said["disabled controller: the trained shared weights"] == ["20.00 % +- 2.00 (n = 250 configurations)"]
    assert said["disabled controller: ensemble of 250 configurations"] == ["15.00 % (n = 250 configurations)"]
    assert said["guided random search, recurrent cell"] == ["130.00 +- 1.50 (n = 4 architectures, best 110.00)"]
    activations, swaps, plain, connections = (said[e.name] for e in ALL if e.kind == "local")
    assert activations == ["up to +9.00; mean +4.00 +- 1.50 (n = 3 networks, 95 % interval)"]
    assert plain == ["+1.25 % (n = 1 network, worst +1.25 %)"]
    assert swaps == connections == ["not run"]


def test_diverged_and_unfinished_trainings_are_not_forgotten(tmp_path: Path) -> None:
    run = a_search(tmp_path / "run")
    a_training(run / "retrain" / "best-seed0", None, run)
    lost = a_training(run / "retrain" / "best-seed1", None, run, seed=1) / "timing.jsonl"
    lost.write_text('{"event": "begin"}\n{"event": "end", "why": "diverged"}\n')
    table = survey([], PAPERS, tmp_path)
    assert next(lines(row(table, MICRO)))[0] == "diverged (n = 1)"
    assert table.unused == [f"{run}: 1 training without a result yet"]
    a_training(run / "retrain" / "best-seed0", 0.5, run)
    assert only(survey([], PAPERS, tmp_path), MICRO).over == "n = 1 seed, 1 more diverged"
    a_training(run / "retrain" / "best-seed2", math.inf, run, seed=2)
    assert only(survey([], PAPERS, tmp_path), MICRO).over == "n = 1 seed, 2 more diverged", "it overflowed"


def test_the_one_that_validation_chose(tmp_path: Path) -> None:
    run = a_search(tmp_path / "run")
    for name, value in (("best", 0.5), ("second", 0.6)):
        a_training(run / "retrain" / f"{name}-seed0", value, run)
    rows = [
        {"rank": rank, "id": name, "folder": f"retrain/{name}-seed0", "parameters": 1}
        for rank, name in ((2, "second"), (1, "best"))
    ]
    put(run / "retrained.json", {"train_on": "train", "chosen": "second", "trainings": rows})
    overs = {ours.value: ours.over for ours in row(survey([run], PAPERS), MICRO).ours}
    assert overs == {50.0: "n = 1 seed", 40.0: "n = 1 seed, chosen of 2 by validation"}


def test_what_is_in_no_row_is_named(tmp_path: Path) -> None:
    digits = a_search(tmp_path / "digits", "digits-micro")
    other = a_search(tmp_path / "other", data__dataset="digits")
    random = a_search(tmp_path / "random", strategy="random")
    for run in (digits, other, random):
        a_training(run / "retrain" / "best-seed0", 0.9, run)
    a_comparison(random)
    a_search(random / "uniform-sharing")
    a_training(random / "uniform-sharing" / "retrain" / "best-seed0", 0.9, random)
    a_training(tmp_path / "alone", 0.9, random)
    table = survey([], PAPERS, tmp_path)
    assert [row.experiment.name for row in table.rows if row.ours] == [GUIDED]
    assert table.runs == 4, "what is inside a run belongs to it"
    for name, why in (("digits", "digits-micro"), ("other", "data set digits"), ("random", "random"), ("alone", "outside")):
        assert any(text.startswith(f"{tmp_path / name}: ") and why in text for text in table.unused), name


# -------------------------------------------------------------------------------------- bad input
DAMAGE = {
    "config.json": "{", "best.json": '{"ranked": []}', "compare.json": '{"derived": "much"}', "retrained.json": "[]",
    "retrain/best-seed0/config.json": "{}", "retrain/best-seed0/result.json": '{"test_accuracy": NaN, "parameters": 1}',
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, well = a_search(tmp_path / "run"), a_search(tmp_path / "well")
    for one in (run, well):
        a_training(one / "retrain" / "best-seed0", 0.5, one)
    (run / name).write_text(DAMAGE[name])
    with pytest.raises(Damaged, match=name):
        survey([run], PAPERS)
    assert main(["reproduce", str(run)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("enas: ")
    assert err.count("\n") == 1
    table = survey([tmp_path], PAPERS)
    assert only(table, MICRO).files == (well / "retrain" / "best-seed0" / "result.json",)
    [skipped] = table.skipped
    assert name in skipped


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    run = a_search(Path("runs") / "cifar10-micro-quick" / "seed0")
    a_training(run / "retrain" / "best-seed0", 0.5, run)
    a_comparison(run)
    put(Path("runs") / "bad" / "config.json", [])
    for name in ("found.md", "found.json", "found.html"):
        assert main(["reproduce", "--out", name]) == 0
        out = capsys.readouterr().out
        assert f"wrote {name}" in out
        assert "skipped runs/bad" in out
        tables = out.split("Perplexities and errors")[0]
        assert "50.00 %" in tables
        assert max(map(len, tables.splitlines())) <= 100
    for name in ("found.md", "found.json", "found.html"):
        text = Path(name).read_text()
        for experiment in ALL:
            assert experiment.name.replace("&", "&amp;" if name.endswith("html") else "&") in text
            assert experiment.command.replace("&", "&amp;" if name.endswith("html") else "&") in text
        assert "50.00 %" in text or '"mean": 50.0' in text
        assert "//" not in text, "nothing is fetched from anywhere"
    found = json.loads(Path("found.json").read_text())
    [ours] = next(r for r in found["rows"] if r["experiment"] == MICRO)["ours"]
    assert (ours["mean"], ours["full_size"], ours["recipe"]) == (50.0, False, "quick")
    assert ours["files"] == ["runs/cifar10-micro-quick/seed0/retrain/best-seed0/result.json"]
    assert ours["differs_from_paper"]["retrain.epochs"] == [6, 310]
    opened: list[str] = []
    closed: list[str] = []
    parser = HTMLParser()
    monkeypatch.setattr(parser, "handle_starttag", lambda tag, attrs: opened.append(tag))
    monkeypatch.setattr(parser, "handle_endtag", closed.append)
    parser.feed(Path("found.html").read_text())
    assert sorted(tag for tag in opened if tag not in ("meta", "br")) == sorted(closed)


@pytest.mark.slow
def test_piped_to_plain_ascii(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = a_search(tmp_path / "runs" / "mine")
    a_training(run / "retrain" / "best-seed0", 0.5, run)
    done = subprocess.run(
        [sys.executable, "-m", "enas", "reproduce"], cwd=tmp_path, env=env, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"50.00 %" in done.stdout
    command = f"{sys.executable} -m enas reproduce | true; exit ${{PIPESTATUS[0]}}"
    stopped = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (stopped.returncode in (0, 141), stopped.stderr) == (True, b"")


def test_it_needs_no_torch() -> None:
    code = "import sys, enas.reports.paper_table, enas.grading.findings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
