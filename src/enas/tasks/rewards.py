"""This module holds rewards for problems of a user's own: `reward(model, batches) -> float`, where
larger is better.

A reward reads whole batches, so it may be anything: F1, the exact match, the negative of a loss.
`metric` says under which name its figures are shown. `of` makes a reward from any function of
outputs and targets. A batch is `(input, ..., target)`.

In shapes, n is the number of examples and C of classes. Outputs are the logits that `cross_entropy`
takes, (n, C, ...) with at least two classes, and not probabilities. Targets are classes, (n, ...).
A target of -100 does not count, as in `cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Model = Callable[..., Any]
Reward = Callable[[Model, Iterable[Any]], float]
IGNORED = -100


def accuracy(model: Model, batches: Iterable[Any]) -> float:
    """Returns the share of targets, (n, ...), whose class has the largest output, 0 to 1."""
    right = total = 0
    for output, target in _pairs(model, batches):
        counted = target != IGNORED
        right += int(((_largest(output) == target) & counted).sum())
        total += int(counted.sum())
    return right / max(1, total)


def exact_match(model: Model, batches: Iterable[Any]) -> float:
    """Returns the share of examples, 0 to 1, for which every target, (n, ...), has the largest
    output."""
    right = total = 0
    for output, target in _pairs(model, batches):
        hits = (_largest(output) == target) | (target == IGNORED)
        right += int(hits.reshape(len(target), -1).all(1).sum())
        total += len(target)
    return right / total


def f1(model: Model, batches: Iterable[Any]) -> float:
    """Returns the mean F1 over the classes among the targets (macro), 0 to 1."""
    both, predicted, targets = _counts(model, batches)
    return float((2 * both / (predicted + targets))[targets > 0].mean())


def iou(model: Model, batches: Iterable[Any]) -> float:
    """Returns the mean over classes of intersection over union, 0 to 1, for maps such as
    segmentations. Outputs are (n, C, height, width) and targets (n, height, width). Classes that
    are neither predicted nor among the targets do not count."""
    both, predicted, targets = _counts(model, batches)
    union = predicted + targets - both
    return float((both / union)[union > 0].mean())


def auc(model: Model, batches: Iterable[Any]) -> float:
    """Returns the area under the ROC curve, 0 to 1, computed from ranks. Returns 0.5 where there is
    only one class.

    Outputs (n,) or (n, 1) score class 1 of two. Outputs (n, C) score each class against the rest,
    by its probability, and the mean over classes counts (macro).
    """
    from scipy.stats import rankdata  # slow to import

    outputs, targets = _gathered(model, batches)
    outputs = outputs.double().reshape(len(targets), -1)
    if outputs.shape[1] > 1:
        outputs = outputs.log_softmax(1)
        outputs = outputs[:, 1:] if outputs.shape[1] == 2 else outputs
    first = 0 if outputs.shape[1] > 1 else 1  # the class of the first column
    areas = []
    for column in range(outputs.shape[1]):
        of_class = (targets == column + first).numpy()
        n, others = int(of_class.sum()), int((~of_class).sum())
        if n and others:
            ranks = rankdata(outputs[:, column].numpy())
            areas.append((ranks[of_class].sum() - n * (n + 1) / 2) / (n * others))
    return float(sum(areas) / len(areas)) if areas else 0.5


def of(metric: Callable[[Tensor, Tensor], Any]) -> Reward:
    """Returns the reward `metric(outputs, targets)`, computed on all batches put together, both on
    the CPU. Such a reward is

        enas.rewards.of(lambda outputs, targets: cohen_kappa_score(targets, outputs.argmax(1)))
    """

    def reward(model: Model, batches: Iterable[Any]) -> float:
        return float(metric(*_gathered(model, batches)))

    return reward


def minus(loss: Callable[[Any, Any], Tensor]) -> Reward:
    """Returns a reward that is the negative of a mean loss, such as `minus(F.mse_loss)`."""

    def reward(model: Model, batches: Iterable[Any]) -> float:
        losses, sizes = [], []
        for output, target in _pairs(model, batches):
            losses.append(float(loss(output, target)) * len(target))
            sizes.append(len(target))
        return -sum(losses) / sum(sizes)

    return reward


accuracy.metric = "accuracy"  # type: ignore[attr-defined]


def _pairs(model: Model, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yields outputs and targets. Raises a ValueError for mappings, whose target is not known."""
    for batch in batches:
        if isinstance(batch, Mapping):
            raise ValueError(
                "this reward reads batches of (input, ..., target), and examples are mappings: name the key of the target,"
                " such as Problem(target='label'), or give a reward of your own"
            )
        *inputs, target = batch
        yield model(*inputs), target


def _largest(output: Tensor) -> Tensor:
    """Returns the class with the largest output, (n, ...). Raises a ValueError where there is one
    class only, which would always be it."""
    if output.ndim < 2 or output.shape[1] < 2:
        raise ValueError(
            f"this reward compares logits of two classes or more, (n, C, ...); got outputs of shape {tuple(output.shape)}:"
            " take another reward, such as enas.rewards.auc, minus(loss) or of(metric)"
        )
    return output.argmax(1)


def _gathered(model: Model, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*((o.detach().cpu(), t.cpu()) for o, t in _pairs(model, batches)), strict=True)
    return torch.cat(outputs), torch.cat(targets)


def _counts(model: Model, batches: Iterable[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns for each class, (C,), three counts: how often it is both predicted and the target,
    how often it is predicted, and how often it is the target."""
    sums = torch.zeros(0)
    for output, target in _pairs(model, batches):
        counted = target != IGNORED
        kinds, goals = _largest(output)[counted].cpu(), target[counted].cpu()
        some = [kinds[kinds == goals], kinds, goals]
        counts = torch.stack([torch.bincount(values, minlength=output.shape[1]) for values in some]).double()
        sums = counts if not len(sums) else sums + counts
    both, predicted, targets = sums
    return both, predicted, targets
