"""This module scores networks before they learn anything, for any space and task.

A score is a function of a child at its first weights and of its task. Larger is taken to be
better. To add one, write it, put it into `SCORES`, and its name into
`enas.procedures.settings.Judge` and `enas.reports.judged.JUDGES`.

`parameters` is the one that others have to beat: on NAS-Bench-201 Kendall's tau is 0.59. `zico`
was chosen because it needs gradients of a loss and nothing else, so that it is defined for every
task, and because it is above parameters on several benchmarks (Li et al. 2023, arXiv 2301.11300).
`expressivity` was chosen because of all that were tried here on NAS-Bench-201 it ranked best (tau
0.72 of 62 cells; AZ-NAS, Lee & Ham 2024, arXiv 2403.19232, section 3.2.1). `progressivity` (section
3.2.2 there) ranks all cells worse, and yet finds the best ones: it is the only one here that
prefers those whose input reaches their output by a skip (docs/log, 2026-11-29).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from enas.networks.image_network import ImageNetwork
from enas.networks.supernet import Supernet
from enas.state import State, seeded
from enas.tasks.task import Task

Score = Callable[[Supernet, Task], float]

BATCHES = 2  # minibatches that gradients are compared over (Li et al. 2023: two)
NOISE = 64  # images of noise that progressivity looks at
SMALL = 1e-12
LOST = -10.0  # nats: below what a block of 20,000 channels can lose


def untrained_score(score: Score, child: Supernet, task: Task, seed: int) -> float:
    """Returns what a score says of a child at its first weights. The task keeps what it remembers
    of earlier batches, which is of another network, to itself."""
    remembered = task.state()
    task.load(State())
    with seeded(seed, "scores"):
        value = score(child, task)
    task.load(remembered)
    return value


def parameters(child: Supernet, task: Task) -> float:
    """Returns the logarithm of the number of parameters."""
    return math.log1p(child.num_parameters(aux=False))


def zico(child: Supernet, task: Task) -> float:
    """Returns the sum over weights of the logarithm of mean / standard deviation of the absolute
    gradient, over two minibatches (Li et al. 2023, eq. 13): how surely, and how much alike, they
    learn."""
    child.train()
    weights = [weight for weight in child.parameters() if weight.ndim > 1]
    found: list[list[Tensor]] = []
    for step in range(BATCHES):
        loss = task.loss(child, None, task.train_batch(0, step % task.train_steps))
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        found.append([torch.zeros(1) if g is None else g.detach().abs().double() for g in gradients])
    total = 0.0
    for several in zip(*found, strict=True):
        together = torch.stack(several)
        mean, deviation = together.mean(0), together.std(0, unbiased=False)
        ratio = float((mean[deviation > 0] / deviation[deviation > 0]).sum())
        total += math.log(ratio) if ratio > 0 and math.isfinite(ratio) else math.log(SMALL)
    return total


def expressivity(child: Supernet, task: Task) -> float:
    """Returns the mean entropy of what the ops of a network give: of the shares of variance along
    the principal directions of their channels, on a minibatch (AZ-NAS, section 3.2.1). 0 where no
    op gives maps, as in a recurrent cell."""
    child.train()
    with torch.no_grad(), _outputs(child) as outputs:
        task.loss(child, None, task.train_batch(0, 0))
    return sum(map(_entropy, outputs)) / max(1, len(outputs))


def progressivity(child: Supernet, task: Task) -> float:
    """Returns by how much the entropy of `expressivity`, of what blocks give, grows at least from
    one block to the next (AZ-NAS, section 3.2.2): whether depth adds something everywhere. It looks
    at images of noise, as published: on real ones it ranks next to nothing (docs/log, 2026-11-29).
    The score is `LOST` where a block gives maps that do not vary, and for what is no network of
    images or has fewer than two blocks."""
    if not isinstance(child, ImageNetwork):
        return LOST
    child.train()
    with torch.no_grad(), child.blocks() as outputs:
        device = next(child.parameters()).device
        child(torch.randn(NOISE, child.channels, child.image_size, child.image_size, device=device))
    entropies = [_entropy(maps) for maps in outputs]
    if len(entropies) < 2 or min(entropies) <= 0:
        return LOST
    return min(after - before for before, after in pairwise(entropies))


def _entropy(maps: Tensor) -> float:
    """Returns the entropy of the variances of maps (B, C, H, W), at most log C."""
    channels = maps.transpose(0, 1).flatten(1).double()
    channels = channels - channels.mean(1, keepdim=True)
    values = torch.linalg.eigvalsh(channels @ channels.t() / channels.shape[1]).clamp(min=0)
    if not bool(torch.isfinite(values).all()) or float(values.sum()) <= SMALL:
        return 0.0
    shares = values / values.sum()
    return float(-(shares * (shares + SMALL).log()).sum())


@contextmanager
def _outputs(child: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the maps that modules without parts of their own's kind give: those at addresses."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            outputs.append(output)

    handles = [module.register_forward_hook(keep) for module in getattr(child, "_at", {}).values()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


SCORES: dict[str, Score] = {
    "parameters": parameters,
    "zico": zico,
    "expressivity": expressivity,
    "progressivity": progressivity,
}
