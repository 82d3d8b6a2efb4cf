"""Rewards for problems of a user's own: `reward(model, batches) -> float`, larger is better.

A reward reads whole batches, so it may be anything: F1, the exact match, the negative of a loss.
`metric` says under which name its figures are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Model = Callable[..., Any]


def accuracy(model: Model, batches: Iterable[Any]) -> float:
    """Returns the share of targets whose class has the largest output, 0 to 1."""
    right = total = 0
    for *inputs, target in batches:
        hits = model(*inputs).argmax(1) == target
        right, total = right + int(hits.sum()), total + hits.numel()
    return right / total


def minus(loss: Callable[[Any, Any], Tensor]) -> Callable[[Model, Iterable[Any]], float]:
    """Returns the reward that is the negative of a mean loss, such as `minus(F.mse_loss)`."""

    def reward(model: Model, batches: Iterable[Any]) -> float:
        losses, sizes = [], []
        for *inputs, target in batches:
            losses.append(float(loss(model(*inputs), target)) * len(target))
            sizes.append(len(target))
        return -sum(losses) / sum(sizes)

    return reward


def f1(model: Model, batches: Iterable[Any]) -> float:
    """Returns the mean F1 over classes (macro), 0 to 1."""
    predicted, targets = [], []
    for *inputs, target in batches:
        predicted.append(model(*inputs).argmax(1))
        targets.append(target)
    p, t = torch.cat(predicted), torch.cat(targets)
    scores = []
    for kind in t.unique():
        hits = int(((p == kind) & (t == kind)).sum())
        scores.append(2 * hits / (int((p == kind).sum()) + int((t == kind).sum())))
    return sum(scores) / len(scores)


accuracy.metric = "accuracy"  # type: ignore[attr-defined]
