"""A comparison, a study and a table under limits: everything obeys them, and what it is held
against does too."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import enas
from enas.cli.main import main
from enas.grading.asked import Asked
from enas.grading.opened import OpenedRun
from enas.grading.oracle import Table, Truth, play_all
from enas.grading.studies import STUDIES, drawn, single_changes
from enas.grading.table import Built, Row, answers_of
from enas.grading.verdict import drawn_for
from enas.procedures.derive import preferred
from enas.runs.files import read_json
from enas.runs.plan import Plan
from enas.runs.planning import preset_plan
from enas.runs.results import Best, Result
from enas.runs.settings import to_dict
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Limits
from enas.spaces.nasbench_macro import to_string
from enas.spaces.registry import SPACES
from enas.strategies.random_search import RandomSearch

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"


@pytest.fixture
def limited_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Plan]:
    """A run whose derived architecture is the largest that its limit allows."""
    monkeypatch.setattr("enas.networks.limited.SMALL", 0)  # to fill a table takes longer
    run = shutil.copytree(BEFORE, tmp_path / "run")
    config = read_json(run / "config.json")
    best = enas.best_of(run)[0]
    config["limits"] = {"max_params": Plan.of(config).cost(best).parameters}
    (run / "config.json").write_text(json.dumps(config))
    (run / "compare.json").unlink()
    return run, Plan.of(config)


@pytest.mark.slow
def test_a_comparison_is_within_the_limits_of_its_search(
    limited_run: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random architectures, studies, and a recipe with another network: by the limits of the
    search, with its own network. The verdict says how many random architectures obey."""
    run, plan = limited_run
    trained: list[Architecture] = []

    def results(plan: Any, trainings: Any, **_: Any) -> Any:
        trained.extend(job.model for job in trainings)
        return [Result({"test_accuracy": random.Random(job.model.id).random()}, 7) for job in trainings], None

    monkeypatch.setattr("enas.grading.opened.retrain_many", results)
    retrain = plan.settings.retrain
    wide = dataclasses.replace(retrain, network=dataclasses.replace(retrain.network, filters=2 * retrain.network.filters))
    answer = enas.compare(run, settings=wide, cells=4, seeds=2, local=2, single=3)
    assert answer is not None
    assert len(set(trained)) > 1 + 4 + 1
    most = plan.limits.max_params
    assert most is not None
    assert max(plan.cost(arch).parameters for arch in trained) <= most
    unlimited = dataclasses.replace(plan, limits=Limits()).space.samples(random.Random(1), 300)[0]
    share = np.mean([plan.cost(arch).parameters <= most for arch in unlimited])
    record = read_json(run / "compare.json")
    assert 0 < share < 1
    assert record["acceptance"] == answer.acceptance < 1
    assert record["limits"] == f"at most {most:,} parameters"
    said = f"all have at most {most:,} parameters, as {answer.acceptance:.1%} of random architectures do"
    assert said in str(answer)


def test_without_limits_a_verdict_says_nothing_of_them() -> None:
    assert "acceptance" not in read_json(BEFORE / "compare.json")
    verdict = enas.runs.compared.Compared.read(BEFORE).verdict  # type: ignore[attr-defined]
    assert "acceptance" not in verdict.to_json()
    assert "all have" not in str(verdict)


@pytest.mark.slow
def test_acceptance_is_the_share_of_random_architectures_within() -> None:
    plan = preset_plan("digits-micro", device="cpu")
    costs = [plan.cost(arch).parameters for arch in plan.space.samples(random.Random(5), 200)[0]]
    limited = dataclasses.replace(plan, limits=Limits(max_params=int(np.quantile(costs, 0.3))))
    archs, acceptance = drawn_for(limited.limited_space, 40, 0)
    assert len(set(archs)) == 40
    assert 0.15 < acceptance < 0.47
    assert drawn_for(plan.space, 40, 0)[1] == 1


@pytest.mark.slow
def test_changed_architectures_obey() -> None:
    """Where the limit forbids some changes, others are drawn, and all single ones that obey are
    found."""
    plan = preset_plan("digits-micro", device="cpu")
    arch = plan.space.sample(random.Random(0))
    limit = Limits(max_params=plan.cost(arch).parameters)
    space = dataclasses.replace(plan, limits=limit).limited_space
    every, within = (list(single_changes(s, arch)) for s in (plan.space, space))
    assert [what for what, other in every if limit.hold(plan.cost(other))] == [what for what, _ in within]
    assert 0 < len(within) < len(every)
    (study,) = STUDIES["conv_micro"]
    found = drawn(study, space, arch, 12, random.Random(0))
    assert len(found) == 12
    assert all(limit.hold(plan.cost(other)) for _, other in found)
    free = [other for _, other in drawn(study, plan.space, arch, 12, random.Random(0))]
    assert not all(limit.hold(plan.cost(other)) for other in free), "the limit forbids something here"


# ------------------------------------------------------------------------------------------ tables
CHAINS = SPACES["nasbench_macro"].make(dataclasses.replace(SPACES["nasbench_macro"].settings(), num_layers=3))


@pytest.mark.slow
def test_strategies_are_played_within_limits() -> None:
    """Costs are those of the published network; the best is the best within, in the column that
    counts and in the one that is told; and strategies ask for nothing else."""
    plan = preset_plan("nasbench_macro", "paper", device="cpu").with_space(CHAINS.spec)
    archs = tuple(CHAINS.enumerate())
    size = [plan.cost(arch).parameters for arch in archs]
    columns = {"told": tuple(x / 1e5 for x in size), "counts": tuple(1 - x / 1e5 for x in size)}
    truth = Truth(Table("made up", archs, columns), CHAINS, "nasbench_macro", "quick", "told", "counts", "", None)
    most = sorted(size)[8]
    within = truth.within(Limits(max_params=most))
    allowed = {arch for arch, x in zip(archs, size, strict=True) if x <= most}
    assert within.feasible == allowed
    assert 1 < len(allowed) < len(archs)
    contest, regrets = play_all(within, Asked(queries=40, seeds=2), lambda text: None)
    assert (contest.limits, contest.architectures) == (f"at most {most:,} parameters", len(allowed))
    assert contest.best == 1 - min(size) / 1e5
    for name, reached in contest.strategies.items():  # of so few architectures the best is found
        assert reached.regret_in_rewards is not None
        assert reached.regret_in_rewards.mean == pytest.approx(0)
        assert reached.regret.mean == pytest.approx((most - min(size)) / 1e5), "as told and counted are opposites"
        assert regrets[name][:, -1].mean() == pytest.approx(reached.regret.mean)
    whole, _ = play_all(truth, Asked(queries=2, seeds=2), lambda text: None)
    assert (whole.limits, whole.architectures) == ("", len(archs))
    assert all(reached.regret_in_rewards.mean > 0 for reached in whole.strategies.values() if reached.regret_in_rewards)
    with pytest.raises(ValueError, match=r"no architecture has at most 10 parameters: the smallest possible is [\d,]+"):
        truth.within(Limits(max_params=10))


@pytest.mark.slow
def test_a_stranger_asks_for_a_table_under_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = preset_plan("nasbench_macro", "paper", device="cpu")
    size = {to_string(arch): plan.cost(arch).parameters / 1e5 for arch in plan.space.enumerate()}
    file = tmp_path / "table.json"
    file.write_text(json.dumps({name: {"test_acc": [value] * 3, "mean_acc": value} for name, value in size.items()}))
    args = ["--table", str(file), "--queries", "10", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["oracle", "nasbench_macro", *args, "--max-params", "1M"]) == 0
    within = [value for value in size.values() if value <= 10]
    said = capsys.readouterr().out
    assert f"within at most 1,000,000 parameters: {len(within):,} of 6,561 architectures" in said
    assert f"the best of all has {max(within):.2f} %" in said
    assert "in test_acc_1" in said


@pytest.mark.slow
def test_limits_of_a_run_are_its_own(limited_run: tuple[Path, Plan], tmp_path: Path) -> None:
    run, plan = limited_run
    archs = tuple(plan.space.samples(random.Random(0), 20)[0])
    table = Table("made up", archs, {"x": tuple(range(20))})
    truth = Truth(table, plan.space, plan.preset, plan.recipe, "x", "x", "", OpenedRun.at(run))
    expected = {arch for arch in archs if plan.limits.hold(plan.cost(arch))}
    assert truth.within(Limits()).known("x").keys() == expected
    assert 0 < len(expected) < 20
    with pytest.raises(ValueError, match="a run has its own limits: leave them out, or name the space conv_micro"):
        truth.within(Limits(max_params=10))


# ------------------------------------------------------------------------------------- a whole run
@pytest.mark.slow
def test_a_run_under_limits_obeys_from_search_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is trained, asked, probed, derived and drawn at random; the front of reward against cost
    stands on the terminal and on the page, and a file says where its architecture comes from."""
    run = tmp_path / "run"
    small = "--search.epochs 2 --search.warmup-epochs 1 --search.controller-steps 2 --search.architectures 2"
    small += (
        " --search.probes 3 --derive.samples 6 --derive.keep 2 --derive.uniform 3 --derive.finalists 0 --derive.draw policy"
    )
    small += " --space.num-nodes 2 --threads 1"
    small += " --data.train 60 --data.validation 40 --task.batch-size 20 --task.reward-batch 20"
    small += " --network.filters 4 --retrain.network.filters 4 --max-params 1.2k --max-macs 30k"
    assert main(["search", "digits-micro", "--out", str(run), *small.split()]) == 0
    capsys.readouterr()
    assert main(["derive", str(run), "--pareto", "macs"]) == 0
    said = capsys.readouterr().out
    plan, best = Plan.of(read_json(run / "config.json")), Best.read(run)
    assert plan.limits == Limits(max_params=1200, max_macs=30_000)
    unlimited = dataclasses.replace(plan, limits=Limits())
    drawn_freely = unlimited.space.samples(random.Random(0), 100)[0]
    assert np.mean([plan.limits.hold(plan.cost(arch)) for arch in drawn_freely]) < 0.6
    seen = [json.loads(line) for line in (run / "architectures.jsonl").read_text().splitlines()]
    archs = [Architecture.from_dict({"space": best.architecture.space, "choices": row["choices"]}) for row in seen]
    assert best.pareto is not None
    front = [point.architecture for point in best.pareto.points]
    assert len(archs) > 4
    for arch in [*archs, *front, *(entry.architecture for entry in best.ranked)]:
        assert plan.limits.hold(plan.cost(arch))
    assert len(best.pareto.scored) >= 6
    assert best.policy is not None
    random_search, draws = RandomSearch(plan.limited_space, seed=plan.seed), best.policy.draws
    assert best.policy.random == preferred(random_search, plan.space, draws)
    assert best.policy.random != preferred(RandomSearch(plan.space, seed=plan.seed), plan.space, draws)
    scored = f"{len(front)} of {len(best.pareto.scored)} that were scored on one minibatch by shared weights"
    assert f"{scored} have a larger reward than all that cost as much or less" in said
    assert all(point.id in said for point in best.pareto.points)
    assert {"run", "preset", "recipe", "data", "seed", "enas"} <= dict(best.architecture.provenance).keys()
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Reward against cost" in page
    assert f"Of {len(best.pareto.scored)} architectures that were scored on one minibatch, {len(front)} have" in page
    assert all(f"<summary><code>{point.id}</code></summary>" in page for point in best.pareto.points)


def test_a_run_is_held_against_what_it_was_allowed_of_a_table_of_ones_own(
    limited_run: tuple[Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger cells are better in this table, and the best of them were forbidden to the run."""
    run, plan = limited_run
    archs = list(dict.fromkeys(plan.space.samples(random.Random(0), 60)[0]))
    sizes = {arch: plan.cost(arch).parameters for arch in archs}
    most = plan.limits.max_params
    assert most is not None
    allowed = [size for size in sizes.values() if size <= most]
    assert 6 <= len(allowed) < len(archs)
    rows = [Row(answers_of(plan.space, arch), size, (size / 100,), (size / 100,)) for arch, size in sizes.items()]
    wanted = {"cells": len(rows), "seeds": 1, "best": 0, "repeats": 0, "more_seeds": 1, "seed": 0}
    file = Built(
        plan.preset, plan.recipe, to_dict(plan.names), plan.space.spec, plan.space.size(), "random", wanted, "accuracy",
        to_dict(plan.settings), {}, {}, "", tuple(rows),
    ).write(tmp_path / "table.json")  # fmt: skip
    truth = Truth.read(str(run), file, Asked())
    assert sorted(truth.known(truth.score).values()) == sorted(size / 100 for size in allowed)
    assert truth.built is not None
    assert truth.built.best == max(allowed) / 100
    monkeypatch.setattr(Limits, "about", lambda self: "less")
    few = dataclasses.replace(truth, built=None, table=Table("t", tuple(a for a in archs if sizes[a] > most), {}))
    with pytest.raises(ValueError, match="no architecture of 't' has less"):
        few.within(Limits())
