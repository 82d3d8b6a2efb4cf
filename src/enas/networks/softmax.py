"""This module holds the end of a language model: a softmax over all words, tied to the embeddings
(Inan et al. 2017).

The logits of a window are by far its largest tensor (35 x 64 x 10,000 are 90 MB). So a model
returns what the logits are made from. On a CPU, loss and gradients are computed some rows at a
time, in memory that stays in the cache.

In shapes, N is the number of tokens, H of hidden units and V of words. hidden is (N, H), words (V,
H), bias (V,), and targets (N,) int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.kernels import Context

ROWS = 128  # number of rows of logits that are computed at a time


@dataclass(frozen=True)
class TiedSoftmax:
    """A `TiedSoftmax` holds logits that are not computed yet."""

    hidden_TBH: Tensor
    words: Tensor
    bias: Tensor | None

    @property
    def logits_TBV(self) -> Tensor:
        """Returns the logits of all words, (T, B, V)."""
        return F.linear(self.hidden_TBH, self.words, self.bias)

    def cross_entropy(self, y_TB: Tensor) -> Tensor:
        """Returns the mean loss over all tokens, in nats."""
        hidden, y = self.hidden_TBH.flatten(0, 1), y_TB.flatten()
        if hidden.is_cuda:
            return F.cross_entropy(F.linear(hidden, self.words, self.bias), y)
        loss: Tensor = _CrossEntropy.apply(hidden, self.words, self.bias, y)
        return loss

    @torch.no_grad()
    def losses(self, y_TB: Tensor, ignored: int = -100) -> Tensor:
        """Returns the loss of each token (T B,) in nats, and 0 where the target is `ignored`."""
        hidden, y = self.hidden_TBH.flatten(0, 1), y_TB.flatten()
        out = [
            F.cross_entropy(F.linear(rows, self.words, self.bias).float(), targets, reduction="none", ignore_index=ignored)
            for rows, targets in zip(hidden.split(ROWS), y.split(ROWS), strict=True)
        ]
        return torch.cat(out)


class LanguageModelOutputs(NamedTuple):
    """A `LanguageModelOutputs` value is what a language model returns for a window."""

    softmax: TiedSoftmax
    outputs_TBH: Tensor  # outputs of the last layer
    dropped_TBH: Tensor  # the same after dropout

    @property
    def logits_TBV(self) -> Tensor:
        """Returns the logits of all words, (T, B, V)."""
        return self.softmax.logits_TBV


class _CrossEntropy(torch.autograd.Function):
    """This function computes the gradients in its forward, while a few rows of probabilities are in
    the cache."""

    @staticmethod
    def forward(ctx: Context, hidden: Tensor, words: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
        N, V = len(y), len(words)
        wanted = any(ctx.needs_input_grad)
        turned = words.t().contiguous()  # a product with a transposed right operand is slower
        buffer = hidden.new_empty(min(ROWS, N), V)
        dhidden, dwords, dbias = torch.empty_like(hidden), torch.zeros_like(words), hidden.new_zeros(V)
        total = hidden.new_zeros(())
        for start in range(0, N, ROWS):
            rows, targets = hidden[start : start + ROWS], y[start : start + ROWS, None]
            z = buffer[: len(rows)]
            if bias is None:
                torch.mm(rows, turned, out=z)
            else:
                torch.addmm(bias, rows, turned, out=z)
            z -= z.amax(1, keepdim=True)
            picked = z.gather(1, targets)
            sums = z.exp_().sum(1, keepdim=True)
            total += (sums.log() - picked).sum()
            if wanted:
                z /= sums * N
                z.scatter_add_(1, targets, torch.full_like(sums, -1 / N))
                torch.mm(z, words, out=dhidden[start : start + ROWS])
                dwords.addmm_(z.t(), rows)
                dbias += z.sum(0)
        ctx.save_for_backward(dhidden, dwords, dbias)
        return total / N

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        needed = ctx.needs_input_grad
        return (*(g * grad if n else None for g, n in zip(gradients, needed[:3], strict=True)), None)
