"""This module makes a user's own problem a task: batches of any examples, with the user's loss and
reward.

A batch is `(input, ..., target)` or a mapping, which torch's `default_collate` or the `collate_fn`
of a DataLoader makes from examples. The network is called with the inputs, or with the mapping.
Which examples a batch holds, and which random numbers they draw, is a function of (seed, pass,
step).

An exception inside the network, the loss or the reward becomes a ValueError that names the
architecture, the part and the user's own line.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.blame import Blamed, blamed
from enas.data.examples import Examples, split
from enas.data.parts import PARTS, Part
from enas.data.stream import InOrder, Reader, Shuffled, Stream
from enas.spaces.architecture import Architecture
from enas.tasks.metrics import METRICS
from enas.tasks.problem import Problem
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings
from enas.tasks.task import Batch, Model, Task, sizes

Source = tuple[Examples, Sequence[int]]  # examples, and the indices of those that are used
MOST_CHOICES = 4  # most choices of an architecture that an error names


class Own(Task):
    """An `Own` task makes batches of a problem's examples. `train_on` says which of them count as
    training data."""

    averages = False
    metric = METRICS["score"]  # an instance has the metric of its problem
    worst_reward = -math.inf  # rewards may be negative, such as minus a loss

    def __init__(
        self,
        data: OwnData,
        settings: OwnTaskSettings,
        seed: int = 0,
        device: torch.device | str = "cpu",
        train_on: str = "train",
    ):
        self.problem, self.settings, self.seed, self.device = data.problem, settings, seed, torch.device(device)
        self.metric = METRICS[settings.metric]  # type: ignore[misc]
        self.dimensions: dict[str, int] = {}
        self.parts = dict(data.parts)
        if train_on == "train+validation":
            self.parts["train"] = _together([*self.parts["train"], *self.parts["validation"]])
        self.weights = self._weights()
        self.lost, self.whole = _loss(data.problem.loss, self.weights)
        readers = {part: Reader(sources, seed) for part, sources in self.parts.items()}
        self.readers, n, m = readers, self.size("train"), self.size("validation")
        order = Shuffled("train", n, settings.batch_size, self.train_steps, seed, readers["train"].ordered)
        self._training = Stream(readers["train"], order, settings.workers)
        size = min(settings.reward_batch, m)
        order = Shuffled("validation", m, size, m // size, seed, readers["validation"].ordered)
        self._rewarding = Stream(readers["validation"], order, settings.workers)
        self.about = self._about(data.about)

    def size(self, part: Part) -> int:
        """Returns the number of examples of a part."""
        return sum(len(indices) for _, indices in self.parts[part])

    def _about(self, more: Sequence[str]) -> str:
        sizes = " / ".join(f"{self.size(part):,}" for part in PARTS)
        settings, steps = self.settings, self.train_steps
        notes = [f"batches of {settings.batch_size}, {steps:,} {'step' if steps == 1 else 'steps'} a pass", *more]
        if self._training.workers:
            notes.append(
                f"read ahead by {self._training.workers} {'process' if self._training.workers == 1 else 'processes'}"
            )
        if settings.class_weights != "none":
            notes.append(f"{settings.class_weights} class weights")
        name = self.problem.path or "a problem"
        return f"{name}: {sizes} examples to train, validate and test on ({'; '.join(notes)})"

    def _weights(self) -> Tensor | None:
        """Returns the weight of each class, (classes,), by how often it is trained on. Returns None
        where all classes count alike. Raises a ValueError where the classes are not known, or the
        loss takes no weights."""
        if self.settings.class_weights == "none":
            return None
        if "weight" not in _parameters(self.problem.loss):
            raise ValueError(
                "task.class_weights balanced gives the loss an argument `weight`, as cross_entropy has; this one has none"
            )
        found = [(examples.labels, indices) for examples, indices in self.parts["train"]]
        known = [labels[torch.as_tensor(indices)] for labels, indices in found if labels is not None]
        if len(known) < len(found):
            raise ValueError(
                "task.class_weights balanced needs a class per example that is known before they are read: targets that"
                " are whole numbers, in a tensor, a list, a column, or the attribute `targets` of a Dataset"
            )
        labels = torch.cat(known)
        counts = torch.bincount(labels, minlength=max(int(labels.max()) for labels, _ in found if labels is not None) + 1)
        weights = len(labels) / ((counts > 0).sum() * counts.clamp(min=1))
        return weights.float().to(self.device)

    # ------------------------------------------------------------------------------------ training
    @property
    def train_steps(self) -> int:
        """Returns the number of steps of one pass. A last batch of a single example is left out,
        because batch norm needs more."""
        full, rest = divmod(self.size("train"), self.settings.batch_size)
        return max(1, full + (rest > 1))

    def train_batch(self, epoch: int, step: int) -> Batch:
        """Returns batch `step` of pass `epoch`."""
        return _to(self._training[epoch * self.train_steps + step], self.device)

    def first_inputs(self, n: int) -> tuple[Any, ...]:
        """Returns the inputs of a model for the first n training examples. Raises a ValueError
        where there are fewer."""
        if n > self.size("train"):
            raise ValueError(f"a batch has {self.size('train'):,} training examples at most here; got {n:,}")
        batch = _to(self.readers["train"].read((("first", 0), range(n))), self.device)
        return (batch,) if isinstance(batch, Mapping) else tuple(batch[:-1])

    def loss(self, model: Model, arch: Architecture | None, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        """Returns the problem's loss of a batch."""
        return self._loss(model, arch, batch, progress=progress)

    def _loss(self, model: Model, arch: Architecture | None, batch: Batch, **keywords: float) -> Tensor:
        *inputs, target = (batch, batch) if isinstance(batch, Mapping) else batch
        if isinstance(batch, Mapping) and self.problem.loss is F.cross_entropy:
            raise Blamed(
                "examples are mappings: name the key of the target, such as Problem(target='label'), or give a"
                " loss(output, batch)"
            )
        output = self._called(model, arch, **keywords)(*inputs)
        if self.weights is not None and self.problem.loss is F.cross_entropy:
            self._check_classes(output, len(self.weights))
        with blamed(f"{_named(model, arch)}: the loss"):
            loss = self.lost(output, batch if self.whole else target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise Blamed(f"the loss is a tensor of one number; got {what}")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise Blamed(f"{_named(model, arch)}: the loss depends on no parameter, so nothing can be trained")
        return loss.reshape(())

    def _check_classes(self, output: Any, classes: int) -> None:
        """Raises an error where an output, (n, C, ...), has other classes than the weights."""
        if isinstance(output, Tensor) and output.ndim > 1 and output.shape[1] != classes:
            raise Blamed(
                f"task.class_weights balanced weighs {classes} classes, which the training examples have, and the network"
                f" has logits for {output.shape[1]}: give it {classes}, or leave out class_weights"
            )

    def _called(self, model: Model, arch: Architecture | None, **keywords: float) -> Callable[..., Any]:
        """Returns the model of an architecture as a function of the inputs."""

        def call(*inputs: Any) -> Any:
            with blamed(f"{_named(model, arch)}: the model"):
                return model(*inputs, arch, **keywords)

        return call

    def cut(self, batch: Batch, k: int) -> list[tuple[float, Batch]]:
        """Returns the batch in parts, each with its weight. A part weighs as much as its share of
        the examples, as in a loss that is a mean over examples. Raises a ValueError where a batch
        is not made of tensors."""
        n = _length(batch)
        lengths = sizes(n, k)
        return [(length / n, piece) for length, piece in zip(lengths, _cut(batch, lengths), strict=True)]

    # ------------------------------------------------------------------------------------- scoring
    def reward_batch(self, step: int) -> Batch:
        """Returns the validation minibatch of controller step `step`, which is counted over the
        search."""
        return _to(self._rewarding[step], self.device)

    @torch.no_grad()
    def reward(self, model: Model, arch: Architecture | None, batch: Batch) -> float:
        """Returns the problem's reward, or the worst one where it is not finite. The model is left
        in evaluation mode."""
        model.eval()
        return self._reward(model, arch, [batch])

    def _reward(self, model: Model, arch: Architecture | None, batches: Any) -> float:
        with blamed(f"{_named(model, arch)}: the reward"):
            value = float(self.problem.reward(self._called(model, arch), batches))
        return value if math.isfinite(value) else self.worst_reward  # of NaN and infinity, too

    @torch.no_grad()
    def evaluate(self, model: Model, arch: Architecture | None, part: Part) -> dict[str, float]:
        """Returns the metric, the mean loss per example and the reward over a part, in evaluation
        mode."""
        model.eval()
        batches = Whole(
            functools.partial(self._batches, part),
            lambda batch: float(self._loss(model, arch, batch)),
            [end - begin for begin, end in self.in_order(part).bounds],
        )
        reward = self._reward(model, arch, batches)
        return {self.metric.name: reward, "loss": batches.mean(), "reward": reward}

    def probabilities(self, model: Model, arch: Architecture | None, part: Part) -> Tensor:
        """Raises a ValueError, because outputs of a user's own network need not be
        probabilities."""
        raise ValueError("an ensemble averages probabilities, which a problem of your own need not have")

    def judged(self, probabilities: Tensor, part: Part) -> dict[str, float]:
        """Raises a ValueError, as `probabilities` does."""
        raise ValueError("an ensemble averages probabilities, which a problem of your own need not have")

    def diverged(self, loss: float) -> bool:
        """Returns whether a loss is not finite. How large a user's loss may be is not known."""
        return not math.isfinite(loss)

    def _batches(self, part: Part) -> Iterator[Batch]:
        """Yields a whole part in its order. No batch is a single example."""
        order = self.in_order(part)
        for batch in Stream(self.readers[part], order, self.settings.workers, len(order.bounds)):
            yield _to(batch, self.device)

    def in_order(self, part: Part) -> InOrder:
        """Returns the order in which a whole part is scored."""
        return InOrder(part, self.size(part), self.settings.eval_batch)


class Whole:
    """A `Whole` object holds batches that every loop over it reads anew, and the number of examples
    of each. The first loop that ends also measures them."""

    def __init__(self, read: Callable[[], Iterator[Batch]], measure: Callable[[Batch], float], sizes: Sequence[int]):
        self.read, self.measure, self.sizes = read, measure, sizes
        self.figures: list[float] | None = None

    def __iter__(self) -> Iterator[Batch]:
        figures = []
        for batch in self.read():
            if self.figures is None:
                figures.append(self.measure(batch))
            yield batch
        self.figures = self.figures or figures

    def mean(self) -> float:
        """Returns the mean of the measured figures, in which each example counts alike. Reads the
        batches where no loop has ended yet."""
        if self.figures is None:
            for _ in self:
                pass
        assert self.figures is not None
        return sum(n * figure for n, figure in zip(self.sizes, self.figures, strict=True)) / sum(self.sizes)


# ---------------------------------------------------------------------------- parts of the problem
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    function = function.forward if isinstance(function, nn.Module) else function
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return {}


def _loss(loss: Callable[..., Any], weights: Tensor | None) -> tuple[Callable[..., Any], bool]:
    """Returns the loss with its class weights, and whether it is given the whole batch."""
    whole = "batch" in _parameters(loss)
    return (loss if weights is None else functools.partial(loss, weight=weights)), whole


def _named(model: Model, arch: Architecture | None) -> str:
    """Returns an architecture in words, with its first choices."""
    arch = arch or getattr(model, "architecture", None)
    if arch is None:
        return "the network"
    choices = [f"{name} = {'+'.join(a) if isinstance(a, tuple) else a}" for name, a in arch.choices.items()]
    more = [f"{len(choices) - MOST_CHOICES} more"] if len(choices) > MOST_CHOICES else []
    return f"architecture {arch.id} ({', '.join(choices[:MOST_CHOICES] + more)})"


def _to(batch: Any, device: torch.device) -> Any:
    """Returns a batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    return tuple(_to(value, device) for value in batch) if isinstance(batch, list | tuple) else batch


def _length(batch: Any) -> int:
    """Returns the number of examples of a batch, by its first tensor. Returns 1 where it has
    none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((n for n in map(_length, values) if n > 1), 1)


def _cut(batch: Any, lengths: list[int]) -> list[Any]:
    """Returns a batch in parts of these sizes."""
    if len(lengths) == 1:
        return [batch]
    if isinstance(batch, Mapping):
        pieces = {key: _cut(value, lengths) for key, value in batch.items()}
        return [{key: pieces[key][i] for key in pieces} for i in range(len(lengths))]
    if isinstance(batch, list | tuple):
        return list(zip(*(_cut(value, lengths) for value in batch), strict=True))
    if not isinstance(batch, Tensor) or not batch.dim() or len(batch) != sum(lengths):
        what = f"a tensor of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(
            f"a batch of {sum(lengths)} examples that is cut into parts holds tensors of as many rows; got {what}"
        )
    return list(batch.split(lengths))


class OwnData:
    """An `OwnData` value holds the examples of a problem in three parts. Each part is a list of
    examples with the indices of those that belong to it."""

    def __init__(self, problem: Problem, settings: OwnDataSettings):
        given, train = problem.examples, problem.examples["train"]
        shares = [0 if "validation" in given else settings.validation, 0 if "test" in given else settings.test]
        labels = train.labels if any(shares) else None
        indices = dict(zip(PARTS, split(len(train), shares, seed=0, labels=labels), strict=True))
        if len(indices["train"]) < 2:
            raise ValueError(f"the examples to train on are too few to keep some back: {len(train)}")
        self.problem, self.name = problem, problem.path
        self.parts: dict[Part, list[Source]] = {}
        for part in PARTS:
            own = part == "train" or part not in given
            examples = train if own else given[part]
            self.parts[part] = _together([(examples, indices[part] if own else range(len(examples)))])
            if not self.size(part):
                raise ValueError(f"{part} holds no example; give it some, or keep back more of train")
        self.about = self._about(shares, labels)

    def size(self, part: Part) -> int:
        return sum(len(indices) for _, indices in self.parts[part])

    def _about(self, shares: Sequence[float], labels: Tensor | None) -> list[str]:
        names = [name for share, name in zip(shares, ("validation", "test"), strict=True) if share]
        notes = []
        if names:
            by = f" split by class ({len(labels.unique())} of them)" if labels is not None else ""
            percent = " and ".join(f"{100 * share:g} %" for share in shares if share)
            notes.append(f"{percent} of train for {' and '.join(names)}{by or ', drawn at random'}")
        examples = [examples for sources in self.parts.values() for examples, _ in sources]
        if any(e.ordered for e in examples):
            notes.append("read in the order in which it comes")
        return notes + [note for e in dict.fromkeys(examples) for note in e.about]


def _together(sources: Sequence[Source]) -> list[Source]:
    """Returns sources in which those of the same examples are joined. Indices are sorted where the
    examples are read in order."""
    merged: dict[Examples, list[int]] = {}
    for examples, indices in sources:
        merged[examples] = [*merged.get(examples, ()), *indices]
    return [(examples, sorted(indices) if examples.ordered else indices) for examples, indices in merged.items()]
