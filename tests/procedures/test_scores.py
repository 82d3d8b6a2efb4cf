"""Scores without training: exact answers on networks that are counted by hand, and what holds for
every score in every space."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn

from enas.networks.image_network import ImageNetwork
from enas.procedures.scores import LOST, SCORES, expressivity, progressivity, untrained_score, zico
from enas.procedures.settings import Judge
from enas.reports.judged import JUDGES
from enas.runs.planning import make_plan
from enas.spaces.architecture import Architecture
from enas.state import State
from enas.tasks.task import Task


class Given:
    """A task whose two batches are tensors, and whose loss is what the model says of one."""

    train_steps = 2

    def __init__(self, batches: Sequence[Tensor]):
        self.batches, self.remembered = batches, State(values={"seen": 3})

    def train_batch(self, epoch: int, step: int) -> Tensor:
        return self.batches[step]

    def loss(self, model: nn.Module, arch: Architecture | None, batch: Tensor) -> Tensor:
        return cast(Tensor, model(batch))

    def state(self) -> State:
        return self.remembered

    def load(self, state: State) -> None:
        self.remembered = state


class Product(nn.Module):
    """The sum of w x, whose gradient is x; a bias has none that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, 3)), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x + 100 * self.bias).sum()


class Blocks(ImageNetwork[Any]):
    """Gives the maps that it is made of, one block after the other, to images of 2 x 6 x 6."""

    def __init__(self, maps: Sequence[Tensor]):
        nn.Module.__init__(self)
        self.maps, self._blocks, self.channels, self.image_size = maps, None, 2, 6
        self.where = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor:
        assert x.shape == (64, 2, 6, 6)
        assert x.std() == pytest.approx(1, abs=0.1)  # noise
        for maps in self.maps:
            self.block(maps)
        return x


def waves(*sizes: float) -> Tensor:
    """Returns maps (1, C, 4, 4) of uncorrelated channels with these standard deviations."""
    x = torch.arange(16.0).view(4, 4)
    signs = [1 - 2 * (x.long() >> bit & 1) for bit in range(len(sizes))]
    return torch.stack([size * sign + 5 for size, sign in zip(sizes, signs, strict=True)])[None]


def asked(score: Any, child: nn.Module, batches: Sequence[Tensor]) -> float:
    return float(score(child, cast(Task, Given(batches))))


def test_zico_is_the_logarithm_of_a_sum_of_mean_over_deviation() -> None:
    """|gradients| are (1, 2, 4) and (3, 2, 5): means 2, 2, 4.5, deviations 1, 0, 0.5. A weight
    whose gradients are alike has no ratio, and biases do not count."""
    batches = [torch.tensor([[1.0, -2.0, 4.0]]), torch.tensor([[3.0, 2.0, -5.0]])]
    assert asked(zico, Product(), batches) == pytest.approx(math.log(2 / 1 + 4.5 / 0.5))
    assert asked(zico, Product(), [torch.ones(1, 3)] * 2) == pytest.approx(math.log(1e-12))


def test_progressivity_is_the_least_that_entropy_grows() -> None:
    """Channels of equal size have entropy log C; one that dwarfs the others has next to none."""
    two, three, tiny = waves(1.0, 1.0), waves(1.0, 1.0, 1.0), waves(1.0, 1e-3)
    torch.manual_seed(0)

    def said(*maps: Tensor) -> float:
        return asked(progressivity, Blocks(maps), [])

    assert said(two, three) == pytest.approx(math.log(3 / 2))
    assert said(tiny, two, three) == pytest.approx(math.log(3 / 2), abs=1e-3)
    assert said(two, three, two) == pytest.approx(-math.log(3 / 2))
    assert said(two, 0 * two, three) == said(two) == said() == LOST
    assert asked(progressivity, Product(), []) == LOST  # no network of images


@pytest.mark.parametrize("preset", ["digits-micro", "digits-macro", "text-rnn"])
def test_every_score_is_one_finite_number_that_tells_architectures_apart(preset: str) -> None:
    """It is the same again, whatever came between, and leaves the task what it remembers. Of a
    recurrent cell only the gradients say something."""
    plan = make_plan(preset, "quick", threads=1)
    task = plan.task(plan.load_data(), plan.settings.task)
    archs = plan.space.samples(random.Random(0), 3)[0]

    def said(score: str) -> list[float]:
        return [untrained_score(SCORES[score], plan.network(plan.settings.network, task, arch), task, 0) for arch in archs]

    before = task.state()
    values = {score: said(score) for score in SCORES}
    assert all(math.isfinite(value) for several in values.values() for value in several)
    assert {score: said(score) for score in SCORES} == values
    assert task.state() == before
    telling = {score for score, several in values.items() if len(set(several)) == 3}
    assert telling == ({"zico"} if preset == "text-rnn" else set(SCORES))


def test_blocks_are_the_cells_and_layers_of_every_backbone() -> None:
    """Each once, in order; a second forward outside collects nothing."""
    numbers = {}
    for preset in ("digits-micro", "digits-macro"):
        plan = make_plan(preset, "quick", threads=1)
        task = plan.task(plan.load_data(), plan.settings.task)
        (arch,) = plan.space.samples(random.Random(0), 1)[0]
        child = plan.network(plan.settings.network, task, arch)
        with torch.no_grad(), child.blocks() as outputs:
            task.loss(child, None, task.train_batch(0, 0))
        numbers[preset] = len(outputs)
        with torch.no_grad():
            task.loss(child, None, task.train_batch(0, 0))
        assert len(outputs) == numbers[preset]
    assert numbers == {"digits-micro": 3, "digits-macro": 4}  # cells; layers


def test_every_score_is_a_judge_with_a_name_on_the_page() -> None:
    assert {*get_args(Judge)} == {*SCORES, "macs", "shared"}
    assert {*JUDGES} == {*get_args(Judge), "prediction"}


def test_expressivity_is_a_mean_over_ops() -> None:
    child = nn.Module()
    child._at = {"a": nn.Identity(), "b": nn.Identity()}
    child.forward = lambda x: child._at["a"](waves(1.0, 1.0)).sum() + child._at["b"](waves(1.0)).sum()  # type: ignore[assignment]
    assert asked(expressivity, child, [torch.zeros(1)]) == pytest.approx(math.log(2) / 2)
