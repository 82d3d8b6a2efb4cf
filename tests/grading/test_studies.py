"""Is it a local optimum, what does the controller bring: the changes that are studied, the
ensemble, the statistics."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch

from enas.cli.main import main
from enas.grading import searches
from enas.grading.asked import Wanted
from enas.grading.local import worse_by
from enas.grading.macs import of_trainings
from enas.grading.rivals import RIVALS
from enas.grading.studies import STUDIES, Study, drawn, single_changes
from enas.grading.verdict import verdict
from enas.procedures.ensemble import Ensemble
from enas.runs.files import read_json
from enas.runs.planning import make_plan
from enas.runs.presets import registry as presets
from enas.runs.records import Learned, learned
from enas.spaces.architecture import Architecture, Reference
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.decisions import OpChoice, SubsetChoice
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace, wire
from enas.tasks.metrics import METRICS
from laws import FULL, SMALL, samples

ACCURACY, PERPLEXITY = METRICS["accuracy"], METRICS["perplexity"]


# --------------------------------------------------------------------------------- single changes
def steps(space: SearchSpace, a: Architecture, b: Architecture) -> int:
    """How many changes lie between two architectures: answers that differ, or members of
    subsets."""
    if a.choices.keys() != b.choices.keys():
        return 99
    total = 0
    for decision in space.decisions:
        x, y = (arch.choices.get(decision.name) for arch in (a, b))
        if x != y and isinstance(decision, SubsetChoice):
            total += len(set(x or ()) ^ set(y or ())) // (1 if decision.k is None else 2)
        else:
            total += x != y
    return total


@pytest.mark.parametrize("name", SMALL)
def test_single_changes_are_all_that_there_are(name: str) -> None:
    """Held against the enumeration of the space. Where it has no cells, as that of a network of
    one's own, every other answer is another network."""
    space = SMALL[name]
    network = wire if space.cells else lambda _, arch: arch.choices
    everything = list(space.enumerate())
    for arch in random.Random(0).sample(everything, min(12, len(everything))):
        same = network(space, arch)
        expected = {b for b in everything if steps(space, arch, b) == 1 and network(space, b) != same}
        found = [changed for _, changed in single_changes(space, arch)]
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_a_single_change_says_what_it_is() -> None:
    space = conv_macro(ConvMacroSettings(num_layers=2, ops=("conv_3x3", "max_pool_3x3")))
    arch = space.architecture({"network.l1.op0": "conv_3x3", "network.l2.op0": "conv_3x3", "network.l2.skips": ["l1"]})
    assert [what for what, _ in single_changes(space, arch)] == [
        "network.l1.op0: conv_3x3 to max_pool_3x3",
        "network.l2.op0: conv_3x3 to max_pool_3x3",
        # it reads the same layer then, but not through a merging 1x1
        "network.l2.skips: l1 to nothing",
    ]


# ---------------------------------------------------------------------------- the paper's studies
CASES = [(name, study) for name, studies in STUDIES.items() for study in studies]


@pytest.mark.parametrize(("name", "study"), CASES, ids=lambda x: getattr(x, "name", x))
def test_studies_change_what_they_say(name: str, study: Study) -> None:
    space = FULL[name]
    for arch in samples(space, 8, seed=3):
        found = drawn(study, space, arch, 4, random.Random(1))
        networks = [wire(space, changed) for _, changed in found]
        assert all(network != wire(space, arch) for network in networks)
        assert all(a != b for i, a in enumerate(networks) for b in networks[:i])
        assert found == drawn(study, space, arch, 4, random.Random(1)), "a function of the seed"
        for text, changed in found:
            differing = {key for key in arch.choices if arch.choices[key] != changed.choices[key]}
            assert all(key in text for key in differing)
            kinds = {d.name: d for d in space.decisions}
            pairs = [(arch.choices[key], changed.choices[key]) for key in differing]
            if study.name == "identity_sigmoid":
                assert all(after in ("identity", "sigmoid") for _, after in pairs)
            elif study.name == "relu_tanh":
                assert all({before, after} == {"relu", "tanh"} for before, after in pairs)
            elif study.name == "connections":
                assert 1 <= len(differing) <= 3
                assert not any(isinstance(kinds[key], OpChoice) for key in differing)
            else:
                assert study.equal_parameters
                assert not any("sep_conv" in str(answer) for answer in changed.choices.values())
                assert all(before == f"sep_{after}" for before, after in pairs)


def test_there_may_be_nothing_to_change() -> None:
    space = conv_macro(ConvMacroSettings(num_layers=2))
    choices = {"network.l1.op0": "conv_3x3", "network.l2.op0": "max_pool_3x3", "network.l2.skips": []}
    (plain,) = STUDIES["conv_macro"]
    assert drawn(plain, space, space.architecture(choices), 4, random.Random(0)) == []


def test_studies_are_of_registered_spaces() -> None:
    assert STUDIES.keys() <= SPACES.keys()


# ----------------------------------------------------------------------------------- the ensemble
def small_task(preset: str) -> Any:
    settings = presets.config_of(preset, "quick")
    plan = make_plan(preset, "quick", settings, device="cpu")
    procedure = plan.search()
    return procedure.task, procedure.supernet, procedure.strategy.ask(3)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["digits-micro", "text-rnn"])
def test_probabilities_give_the_figures_of_evaluate(preset: str) -> None:
    """On every part; and an ensemble of one architecture, however often, is that architecture."""
    task, net, archs = small_task(preset)
    for part in ("validation", "test"):
        direct = task.evaluate(net, archs[0], part)
        found = task.judged(task.probabilities(net, archs[0], part), part)
        assert found == pytest.approx(direct, rel=1e-5)
    ensemble = Ensemble(task, net, [archs[0]] * 3)
    assert [member.done for member in ensemble.run()] == [1, 2, 3]
    result = ensemble.result(task.metric)
    assert result["configurations"] == 3
    assert result["spread"] == pytest.approx(0)
    assert result["ensemble"] == pytest.approx(result["mean"])


@pytest.mark.slow
def test_a_language_models_ensemble_reads_many_streams() -> None:
    """Batch norm over one stream would give every cell the same figures."""
    settings = presets.config_of("text-rnn", "quick")
    network = dataclasses.replace(settings.network, batch_norm=True)
    settings = dataclasses.replace(settings, network=network, task=dataclasses.replace(settings.task, test_batch=1))
    procedure = make_plan("text-rnn", "quick", settings, device="cpu").search()
    with torch.no_grad():
        for parameter in procedure.supernet.parameters():
            parameter *= 4
    a, b = (procedure.task.probabilities(procedure.supernet, arch, "test") for arch in procedure.strategy.ask(2))
    assert (a - b).abs().max() > 0.01


@pytest.mark.parametrize("preset", [pytest.param("text-rnn", marks=pytest.mark.slow), "digits-macro"])
def test_work_is_counted_alike_however_it_is_computed(preset: str, tmp_path: Path) -> None:
    """What a machine's fast ways hide from the counter is counted; a training step is three
    forwards."""
    plan = make_plan(preset, "quick", presets.config_of(preset, "quick"), device="cpu")
    arch = plan.space.sample(random.Random(0))
    network = plan.settings.retrain.network
    ways = ("fused", "static", "plain", "auto") if hasattr(network, "hidden") else ("static", "plain")
    networks = [dataclasses.replace(network, computation=way) for way in ways]
    found = set()
    for other in networks:
        retrain = dataclasses.replace(plan.settings.retrain, network=other)
        again = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, retrain=retrain))
        found.add(of_trainings(again, [arch]))
        assert of_trainings(again, [arch, arch]) == pytest.approx(2 * of_trainings(again, [arch]))
    assert len(found) == 1
    # by hand: N products of (H, 2 H), the first of (E + H, 2 H), and the softmax (H, V)
    if preset == "text-rnn":
        task, H, N = plan.settings.retrain.task, network.hidden, plan.settings.space.num_nodes
        V = plan.task(plan.load_data(), task).dimensions["vocabulary"]
        steps = plan.task(plan.load_data(), task).train_steps * plan.settings.retrain.epochs
        tokens = task.batch_size * task.bptt
        lstm = Reference("lstm", 200_000)  # whose state has another form
        work, (alone,) = of_trainings(plan, [arch, lstm]), found
        assert work == pytest.approx(alone + of_trainings(plan, [lstm]))
        assert found.pop() == pytest.approx(3 * steps * tokens * ((N + 1) * 2 * H * H + H * V))


@pytest.mark.slow
def test_an_ensemble_averages_probabilities_and_goes_on() -> None:
    """Two that are each right where the other is unsure are right together; a saved state goes on
    to the same figures."""
    task, net, archs = small_task("digits-micro")
    whole = Ensemble(task, net, archs)
    list(whole.run())
    first = Ensemble(task, net, archs)
    run = first.run()
    next(run)
    second = Ensemble(task, net, archs)
    second.load(first.state())
    assert [member.done for member in second.run()] == [2, 3]
    assert second.result(ACCURACY) == whole.result(ACCURACY)
    y = task._parts["test"].y
    sure, unsure = torch.zeros(len(y), 10), torch.full((len(y), 10), 0.1)
    sure[torch.arange(len(y)), y] = 1.0
    half = torch.arange(len(y)) < len(y) // 2
    one = torch.where(half[:, None], sure, unsure)
    other = torch.where(half[:, None], unsure, sure)
    assert task.judged((one + other) / 2, "test")["accuracy"] == 1.0
    assert task.judged(one, "test")["accuracy"] < 0.7
    with pytest.raises(ValueError, match="at least 2"):
        Ensemble(task, net, archs[:1])


def test_an_ensemble_of_another_size_begins_anew(tmp_path: Path) -> None:
    """Its architectures are drawn at once, so that fewer of them are not the first of more."""
    task, net, archs = small_task("digits-micro")
    ensemble, file = Ensemble(task, net, archs), tmp_path / "ensemble.safetensors"
    run = ensemble.run()
    next(run)
    searches._save(ensemble, file)
    for chosen, done in ((archs, 1), (archs[:2], 0)):
        other = Ensemble(task, net, chosen)
        searches._load(other, file)
        assert len(other.single) == done


# ----------------------------------------------------------------------- statistics, with answers
@pytest.mark.parametrize("metric", [ACCURACY, PERPLEXITY], ids=lambda m: m.name)
def test_a_verdict_says_no_difference_where_there_is_none(metric: Any) -> None:
    """Identical distributions, 8 a side, 200 trials: at least 90 % say so, and about half of the
    others each way."""
    rng = np.random.default_rng(0)
    says = [verdict(rng.normal(90, 1, 8).tolist(), [[x] for x in rng.normal(90, 1, 8)], metric).better for _ in range(200)]
    assert says.count(None) >= 180
    assert says.count(None) < 200, "a verdict that never finds anything"


@pytest.mark.parametrize("metric", [ACCURACY, PERPLEXITY], ids=lambda m: m.name)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_verdict_finds_a_true_gap(metric: Any, sign: int) -> None:
    """Two standard deviations, 8 a side: at least 80 % of 200 trials find it, the right way
    round."""
    rng = np.random.default_rng(1)
    says = [
        verdict(rng.normal(90 + 2 * sign, 1, 8).tolist(), [[x] for x in rng.normal(90, 1, 8)], metric).better
        for _ in range(200)
    ]
    assert says.count((sign > 0) == metric.larger_is_better) >= 160
    assert says.count((sign < 0) == metric.larger_is_better) == 0


def test_the_interval_of_a_verdict_holds_the_truth() -> None:
    """Unequal spreads and numbers, as they are between seeds and cells: 95 % intervals hold the
    true gap 92 to 98 % of 400 times."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        found = verdict(rng.normal(91, 0.3, 4).tolist(), [[x] for x in rng.normal(90, 1.5, 16)])
        held += abs(found.difference - 1.0) <= found.half_width
    assert 0.92 <= held / 400 <= 0.98


def test_worse_is_positive_whatever_the_metric() -> None:
    base = [50.0, 52.0]
    gap, largest = worse_by(base, [[54.0], [56.0]], PERPLEXITY)
    assert gap is not None
    assert (gap.mean, largest) == (pytest.approx(4), pytest.approx(5))
    gap, largest = worse_by(base, [[54.0], [56.0]], ACCURACY)
    assert gap is not None
    assert (gap.mean, largest) == (pytest.approx(-4), pytest.approx(-3))
    gap, largest = worse_by(base, [[49.0, 47.0]], ACCURACY)  # one network, its seeds
    assert gap is not None
    assert gap.mean == largest == pytest.approx(3)
    assert worse_by(base, [[49.0]], ACCURACY) == (None, pytest.approx(2))
    assert worse_by(base, [], ACCURACY) == (None, None)


# ---------------------------------------------------------------------------------- the whole way
def enas(*args: Any) -> int:
    return main([str(arg) for arg in args])


SMALL_RUN = (
    "--epochs", 2, "--search.warmup-epochs", 1, "--search.controller-steps", 2, "--search.architectures", 2,
    "--search.probes", 0, "--derive.samples", 3, "--derive.keep", 2, "--derive.uniform", 0, "--retrain.epochs", 1,
    "--derive.draw", "policy", "--derive.finalists", 0, "--derive.trainings", 0, "--threads", 1,
)  # fmt: skip


@pytest.mark.slow
def test_compare_runs_every_experiment_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    run = tmp_path / "run"
    sizes = ("--network.filters", 4, "--retrain.network.filters", 6, "--space.num-layers", 3)
    assert enas("search", "digits-macro", "--out", run, *SMALL_RUN, *sizes) == 0
    assert enas("derive", run) == 0
    best = read_json(run / "best.json")
    choices = best["ranked"][0]["choices"]
    # something to make plain
    choices["network.l1.op0"] = choices["network.l3.op0"] = "sep_conv_3x3"
    (run / "best.json").write_text(json.dumps(best))
    command = ("compare", run, "--cells", 2, "--seeds", 2, "--disabled", 4, "--local", 2, "--single", 3)
    assert enas(*command) == 0
    said, found = capsys.readouterr().out, read_json(run / "compare.json")
    assert found["left_out"] == {}
    assert found["disabled"]["configurations"] == 4
    assert 0 <= found["disabled"]["mean"] <= 100
    plain, single = found["local"]["studies"]
    assert plain["name"] == "plain_convolutions"
    assert [len(entry["test"]) for entry in plain["changed"]] == [2], "one network, over the seeds"
    (folder,) = {p.parent for p in run.glob(f"retrain/{plain['changed'][0]['id']}-*-seed0/result.json")}
    parameters = read_json(folder / "result.json")["parameters"]
    assert 0.7 * found["parameters"][found["derived_id"]] < parameters <= found["parameters"][found["derived_id"]]
    assert read_json(folder / "config.json")["settings"]["retrain"]["network"]["filters"] < 6
    assert len(single["changed"]) == 3 < single["there_are"]
    assert plain["base"] == found["test_accuracy"]["derived"]
    assert single["largest"] == pytest.approx(mean(plain["base"]) - min(mean(entry["test"]) for entry in single["changed"]))
    assert found["ledger"]["search_macs"] > 0
    assert "disabled controller: " in said
    assert "local optimum, a single answer" in said
    kept = {p: p.stat().st_mtime_ns for p in run.rglob("result.json")}
    ensemble = (run / "disabled-controller" / "ensemble.safetensors").stat().st_mtime_ns
    assert enas(*command) == 0
    assert {p: p.stat().st_mtime_ns for p in run.rglob("result.json")} == kept, "nothing is done twice"
    assert (run / "disabled-controller" / "ensemble.safetensors").stat().st_mtime_ns == ensemble
    assert enas("compare", run, "--cells", 2, "--seeds", 2, "--single", 2) == 0
    later = read_json(run / "compare.json")
    assert later["disabled"] == found["disabled"], "what was found stays"
    assert later["local"]["studies"][0] == plain
    assert len(later["local"]["studies"][1]["changed"]) == 2
    assert enas("report", run) == 0
    page = (run / "report.html").read_text()
    assert "With the controller disabled" in page
    assert "Is it a local optimum?" in page


@pytest.mark.slow
def test_compare_says_what_time_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: None) -> None:
    """The verdict first; then what there is time for."""
    run = tmp_path / "run"
    sizes = ("--network.filters", 4, "--retrain.network.filters", 4, "--space.num-nodes", 2, "--data.train", 60)
    assert enas("search", "digits-micro", "--out", run, *SMALL_RUN, *sizes) == 0
    assert enas("derive", run) == 0
    assert enas("compare", run, "--cells", 2, "--seeds", 2) == 0
    capsys.readouterr()
    assert enas("compare", run, "--cells", 2, "--seeds", 2, "--all", "--max-time", "0s") == 0
    said, found = capsys.readouterr().out, read_json(run / "compare.json")
    parts = ["uniform sharing", *RIVALS, "disabled controller", "connections", "single changes"]
    assert found["left_out"] == dict.fromkeys(parts, "time is up")
    assert all(f"left out: {name}: time is up" in said for name in parts)
    assert "verdict: " in said


def test_what_the_policy_learned_is_read_from_the_search(tmp_path: Path) -> None:
    records = [{"epoch": 1}, {"epoch": 2, "policy_minus_uniform": 0.1, "policy_minus_uniform_half_width": 0.2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert learned(tmp_path) == (Learned(2, 0.1, 0.2),)


def test_what_is_wanted_is_checked() -> None:
    with pytest.raises(ValueError, match="cells is at least 2; got 1"):
        Wanted(cells=1)
    with pytest.raises(ValueError, match="disabled is 0 or at least 2; got 1"):
        Wanted(disabled=1)


@pytest.mark.parametrize(
    ("flag", "says"), [("--cells", "cells is at least 2"), ("--disabled", "disabled is 0 or at least 2")]
)
def test_what_is_wanted_is_checked_before_anything_runs(flag: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
    assert enas("compare", run, flag, 1) == 2
    error = capsys.readouterr().err
    assert f"{says}; got 1" in error
    assert error.count("\n") == 1
