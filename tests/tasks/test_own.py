"""A problem of a user's own goes the whole way: by its path, by every command, with any
examples."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn
from torch.utils.data import Dataset

import enas
from documented import ROOT, markdown, python_blocks
from enas import rewards
from enas.cli.main import main
from enas.data.examples import split
from enas.grading.asked import Wanted
from enas.networks.own import Child, OwnNetwork
from enas.procedures.preview import Cost
from enas.procedures.search import Search
from enas.runs.files import read_lines
from enas.runs.plan import Plan
from enas.runs.planning import preset_plan, problem_plan
from enas.runs.results import Best
from enas.runs.resume import resume
from enas.runs.search import search_plan
from enas.spaces.registry import space_of
from enas.state import State
from enas.tasks.own import Own, OwnData
from enas.tasks.problem import Problem, problem_of
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings

MODULE = """
import random

import numpy as np
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


class Overflows(nn.Module):
    def forward(self, x):
        return x * 1e38 * 1e38


def overflows():
    def make():
        act = OneOf("act", {"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity(), "blow": Overflows()})
        other = OneOf("other", {"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity()})
        return nn.Sequential(nn.Linear(4, 16), act, nn.Linear(16, 16), other, nn.Linear(16, 1))

    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    mse = nn.functional.mse_loss
    return enas.Problem(make, (x, x[:, :1]), loss=mse, reward=enas.rewards.minus(mse), batch_size=20)


def scored():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(
        Net, (x, x[:, :3]), loss=nn.functional.mse_loss, reward=enas.rewards.minus(nn.functional.mse_loss), batch_size=20
    )


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor([float(index % 3), *noise]), index % 3


class Ordered(torch.utils.data.IterableDataset):
    def __iter__(self):
        return map(Rows().__getitem__, range(40))


def by_number():
    return enas.Problem(Net, Rows(), batch_size=8)


def in_order():
    return enas.Problem(Net, Ordered(), valid=Rows(), test=Rows(), batch_size=8)


class Misshapen(Net):
    def forward(self, x):
        return self.head(x)  # in the model


def fails(arguments):
    x = torch.zeros(60, 4)
    return enas.Problem(**{"model": Net, "train": (x, torch.zeros(60, dtype=torch.int64)), **arguments})


def in_model():
    return fails({"model": Misshapen})


def in_loss():
    return fails({"loss": lambda output, target: output[target.missing]})  # in the loss


def in_reward():
    return fails({"reward": lambda model, batches: 1 / 0})  # in the reward


def in_problem():
    return {}["train"]  # in the problem


def sized(n=60):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(Net, (x, x[:, :3].argmax(1)))


def small():
    return sized(40)


HELD = sized(80)


def searches_itself():
    return enas.search(enas.Problem(Net, HELD.train))


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


@pytest.mark.slow
@pytest.mark.parametrize("function", ["problem", "scored"])
def test_every_command_takes_it(
    function: str, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    what, run, halved = f"{module}:{function}", tmp_path / "run", tmp_path / "halved"
    assert main(["search", what, *FEW, "--out", str(run)]) == 0
    assert main(["search", what, *FEW, "--out", str(halved), "--max-time", "0s"]) == 0
    assert main(["resume", str(halved)]) == 0
    assert (halved / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert len(read_lines(run / "metrics.jsonl")) == 3
    for command in (["derive"], ["retrain"], ["report"], ["show"]):
        assert main([command[0], str(run), *command[1:]]) == 0
    assert main(["compare", str(run), "--cells", "2", "--seeds", "2"]) == 0
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
    assert main(["show", str(run), "--sizes"]) == 0
    assert re.search(rf"{what} own +{best['parameters']}$", capsys.readouterr().out, re.MULTILINE)
    assert {"body", "act"} == set(best["choices"])
    assert "body" in (run / "best.svg").read_text()
    file, drawn = tmp_path / "best.json", tmp_path / "drawn.svg"
    assert main(["show", str(run), "--out", str(file)]) == 0
    assert main(["show", str(file), "--out", str(drawn)]) == 0
    assert "body" in drawn.read_text()
    child = enas.Run(run).child()
    assert not any(type(part).__module__.startswith("enas") for part in child.modules())
    assert child(torch.randn(2, 4)).shape == (2, 3)


@pytest.mark.slow
def test_all_of_a_comparison_leaves_out_what_a_problem_cannot_have(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    """An ensemble averages probabilities: it is not searched for first, and refused then."""
    run = tmp_path / "run"
    assert main(["search", f"{module}:problem", *FEW, "--out", str(run)]) == 0
    assert main(["derive", str(run)]) == 0
    compare = ["compare", str(run), "--cells", "2", "--seeds", "2"]
    assert main([*compare, "--disabled", "2"]) == 2
    assert "leave out --disabled" in capsys.readouterr().err
    assert not (run / "compare.json").exists()
    assert not (run / "disabled-controller").exists()
    assert main([*compare, "--all", "--single", "2"]) == 0
    assert "verdict: " in capsys.readouterr().out


@pytest.mark.slow
def test_python_says_the_same(module: str, tmp_path: Path, in_this_process: None) -> None:
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


def test_a_changed_file_is_remarked_on(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["search", f"{module}:problem", *FEW, "--out", str(run), "--max-time", "0s"]) == 0
    with open(tmp_path / f"{module}.py", "a") as file:
        file.write("# changed\n")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the command line shows them
        assert main(["resume", str(run)]) == 0
    assert "has changed since this run was made" in capsys.readouterr().err


def test_a_network_that_has_changed_is_said_and_no_file_is_blamed(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["search", f"{module}:problem", *FEW, "--out", str(run), "--max-time", "0s"]) == 0
    for change in (("nn.Linear(16, 3)", "nn.Linear(16, 30)"), (', "tanh": nn.Tanh()', ""), ('"tanh"', '"hyperbolic"')):
        (tmp_path / f"{module}.py").write_text(MODULE.replace(*change))
        del sys.modules[module]
        problem_of.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the command line shows that the file has changed
            assert main(["resume", str(run)]) == 2
        error = capsys.readouterr().err
        says = f"enas: the network of '{module}:problem' has changed since '{run}' was made, and its weights do not fit"
        assert says in error
        assert "damaged" not in error


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
    ("part", "says"),
    [
        ("model", "architecture .{10} \\(act = .*, body = .*\\): the model raised RuntimeError: mat1 and mat2 shapes"),
        ("loss", "architecture .*: the loss raised AttributeError: 'Tensor' object has no"),
        ("reward", "architecture .*: the reward raised ZeroDivisionError: division by zero"),
        ("problem", "'.*:in_problem' raised KeyError: 'train'"),
    ],
)
def test_an_error_of_the_users_is_one_line(
    part: str, says: str, module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = (i for i, text in enumerate(MODULE.splitlines(), 1) if text.endswith(f"# in the {part}"))
    assert main(["search", f"{module}:in_{part}", "--out", "unused"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(f"^enas: {says}.* at .*{module}.py:{line}; ENAS_TRACEBACK=1 shows", error), error
    if part == "reward":
        monkeypatch.setenv("ENAS_TRACEBACK", "1")
        assert main(["search", f"{module}:in_{part}", "--out", "unused"]) == 2
        error = capsys.readouterr().err
        assert "Traceback (most recent call last)" in error
        assert "ZeroDivisionError: division by zero" in error
        with pytest.raises(ValueError, match="division by zero") as raised:
            enas.search(f"{module}:in_{part}")
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert not Path("unused").exists()


@pytest.mark.slow
@pytest.mark.parametrize("function", ["by_number", "in_order"])
def test_workers_and_kills_change_no_figure(
    function: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the first, second and third step of a pass, with 0, 1 and 2 workers."""
    monkeypatch.setattr(Search, "preview", lambda self: Cost(0, 0, 0.0, 0.0))
    plan = problem_plan(f"{module}:{function}", device="cpu")
    search = dataclasses.replace(plan.settings.search, epochs=2, warmup_epochs=1, controller_steps=2, probes=0)
    logs = []
    for workers, stops in ((0, 0), (1, 0), (2, 2)):
        task = dataclasses.replace(plan.settings.task, workers=workers)
        out = tmp_path / str(workers)
        search_plan(plan.with_settings(search=search, task=task), out=out, max_seconds=0 if stops else None)
        for _ in range(stops):
            resume(out, max_seconds=0)
        if stops:
            assert not (out / "metrics.jsonl").exists() or not read_lines(out / "metrics.jsonl")
            resume(out)
        logs.append((out / "metrics.jsonl").read_bytes())
    assert logs[0].count(b"\n") == 2
    assert logs[1] == logs[0]
    assert logs[2] == logs[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train": (torch.zeros(3), torch.zeros(4))}, "train has tensors of one length; got \\[3, 4\\]"),
        ({"train": 3}, "train is a tuple or mapping of tensors or arrays .*; got int"),
        ({"train": [(1, 2)]}, "train holds at least 2 examples; got 1"),
        ({"valid": "x"}, "valid is a tuple or mapping of tensors or arrays .*; got str"),
        ({"loss": 3}, "loss is a function; got int"),
        ({"batch_size": 0}, "batch_size is at least 1; got 0"),
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


def of(problem: Problem, seed: int = 0, train_on: str = "train", **settings: Any) -> Own:
    return Own(
        OwnData(problem, OwnDataSettings()),
        OwnTaskSettings(batch_size=4, reward_batch=4, eval_batch=4, **settings),
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


def test_rewards_beside_a_library_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(40, 4, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    outputs[::3] = outputs[0]  # ties
    batches = [(outputs[i : i + 7], targets[i : i + 7]) for i in range(0, 40, 7)]

    def score(reward: Any, rows: Any = batches) -> float:
        return float(reward(lambda x: x, rows))

    p, chosen = outputs.double().softmax(1), outputs.argmax(1)
    assert score(rewards.auc) == pytest.approx(metrics.roc_auc_score(targets, p, multi_class="ovr", average="macro"))
    assert score(rewards.f1) == pytest.approx(metrics.f1_score(targets, chosen, average="macro"))
    assert score(rewards.iou) == pytest.approx(metrics.jaccard_score(targets, chosen, average="macro"))
    two = (targets > 1).long()
    area = metrics.roc_auc_score(two, outputs[:, 1].double() - outputs[:, 0].double())
    assert score(rewards.auc, [(outputs[:, :2], two)]) == pytest.approx(area)
    for column in (outputs[:, 0], outputs[:, :1]):
        assert score(rewards.auc, [(column, two)]) == pytest.approx(metrics.roc_auc_score(two, outputs[:, 0]))
    assert score(rewards.auc, [(outputs, torch.zeros(40, dtype=torch.int64))]) == 0.5
    kappa = rewards.of(lambda o, t: metrics.cohen_kappa_score(t, o.argmax(1)))
    assert score(kappa) == pytest.approx(metrics.cohen_kappa_score(targets, chosen))


def test_a_reward_of_classes_refuses_outputs_of_one_class() -> None:
    """The largest of one output is always that one, whatever the network computes."""
    for reward in (rewards.accuracy, rewards.exact_match, rewards.f1, rewards.iou):
        for output in (torch.randn(4, 1), torch.randn(4)):
            says = r"^this reward compares logits of two classes or more, .*; got outputs of shape \(4,( 1)?\):"
            with pytest.raises(ValueError, match=says):
                reward(lambda x: x, [(output, torch.zeros(4, dtype=torch.int64))])


def test_rewards_of_maps_and_windows() -> None:
    """Outputs (n, 2, 2, 2); one target of the second example does not count."""
    targets = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [1, -100]]])
    outputs = nn.functional.one_hot(torch.tensor([[[0, 1], [1, 0]], [[0, 0], [1, 1]]]), 2).movedim(-1, 1).float()
    batches = [(outputs[:1], targets[:1]), (outputs[1:], targets[1:])]
    assert rewards.exact_match(lambda x: x, batches) == 0.5
    assert rewards.accuracy(lambda x: x, batches) == 6 / 7
    assert rewards.iou(lambda x: x, batches) == (3 / 4 + 3 / 4) / 2
    with pytest.raises(ValueError, match="name the key of the target, such as Problem"):
        rewards.accuracy(lambda x: x, [{"x": 1}])


def test_a_loss_takes_what_it_names() -> None:
    x, y = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    weights = torch.rand(40)

    def whole(output: Tensor, batch: Any) -> Tensor:
        *_, w, target = batch
        return (nn.functional.cross_entropy(output, target, reduction="none") * w).sum()

    class Two(nn.Linear):
        def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
            return super().forward(x)

    model = Child(Two(2, 2))
    task = of(Problem(nn.Identity, (x, weights, y), loss=whole))
    a, w, b = batch = task.train_batch(0, 0)
    assert task.loss(model, None, batch) == (nn.functional.cross_entropy(model(a), b, reduction="none") * w).sum()
    keyed = of(Problem(nn.Identity, {"x": x, "y": y}, target="y"))
    (mapping, target) = keyed.train_batch(0, 0)
    assert torch.equal(x[0:0].new_tensor(mapping["x"].tolist()), mapping["x"])
    assert mapping.keys() == {"x"}
    assert len(target) == 4
    reads_x = Child(Keyed())
    assert keyed.loss(reads_x, None, (mapping, target)).isfinite()
    assert 0 <= keyed.reward(reads_x, None, (mapping, target)) <= 1
    unkeyed = of(Problem(nn.Identity, {"x": x, "y": y}))
    with pytest.raises(ValueError, match="examples are mappings: name the key of the target"):
        unkeyed.loss(reads_x, None, unkeyed.train_batch(0, 0))


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.linear(batch["x"])


def test_rare_classes_count_more() -> None:
    x, y = torch.randn(40, 2), torch.tensor([0] * 30 + [1] * 10)
    problem = Problem(nn.Identity, (x, y), valid=(x, y), test=(x, y))
    task, model = of(problem, class_weights="balanced"), Child(nn.Linear(2, 2))
    a, b = batch = task.train_batch(0, 0)
    expected = nn.functional.cross_entropy(model(a), b, weight=torch.tensor([40 / 60, 40 / 20]))
    assert torch.equal(task.loss(model, None, batch), expected)
    assert "balanced class weights" in task.about
    says = "^task.class_weights balanced weighs 2 classes, .* and the network has logits for 10: give it 2, or leave out"
    with pytest.raises(ValueError, match=says):
        task.loss(Child(nn.Linear(2, 10)), None, batch)
    with pytest.raises(ValueError, match="gives the loss an argument `weight`, as cross_entropy has; this one has none"):
        of(Problem(nn.Identity, (x, y), loss=nn.CrossEntropyLoss()), class_weights="balanced")
    with pytest.raises(ValueError, match="needs a class per example that is known before they are read"):
        of(Problem(nn.Identity, Mappings(), target="y"), class_weights="balanced")


def test_a_loss_that_cannot_be_minimised_is_said() -> None:
    batch = (torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))
    for loss, says in (
        (lambda output, target: output, r"the loss is a tensor of one number; got a tensor of shape \(4, 2\)"),
        (lambda output, target: 0.5, "the loss is a tensor of one number; got float"),
        (lambda output, target: torch.zeros(()), "the network: the loss depends on no parameter, so nothing can be"),
    ):
        task = of(Problem(nn.Identity, (torch.zeros(40, 2), torch.zeros(40)), loss=loss))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=says):
            task.loss(Child(nn.Linear(2, 2)), None, batch)


def test_a_part_is_scored_batch_by_batch() -> None:
    """A reward may read its batches as often as it likes, or not to the end."""
    x = torch.arange(40.0)[:, None]
    for reward in (
        lambda model, batches: float(sum(len(b[0]) for b in batches) == sum(len(b[0]) for b in batches)),
        lambda model, batches: float(len(next(iter(batches))[0]) == 4),
    ):
        task = of(Problem(nn.Identity, (x, x), loss=nn.functional.mse_loss, reward=reward))
        assert task.evaluate(Child(nn.Identity()), None, "test") == {"score": 1.0, "loss": 0.0, "reward": 1.0}


def test_each_example_counts_alike_in_the_loss_of_a_part() -> None:
    """Also those in a last batch that is short."""
    x = torch.arange(10.0)[:, None]
    reward = rewards.minus(nn.functional.mse_loss)
    task = of(Problem(nn.Identity, (x, x), test=(x, x), loss=lambda output, target: output.square().mean(), reward=reward))
    assert [len(batch[0]) for batch in task._batches("test")] == [4, 4, 2]
    assert task.evaluate(Child(nn.Identity()), None, "test")["loss"] == pytest.approx(float(x.square().mean()))


class Windows(nn.Module):
    """A recurrent language model without memory between windows: (B, T) words to (B, words, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.cell = enas.OneOf("cell", {"gru": nn.GRU(8, 8, batch_first=True), "rnn": nn.RNN(8, 8, batch_first=True)})
        self.words = nn.Linear(8, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.words(self.cell(self.embedding(inputs))[0]).movedim(2, 1)


def test_windows_of_a_text_need_no_state() -> None:
    windows = (torch.arange(400) % 5).unfold(0, 9, 8)
    task = of(Problem(Windows, (windows[:, :-1], windows[:, 1:])))
    network = OwnNetwork(Windows())
    for arch in network.space.enumerate():
        task.loss(network, arch, task.train_batch(0, 0)).backward()
        assert 0 <= task.evaluate(network, arch, "validation")["reward"] <= 1
    assert "drawn at random" in task.about


def test_a_search_says_what_it_reads(module: str) -> None:
    plan = problem_plan(f"{module}:by_number", device="cpu")
    task = plan.task(plan.load_data(), dataclasses.replace(plan.settings.task, workers=2))
    assert task.about == (
        f"{module}:by_number: 28 / 6 / 6 examples to train, validate and test on (batches of 8, 4 steps a pass; 15 % and"
        " 15 % of train for validation and test, drawn at random; read ahead by 2 processes)"
    )
    plan = problem_plan(f"{module}:problem", device="cpu")
    assert "for validation and test split by class (3 of them)" in plan.task(plan.load_data(), plan.settings.task).about
    in_order = problem_plan(f"{module}:in_order", device="cpu")
    assert "read in the order in which it comes" in in_order.task(in_order.load_data(), in_order.settings.task).about


@pytest.mark.parametrize(("n", "epochs", "controller_steps"), [(30, 100, 6), (9143, 20, 30), (10**6, 4, 150)])
def test_a_search_has_about_2000_steps(
    n: int, epochs: int, controller_steps: int, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 examples each, 70 % of what is given; and about 300 of the controller."""
    x = torch.zeros(1).expand(n)
    monkeypatch.setattr("enas.tasks.problem.problem_of", lambda path: Problem(Windows, (x, x)))
    monkeypatch.setattr(Plan, "space", None)
    search = problem_plan("my:problem", device="cpu").settings.search
    assert (search.epochs, search.warmup_epochs, search.controller_steps) == (epochs, epochs // 2, controller_steps)


def test_a_problem_of_a_notebook_has_no_path(tmp_path: Path) -> None:
    """Its cells are in no file that another process could import; those of a script are."""
    code = "import enas, torch as t\ndef problem():\n    return enas.Problem(t.nn.Identity, (t.ones(3), t.ones(3)))\n"
    script = tmp_path / "script.py"
    for file, name, path in (
        (None, "<ipython-input-1>", ""),
        (str(script), "/tmp/ipykernel_1/2.py", ""),
        (str(script), str(script), "script:problem"),
    ):
        namespace: dict[str, Any] = {"__name__": "__main__", **({"__file__": file} if file else {})}
        exec(compile(code, name, "exec"), namespace)
        assert namespace["problem"]().path == path
    with pytest.raises(ValueError, match=r"a function of a module, .*\(not in a notebook, a lambda or another function\)"):
        enas.search((lambda: Problem(nn.Identity, (torch.ones(3), torch.ones(3))))())


def test_a_problem_that_cannot_be_made_anew_is_not_searched_in_the_place_of_another(module: str, tmp_path: Path) -> None:
    """Others would call its function without the arguments that it was given."""
    made = __import__(module)
    for problem in (
        made.sized(40),
        made.sized(),
        made.small(),
        made.HELD,
        dataclasses.replace(made.problem(), batch_size=9),
    ):
        assert problem.path == ""
        with pytest.raises(ValueError, match="a problem is made by a function of a module, without arguments, so that"):
            enas.search(problem, out=tmp_path / "run")
    assert made.problem().path == f"{module}:problem"
    with pytest.raises(ValueError, match="searches_itself' makes the problem and searches it too: let it return"):
        made.searches_itself()


def test_a_problem_has_the_path_that_it_is_found_by(module: str, tmp_path: Path) -> None:
    """It may be made by another function, in another file, or by none."""
    other = f"{module}_b"
    (tmp_path / f"{other}.py").write_text(
        f"import functools, {module} as a\nHELD = a.HELD\ndef small():\n    return a.small()\n"
        "@functools.cache\ndef cached():\n    return a.problem()\n"
    )
    for name, n in (("small", 40), ("HELD", 80), ("cached", 120)):
        problem = problem_of(f"{other}:{name}")
        here = hashlib.sha256((tmp_path / f"{other}.py").read_bytes()).hexdigest()
        assert problem.source == {"problem": f"{other}:{name}", "sha256": here}
        assert len(problem.examples["train"]) == n
    assert __import__(other).HELD.path == ""
    run = tmp_path / "run"
    assert main(["search", f"{module}:HELD", *FEW, "--out", str(run), "--max-time", "0s"]) == 0
    assert json.loads((run / "config.json").read_text())["source"]["problem"] == f"{module}:HELD"


def test_a_reward_may_have_any_attribute_named_metric() -> None:
    x = torch.zeros(4)
    for metric, name in (("accuracy", "accuracy"), ("f1", "score"), ("perplexity", "score"), (rewards.f1, "score")):
        reward = rewards.of(lambda outputs, targets: 0.0)
        reward.metric = metric  # type: ignore[attr-defined]
        assert Problem(nn.Identity, (x, x), reward=reward).metric.name == name


@pytest.mark.slow
def test_the_page_of_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = ROOT / "docs" / "own.md"
    assert len(page.read_text().splitlines()) <= 90
    names = []
    for block in python_blocks(page):
        names.append(block.removeprefix("# ").split(".py")[0])
        monkeypatch.delitem(sys.modules, names[-1], raising=False)
        (tmp_path / f"{names[-1]}.py").write_text(block)
    assert names == ["my_project", "rows"]
    for name in names:
        plan = problem_plan(f"{name}:problem", device="cpu")
        task = plan.task(plan.load_data(), plan.settings.task)
        network, arch = plan.network(plan.settings.network, task), plan.strategy().ask(1)[0]
        task.loss(network, arch, task.train_batch(0, 0)).backward()
        assert 0 <= task.evaluate(network, arch, "test")["reward"] <= 1
    monkeypatch.setattr(Search, "preview", lambda self: Cost(0, 0, 0.0, 0.0))
    (lines,) = markdown(page).values()
    for line in lines:
        assert main([*shlex.split(line)[1:], "--max-time", "0s"]) == 0
    assert "balanced class weights" in capsys.readouterr().out.replace("\n", " ")


def test_an_architecture_finds_its_space_by_the_problem(module: str) -> None:
    plan = problem_plan(f"{module}:problem", device="cpu")
    arch = plan.strategy().ask(1)[0]
    assert space_of(arch.space).check(arch) == arch
    assert plan.metric.name == "accuracy"
    assert problem_plan(f"{module}:scored", device="cpu").metric.name == "score"
    assert problem_of(f"{module}:problem") is problem_of(f"{module}:problem")


def test_all_experiments_are_those_that_it_can_have(module: str) -> None:
    """Its outputs need not be probabilities, so there is no ensemble to average them."""
    for plan, disabled in ((problem_plan(f"{module}:problem"), 0), (preset_plan("digits-micro"), 250)):
        assert Wanted(all=True).completed(plan.learns, False, plan.averages).disabled == disabled


def test_its_settings_are_shown_as_a_search_says(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command that the first line of a search names."""
    assert main(["presets", "show", f"{module}:problem"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"search\.optimizer\.kind +adamw", said)
    assert "under the best policy a reward higher by 0.01 makes an architecture" in said
    assert main(["presets", "show", f"{module}:problem", "quick"]) == 2
    assert "has no recipes; leave out 'quick'" in capsys.readouterr().err


def test_an_architecture_that_overflows_is_the_worst_where_rewards_are_negative(
    module: str, tmp_path: Path, in_this_process: None
) -> None:
    """By shared weights, by short trainings and in the policy: zero would be the best of all."""
    problem = problem_of(f"{module}:overflows")
    run = enas.search(problem, epochs=4, out=tmp_path / "run")
    enas.derive(run.path, trainings=9, finalists=0, finalist_steps=2, rounds=1, samples=30, workers=1)
    blown = [entry.choices["act"] == "blow" for entry in Best.read(run.path).ranked]
    assert sorted(blown) == blown, "they come last"
    assert 0 < sum(blown) < len(blown)
    enas.derive(run.path, trainings=0, finalists=4, finalist_steps=2, samples=30, workers=1)
    assert Best.read(run.path).ranked[0].choices["act"] != "blow"


def test_rewards_that_a_policy_learns_from_are_finite(module: str) -> None:
    """One that diverged has the smallest reward so far, and none is known at first."""
    search = problem_plan(f"{module}:overflows").search()
    assert search._learnable([-math.inf, math.nan]) == [0.0, 0.0]
    step = search._controller_step()
    assert search.smallest == min(step.values) < 0
    assert search._learnable([-0.5, math.nan]) == [-0.5, search.smallest]
    again = problem_plan(f"{module}:overflows").search()
    again.load(search.state())
    assert again.smallest == search.smallest


def test_the_optimizer_of_a_problem_has_known_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(40)

    def planned(optimizer: Any) -> Any:
        problem = Problem(Windows, (x, x), optimizer=optimizer)
        monkeypatch.setattr("enas.tasks.problem.problem_of", lambda path: problem)
        return problem_plan("my:problem", device="cpu").settings.search.optimizer

    monkeypatch.setattr(Plan, "space", None)
    assert planned({"learning_rate": np.float64(0.1), "momentum": 0}).learning_rate == 0.1
    for optimizer, says in (
        (
            {"lr": 0.1},
            r"there is no setting 'optimizer\.lr'; there are kind, learning_rate, .*: perhaps you meant learning_rate",
        ),
        ({"weight_decy": 0.1}, "perhaps you meant weight_decay$"),
        ({"learning_rate": "x"}, r"setting 'optimizer\.learning_rate' is of type float; got 'x'"),
        ({"learning_rate": True}, r"setting 'optimizer\.learning_rate' is of type float; got True"),
        ({"kind": "adam"}, r"setting 'optimizer\.kind' is .*adamw.*; got 'adam'"),
        ({"learning_rate": -1}, r"optimizer\.learning_rate is above 0; got -1"),
        (0.1, "settings 'optimizer' are a mapping; got 0.1"),
    ):
        with pytest.raises(ValueError, match=says):
            planned(optimizer)


def test_settings_are_changed_by_name(module: str, tmp_path: Path) -> None:
    few = {
        "search.epochs": 1,
        "search.warmup_epochs": 0,
        "search.probes": 0,
        "search.optimizer.learning_rate": 0.5,
        "retrain.epochs": 2,
    }
    run = enas.search(f"{module}:problem", out=tmp_path / "run", settings=few)
    settings = json.loads((run.path / "config.json").read_text())["settings"]
    assert settings["search"]["optimizer"]["learning_rate"] == 0.5
    assert (settings["search"]["epochs"], settings["retrain"]["epochs"]) == (1, 2)
    with pytest.raises(ValueError, match=r"there is no setting 'search\.steps'"):
        enas.search(f"{module}:problem", out=tmp_path / "no", settings={"search.steps": 1})
