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
from enas.grading.oracle import Truth, play_all
from enas.grading.studies import STUDIES, drawn, single_changes
from enas.grading.verdict import drawn_for
from enas.runs.files import read_json
from enas.runs.plan import Plan, preset_plan
from enas.runs.records import Best, Result
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Limits
from enas.spaces.nasbench_macro import to_string

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"


@pytest.fixture
def limited_run(tmp_path: Path) -> tuple[Path, Plan]:
    """A run whose derived architecture is the largest that its limit allows."""
    run = shutil.copytree(BEFORE, tmp_path / "run")
    config = read_json(run / "config.json")
    best = enas.best_of(run)[0]
    config["limits"] = {"max_params": Plan.of(config).cost(best).parameters}
    (run / "config.json").write_text(json.dumps(config))
    (run / "compare.json").unlink()
    return run, Plan.of(config)


def test_a_comparison_is_within_the_limits_of_its_search(
    limited_run: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random architectures, studies, and a recipe with another network: by the limits of the
    search, with its own network. The report says how many random architectures obey."""
    run, plan = limited_run
    trained: list[Architecture] = []

    def results(plan: Any, jobs: Any, **_: Any) -> Any:
        trained.extend(job.model for job in jobs)
        return [Result({"test_accuracy": random.Random(job.model.id).random()}, 7) for job in jobs], None

    monkeypatch.setattr("enas.grading.opened.retrain_many", results)
    retrain = plan.settings.retrain
    wide = dataclasses.replace(retrain, network=dataclasses.replace(retrain.network, filters=2 * retrain.network.filters))
    answer = enas.compare(run, settings=wide, cells=6, seeds=2, local=3, single=4)
    assert answer is not None
    assert len(set(trained)) > 1 + 6 + 4
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
    assert main(["report", str(run)]) == 0
    assert said.replace(" %", "\u00a0%") in (run / "report.html").read_text()


def test_without_limits_a_verdict_says_nothing_of_them() -> None:
    assert "acceptance" not in read_json(BEFORE / "compare.json")
    verdict = enas.runs.records.Compared.read(BEFORE).verdict  # type: ignore[attr-defined]
    assert "acceptance" not in verdict.to_json()
    assert "all have" not in str(verdict)


def test_acceptance_is_the_share_of_random_architectures_within() -> None:
    plan = preset_plan("digits-micro", device="cpu")
    costs = [plan.cost(arch).parameters for arch in plan.space.samples(random.Random(5), 400)[0]]
    limited = dataclasses.replace(plan, limits=Limits(max_params=int(np.quantile(costs, 0.3))))
    archs, acceptance = drawn_for(limited.limited_space, 60, 0)
    assert len(set(archs)) == 60
    assert 0.2 < acceptance < 0.42
    assert drawn_for(plan.space, 60, 0)[1] == 1


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
def table(path: Path, plan: Plan) -> Path:
    """Of all chains, made up: the larger the better."""
    size = {to_string(arch): plan.cost(arch).parameters / 1e5 for arch in plan.space.enumerate()}
    path.write_text(json.dumps({name: {"test_acc": [value] * 3, "mean_acc": value + 1} for name, value in size.items()}))
    return path


def test_strategies_are_played_within_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Costs are those of the published network; the best is the best within; so are all that
    strategies ask for, and the regret is of the column that is told beside the one that counts."""
    plan = preset_plan("nasbench_macro", "paper", device="cpu")
    file = table(tmp_path / "table.json", plan)
    most = 1_000_000
    args = ["--table", str(file), "--queries", "30", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["oracle", "nasbench_macro", *args, "--max-params", "1M"]) == 0
    said = capsys.readouterr().out
    sizes = [plan.cost(arch).parameters for arch in plan.space.enumerate()]
    within = [size for size in sizes if size <= most]
    assert f"within at most 1,000,000 parameters: {len(within):,} of 6,561 architectures" in said
    record = read_json(tmp_path / "oracle.json")
    assert record["best"] == max(within) / 1e5 + 1
    assert (record["limits"], record["architectures"]) == ("at most 1,000,000 parameters", len(within))
    for reached in record["strategies"].values():
        assert reached["regret"]["mean"] == pytest.approx(reached["regret_in_rewards"]["mean"])
        assert 0 <= reached["regret"]["mean"] < (max(within) - min(within)) / 1e5
    with pytest.raises(ValueError, match=r"no architecture has at most 10 parameters: the smallest possible is [\d,]+"):
        Truth.read("nasbench_macro", file, Asked(), limits=Limits(max_params=10))


def test_regret_in_rewards_is_to_the_best_reward(tmp_path: Path) -> None:
    plan = preset_plan("nasbench_macro", "paper", device="cpu")
    truth = Truth.read("nasbench_macro", table(tmp_path / "table.json", plan), Asked())
    contest, _ = play_all(truth, Asked(queries=3, seeds=2, score="test_acc_2"), lambda text: None)
    assert contest.limits == ""
    assert contest.architectures == 6561
    best = max(truth.table.columns["test_acc_1"])
    worst = min(truth.table.columns["test_acc_1"])
    for reached in contest.strategies.values():
        assert reached.regret_in_rewards is not None
        assert 0 < reached.regret_in_rewards.mean < best - worst


# ------------------------------------------------------------------------------------- a whole run
def test_a_run_under_limits_obeys_from_search_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is trained, asked, probed, derived and drawn at random; the front of reward against cost
    stands on the terminal and on the page, and a file says where its architecture comes from."""
    run = tmp_path / "run"
    small = "--search.epochs 2 --search.warmup-epochs 1 --search.controller-steps 2 --search.architectures 2"
    small += " --search.probes 3 --derive.samples 6 --derive.keep 2 --derive.uniform 3 --space.num-nodes 2 --threads 1"
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
    archs = [Architecture.from_dict({"space": best.architecture.space, **row}) for row in seen]
    assert best.pareto is not None
    front = [point.architecture for point in best.pareto.points]
    assert len(archs) > 4
    for arch in [*archs, *front, *(entry.architecture for entry in best.ranked)]:
        assert plan.limits.hold(plan.cost(arch))
    assert len(best.pareto.scored) >= 6
    assert best.policy is not None
    within = plan.limited_space.samples(random.Random(1), 300)[0]
    forbidden = {  # options that next to no architecture within the limits takes
        (decision.name, option)
        for decision in plan.space.decisions
        for option in decision.options
        if not any(decision.contains(arch.choices[decision.name], option) for arch in within)
    }
    assert all(best.policy.random[name][option] == 0 for name, option in forbidden)
    assert "that none beats in reward and million multiply-accumulates at once" in said
    assert all(point.id in said for point in best.pareto.points)
    assert {"run", "preset", "recipe", "data", "seed", "enas"} <= dict(best.architecture.provenance).keys()
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Reward against cost" in page
    assert f"of {len(best.pareto.scored)} architectures" in page
