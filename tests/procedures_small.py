"""Searches and trainings of a second each, in every registered space."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import Any

import torch
from torch import Tensor, nn

from enas.networks.choices import OneOf
from enas.procedures.events import EpochEnd, Finished, Step
from enas.procedures.ranks import Ranks
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.state import State
from enas.tasks.problem import Problem

SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of a space, and of its network
    "digits-micro": ({"num_nodes": 2}, {"filters": 2, "dropout": 0.1, "drop_path": 0.1, "aux_weight": 0.4}),
    "digits-macro": ({"num_layers": 3}, {"filters": 2, "dropout": 0.1}),
    "nasbench201": ({"num_nodes": 3}, {"filters": 2}),
    "nasbench_macro": ({"num_layers": 4}, {"filters": 2, "head": 8, "stem_stride": 1}),
    "text-rnn": ({"num_nodes": 3}, {"hidden": 8, "input_dropout": 0.1}),
}


@functools.cache
def small(preset: str, children: int = 2, **search: Any) -> Plan:
    """A search of a second: three training steps and two of the controller in each of two
    epochs."""
    plan = make_plan(preset, threads=1, device="cpu")
    s, (space, network) = plan.settings, SMALL[preset]
    text = preset == "text-rnn"
    steps: dict[str, Any] = {"epochs": 2, "warmup_epochs": 0, "controller_steps": 2, "architectures": 3, "probes": 3}
    task = {"batch_size": 8, "reward_batch": 8} if text else {"batch_size": 20, "reward_batch": 20}
    data = {"train": 800} if text else {"train": 60, "validation": 40, "dataset": "digits"}
    made = dataclasses.replace(s.network, **network)
    return plan.with_settings(
        space=dataclasses.replace(s.space, **space),
        network=made,
        data=dataclasses.replace(s.data, **data),
        task=dataclasses.replace(s.task, **task),
        search=dataclasses.replace(s.search, **{**steps, "children": children, **search}),
        retrain=dataclasses.replace(
            s.retrain, epochs=2, network=made, task=dataclasses.replace(s.retrain.task, batch_size=task["batch_size"])
        ),
    )


def to_the_end(procedure: Search | Retrain) -> tuple[list[Any], State]:
    """What a procedure says and where it comes to: values that a pipe can hold."""
    events: list[Any] = []
    for event in procedure.run():
        if isinstance(event, Step):
            events.append((event.phase, [arch.id for arch in event.archs], event.values, event.skipped))
        elif isinstance(event, EpochEnd | Finished):
            events.append(event.metrics)
    state = procedure.state()
    return events, State({key: tensor.detach().clone() for key, tensor in state.tensors.items()}, dict(state.values))


def difference(a: State, b: State) -> float:
    """The largest difference of a weight, as a share of the largest weight."""
    assert a.tensors.keys() == b.tensors.keys()
    pairs = [(a.tensors[key].double(), b.tensors[key].double()) for key in a.tensors if a.tensors[key].numel()]
    return max(float((x - y).abs().max() / y.abs().max().clamp(min=1.0)) for x, y in pairs)


def training(plan: Plan, ranks: Ranks | None = None) -> Retrain:
    settings = plan.settings.retrain
    task = plan.task(plan.load_data(), settings.task, settings.train_on)
    arch = plan.space.sample(random.Random(0))
    return Retrain(settings, task, plan.network(settings.network, task, arch, 0), 0, ranks)


class Net(nn.Module):
    """A choice between ops of which one has running statistics, and a part that no child uses."""

    def __init__(self) -> None:
        super().__init__()
        self.op = OneOf({"norm": nn.BatchNorm1d(4), "linear": nn.Linear(4, 4)})
        self.out, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.op(x))
        return out


def problem() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    return Problem(model=Net, train=(x, x[:, :3].argmax(1)), batch_size=12)
