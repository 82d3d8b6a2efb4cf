"""Recorded training steps, on a CPU by their stand-in: the same work on the same buffers,
unrecorded. They change a search's weights, momentum and figures as plain steps do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from enas.data.images import ImageData, ImagePart
from enas.networks.micro import MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.settings import MicroSettings, NasBench201NetworkSettings
from enas.procedures.recorded import Recorder
from enas.procedures.search import Search
from enas.procedures.settings import OptimizerSettings, SearchSettings
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import nasbench201
from enas.state import seeded
from enas.strategies.random_search import RandomSearch
from enas.tasks.image_classification import ImageClassification
from enas.tasks.settings import ImageClassificationSettings
from enas.tasks.task import Task

SGD = OptimizerSettings(weight_decay=0.01)


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


class Noise(Task):
    """Random images in double precision, two sizes of batches; the second batch of a pass cannot be
    learned from where `broken`."""

    recordable = True
    dimensions = {"channels": 2, "image_size": 8, "classes": 3}  # noqa: RUF012
    about = "noise"
    train_steps = 3
    broken = False
    device = "cpu"

    def train_batch(self, epoch: int, step: int) -> Batch:
        n = 4 if step < 2 else 2
        with seeded("batch", epoch, step):
            x = torch.randn(n, 2, 8, 8, dtype=torch.double)
        x = x * float("nan") if self.broken and step == 1 else x
        return Batch(x.to(self.device), torch.arange(n).to(self.device) % 3)

    def loss(self, model: Any, arch: Any, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        return F.cross_entropy(model(batch.x, arch, progress=progress), batch.y)

    def reward_batch(self, step: int) -> Batch:
        return self.train_batch(0, 0)

    def reward(self, model: Any, arch: Any, batch: Batch) -> float:
        raise NotImplementedError

    evaluate = probabilities = judged = reward


def search(
    way: str, optimizer: OptimizerSettings = SGD, broken: bool = False, epochs: int = 2, device: str = "cpu", **more: Any
) -> Search:
    settings = NasBench201NetworkSettings(filters=2, cells=1, computation=way)  # type: ignore[arg-type]
    with seeded("network"):
        net = NasBench201Network(nasbench201(), settings, 2, 8, 3).double().to(device)
    task = Noise()
    task.broken, task.device = broken, device
    how = SearchSettings(epochs=epochs, children=2, probes=0, optimizer=optimizer, **more)
    return Search(how, task, net, RandomSearch(net.space, seed=1))


def trained(way: str, **settings: Any) -> tuple[Search, list[Any]]:
    procedure = search(way, **settings)
    return procedure, list(procedure.run())


def assert_same(a: Search, b: Search, atol: float = 1e-10) -> None:
    first, second = a.state(), b.state()
    assert list(first.tensors) == list(second.tensors)  # also: who has momentum
    for key, value in first.tensors.items():
        torch.testing.assert_close(value, second.tensors[key], rtol=0, atol=atol, msg=key)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        replace(SGD, grad_clip=0.1),
        replace(SGD, momentum=0.0),
        replace(SGD, kind="adamw"),
    ],
    ids=["momentum", "clipped", "plain", "adamw"],
)
def test_recorded_steps_train_as_plain_ones(optimizer: OptimizerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """M children, batches of two sizes, over two passes: weights, momentum, losses, norms. What
    runs before a recording leaves nothing behind."""
    monkeypatch.setattr("enas.networks.static.recorded.PREPARE_ON_CPU", True)
    (a, plain), (b, recorded) = (trained(way, optimizer=optimizer) for way in ("plain", "static"))
    assert a.recorder is None
    assert b.recorder is not None
    # AdamW divides a gradient that is zero but for rounding by one that is
    assert_same(a, b, 1e-10 if optimizer.kind == "sgd" else 1e-5)
    for first, second in zip(plain, recorded, strict=True):
        if hasattr(first, "values") and not callable(first.values):
            assert first.values == pytest.approx(second.values, abs=1e-10 if optimizer.kind == "sgd" else 1e-5)
        else:
            assert first.metrics["gradient_norm_median"] == pytest.approx(second.metrics["gradient_norm_median"], abs=1e-5)


def test_a_skipped_step_changes_nothing() -> None:
    """Neither where the loss is not finite nor after it: gradients of a step are not added to what
    a skipped one left."""
    (a, _), (b, _) = (trained(way, broken=True, max_skipped=0.9) for way in ("plain", "static"))
    assert a.skipped.steps == b.skipped.steps == 0  # counted anew per pass
    assert_same(a, b)


def test_a_gradient_that_is_not_finite_makes_no_step() -> None:
    procedure = search("static")
    recorder, task, net = procedure.recorder, procedure.task, procedure.supernet
    assert recorder is not None
    (arch,) = procedure.strategy.ask(1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    recorder.gradient(arch, task.train_batch(0, 0), 0.0, 1.0)
    used = net.parameters_of(arch)
    used[0].grad[0] = float("inf")  # type: ignore[index]
    assert recorder.update(used, 0.1) == float("inf")
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())


def test_gradients_stand_in_the_used_weights_and_no_other() -> None:
    """After a step none is left, and what the child does not use has no gradient and no memory."""
    procedure = search("static")
    recorder, net = procedure.recorder, procedure.supernet
    assert recorder is not None
    (arch,) = procedure.strategy.ask(1)
    recorder.gradient(arch, procedure.task.train_batch(0, 0), 0.0, 1.0)
    used = set(net.parameters_of(arch))
    assert {p for p in net.parameters() if p.grad is not None} == used
    recorder.update(list(used), 0.1)
    assert not [p for p in net.parameters() if p.grad is not None]
    assert set(procedure.optimizer.state) == used


def test_a_search_goes_on_from_a_state_of_plain_steps() -> None:
    """Momentum that was loaded is taken over; both go on alike."""
    before, _ = trained("plain", epochs=1)
    after = []
    for way in ("plain", "static"):
        procedure = search(way)
        procedure.load(before.state())
        list(procedure.run())
        after.append(procedure)
    assert_same(*after)


def test_a_recorded_step_of_micro_cells_draws_dropout() -> None:
    """Random numbers go by the seed around a step."""
    space = conv_micro(ConvMicroSettings(num_nodes=1))
    settings = MicroSettings(filters=2, cells=1, dropout=0.5, drop_path=0.3, computation="static")
    with seeded("network"):
        net = MicroNetwork(space, settings, 2, 8, 3).double()
    procedure = Search(SearchSettings(epochs=1), Noise(), net, RandomSearch(space, seed=1))
    assert procedure.recorder is not None
    (arch,), batch = procedure.strategy.ask(1), procedure.task.train_batch(0, 0)
    losses = []
    for key in (1, 1, 2):
        with seeded("step", key):
            losses.append(float(procedure.recorder.gradient(arch, batch, 0.5, 1.0)))
    assert losses[0] == losses[1] != losses[2]


def test_only_tasks_that_say_so_are_recorded() -> None:
    class Other(Noise):
        """Its loss may be another."""

    procedure = search("static")
    assert Recorder.of(procedure.supernet, Other(), procedure.optimizer, SGD) is None
    assert ImageClassification.recordable


@pytest.mark.parametrize("reward", ["loss", "accuracy"])
def test_rewards_of_many_are_those_of_each(reward: str) -> None:
    """Also of none, of logits that are not finite, and of a user's class that has its own."""

    class Own(ImageClassification):
        def reward(self, model: Any, arch: Any, batch: Any) -> float:
            return 7.0

    with seeded("images"):
        part = ImagePart(torch.randint(256, (20, 2, 8, 8), dtype=torch.uint8), torch.arange(20) % 3)
    data = ImageData("some", part, part, part, ("a", "b", "c"))
    settings = ImageClassificationSettings(reward=reward, reward_batch=10)  # type: ignore[arg-type]
    task, net = ImageClassification(data, settings), search("plain").supernet.float()
    archs, batch = RandomSearch(net.space, seed=2).ask(3), task.reward_batch(0)
    archs = [*archs, archs[0]]
    assert task.rewards(net, archs, batch) == [task.reward(net, arch, batch) for arch in archs]
    assert task.rewards(net, [], batch) == []
    assert Own(data, settings).rewards(net, archs, batch) == [7.0] * 4
    with torch.no_grad():
        net.at("classifier").bias.fill_(float("inf"))
    assert task.rewards(net, archs, batch) == [task.worst_reward] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replays_on_a_gpu_equal_plain_steps() -> None:
    """Steps are recorded in the third pass; children of the fourth were never seen before. Memory
    does not grow over 2,000 replays."""
    (a, _), (b, _) = (trained(way, epochs=4, device="cuda") for way in ("plain", "static"))
    recorder = b.recorder
    assert a.recorder is None
    assert recorder is not None
    assert recorder._children._kept
    assert recorder._updates._kept
    assert_same(a, b)
    batch, before = b.task.train_batch(0, 0), torch.cuda.memory_allocated()
    for arch in b.strategy.ask(2000):
        recorder.gradient(arch, batch, 0.0, 1.0)
        recorder.update(b.supernet.parameters_of(arch), 0.01)
    assert torch.cuda.memory_allocated() <= before + (1 << 20)


@pytest.mark.slow
def test_memory_does_not_grow_over_replays() -> None:
    """Of 400 steps the second half leaves the process as large as the first. On a GPU it is
    2,000, above."""
    import resource

    procedure = search("static")
    recorder = procedure.recorder
    assert recorder is not None
    archs, batch = procedure.strategy.ask(400), procedure.task.train_batch(0, 0)
    sizes = []
    for i, arch in enumerate(archs):
        recorder.gradient(arch, batch, 0.0, 1.0)
        recorder.update(procedure.supernet.parameters_of(arch), 0.01)
        if i in (199, 399):
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert sizes[1] - sizes[0] < 4096  # KiB
