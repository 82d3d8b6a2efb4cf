"""A plan holds the names of its parts with typed settings, and a strategy of a user's own is one
file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from enas.cli.main import main
from enas.plugins import NoSettings, entry_of, load, settings_type
from enas.procedures.preview import Cost
from enas.runs.before import PARTS
from enas.runs.files import read_lines
from enas.runs.plan import Plan
from enas.runs.planning import make_plan, preset_plan
from enas.runs.presets.registry import PRESETS
from enas.runs.process import device_named
from enas.runs.search import planned, within
from enas.strategies.evolution import EvolutionSettings
from enas.strategies.random_search import RandomSettings
from enas.strategies.registry import STRATEGIES

GREEDY = '''
import random
from dataclasses import dataclass

from enas.state import State


@dataclass(frozen=True)
class GreedySettings:
    keep: float = 0.5
    """Share of asked architectures that are the best so far again."""


class Greedy:
    learns = True

    def __init__(self, space, settings: GreedySettings, seed: int = 0):
        self.space, self.settings, self.seed, self.asked, self.best = space, settings, seed, 0, None

    def ask(self, n):
        rng = random.Random(f"{self.seed} {self.asked}")
        self.asked += 1
        again = [self.best is not None and rng.random() < self.settings.keep for _ in range(n)]
        return [self.best[0] if repeat else self.space.sample(rng) for repeat in again]

    def tell(self, archs, rewards):
        for arch, reward in zip(archs, rewards):
            if self.best is None or reward > self.best[1]:
                self.best = (arch, reward)
        return {"reward": sum(rewards) / len(rewards), "best_ever": self.best[1]}

    def state(self):
        best = None if self.best is None else [dict(self.best[0].choices), self.best[1]]
        return State(values={"asked": self.asked, "best": best})

    def load(self, state):
        best = state.values["best"]
        self.asked = state.values["asked"]
        self.best = None if best is None else (self.space.architecture(best[0]), best[1])


class NoState:
    learns = False

    def __init__(self, space, seed: int = 0):
        pass

    def ask(self, n):
        return []

    def tell(self, archs, rewards):
        return {}

NUMBER = 3
'''
SMALL = [
    "--space.num-nodes", "1", "--network.filters", "4", "--data.train", "40", "--data.validation", "40",
    "--task.batch-size", "20", "--task.reward-batch", "20", "--search.epochs", "2", "--search.warmup-epochs", "1",
    "--search.controller-steps", "2", "--search.architectures", "3", "--search.probes", "0", "--derive.samples", "4",
    "--derive.keep", "2", "--derive.finalists", "0",
]  # fmt: skip


@pytest.fixture
def own_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file outside the package, in the current folder."""
    module = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(GREEDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return module


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        "own",
        pytest.param("evolution", marks=SLOW),
        pytest.param("random", marks=SLOW),
        pytest.param("reinforce", marks=SLOW),
    ],
)
def test_any_strategy_searches_resumes_and_is_derived_from(
    strategy: str, own_strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{own_strategy}:Greedy" if strategy == "own" else strategy
    flags = {"own": ["--strategy.keep", "0.9"], "evolution": ["--strategy.population", "4", "--strategy.tournament", "2"]}
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    search = ["search", "digits-micro", "--strategy", name, *flags.get(strategy, []), *SMALL]
    assert main([*search, "--out", str(whole)]) == 0
    assert main([*search, "--out", str(halved), "--max-time", "0s"]) == 0
    assert main(["resume", str(halved)]) == 0
    metrics = read_lines(whole / "metrics.jsonl")
    assert read_lines(halved / "metrics.jsonl") == metrics
    assert ("reward" in metrics[-1]) == STRATEGIES["random" if strategy == "random" else "evolution"].make.learns
    assert ("best_ever" in metrics[-1]) == (strategy == "own")
    plan = Plan.of(json.loads((whole / "config.json").read_text()))
    assert plan.names.strategy == name
    assert getattr(plan.settings.strategy, "keep", 0.9) == 0.9
    assert getattr(plan.settings.strategy, "population", 4) == 4
    assert main(["search", "--config", str(whole / "config.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert main(["derive", str(whole)]) == 0
    assert main(["report", str(whole)]) == 0
    assert capsys.readouterr().err == ""


def test_a_strategy_that_is_not_there_is_one_line(own_strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, says in (
        ("nothing", "a strategy is one of reinforce, evolution, random; got 'nothing'"),
        ("no_such_module:Thing", "'no_such_module:Thing' names a module that is not found: go to the folder"),
        (f"{own_strategy}:Missing", f"names 'Missing', which module '{own_strategy}' does not have"),
        (f"{own_strategy}:NUMBER", "a strategy is a class or a function"),
        (f"{own_strategy}:NoState", "a strategy has learns, ask, tell, state and load;"),
    ):
        assert main(["search", "digits-micro", "--strategy", name, *SMALL, "--out", "unused"]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert not Path("unused").exists()
    assert main(["search", "digits-micro", "--strategy", f"{own_strategy}:Greedy", "--strategy.keeep", "1"]) == 2
    assert "perhaps you meant --strategy.keep" in capsys.readouterr().err


def test_settings_are_of_the_types_that_the_names_say() -> None:
    for name, entry in PRESETS.items():
        parts = (entry.names.space, entry.names.network, entry.names.task)
        assert PARTS.get(name, parts) == parts, "as earlier versions had it"
        plan = preset_plan(name, device="cpu")
        assert plan.names == entry.names
        assert Plan.of(json.loads(json.dumps(plan.to_dict("search")))).settings == plan.settings
        like = entry.names.settings()
        for part in ("space", "network", "data", "task", "strategy"):
            assert type(getattr(plan.settings, part)) is type(getattr(like, part)), part


def test_a_strategy_changes_with_its_settings() -> None:
    plan = make_plan("digits-micro", device="cpu")
    assert plan.learns
    assert plan.with_strategy("reinforce") == plan
    for name, kind in (("evolution", EvolutionSettings), ("random", RandomSettings)):
        other = plan.with_strategy(name)
        assert (other.names.strategy, type(other.settings.strategy)) == (name, kind)
        assert other.with_strategy("reinforce").settings.search == plan.settings.search
    assert not plan.with_strategy("random").learns
    own = plan.with_settings(strategy=EvolutionSettings(population=17)).with_strategy("evolution")
    assert own.settings.strategy == EvolutionSettings(population=17)


def test_a_search_is_repeated_by_its_config_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(make_plan("digits-micro", seed=3, device="cpu").to_dict("search")))
    assert planned(config=config).seed == 3
    assert planned("digits-micro", config, "quick", "random").names.strategy == "random"
    with pytest.raises(ValueError, match="repeats a search of preset 'digits-micro'; leave out 'text-rnn'"):
        planned("text-rnn", config)
    with pytest.raises(ValueError, match="name what to search: digits-micro, "):
        planned()


@dataclass(frozen=True)
class Own:
    """Settings of a thing."""


def test_the_settings_of_a_thing_are_those_of_its_argument() -> None:
    def with_settings(space: object, settings: Own, seed: int = 0) -> None: ...
    def without(space: object, seed: int = 0) -> None: ...
    def wrong(space: object, settings: int) -> None: ...

    with_settings.__annotations__["settings"], wrong.__annotations__["settings"] = Own, int
    assert (settings_type(with_settings), settings_type(without)) == (Own, NoSettings)
    with pytest.raises(ValueError, match="the argument `settings` of 'wrong' is annotated with a dataclass"):
        settings_type(wrong)
    assert entry_of("a strategy", "dataclasses:dataclass", STRATEGIES).make is load("dataclasses:dataclass")


@pytest.mark.parametrize(
    ("cuda", "mps", "auto", "without"),
    [(True, True, "cuda", "cuda"), (False, True, "mps", "cpu"), (False, False, "cpu", "cpu")],
)
def test_a_device_is_the_best_there_is(
    cuda: bool, mps: bool, auto: str, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert (device_named("auto"), device_named(None), device_named("cuda:1")) == (auto, without, "cuda:1")


# ---------------------------------------------------------------------------------------- a budget
class TenSecondsAnEpoch:
    def preview(self) -> Cost:
        return Cost(shared_steps=160, controller_steps=36, shared_seconds=0.4, controller_seconds=1.0)


def test_a_budget_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter at most for shared weights, what is left for short trainings."""
    monkeypatch.setattr(Plan, "search", lambda plan: TenSecondsAnEpoch())
    plan = dataclasses.replace(preset_plan("scattered-micro"), threads=1)
    assert (plan.settings.search.epochs, plan.settings.search.warmup_epochs) == (10, 7)
    for budget, epochs, warm, left in ((100, 2, 1, 80), (399, 9, 6, 309), (1000, 10, 7, 900)):
        settings = within(plan, budget).settings
        assert (settings.search.epochs, settings.search.warmup_epochs) == (epochs, warm)
        assert settings.derive.budget == pytest.approx(left)
    assert within(dataclasses.replace(plan, threads=2), 100).settings.search.epochs == 1  # of processor time
    with pytest.raises(ValueError, match=r"one epoch takes some 10 s .* give at least 40s, .*; got 39s"):
        within(plan, 39)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--budget is for one process"):
        within(plan, 1000)
