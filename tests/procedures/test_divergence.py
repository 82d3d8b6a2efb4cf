"""One child never ends a search, and a training that diverges goes back: what is skipped, counted,
said and kept."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from enas.procedures.alarms import alarms
from enas.procedures.derive import derive, ranked
from enas.procedures.events import Diverged, EpochEnd, Finished, RolledBack, Step, TrainEpochEnd, TrainStep
from enas.procedures.halving import ShortTraining
from enas.procedures.optimizer import GradientNorms, gradient_norm, make_optimizer, update
from enas.procedures.ranks import Ranks
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings
from enas.runs.files import read_lines
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.search import search_plan

# at which of all training losses, counted from 0, something goes wrong
Wrong = Callable[[int], bool]


def digits(**search_changes: Any) -> Plan:
    """A search of a second: 5 shared and 3 controller steps per epoch."""
    plan = make_plan("digits-micro", seed=1, threads=1, device="cpu")
    s = plan.settings
    network = dataclasses.replace(s.network, filters=4)
    changes = {"epochs": 2, "warmup_epochs": 0, "children": 1, "controller_steps": 3, "architectures": 2, "probes": 0}
    settings = dataclasses.replace(
        s,
        space=dataclasses.replace(s.space, num_nodes=2),
        network=network,
        data=dataclasses.replace(s.data, train=100, validation=40),
        task=dataclasses.replace(s.task, batch_size=20, reward_batch=20),
        search=dataclasses.replace(s.search, **{**changes, **search_changes}),
        retrain=dataclasses.replace(
            s.retrain, epochs=3, network=network, task=dataclasses.replace(s.retrain.task, batch_size=20)
        ),
    )
    return dataclasses.replace(plan, settings=settings)


def text() -> Plan:
    """Recurrent cells on 3,000 words: the state of a child runs on from a window to the next."""
    plan = make_plan("text-rnn", seed=1, threads=1, device="cpu")
    s = plan.settings
    network = dataclasses.replace(s.network, hidden=8)
    short = {"epochs": 2, "warmup_epochs": 0, "children": 1, "controller_steps": 2, "architectures": 2, "probes": 0}
    settings = dataclasses.replace(
        s,
        space=dataclasses.replace(s.space, num_nodes=2),
        network=network,
        data=dataclasses.replace(s.data, train=3000),
        search=dataclasses.replace(s.search, **short),
        retrain=dataclasses.replace(s.retrain, epochs=2, network=dataclasses.replace(s.retrain.network, hidden=8)),
    )
    return dataclasses.replace(plan, settings=settings)


class InfiniteGradient(torch.autograd.Function):
    """Passes a loss on as it is, and a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad * math.inf


def spoil(task: Any, wrong: Wrong, kind: str) -> None:
    """From now on the training loss is far off, not finite, or has such a gradient, where `wrong`
    says so."""
    honest, calls = task.loss, iter(range(10**6))

    def loss(*args: Any, **more: Any) -> torch.Tensor:
        value = honest(*args, **more)
        if not wrong(next(calls)):
            return value
        if kind == "gradient":
            return InfiniteGradient.apply(value)
        return value * (math.nan if kind == "nan" else 1e4)

    task.loss = loss


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


KINDS = ("nan", "far off", "gradient")
PLANS = {"digits": digits, "text": text}


# --------------------------------------------------------------------------------------- the norm
def test_a_norm_is_finite_where_every_gradient_is() -> None:
    gradients = [torch.tensor([3.0, -4.0]), torch.tensor([[12.0]])]
    assert gradient_norm(gradients) == pytest.approx(13.0)
    # its square overflows float32
    assert gradient_norm([g * 1e20 for g in gradients]) == pytest.approx(13e20)
    assert gradient_norm([g * 1e37 for g in gradients]) == pytest.approx(13e37)
    assert gradient_norm([torch.zeros(2)]) == 0.0
    for bad in (math.inf, -math.inf, math.nan):
        assert not math.isfinite(gradient_norm([*gradients, torch.tensor([bad])]))


@pytest.mark.parametrize("size", [1.0, 1e20])
def test_a_huge_gradient_is_clipped_in_its_own_direction(size: float) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    settings = dataclasses.replace(digits().settings.search.optimizer, momentum=0.0, weight_decay=0.0, grad_clip=0.5)
    parameter.grad = torch.tensor([3.0, -4.0]) * size
    assert update(make_optimizer([parameter], settings), [parameter], 1.0, 0.5) == pytest.approx(5 * size)
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.3, 0.4]))


def test_the_distribution_of_norms() -> None:
    norms = GradientNorms(clip=90.0)
    assert norms.summary() == {}
    norms.norms = [float(n) for n in range(200, 0, -1)]
    assert norms.summary() == {
        "gradient_norm_median": 100.5,
        "gradient_norm_p99": 198.0,
        "gradient_norm_largest": 200.0,
        "clipped_share": 110 / 200,
    }
    unclipped = GradientNorms(clip=0.0)
    unclipped.norms = [1.0]
    assert "clipped_share" not in unclipped.summary()


def test_an_alarm_where_norms_differ_beyond_measure() -> None:
    space = digits().space
    fine = {"gradient_norm_median": 1.0, "gradient_norm_p99": 99.0}
    assert not alarms(fine, space)
    (text,) = alarms({**fine, "gradient_norm_p99": 4e6}, space)
    assert "a norm of 4e+06 or more" in text


# ---------------------------------------------------------------------------------- in the search
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_a_step_that_diverges_is_skipped_and_counted(plan: str, kind: str) -> None:
    procedure = PLANS[plan]().search()
    spoil(procedure.task, lambda call: call == 2, kind)
    before: dict[str, torch.Tensor] = {}
    ends = []
    for event in procedure.run():
        if isinstance(event, Step) and event.phase == "shared" and event.epoch == 0:
            if event.step == 2:
                before = weights(procedure.supernet)
            if event.step == 3:
                assert event.skipped == ("gradient" if kind == "gradient" else "loss")
                for name, value in procedure.supernet.named_parameters():
                    assert torch.equal(value, before[name]), name
                # the next child does not read what this one left
                assert not procedure.task.state().tensors
            else:
                assert event.skipped is None
        elif isinstance(event, EpochEnd):
            ends.append(event.metrics)
    first, second = ends
    assert first["skipped_steps"] == 1
    assert first["skipped_for"] == {{"nan": "loss_not_finite", "far off": "loss"}.get(kind, kind): 1}
    assert sum(first["skipped_ops"].values()) == pytest.approx(1)
    assert math.isfinite(first["shared_loss"])
    assert any("1 training steps were skipped" in text for text in first["alarms"])
    assert "skipped_steps" not in second


def test_an_architecture_whose_step_was_skipped_has_the_worst_reward() -> None:
    """In the epoch at hand; afterwards its weights may have recovered."""
    procedure = digits().search()
    asked = procedure.strategy.ask(1)[0]
    procedure.strategy.ask = lambda n: [asked] * n  # type: ignore[method-assign]
    told: list[list[float]] = []
    tell = procedure.strategy.tell
    procedure.strategy.tell = lambda archs, rewards: (told.append(list(rewards)), tell(archs, rewards))[1]  # type: ignore[method-assign]
    spoil(procedure.task, lambda call: call == 0, "nan")
    list(procedure.run())
    assert told[:3] == [[procedure.task.worst_reward] * 2] * 3
    assert all(reward > procedure.task.worst_reward for rewards in told[3:] for reward in rewards)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "epoch", "advice"),
    [
        ("far off", 0, r"let the rate rise slowly, --search.optimizer.warmup-steps 100, or try .*learning-rate 0.075"),
        ("far off", 1, r"try --search.optimizer.learning-rate 0.075, or --search.optimizer.grad-clip 2.5"),
        ("gradient", 0, r"smaller steps, --search.optimizer.grad-clip 2.5 or .* keep the weights where gradients are"),
    ],
)
def test_too_many_skipped_steps_end_a_search_with_advice(kind: str, epoch: int, advice: str) -> None:
    procedure = digits().search()
    spoil(procedure.task, lambda call: call >= 5 * epoch + 1, kind)
    says = rf"4 of 5 steps were skipped \(search.max_skipped is 0.1\), most often of .* at epoch {epoch + 1}, step 5; "
    with pytest.raises(Diverged, match=says + advice):
        list(procedure.run())


@pytest.mark.slow
def test_the_share_of_steps_that_may_be_skipped_is_a_setting() -> None:
    procedure = digits(max_skipped=0.8).search()
    spoil(procedure.task, lambda call: call < 4, "nan")
    assert [e.metrics.get("skipped_steps") for e in procedure.run() if isinstance(e, EpochEnd)] == [4, None]


def skipping(procedure: Search, made: int) -> list[Any]:
    """All events of a search that skips two steps, and made so many before."""
    spoil(procedure.task, lambda call: call + made in (1, 7), "gradient")
    return list(procedure.run())


@functools.cache
def never_stopped() -> list[Any]:
    return skipping(digits().search(), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop", [pytest.param(stop, marks=() if stop == 2 else pytest.mark.slow) for stop in (1, 2, 3, 6, 7, 8)]
)
def test_a_search_that_skips_resumes_as_if_it_had_not_stopped(stop: int) -> None:
    first = digits().search()
    spoil(first.task, lambda call: call in (1, 7), "gradient")
    events = first.run()
    head = [next(events) for _ in range(stop)]
    second = digits().search()
    second.load(first.state())
    trained = sum(isinstance(event, Step) and event.phase == "shared" for event in head)
    assert [*head, *skipping(second, trained)] == never_stopped()


@pytest.mark.slow
def test_a_run_folder_names_the_skipped_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Plan.search

    def spoiled(plan: Plan, ranks: Ranks) -> Search:
        procedure = honest(plan, ranks)
        procedure.preview = lambda: dataclasses.replace(procedure_cost)  # type: ignore[method-assign]
        spoil(procedure.task, lambda call: call == 1, "nan")
        return procedure

    procedure_cost = digits().search().preview()
    monkeypatch.setattr(Plan, "search", spoiled)
    search_plan(digits(), out=tmp_path / "run")
    shared = [r for r in read_lines(tmp_path / "run" / "architectures.jsonl") if r["phase"] == "shared"]
    assert [record.get("skipped") for record in shared[:3]] == [None, "loss", None]
    assert shared[1]["loss"] is None
    (first, _) = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert first["skipped_steps"] == 1
    assert first["gradient_norm_largest"] >= first["gradient_norm_median"] > 0


# ----------------------------------------------------------------------------------- from scratch
def training(plan: Plan, **changes: Any) -> Retrain:
    settings = dataclasses.replace(plan.settings.retrain, **changes)
    task = plan.task(plan.load_data(), settings.task, settings.train_on)
    arch = plan.strategy().ask(1)[0]
    return Retrain(settings, task, plan.network(settings.network, task, arch, 0), 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_a_training_that_diverges_goes_back_and_on_at_a_lower_rate(plan: str, kind: str) -> None:
    procedure = training(PLANS[plan]())
    steps = procedure.task.train_steps
    # the second step of the second epoch
    spoil(procedure.task, lambda call: call == steps + 1, kind)
    start: dict[str, torch.Tensor] = {}
    events = []
    for event in procedure.run():
        events.append(event)
        if isinstance(event, TrainEpochEnd) and event.epoch == 1:
            start = {name: tensor.clone() for name, tensor in procedure.state().tensors.items()}
        if isinstance(event, RolledBack):
            assert (event.epoch, event.step, event.factor, event.left) == (1, 1, 0.5, 2)
            now = procedure.state().tensors
            assert now.keys() == start.keys()
            assert all(torch.equal(now[name], start[name]) for name in start)
            rate = procedure.optimizer.param_groups[0]["lr"]
    assert sum(isinstance(event, RolledBack) for event in events) == 1
    trained = [(event.epoch, event.step) for event in events if isinstance(event, TrainStep)]
    assert trained.count((1, 1)) == 2  # the first step of the second epoch, again
    assert procedure.optimizer.param_groups[0]["lr"] < rate
    (finished,) = (event for event in events if isinstance(event, Finished))
    assert finished.metrics["rollbacks"] == 1
    assert all(math.isfinite(event.loss) for event in events if isinstance(event, TrainStep))


@pytest.mark.slow
def test_the_rate_after_going_back_is_half() -> None:
    plain, spoiled = training(digits()), training(digits())
    steps = plain.task.train_steps
    spoil(spoiled.task, lambda call: call == steps, "nan")

    def rates(procedure: Retrain) -> list[float]:
        kept = [e for e in procedure.run() if isinstance(e, TrainStep) and (found.append(lr(procedure)) or True)]
        return found[-len(kept) :]

    def lr(procedure: Retrain) -> float:
        return float(procedure.optimizer.param_groups[0]["lr"])

    found: list[float] = []
    before = rates(plain)
    found = []
    after = rates(spoiled)
    assert after[:steps] == before[:steps]
    assert after[steps:] == pytest.approx([rate / 2 for rate in before[steps:]])


def test_a_training_that_diverges_too_often_ends() -> None:
    procedure = training(digits(), rollbacks=2)
    spoil(procedure.task, lambda call: call >= 6, "far off")
    heard: list[Any] = []
    with pytest.raises(Diverged, match=r"after 2 times at a lower rate, at epoch 2, step 1; try --retrain"):
        heard.extend(procedure.run())
    assert [event.left for event in heard if isinstance(event, RolledBack)] == [1, 0]
    none = training(digits(), rollbacks=0)
    spoil(none.task, lambda call: call == 0, "nan")
    with pytest.raises(Diverged, match="the loss is nan at epoch 1, step 1; "):
        list(none.run())


# a call in the middle of the second epoch: the seventh event is the end of the first
WRONG = 7


def going_back(procedure: Retrain, made: int) -> list[Any]:
    """All events of a training that diverges once, and made so many steps before."""
    spoil(procedure.task, lambda call: call + made == WRONG, "gradient")
    return list(procedure.run())


@functools.cache
def gone_back(average: str) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """The events and the weights of a training that was not stopped."""
    whole = training(digits(), average=average)
    return going_back(whole, 0), weights(whole.model)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["none", "nt_asgd"])
@pytest.mark.parametrize("stop", [pytest.param(stop, marks=() if stop == 9 else pytest.mark.slow) for stop in (6, 7, 8, 9)])
def test_a_training_that_goes_back_resumes_as_if_it_had_not_stopped(stop: int, average: str) -> None:
    first = training(digits(), average=average)
    spoil(first.task, lambda call: call == WRONG, "gradient")
    going = first.run()
    head = [next(going) for _ in range(stop)]
    second = training(digits(), average=average)
    second.load(first.state())
    made = sum(isinstance(event, TrainStep | RolledBack) for event in head)
    events, whole = gone_back(average)
    assert [*head, *going_back(second, made)] == events
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), weights(second.model).values(), strict=True))


def test_a_finalist_that_diverges_is_out() -> None:
    plan = digits()
    procedure = plan.search()
    network = plan.settings.retrain.network
    training = ShortTraining(
        lambda arch: plan.network(network, procedure.task, arch), procedure.task, plan.settings.retrain.optimizer
    )
    settings = DeriveSettings(samples=4, keep=4, uniform=0, finalists=2, finalist_steps=3, draw="uniform")
    spoil(procedure.task, lambda call: call == 1, "nan")  # of the first finalist
    scores = list(derive(settings, procedure.task, procedure.supernet, procedure.uniform, procedure.uniform, training))
    first, second = (scored for scored in scores if scored.stage == "alone")
    assert first.metrics["reward"] == procedure.task.worst_reward
    assert ranked(scores, 2)[0].arch == second.arch


# ---------------------------------------------------------------------------------------- rewards
@pytest.mark.parametrize("plan", PLANS)
def test_a_reward_is_finite_whatever_the_weights(plan: str) -> None:
    procedure = PLANS[plan]().search()
    arch = procedure.strategy.ask(1)[0]
    with torch.no_grad():
        for parameter in procedure.supernet.parameters():
            parameter.fill_(math.nan)
    assert procedure.task.reward(procedure.supernet, arch, procedure.task.reward_batch(0)) == procedure.task.worst_reward
