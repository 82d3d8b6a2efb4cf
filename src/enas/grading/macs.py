"""What a search and its trainings compute, in multiply-accumulates: a figure that does not depend on the machine.

As torch's counter counts a forward, convolutions and products; a training step is three of them (its backward is two). Not
counted: what is neither, validation, and what the controller itself computes.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.networks import kernels
from enas.runs.files import read_lines
from enas.runs.plan import Plan
from enas.spaces.architecture import Architecture, Reference

SAMPLE = 16  # architectures of a search that are counted; the others are taken to be like them


def macs(run: Callable[[], Any]) -> float:
    """Multiply-accumulates of a call, without gradients. Average pools that run as convolutions are none."""
    with kernels.without("pool"), FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


def _countable(network: Any) -> Any:
    """Settings of the same network, computed so that the counter sees every product: not recorded, not in place."""
    return dataclasses.replace(network, computation="plain") if hasattr(network, "computation") else network


def of_search(run: Path, plan: Plan) -> float:
    """Of all that the search in a folder has trained and scored so far, estimated from a sample of it."""
    settings = dataclasses.replace(plan.settings, network=_countable(plan.settings.network))
    plan = dataclasses.replace(plan, settings=settings)
    procedure = plan.search()
    net, task = procedure.supernet.requires_grad_(False), procedure.task  # a loss may compute its gradient beforehand
    records = read_lines(run / "architectures.jsonl")
    choices = {record["id"]: record["choices"] for record in records if "choices" in record}
    total = 0.0
    for phase in ("shared", "controller"):
        ids = [record["id"] for record in records if record["phase"] == phase]
        counted = []
        for i, name in enumerate(random.Random(0).sample(ids, min(SAMPLE, len(ids)))):
            arch, step = plan.space.architecture(choices[name]), i % task.train_steps  # windows differ in length
            if phase == "shared":
                net.train()
                counted.append(3 * macs(lambda arch=arch, step=step: task.loss(net, arch, task.train_batch(0, step))))  # type: ignore[misc]
            else:
                counted.append(macs(lambda arch=arch: task.reward(net, arch, task.reward_batch(0))))  # type: ignore[misc]
        total += len(ids) * fmean(counted or [0.0])
    return total


def of_trainings(plan: Plan, models: Sequence[Architecture | Reference]) -> float:
    """Of training each of these alone, to the end, by the plan's recipe; one that is named twice counts twice."""
    settings = plan.settings.retrain
    task = plan.task(plan.load_data(), settings.task, settings.train_on)
    found = {}
    for i, what in enumerate(dict.fromkeys(models)):
        batch = task.train_batch(0, i % task.train_steps)
        task.forget(0)  # a state of another model has another form
        model: Any = plan.model(_countable(settings.network), task, what, 0).requires_grad_(False).train()
        found[what] = 3 * macs(lambda model=model, batch=batch: task.loss(model, None, batch))  # type: ignore[misc]
    return sum(found[what] for what in models) * task.train_steps * settings.epochs
