"""Every recipe trains: its search network and its final network, at their own depth, with few
filters."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pytest
import torch

from enas.data.digits import load_digits
from enas.data.images import ImageData, ImagePart
from enas.data.settings import DataSettings
from enas.grading.paper import EXPERIMENTS
from enas.procedures.optimizer import learning_rate, make_optimizer, update
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.presets import registry as presets
from enas.spaces.architecture import Reference

STEPS = 10
PRESETS_OF = {"ptb": "ptb-rnn", "cifar10": "cifar10-micro"}
RECIPES = [(name, recipe) for name, preset in presets.PRESETS.items() for recipe in preset.recipes]


@functools.cache
def digits_like_cifar() -> ImageData:
    """scikit-learn's digits in colour and at 16x16 pixels, for recipes whose data is not
    embedded."""
    data = load_digits()

    def large(part: ImagePart) -> ImagePart:
        images = part.images.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)
        return dataclasses.replace(part, images=images.contiguous())

    parts = {name: large(getattr(data, name)) for name in ("train", "validation", "test")}
    return dataclasses.replace(data, **parts)


def small(preset: str, recipe: str) -> Plan:
    """The recipe with few filters or hidden units, on embedded data."""
    settings = presets.config_of(preset, recipe)
    text = hasattr(settings.network, "hidden")
    size = {"hidden": 16} if text else {"filters": 4}
    retrain = settings.retrain
    batch = {} if text else {"batch_size": 16}
    settings = dataclasses.replace(
        settings,
        network=dataclasses.replace(settings.network, **size),
        task=dataclasses.replace(settings.task, **batch),
        data=dataclasses.replace(settings.data, dataset="topics") if text else DataSettings("digits", 400, 400),
        retrain=dataclasses.replace(
            retrain,
            network=dataclasses.replace(retrain.network, **size),
            task=dataclasses.replace(retrain.task, **batch),
        ),
    )
    return make_plan(preset, recipe, settings, threads=1, device="cpu")


def losses(plan: Plan, task: Any, final: bool, seed: int, what: Reference | None = None) -> Iterator[float]:
    """The losses of `STEPS` steps of a random architecture on one batch, again and again: as a
    child of the search network, with shared weights and the statistics of the batch, or as the
    final network; or those of a reference."""
    settings = plan.settings
    network, optimizer = (
        (settings.retrain.network, settings.retrain.optimizer) if final else (settings.network, settings.search.optimizer)
    )
    arch = plan.space.sample(random.Random(seed))
    model = plan.model(network, task, what or arch, seed) if final else plan.network(network, task, None, seed)
    model.train()
    sgd = make_optimizer(list(model.parameters()), optimizer)
    batch = task.train_batch(0, 0)
    for step in range(STEPS):
        torch.manual_seed(step)
        loss = task.loss(model, None if final else arch, batch)
        loss.backward()
        used = [parameter for parameter in model.parameters() if parameter.grad is not None]
        update(sgd, used, learning_rate(optimizer, 0, step, 400, 310), optimizer.grad_clip)
        yield float(loss.detach())


REFERENCES = sorted({(e.of, PRESETS_OF[e.data]) for es in EXPERIMENTS.values() for e in es if e.kind == "reference"})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), REFERENCES)
def test_a_reference_that_reproduce_lists_trains(name: str, preset: str) -> None:
    plan = small(preset, "paper")
    data = plan.load_data() if preset == "ptb-rnn" else digits_like_cifar()
    task = plan.task(data, plan.settings.retrain.task)
    run = list(losses(plan, task, True, 0, Reference(name, 200_000 if preset == "ptb-rnn" else 60_000)))
    assert all(math.isfinite(loss) for loss in run)
    assert fmean(run[-5:]) < run[0] < 2 * math.log(task.dimensions.get("classes") or task.dimensions["vocabulary"])


@pytest.mark.slow
@pytest.mark.parametrize("final", [False, True], ids=["search", "final"])
@pytest.mark.parametrize(("preset", "recipe"), RECIPES)
def test_a_recipe_trains(preset: str, recipe: str, final: bool) -> None:
    plan = small(preset, recipe)
    data = digits_like_cifar() if preset.startswith(("cifar10", "nasbench")) else plan.load_data()
    task = plan.task(data, plan.settings.retrain.task if final else plan.settings.task)
    run = list(losses(plan, task, final, 0))
    network = plan.settings.retrain.network if final else plan.settings.network
    knowing_nothing = math.log(task.dimensions.get("classes") or task.dimensions["vocabulary"])
    # the auxiliary head knows nothing either
    knowing_nothing *= 1 + getattr(network, "aux_weight", 0.0)
    assert all(map(math.isfinite, run))
    # A rate for mean losses overshoots on one batch now and then, but not five times in a row.
    assert min(run[-5:]) < run[0] < 2 * knowing_nothing
