"""Recorded training steps, on a CPU by their stand-in: the same work on the same buffers,
unrecorded. They change a search's weights, momentum and figures as plain steps do."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from enas.data.images import ImageData, ImagePart
from enas.networks.micro import MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.settings import MicroSettings, NasBench201NetworkSettings
from enas.procedures.events import RolledBack, TrainStep
from enas.procedures.optimizer import make_optimizer
from enas.procedures.recorded import ChildRecorder, Recorder
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import ComputeSettings, OptimizerSettings, RetrainSettings, SearchSettings
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import nasbench201
from enas.state import seeded
from enas.strategies import controller
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.tasks import image_classification
from enas.tasks.image_classification import ImageClassification
from enas.tasks.settings import ImageClassificationSettings
from enas.tasks.task import Task
from programs import FOUR, architectures, network

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
    sizes = (4, 4, 2)
    broken = False
    device = "cpu"

    def train_batch(self, epoch: int, step: int) -> Batch:
        n = self.sizes[step]
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
    assert ChildRecorder.of(child("static"), Other(), procedure.optimizer, SGD) is None
    assert ChildRecorder.of(child("plain"), Noise(), procedure.optimizer, SGD) is None


# -------------------------------------------------------------------------- a child from scratch
def child(way: str, channels: int = 2, **settings: Any) -> MicroNetwork:
    """A child of every kind of weight: an auxiliary head, a second calibration, reductions."""
    space = conv_micro(ConvMicroSettings(num_nodes=2))
    own = MicroSettings(filters=2, cells=1, dropout=0.0, aux_weight=0.4, extra_calibration=True)
    own = replace(own, computation=way, **settings)  # type: ignore[arg-type]
    with seeded("child"):
        arch = space.sample(random.Random(3))
        return MicroNetwork(space, own, channels, 8, 3, only=arch, statistics="running").double()


class Classified(Noise):
    """The loss of a classifier with an auxiliary head; evaluations of it say nothing. Batch norm of
    few images makes much of rounding."""

    recordable = True
    sizes = (12, 12, 8)

    def loss(self, model: Any, arch: Any, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        logits, aux = model(batch.x, arch, progress=progress)
        return F.cross_entropy(logits, batch.y) + model.aux_weight * F.cross_entropy(aux, batch.y)

    def cut(self, batch: Batch, k: int) -> list[tuple[float, Batch]]:
        """Unequal parts."""
        n = len(batch.y)
        spans = [slice(0, 5), slice(5, n)] if k == 2 else [slice(n)]
        return [(len(batch.y[span]) / n, Batch(batch.x[span], batch.y[span])) for span in spans]

    def evaluate(self, model: Any, arch: Any, part: Any) -> dict[str, float]:
        return {"loss": 0.0}


@pytest.mark.parametrize(
    "optimizer", [SGD, replace(SGD, grad_clip=0.1), replace(SGD, kind="adamw")], ids=["momentum", "clipped", "adamw"]
)
def test_a_recorded_training_from_scratch_is_the_plain_one(
    optimizer: OptimizerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, running statistics, momentum and losses, with drop-path and batches of two sizes in
    unequal parts; also where it went on from a state. What runs before a recording leaves nothing
    behind."""
    monkeypatch.setattr("enas.networks.static.recorded.PREPARE_ON_CPU", True)
    compute = ComputeSettings(accumulate=2 if optimizer.grad_clip else 1)
    settings = RetrainSettings(epochs=2, optimizer=optimizer, compute=compute)
    losses, ends = [], []
    for way in ("plain", "static", "gone on"):
        procedure = Retrain(settings, Classified(), child("plain" if way == "plain" else "static", drop_path=0.3))
        assert (procedure.recorder is None) == (way == "plain")
        events = list(procedure.run()) if way != "gone on" else []
        if way == "gone on":
            half = Retrain(settings, Classified(), child("static", drop_path=0.3))
            for _, event in zip(range(5), half.run(), strict=False):  # into the second pass
                events.append(event)
            procedure.load(half.state())
            events += list(procedure.run())
        losses.append([event.loss for event in events if isinstance(event, TrainStep)])
        ends.append(procedure.state())
    atol = 1e-10 if optimizer.kind == "sgd" else 1e-5
    for found, end in zip(losses[1:], ends[1:], strict=True):
        assert found == pytest.approx(losses[0], abs=atol)
        assert list(end.tensors) == list(ends[0].tensors)
        for key, value in ends[0].tensors.items():
            torch.testing.assert_close(end.tensors[key], value, rtol=0, atol=atol, msg=key)


def test_a_recorded_training_goes_back_as_a_plain_one() -> None:
    """A loss that is not finite, in the middle of a pass: weights and momentum of its start."""
    ends = []
    for way in ("plain", "static"):
        task, settings = Classified(), RetrainSettings(epochs=2, optimizer=SGD, rollbacks=1)
        procedure, events = Retrain(settings, task, child(way)), []
        for event in procedure.run():
            events.append(type(event))
            task.broken = len(events) == 5  # the second step of the second pass, once
        assert events.count(RolledBack) == 1
        ends.append(procedure.state())
    for key, value in ends[0].tensors.items():
        torch.testing.assert_close(ends[1].tensors[key], value, rtol=0, atol=1e-10, msg=key)


def test_a_recorded_training_sees_new_weights_in_half_precision() -> None:
    """Autocast remembers what it made of weights, which a recording would keep for good."""
    model, task = child("static").float(), Classified()
    recorder = ChildRecorder.of(model, task, make_optimizer(list(model.parameters()), SGD), SGD)
    assert recorder is not None
    with seeded("images"):
        batch = Batch(torch.randn(4, 2, 8, 8), torch.arange(4) % 3)
    losses = []
    for together in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(float(recorder.gradient(batch, 0.0, 1.0)))
            if together:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.mul_(2)
                losses.append(float(recorder.gradient(batch, 0.0, 1.0)))
    assert losses[0] != losses[1] == losses[2]


# ------------------------------------------------------------------------------- images as a task
def pictures(channels: int = 2) -> ImageData:
    with seeded("images"):
        part = ImagePart(torch.randint(256, (20, channels, 8, 8), dtype=torch.uint8), torch.arange(20) % 3)
    return ImageData("some", part, part, part, ("a", "b", "c"))


@pytest.mark.parametrize(("pad", "flip", "cutout"), [(4, True, 0), (2, True, 3), (0, False, 4), (0, False, 0)])
def test_a_recorded_step_makes_the_same_images(pad: int, flip: bool, cutout: int) -> None:
    """Augmented in the step or before it, whole or in parts: the same bits, which `augment`
    draws."""
    settings = ImageClassificationSettings(batch_size=8, pad=pad, flip=flip, cutout=cutout)
    task = ImageClassification(pictures(), settings, seed=3)
    raw, batch = task.raw_batch(1, 1), task.train_batch(1, 1)
    assert not (pad or flip or cutout) or not torch.equal(raw.x, batch.x)
    seen: list[Tensor] = []

    class Watched:
        def __call__(self, x: Tensor, arch: None, progress: float) -> Tensor:
            seen.append(x)
            return x.sum((1, 2, 3))[:, None] * torch.ones(3)

    first, second = (task.loss(Watched(), None, some) for some in (raw, batch))
    assert torch.equal(first, second)
    for some in (raw, batch):
        parts = task.cut(some, 3)
        assert [share for share, _ in parts] == [3 / 8, 3 / 8, 2 / 8]
        for _, part in parts:
            task.loss(Watched(), None, part)
    assert torch.equal(seen[0], batch.x)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in zip(seen[2:5], seen[5:], strict=True))


def test_the_batch_of_a_users_class_is_its_own() -> None:
    class Own(ImageClassification):
        def train_batch(self, epoch: int, step: int) -> Any:
            x, y = super().train_batch(epoch, step)
            return Batch(x + 1, y)

    settings = ImageClassificationSettings(batch_size=8)
    own, task = (kind(pictures(), settings) for kind in (Own, ImageClassification))
    assert torch.equal(own.raw_batch(0, 0).x, task.train_batch(0, 0).x + 1)


def test_a_search_of_images_is_the_same_with_its_augmentation_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmented inside of the recorded steps and before them: the same weights, policy and rewards,
    to the last bit. The rewards of a step come from one recording."""
    ends = []
    for inside in (True, False):
        if not inside:
            monkeypatch.setattr(ImageClassification, "raw_batch", ImageClassification.train_batch)
        task = ImageClassification(pictures(), ImageClassificationSettings(batch_size=8, reward_batch=10, cutout=2))
        settings = NasBench201NetworkSettings(filters=2, cells=1, computation="static")
        with seeded("network"):
            net = NasBench201Network(nasbench201(), settings, 2, 8, 3)
        how = SearchSettings(epochs=2, controller_steps=2, architectures=3, probes=0, optimizer=SGD)
        procedure = Search(how, task, net, Reinforce(net.space))
        list(procedure.run())
        ends.append(procedure.state())
        program = net.program()
        assert program is not None
        assert [len(recording.inputs[2]) for recording in program._each._kept.values()] == [3]
        assert not program._scores._kept
        same = procedure.strategy.ask(1) * 3  # of which it scores as many
        assert len(set(procedure._rewards(same, task.reward_batch(0)))) == 1
        assert len(program._each._kept) == 1
        retrain = Retrain(RetrainSettings(epochs=1), task, child("static").float())
        next(retrain.run())
        for recorder in (procedure.recorder, retrain.recorder):
            assert recorder is not None
            kinds = {type(recording.inputs[-1]) for recording in recorder._works._kept.values()}
            assert kinds == {image_classification.Raw if inside else image_classification.Batch}
    assert all(torch.equal(value, ends[1].tensors[key]) for key, value in ends[0].tensors.items())


@pytest.mark.parametrize("way", ["plain", "static"])
@pytest.mark.parametrize("reward", ["loss", "accuracy"])
def test_rewards_of_many_are_those_of_each(reward: str, way: str) -> None:
    """Also of none, of logits that are not finite, and of a user's class that has its own."""

    class Own(ImageClassification):
        def reward(self, model: Any, arch: Any, batch: Any) -> float:
            return 7.0

    data = pictures()
    settings = ImageClassificationSettings(reward=reward, reward_batch=10)  # type: ignore[arg-type]
    task, net = ImageClassification(data, settings), search(way).supernet.float()
    archs, batch = RandomSearch(net.space, seed=2).ask(3), task.reward_batch(0)
    archs = [*archs, archs[0]]
    assert task.rewards(net, archs, batch) == [task.reward(net, arch, batch) for arch in archs]
    assert task.rewards(net, [], batch) == []
    assert Own(data, settings).rewards(net, archs, batch) == [7.0] * 4
    with torch.no_grad():
        net.at("classifier").bias.fill_(float("inf"))
    assert task.rewards(net, archs, batch) == [task.worst_reward] * 4


# ---------------------------------------------------------------------- what a card would refuse
class Elsewhere(TorchDispatchMode):
    """Notes operators that take or give a tensor of the CPU. Work is on the device "meta", where
    whoever asks for a number fails."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.issued = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.issued += 1
        if any(isinstance(x, Tensor) and not x.is_meta for x in tree_flatten((args, kwargs, out))[0]):
            self.calls.append(str(func))
        return out


def assert_stays(work: Callable[..., Any], *inputs: Any) -> None:
    with Elsewhere() as seen:
        work(*inputs)
    assert seen.issued > 10
    assert not seen.calls


def on_meta(inputs: Any) -> Any:
    return tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, inputs)


@pytest.mark.parametrize("name", [*FOUR, "child"])
def test_recorded_work_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph cannot wait for a number, nor copy from the CPU: not in the gradient with its
    augmentation, dropout, drop-path and class weights, nor in the update, nor in scoring."""
    # this device knows no autocast
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    optimizer = replace(SGD, grad_clip=0.1)
    settings = ImageClassificationSettings(batch_size=8, cutout=3, class_weights="balanced", label_smoothing=0.1)
    task = ImageClassification(pictures(3), settings)
    numbers, batch = torch.tensor([0.5, 1.0]), task.raw_batch(0, 0)
    net: Any = child("static", 3, drop_path=0.3, dropout=0.2) if name == "child" else network(name)
    net = net.float().to("meta").train()
    monkeypatch.setattr(task, "_weights", torch.ones(net.classes, device="meta"))
    sgd = make_optimizer(list(net.parameters()), optimizer)
    recorder: Any = (ChildRecorder if name == "child" else Recorder).of(net, task, sgd, optimizer)
    recorder._begin()
    if name == "child":
        assert_stays(recorder.work, on_meta((numbers, batch)))
    else:
        codes = recorder.program.codes(architectures(name, 1)[0])
        assert_stays(recorder.work, on_meta((numbers, codes, batch)))
        net.eval()
        with torch.no_grad():
            assert_stays(recorder.program._scored_each, on_meta((batch.x, batch.y, codes[None], task._scored)))
    assert_stays(recorder._update, on_meta(torch.tensor(0.1, dtype=torch.double)))


def test_a_recorded_policy_stays_on_its_device() -> None:
    policy = Reinforce(conv_micro())
    noise = controller.Noise.drawn(policy.space, 3, torch.Generator())
    packed = policy.controller.packed(policy.controller.encode(policy.ask(3), "cpu"))
    policy.controller.to("meta")
    assert_stays(policy._told, on_meta((packed, torch.zeros(4))))
    with torch.no_grad():
        assert_stays(policy._answers, on_meta(noise))


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_from_scratch_on_a_gpu_is_the_plain_one() -> None:
    """And so are the rewards of many, from one recording."""
    ends = []
    for way in ("plain", "static"):
        task = Classified()
        task.device = "cuda"
        procedure = Retrain(RetrainSettings(epochs=4, optimizer=SGD), task, child(way).cuda())
        list(procedure.run())
        ends.append(procedure.state())
    assert procedure.recorder is not None
    assert procedure.recorder._works._kept
    for key, value in ends[0].tensors.items():
        torch.testing.assert_close(ends[1].tensors[key], value, rtol=0, atol=1e-10, msg=key)
    net, x, y = network("nasbench201").cuda().eval(), torch.randn(4, 3, 8, 8).double().cuda(), torch.arange(4).cuda()
    program = net.program()
    assert program is not None
    for seed in range(4):
        archs = architectures("nasbench201", 5, seed)
        with torch.no_grad():
            plain = torch.stack([F.cross_entropy(net.computed(x, arch, 1.0), y) for arch in archs])
        torch.testing.assert_close(program.each(archs, x, F.cross_entropy, y), plain, rtol=0, atol=1e-10)
    assert program._each._kept


@pytest.mark.slow
def test_memory_does_not_grow_over_replays() -> None:
    """Of 2,000 steps the second half leaves the process as large as the first."""
    import resource

    procedure = search("static")
    recorder = procedure.recorder
    assert recorder is not None
    archs, batch = procedure.strategy.ask(2000), procedure.task.train_batch(0, 0)
    sizes = []
    for i, arch in enumerate(archs):
        recorder.gradient(arch, batch, 0.0, 1.0)
        recorder.update(procedure.supernet.parameters_of(arch), 0.01)
        if i in (999, 1999):
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert sizes[1] - sizes[0] < 4096  # KiB
