"""A user's own problem as a task: batches of any examples, a loss and a reward of the user's.

A batch is `(input, ..., target)` or a mapping, as torch's `default_collate` makes it of examples.
The network is called with the inputs, or with the mapping. Which examples a batch holds is a
function of (seed, epoch, step); so are random numbers of torch's that an example draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from enas.data.parts import PARTS, Part
from enas.spaces.architecture import Architecture
from enas.state import seed_of, seeded
from enas.tasks.metrics import METRICS
from enas.tasks.problem import Examples, Problem, size_of, split
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings
from enas.tasks.task import Batch, Model, Task


class Own(Task):
    """Batches of a problem's examples. `train_on` says which of them count as training data."""

    metric = METRICS["score"]  # of the class; that of an instance is its problem's

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
            self.parts["train"] = self.parts["train"] + self.parts["validation"]
        sizes = " / ".join(f"{self.size(part):,}" for part in PARTS)
        self.about = f"{data.problem.path or 'a problem'}: {sizes} examples to train, validate and test on"
        self._order: tuple[object, list[int]] = (None, [])

    def size(self, part: Part) -> int:
        return sum(len(indices) for _, indices in self.parts[part])

    # ------------------------------------------------------------------------------------ training
    @property
    def train_steps(self) -> int:
        """Steps of one pass. A last single example is left out: batch norm needs more."""
        full, rest = divmod(self.size("train"), self.settings.batch_size)
        return max(1, full + (rest > 1))

    def train_batch(self, epoch: int, step: int) -> Batch:
        """Returns batch `step` of pass `epoch`."""
        size = self.settings.batch_size
        places = self._permutation("train", epoch)[step * size : (step + 1) * size]
        with seeded(self.seed, "examples", epoch, step):
            return self._batch("train", places)

    def loss(self, model: Model, arch: Architecture | None, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        """Returns the problem's loss of a batch."""
        return self._loss(lambda *inputs: model(*inputs, arch, progress=progress), batch)

    def _loss(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        if isinstance(batch, Mapping):
            return self.problem.loss(model(batch), batch)
        *inputs, target = batch
        return self.problem.loss(model(*inputs), target)

    # ------------------------------------------------------------------------------------- scoring
    def reward_batch(self, step: int) -> Batch:
        """Returns the validation minibatch of controller step `step`, counted over the search."""
        size = min(self.settings.reward_batch, self.size("validation"))
        turn, place = divmod(step, self.size("validation") // size)
        return self._batch("validation", self._permutation("validation", turn)[place * size : (place + 1) * size])

    @torch.no_grad()
    def reward(self, model: Model, arch: Architecture | None, batch: Batch) -> float:
        """Returns the problem's reward; where that is not finite, the worst. Leaves the model in
        evaluation mode."""
        return self._reward(model, arch, [batch])

    def _reward(self, model: Model, arch: Architecture | None, batches: Sequence[Batch]) -> float:
        model.eval()
        value = float(self.problem.reward(lambda *inputs: model(*inputs, arch), batches))
        return value if math.isfinite(value) else self.worst_reward

    @torch.no_grad()
    def evaluate(self, model: Model, arch: Architecture | None, part: Part) -> dict[str, float]:
        """Returns the metric, the mean loss and the reward over a part, in evaluation mode."""
        model.eval()
        batches = list(self._batches(part))
        losses = [float(self._loss(lambda *inputs: model(*inputs, arch), batch)) for batch in batches]
        reward = self._reward(model, arch, batches)
        return {self.metric.name: reward, "loss": sum(losses) / len(losses), "reward": reward}

    def probabilities(self, model: Model, arch: Architecture | None, part: Part) -> Tensor:
        """ValueError: outputs of a user's own network need not be probabilities."""
        raise ValueError("an ensemble averages probabilities, which a problem of your own need not have")

    def judged(self, probabilities: Tensor, part: Part) -> dict[str, float]:
        """ValueError, as `probabilities`."""
        raise ValueError("an ensemble averages probabilities, which a problem of your own need not have")

    def diverged(self, loss: float) -> bool:
        """Returns whether a loss is not finite: how large one may be, nobody knows."""
        return not math.isfinite(loss)

    # ------------------------------------------------------------------------------------- batches
    def _batches(self, part: Part) -> Iterator[Batch]:
        """Yields a whole part in its order; no batch is a single example."""
        n, size = self.size(part), self.settings.eval_batch
        ends = list(range(size, n - 1, size))
        for start, end in zip([0, *ends], [*ends, n], strict=True):
            yield self._batch(part, range(start, end))

    def _batch(self, part: Part, places: Sequence[int]) -> Batch:
        (examples, indices), *others = self.parts[part]
        if isinstance(examples, tuple) and not others:
            taken = torch.tensor([indices[place] for place in places])
            return tuple(tensor[taken].to(self.device) for tensor in examples)
        items = []
        for place in places:
            for examples, indices in self.parts[part]:
                if place < len(indices):
                    index = indices[place]
                    items.append(tuple(t[index] for t in examples) if isinstance(examples, tuple) else examples[index])
                    break
                place -= len(indices)
        return _to(default_collate(items), self.device)

    def _permutation(self, part: Part, turn: int) -> list[int]:
        key = (part, turn)
        if self._order[0] != key:
            generator = torch.Generator().manual_seed(seed_of(self.seed, "order", part, turn))
            self._order = (key, torch.randperm(self.size(part), generator=generator).tolist())
        return self._order[1]


def _to(batch: Any, device: torch.device) -> Any:
    """Returns a batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    return tuple(_to(value, device) for value in batch) if isinstance(batch, list | tuple) else batch


class OwnData:
    """The examples of a problem in three parts: each is a list of examples and which of them."""

    def __init__(self, problem: Problem, settings: OwnDataSettings):
        shares = [0 if problem.valid is not None else settings.validation, 0 if problem.test is not None else settings.test]
        train, valid, test = split(size_of(problem.train), shares, seed=0)
        if len(train) < 2:
            raise ValueError(f"the examples to train on are too few to keep some back: {size_of(problem.train)}")
        self.problem, self.name = problem, problem.path
        self.parts: dict[Part, list[tuple[Examples, Sequence[int]]]] = {
            "train": [(problem.train, train)],
            "validation": [_whole(problem.valid) if problem.valid is not None else (problem.train, valid)],
            "test": [_whole(problem.test) if problem.test is not None else (problem.train, test)],
        }


def _whole(examples: Examples) -> tuple[Examples, Sequence[int]]:
    return examples, range(size_of(examples))
