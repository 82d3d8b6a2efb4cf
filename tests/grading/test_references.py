"""Hand-designed models: of as many parameters as they may have, trained and compared by the recipe
of an architecture."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from enas import api
from enas.cli.main import main
from enas.grading.asked import Wanted
from enas.grading.compare import trainings_of
from enas.grading.opened import OpenedRun, OutOfTime
from enas.grading.verdict import uniform_architectures, verdict
from enas.networks.references.registry import REFERENCES
from enas.networks.settings import MacroSettings, MicroSettings
from enas.procedures.events import Diverged
from enas.runs.compared import Compared, Disabled
from enas.runs.folder import RunFolder
from enas.runs.planning import make_plan
from enas.runs.results import Best, Result
from enas.spaces.architecture import Reference, model_from_dict
from enas.spaces.published import named

IMAGES = {"channels": 3, "image_size": 32, "classes": 10}
IMAGE_MODELS = [name for name, entry in REFERENCES.items() if entry.task == "image_classification"]
SMALL = [
    *("--space.num-nodes", "2", "--network.filters", "4", "--data.train", "60", "--data.validation", "40"),
    *("--task.batch-size", "20", "--search.epochs", "1", "--search.warmup-epochs", "0", "--derive.samples", "3"),
    *("--search.controller-steps", "1", "--search.architectures", "2"),
    *("--derive.draw", "policy", "--derive.finalists", "0", "--derive.trainings", "0"),
    *("--retrain.epochs", "1", "--retrain.network.filters", "4", "--retrain.task.batch-size", "20"),
]
SMALL_TEXT = [
    *("--data.train", "1500", "--space.num-nodes", "3", "--network.hidden", "8", "--search.epochs", "2"),
    *("--search.warmup-epochs", "1", "--search.controller-steps", "2", "--search.probes", "0"),
    *("--derive.samples", "3", "--derive.uniform", "3", "--derive.finalists", "0", "--derive.trainings", "0"),
    *("--retrain.epochs", "2", "--retrain.network.hidden", "8", "--retrain.task.test-batch", "64"),
]


def enas(*args: object) -> int:
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("derived") / "run"
    assert enas("search", "digits-micro", "--out", run, *SMALL) == 0
    assert enas("derive", run) == 0
    return run


@pytest.fixture
def run(derived: Path, tmp_path: Path) -> Path:
    """A derived run of one's own."""
    return Path(shutil.copytree(derived, tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_as_wide_as_the_budget_allows(name: str) -> None:
    entry = REFERENCES[name]
    for budget in (60_000, 4_600_000):
        with torch.device("meta"):
            model: Any = entry.make(IMAGES, MicroSettings(), budget)
        count = sum(p.numel() for p in model.parameters())
        assert model.num_parameters() == count
        assert 0.75 * budget < count <= budget
    with pytest.raises(ValueError, match=f"reference model '{name}' has at least .* parameters; got 10"):
        entry.make(IMAGES, MicroSettings(), 10)


def test_the_published_sizes() -> None:
    """DenseNet-BC of 190 layers and growth 40 has 25.6 M parameters (Huang et al. 2017); at 100 and
    12, 0.8 M. ResNet-20 has 0.27 M (He et al. 2016)."""
    from enas.networks.references.images import densenet_bc, resnet

    about = {"channels": 3, "classes": 10, "stem_stride": 1, "dropout": 0.0}
    with torch.device("meta"):
        assert densenet_bc(40, **about, depth=190).num_parameters() == pytest.approx(25.6e6, rel=0.01)
        assert densenet_bc(12, **about, depth=100).num_parameters() == pytest.approx(0.8e6, rel=0.05)
        assert resnet(16, **about).num_parameters() == pytest.approx(0.27e6, rel=0.02)


@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("size", [8, 9])
def test_image_references_train(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = REFERENCES[name].make({**IMAGES, "image_size": size}, MacroSettings(stem_stride=2, dropout=0.1), 40_000)
    x, y = torch.randn(6, 3, size, size), torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(x, None, progress=0.5), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x[:1]), model(x)[:1], rtol=1e-4, atol=1e-4)


def test_a_reference_is_a_value() -> None:
    reference = Reference("lstm", 1000)
    assert model_from_dict(json.loads(json.dumps(reference.to_dict()))) == reference
    assert model_from_dict(named("enas_rnn").to_dict()) == named("enas_rnn")
    assert reference.id == "lstm-1000"


def test_which_preset_trains_a_reference(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = make_plan("ptb-rnn", "paper")
    assert api.reference_for(plan, "lstm") == Reference("lstm", 24_000_000)
    assert api.reference_for(plan, "rhn", parameters=9) == Reference("rhn", 9)
    for args, says in (
        (["--arch", "gru"], "a reference model is one of lstm, rhn, resnet, densenet_bc; got 'gru'"),
        (["--arch", "resnet", "--preset", "ptb-rnn"], "for language model is one of lstm, rhn; got 'resnet'"),
        (["--arch", "lstm", "--preset", "text-rnn", "--parameters", "0"], "--parameters is at least 1; got 0"),
        (["enas_rnn", "--arch", "lstm"], "--arch names a hand-designed model, beside a run or nothing; got 'enas_rnn'"),
        (["enas_rnn", "--preset", "text-rnn", "--parameters", "9"], "name it with --arch"),
        (["enas_rnn", "--preset", "text-rnn", "--cutout", "4"], "--cutout blanks squares of images"),
        (["enas_rnn", "--preset", "text-rnn", "--highest-filters", "512"], "--highest-filters widens convolutional"),
        (["enas_macro", "--preset", "digits-macro", "--highest-filters", "0"], "a multiple of 1"),
    ):
        assert enas("retrain", *args, "--out", tmp_path / "no") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert says in err, err


@pytest.mark.slow
def test_images_beside_a_resnet(run: Path, in_this_process: None) -> None:
    assert enas("compare", run, "--cells", 2, "--seeds", 2, "--references", "resnet") == 0
    found = json.loads((run / "compare.json").read_text())
    best = json.loads((run / "best.json").read_text())["ranked"][0]
    assert found["parameters"]["resnet"] <= best["parameters"] == found["parameters"][best["id"]]
    assert len(found["test_accuracy"]["resnet"]) == 2
    assert len(found["parameters"]) == 4
    assert "; resnet " in found["verdict"]
    before = sorted((run / "retrain").iterdir())
    assert enas("retrain", run, "--arch", "resnet") == 0  # is there already
    assert sorted((run / "retrain").iterdir()) == before


@pytest.mark.slow
def test_text_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], few_are_scored: None, in_this_process: None
) -> None:
    run = tmp_path / "run"
    assert enas("search", "text-rnn", "--out", run, *SMALL_TEXT) == 0
    assert enas("derive", run) == 0
    assert enas("retrain", run) == 0
    assert enas("retrain", run, "--arch", "lstm") == 0
    assert enas("report", run) == 0
    assert enas("show", run) == 0
    assert "cell\n  h1" in capsys.readouterr().out
    result = json.loads((run / "retrained.json").read_text())["trainings"][0]
    assert 1 < result["test_perplexity"] < 2000
    (lstm,) = (run / "retrain").glob("lstm-*-seed0")
    assert json.loads((lstm / "result.json").read_text())["parameters"] <= result["parameters"]
    config = json.loads((run / "config.json").read_text())
    assert len(config["source"]["sha256"]) == 64


@pytest.mark.slow
def test_a_uniform_cell_that_diverges_is_counted_apart(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    good, bad = Result({"test_accuracy": 0.5}, 7, rollbacks=2), Result({}, diverged="so")

    def results(lost: Callable[[Any, int], bool]) -> Any:
        return lambda plan, trainings, **_: ([bad if lost(job.model, job.seed) else good for job in trainings], None)

    best = api.best_of(run)[0]
    space = api.Plan.of(RunFolder.open(run).config).space
    second = uniform_architectures(space, 3, 0, without=best)[1]
    monkeypatch.setattr("enas.grading.opened.retrain_many", results(lambda what, seed: what == second))
    answer = api.compare(run, cells=3, seeds=2)
    assert answer is not None
    assert (answer.cells, answer.diverged) == (2, 1)
    assert "1 more random architecture diverged" in str(answer)
    # trained at a lower rate: that is said
    back = json.loads((run / "compare.json").read_text())["rolled_back"]
    assert len(back) == 2 + 2
    assert set(back.values()) == {2}
    monkeypatch.setattr(
        "enas.grading.opened.retrain_many", results(lambda what, seed: getattr(what, "name", "") == "resnet" and seed == 1)
    )
    answer = api.compare(run, cells=3, seeds=2, references=["resnet", "densenet_bc"])
    assert answer is not None
    assert list(answer.references) == ["densenet_bc"]
    assert str(answer).endswith("; densenet_bc 50.00 %, standard deviation 0.00; resnet diverged)")
    monkeypatch.setattr("enas.grading.opened.retrain_many", results(lambda what, seed: what == best and seed == 0))
    with pytest.raises(Diverged, match="diverged, and without it there is no verdict: so"):
        api.compare(run, cells=3, seeds=2)


@pytest.mark.slow
def test_a_figure_that_is_no_number_came_to_nothing(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """A perplexity may overflow after a training that went to its end."""
    best = api.best_of(run)[0]
    bad, good = Result({"test_accuracy": math.inf}, 7), Result({"test_accuracy": 0.5}, 7)
    lost = best

    def results(plan: Any, trainings: Any, **_: Any) -> Any:
        return [bad if job.model == lost else good for job in trainings], None

    monkeypatch.setattr("enas.grading.opened.retrain_many", results)
    with pytest.raises(Diverged, match="its test accuracy is inf with seed 0"):
        api.compare(run, cells=3, seeds=2)
    lost = uniform_architectures(api.Plan.of(RunFolder.open(run).config).space, 3, 0, without=best)[1]
    answer = api.compare(run, cells=3, seeds=2)
    assert answer is not None
    assert (answer.cells, answer.diverged) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("filters", [4, 16])
def test_a_reference_is_as_large_as_the_derived_one_by_the_recipe_of_both(run: Path, filters: int) -> None:
    """Another recipe may make the derived one wider than the run's own does."""
    opened = OpenedRun.at(run)
    own = opened.plan.settings.retrain
    recipe = dataclasses.replace(own, network=dataclasses.replace(own.network, filters=filters))
    *_, reference = trainings_of(opened, Wanted(cells=2, seeds=2, references=("resnet",)), recipe)
    plan, best = opened.plan.with_settings(retrain=recipe), Best.read(run)
    child = plan.network(recipe.network, plan.task(plan.load_data(), recipe.task), best.architecture)
    size = child.num_parameters(aux=False)
    assert (size == best.ranked[0].parameters) == (filters == own.network.filters)
    assert reference.model == Reference("resnet", size)


def test_references_in_a_verdict() -> None:
    text = str(verdict([90.0, 91.0], [[89.0], [90.0]], references={"resnet": [92.0, 93.0]}))
    assert text.endswith("rank 1 of 3; resnet 92.50 %, standard deviation 0.71)")


def test_widths_scale_to_the_highest_layer() -> None:
    """Paper 3.2: 512 filters in the highest layer; 38.0 M / 21.3 M = (512 / 384)^2."""
    narrow = MacroSettings(filters=96, double_filters=True)
    assert narrow.widened(512).filters == 128
    assert MacroSettings(filters=36).widened(512).filters == 512
    assert MicroSettings(filters=36).widened(512).filters == 128
    for wrong in (0, 510):
        with pytest.raises(ValueError, match=f"filters of the highest layer are a multiple of 4, .*; got {wrong}"):
            narrow.widened(wrong)


@pytest.mark.slow
def test_a_comparison_opens_its_run_once(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """From the command line, references and single changes with it."""
    opened: list[str] = []
    counts = [True]
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if counts and event == "open" else None)
    result = Result({"test_accuracy": 0.5}, 7)
    monkeypatch.setattr(
        "enas.grading.opened.retrain_many", lambda plan, trainings, **_: ([result for _ in trainings], None)
    )
    assert enas("compare", run, "--cells", 2, "--seeds", 2, "--references", "resnet", "--single", 2) == 0
    counts.clear()
    assert opened.count(str(run / "config.json")) == 1
    assert opened.count(str(run / "best.json")) == 1


@pytest.mark.slow
def test_parts_are_kept_or_named(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """A later comparison keeps what an earlier one found of the same architecture by the same
    recipe, and names what it had no time for."""
    other = api.Plan.of(RunFolder.open(run).config).space.sample(random.Random(5))
    disabled = Disabled("accuracy", 8.0, 1.0, 9.0, 4)
    result = Result({"test_accuracy": 0.5}, 7)
    monkeypatch.setattr(
        "enas.grading.opened.retrain_many", lambda plan, trainings, **_: ([result for _ in trainings], None)
    )
    monkeypatch.setattr("enas.grading.compare.random_search", lambda trainings: other)
    monkeypatch.setattr("enas.grading.compare.disabled_controller", lambda trainings, n: disabled)
    asked = {"cells": 2, "seeds": 2, "references": ["resnet"], "sharing": True, "disabled": 4, "single": 2}
    assert api.compare(run, **asked) is not None
    first = Compared.read(run)
    assert list(first.references) == ["resnet", "uniform sharing"]
    assert (first.disabled, [study.name for study in first.studies], first.left_out) == (disabled, ["single_changes"], {})
    assert api.compare(run, cells=2, seeds=2) is not None
    second = Compared.read(run)
    assert (second.references, second.disabled, second.studies) == (first.references, disabled, first.studies)

    def out_of_time(*_: Any) -> Any:
        raise OutOfTime("time is up")

    monkeypatch.setattr("enas.grading.compare.random_search", out_of_time)
    monkeypatch.setattr("enas.grading.compare.disabled_controller", out_of_time)
    monkeypatch.setattr("enas.grading.compare.study_result", out_of_time)
    retrain = dataclasses.replace(api.Plan.of(RunFolder.open(run).config).settings.retrain, epochs=2)
    assert api.compare(run, **{**asked, "references": []}, settings=retrain) is not None
    third = Compared.read(run)
    assert (third.references, third.disabled, third.studies) == ({}, disabled, ()), "of the other recipe"
    assert third.left_out == dict.fromkeys(["uniform sharing", "disabled controller", "single changes"], "time is up")


def test_all_stands_for_what_makes_sense() -> None:
    assert Wanted().completed(learns=True, has_studies=True) == Wanted()
    wanted = Wanted(all=True, local=3).completed(learns=True, has_studies=True)
    assert (wanted.sharing, wanted.disabled, wanted.local, wanted.single) == (True, 250, 3, 16)
    wanted = Wanted(all=True).completed(learns=False, has_studies=False)
    assert (wanted.sharing, wanted.disabled, wanted.local, wanted.single) == (False, 250, 0, 16)
    assert Wanted(all=True).completed(learns=True, has_studies=False, averages=False).disabled == 0
