"""This module counts what a search and its trainings compute, in multiply-accumulates: a figure
that does not depend on the machine.

torch's counter counts the convolutions and products of a forward pass. A training step counts as
three of them (its backward pass is two). Everything else, validation, and the controller itself are
not counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.grading.opened import OpenedRun
from enas.networks import kernels
from enas.networks.cost import countable
from enas.runs.plan import Plan
from enas.runs.records import sampled
from enas.spaces.architecture import Architecture, Reference
from enas.tasks.task import Task

SAMPLE = 16  # number of architectures of a search that are counted, to stand for all


def macs(run: Callable[[], object]) -> float:
    """Returns the multiply-accumulates of a call without gradients. Pools count as none."""
    with kernels.without("pool"), FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


def _step(task: Task, net: Any, arch: Architecture | None, step: int) -> float:
    """Returns the multiply-accumulates of a training step."""
    batch = task.train_batch(0, step % task.train_steps)  # windows differ in length
    net.requires_grad_(False).train()  # a loss may compute its gradient beforehand
    return 3 * macs(lambda: task.loss(net, arch, batch))


def _score(task: Task, net: Any, arch: Architecture) -> float:
    """Returns the multiply-accumulates of a reward."""
    return macs(lambda: task.reward(net, arch, task.reward_batch(0)))


def of_search(run: OpenedRun) -> float:
    """Returns the multiply-accumulates of everything that a search has trained and scored,
    estimated from a sample."""
    search = run.plan.with_settings(network=countable(run.plan.settings.network)).search()
    children, space = list(sampled(run.path)), run.plan.space
    archs = {child.id: space.architecture(child.choices) for child in children if child.choices}
    total = 0.0
    for phase in ("shared", "controller"):
        ids = [child.id for child in children if child.phase == phase]
        counted = [0.0]
        for step, name in enumerate(random.Random(0).sample(ids, min(SAMPLE, len(ids)))):
            if phase == "shared":
                counted.append(_step(search.task, search.supernet, archs[name], step))
            else:
                counted.append(_score(search.task, search.supernet, archs[name]))
        total += len(ids) * fmean(counted[1:] or counted)
    return total


def of_trainings(plan: Plan, models: Sequence[Architecture | Reference]) -> float:
    """Returns the multiply-accumulates of training each of these models from scratch, to the end,
    by the plan's recipe. A model that is named twice counts twice."""
    settings = plan.settings.retrain
    task = plan.task(plan.load_data(), settings.task, settings.train_on)
    counted = {}
    for step, model in enumerate(dict.fromkeys(models)):
        task.forget(0)  # the hidden state of another model has another shape
        counted[model] = _step(task, plan.model(countable(settings.network), task, model, 0), None, step)
    return sum(counted[model] for model in models) * task.train_steps * settings.epochs
