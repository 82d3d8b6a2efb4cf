"""A problem of a user's own goes the whole way: by its path, by every command, with any examples."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import enas
from enas.cli.main import main
from enas.runs.files import read_lines
from enas.runs.plan import problem_plan
from enas.spaces.registry import space_of
from enas.state import State
from enas.tasks.own import Own, OwnData
from enas.tasks.problem import Problem, problem_of, split
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings

MODULE = """
import torch
from torch import nn

import enas
from enas import OneOf, SomeOf


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = OneOf("body", {"wide": nn.Linear(4, 16), "deep": nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 16))})
        self.act = SomeOf("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()}, combine="sum")
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.act(self.body(x)))


def problem():
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(Net, (x, x[:, :3].argmax(1)), reward=enas.rewards.accuracy, batch_size=20)


def scored():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(
        Net, (x, x[:, :3]), loss=nn.functional.mse_loss, reward=enas.rewards.minus(nn.functional.mse_loss), batch_size=20
    )


def plain():
    return enas.Problem(lambda: nn.Linear(4, 3), (torch.randn(60, 4), torch.zeros(60)))


def wrong():
    return 3
"""
FEW = ["--search.epochs", "3", "--search.warmup-epochs", "1", "--search.controller-steps", "2", "--derive.samples", "4"]
FEW += ["--derive.finalists", "2", "--derive.finalist-steps", "4", "--retrain.epochs", "2", "--search.probes", "0"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_problem_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("function", ["problem", pytest.param("scored", marks=pytest.mark.slow)])
def test_every_command_takes_it(function: str, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what, run, halved = f"{module}:{function}", tmp_path / "run", tmp_path / "halved"
    assert main(["search", what, *FEW, "--out", str(run)]) == 0
    assert main(["search", what, *FEW, "--out", str(halved), "--max-time", "0s"]) == 0
    assert main(["resume", str(halved)]) == 0
    assert (halved / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert len(read_lines(run / "metrics.jsonl")) == 3
    for command in (["derive"], ["retrain"], ["report"], ["show"]):
        assert main([command[0], str(run), *command[1:]]) == 0
    assert main(["compare", str(run), "--cells", "2", "--seeds", "2", "--workers", "1"]) == 0
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "body = " in said.out
    assert ("%" in said.out.partition("verdict:")[2]) == (function == "problem")
    config = json.loads((run / "config.json").read_text())
    assert config["source"]["problem"] == what
    assert len(config["source"]["sha256"]) == 64
    best = json.loads((run / "best.json").read_text())["ranked"][0]
    assert best["space"] == {"name": "own", "problem": what}
    assert {"body", "act"} == set(best["choices"])
    assert "body" in (run / "best.svg").read_text()
    child = enas.Run(run).child()
    assert not any(type(part).__module__.startswith("enas") for part in child.modules())
    assert child(torch.randn(2, 4)).shape == (2, 3)


@pytest.mark.slow
def test_python_says_the_same(module: str, tmp_path: Path) -> None:
    made = sys.modules.get(module) or __import__(module)
    run = enas.search(made.problem(), out=tmp_path / "run", epochs=16)
    run.derive(samples=4, finalists=2, finalist_steps=4)
    assert run.best.space["problem"] == f"{module}:problem"
    assert run.compare(cells=2, seeds=2, workers=1) is not None
    assert run.report().is_file()
    with pytest.raises(ValueError, match="a problem of your own has no recipes; leave out 'quick'"):
        enas.search(made.problem(), "quick")
    with pytest.raises(ValueError, match="is not a search in a network of your own"):
        enas.Run(Path(__file__).parents[1] / "runs_of_before" / "digits-micro").child()


def test_a_changed_file_is_remarked_on(module: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["search", f"{module}:problem", *FEW, "--out", str(run), "--max-time", "0s"]) == 0
    with open(tmp_path / f"{module}.py", "a") as file:
        file.write("# changed\n")
    with pytest.warns(UserWarning, match="has changed since this run was made"):
        main(["resume", str(run)])


def test_what_is_wrong_is_one_line(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what, says in (
        ("wrong", "makes an enas.Problem; it made int"),
        ("plain", "the network holds no choice: put OneOf, SomeOf or Repeat in the place of a module"),
        ("nothing", "names 'nothing', which module"),
    ):
        assert main(["search", f"{module}:{what}", "--out", "unused"]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert main(["search", f"{module}:problem", "--data", "x", "--out", "unused"]) == 2
    assert "brings its own data; leave out --data" in capsys.readouterr().err
    assert not Path("unused").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train": (torch.zeros(3), torch.zeros(4))}, "train has tensors of one length; got \\[3, 4\\]"),
        ({"train": 3}, "train has a length and items, as a torch Dataset; got int"),
        ({"train": [(1, 2)]}, "train holds at least 2 examples; got 1"),
        ({"model": nn.Linear(1, 1)}, "model is a class or a function that makes the network"),
    ],
)
def test_a_problem_that_cannot_be(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Problem(**{"model": nn.Identity, "train": (torch.zeros(4), torch.zeros(4)), **arguments})


class Mappings(Dataset[dict[str, Tensor]]):
    """Ten examples as mappings, with random noise drawn when they are read."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.full((2,), float(index)) + torch.rand(2), "y": torch.tensor(index % 2)}


def of(problem: Problem, seed: int = 0, train_on: str = "train") -> Own:
    return Own(
        OwnData(problem, OwnDataSettings()),
        OwnTaskSettings(batch_size=4, reward_batch=4, eval_batch=4),
        seed,
        "cpu",
        train_on,
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(torch.equal(a[key], b[key]) for key in a)
    return all(map(torch.equal, a, b))


def test_batches_are_functions_of_where_they_are_asked_for() -> None:
    x = torch.arange(40.0)
    pairs = [(x[i], x[i] * 2) for i in range(40)]
    for train in (Mappings(), pairs, (x, x * 2)):
        problem = Problem(nn.Identity, train)
        task, again, other = of(problem), of(problem), of(problem, seed=1)
        batches = [task.train_batch(epoch, step) for epoch in range(2) for step in range(task.train_steps)]
        for i, (epoch, step) in reversed(list(enumerate((e, s) for e in range(2) for s in range(task.train_steps)))):
            assert same(again.train_batch(epoch, step), batches[i])
        assert not same(other.train_batch(0, 0), batches[0])
        assert task.state() == State()
    assert same(of(Problem(nn.Identity, pairs)).train_batch(0, 1), of(Problem(nn.Identity, (x, x * 2))).train_batch(0, 1))


def test_parts_are_apart_and_whole() -> None:
    parts = split(100, [0.15, 0.2], 0)
    assert sorted(index for part in parts for index in part) == list(range(100))
    assert [len(part) for part in parts] == [65, 15, 20]
    assert split(100, [0.15, 0.2], 0) == parts != split(100, [0.15, 0.2], 1)
    x = torch.arange(40.0)
    problem = Problem(nn.Identity, (x, x), valid=(x + 100, x), test=(x + 200, x))
    task, both = of(problem), of(problem, train_on="train+validation")
    assert [task.size(part) for part in ("train", "validation", "test")] == [40, 40, 40]
    assert both.size("train") == 80
    seen = torch.cat([both.train_batch(0, step)[0] for step in range(both.train_steps)])
    assert sorted(seen.tolist()) == [*x.tolist(), *(x + 100).tolist()]
    whole = torch.cat([batch[0] for batch in task._batches("test")])
    assert whole.tolist() == (x + 200).tolist()


def test_rewards_are_what_they_say() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    batches = [(logits[:2], torch.tensor([0, 1])), (logits[2:], torch.tensor([0, 0]))]
    assert enas.rewards.accuracy(lambda x: x, batches) == 0.75
    assert enas.rewards.f1(lambda x: x, batches) == pytest.approx((0.8 + 2 / 3) / 2)
    squares = enas.rewards.minus(nn.functional.mse_loss)
    assert squares(lambda x: x, [(torch.zeros(2), torch.ones(2)), (torch.zeros(2), torch.zeros(2))]) == -0.5


def test_an_architecture_finds_its_space_by_the_problem(module: str) -> None:
    plan = problem_plan(f"{module}:problem", device="cpu")
    arch = plan.strategy().ask(1)[0]
    assert space_of(arch.space).check(arch) == arch
    assert plan.metric.name == "accuracy"
    assert problem_plan(f"{module}:scored", device="cpu").metric.name == "score"
    assert problem_of(f"{module}:problem") is problem_of(f"{module}:problem")


def test_settings_are_changed_by_name(module: str, tmp_path: Path) -> None:
    few = {"search.epochs": 1, "search.probes": 0, "search.optimizer.learning_rate": 0.5, "retrain.epochs": 2}
    run = enas.search(f"{module}:problem", out=tmp_path / "run", settings=few)
    settings = json.loads((run.path / "config.json").read_text())["settings"]
    assert settings["search"]["optimizer"]["learning_rate"] == 0.5
    assert (settings["search"]["epochs"], settings["retrain"]["epochs"]) == (1, 2)
    with pytest.raises(ValueError, match=r"there is no setting 'search\.steps'"):
        enas.search(f"{module}:problem", out=tmp_path / "no", settings={"search.steps": 1})
