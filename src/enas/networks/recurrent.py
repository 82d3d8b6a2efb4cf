"""This module holds the language model that recurrent cells are put into (paper 2.1, 3.1, appendix
A).

    words -> embedding -> one or more layers of the cell -> softmax, tied to the embedding

All layers run the same cell, each with weights of its own. The softmax is tied as in Inan et al.
2017. Dropout is variational, with one mask per window (Gal & Ghahramani 2016). All nodes share the
mask of the states.

In shapes, T is the number of steps, B of streams, V of words and H of hidden units (also of an
embedding). x is (T, B) int64 and logits are (T, B, V). `outputs` and `dropped` (T, B, H) are those
of the last layer, before and after its dropout. There is a state (B, H) per layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.ops import Statistics
from enas.networks.recurrence.fused import fused
from enas.networks.recurrence.plain import plain
from enas.networks.recurrence.program import ACTIVATIONS, Norm, Program, Result, Window
from enas.networks.recurrence.recorded import recorded
from enas.networks.recurrence.static import static
from enas.networks.settings import RecurrentSettings
from enas.networks.softmax import LanguageModelOutputs, TiedSoftmax
from enas.networks.supernet import Bias, Supernet
from enas.networks.width import widest
from enas.spaces.architecture import Architecture
from enas.spaces.cells import possible_edges
from enas.spaces.space import SearchSpace

States = tuple[Tensor, ...]
COMPUTATIONS: dict[str, Callable[[Window], Result]] = {
    "plain": plain,
    "fused": fused,
    "static": static,
    "recorded": recorded,
}


class RecurrentNetwork(Supernet):
    """A `RecurrentNetwork` is the supernet of the recurrent space, or with `only` the child model
    of one cell."""

    def __init__(
        self,
        space: SearchSpace,
        settings: RecurrentSettings,
        vocabulary: int,
        only: Architecture | None = None,
        statistics: Statistics = "batch",
    ):
        super().__init__(space, only, statistics)
        self.settings, self.vocabulary = settings, vocabulary
        (self.cell,) = space.cells
        self._build()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim > 1:
                    parameter.uniform_(-settings.init_range, settings.init_range)
                elif name.endswith("bias"):
                    parameter.zero_()

    # ----------------------------------------------------------------------------------- structure
    def _build(self) -> None:
        s = self.settings
        columns = s.hidden * (2 if s.highway else 1)
        self.provide("words", partial(_Matrix, self.vocabulary, s.hidden))
        if s.softmax_bias:
            self.provide("softmax", partial(Bias, self.vocabulary))
        for layer in range(s.layers):
            for edge in possible_edges(self.cell):
                make: Callable[[], nn.Module] = partial(_Matrix, s.hidden, columns)
                if edge.input in self.cell.inputs:
                    make = partial(_FirstNode, s.hidden, columns)
                self.provide(self.address(edge, layer), make)
            if s.batch_norm:
                make_norm = partial(StepNorm, s.hidden, self.statistics == "running", s.batch_norm_eps)
                self.provide(f"layers.{layer}.norm", make_norm)

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        out = ["words"]
        for layer in range(self.settings.layers):
            out += [self.address(node.edges[0], layer) for node in self.only_cell(arch).nodes]
            out += [f"layers.{layer}.norm"] if self.settings.batch_norm else []
        return [*out, "softmax"] if self.settings.softmax_bias else out

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> RecurrentNetwork:
        return RecurrentNetwork(self.space, self.settings, self.vocabulary, only, statistics)

    def initial_state(self, batch: int) -> States:
        """Returns a state of zeros, one tensor (B, H) per layer."""
        words = self.at("words").weight
        return tuple(words.new_zeros(batch, self.settings.hidden) for _ in range(self.settings.layers))

    # ------------------------------------------------------------------------------------- forward
    def forward(
        self, x_TB: Tensor, arch: Architecture | None = None, state: States | None = None, progress: float = 1.0
    ) -> tuple[LanguageModelOutputs, States]:
        """Runs a window, and returns its outputs and the state after it. A state of None stands for
        zeros. Nothing depends on `progress`. Raises a ValueError where `computation` does not know
        an activation."""
        s, wired = self.settings, self.only_cell(self.architecture(arch))
        program = Program.of(wired, s.highway)
        fastest = "recorded" if x_TB.is_cuda else "fused"
        # A hand-written backward knows only these activations; `plain` uses autograd's.
        fastest = fastest if ACTIVATIONS.keys() >= set(program.ops) else "plain"
        name = fastest if s.computation == "auto" else s.computation
        if fastest == "plain" and name != "plain":
            raise ValueError(
                f"network.computation '{name}' has no activations but {', '.join(ACTIVATIONS)}: take plain or auto"
            )
        words = self.at("words").weight
        state = self.initial_state(x_TB.shape[1]) if state is None else state
        x = F.embedding(x_TB, words)
        if self.training and s.word_dropout:
            x = x * self._mask(s.word_dropout, self.vocabulary, 1)[x_TB]
        x = self._drop(x, s.embedding_dropout)
        after = []
        for layer, before in enumerate(state):
            first, *others = (self.at(self.address(node.edges[0], layer)) for node in wired.nodes)
            from_state = first.weight
            if self.training and s.weight_dropout:
                from_state = F.dropout(from_state, s.weight_dropout)
            mask = self._mask(s.hidden_dropout, *before.shape) if self.training and s.hidden_dropout else None
            norm = self.at(f"layers.{layer}.norm") if s.batch_norm else None
            weights = [from_state, *(node.weight for node in others)]
            x = self._drop(x, s.input_dropout)
            window = Window(program, x, before, mask, norm.norm() if norm else None, first.from_x, weights)
            x, statistics = COMPUTATIONS[name](window)
            if norm:
                norm.seen(statistics)
            after.append(x[-1])
        dropped = self._drop(x, s.output_dropout)
        bias = self.at("softmax").bias if s.softmax_bias else None
        return LanguageModelOutputs(TiedSoftmax(dropped, words, bias), x, dropped), tuple(after)

    def _mask(self, share: float, *shape: int) -> Tensor:
        """Returns a mask that is 0 with probability `share`, and else 1 / (1 - share)."""
        words: Tensor = self.at("words").weight
        return words.new_empty(shape).bernoulli_(1 - share).div_(1 - share)

    def _drop(self, x_TBH: Tensor, share: float) -> Tensor:
        return x_TBH * self._mask(share, *x_TBH.shape[1:]) if self.training and share else x_TBH


def hidden_for(
    parameters: int, space: SearchSpace, arch: Architecture, settings: RecurrentSettings, vocabulary: int
) -> int:
    """Returns the largest number of hidden units with which a child has at most `parameters`
    parameters (paper 3.1: 24 M). Raises a ValueError where even one unit has more."""

    def size(hidden: int) -> int:
        with torch.device("meta"):
            return RecurrentNetwork(space, replace(settings, hidden=hidden), vocabulary, arch).num_parameters()

    return widest(size, parameters, "a cell of one hidden unit")


class StepNorm(nn.Module):
    """A `StepNorm` is the batch norm of a cell's output. It holds its parameters, and in training
    from scratch its running statistics. These are updated once per window, by the mean over its
    steps."""

    num_batches_tracked: Tensor

    def __init__(self, hidden: int, running: bool, eps: float, momentum: float | None = 0.1):
        """Makes the norm. `momentum` is as in torch's batch norms; None means a plain average over
        windows."""
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.zeros(hidden))
        self.momentum, self.running = momentum, running
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.register_buffer("running_mean", torch.zeros(hidden) if running else None)
        self.register_buffer("running_var", torch.ones(hidden) if running else None)
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long) if running else None)

    def reset_running_stats(self) -> None:
        """Sets the running statistics back to their start."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def norm(self) -> Norm:
        """Returns the values that a computation needs."""
        if self.running and not self.training:
            return Norm(self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        return Norm(self.weight, self.bias, eps=self.eps)

    @torch.no_grad()
    def seen(self, statistics: tuple[Tensor, Tensor] | None) -> None:
        """Updates the running statistics with those that a computation returned."""
        if statistics is None or self.running_mean is None or self.running_var is None or not self.training:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(statistics[0], share)
        self.running_var.lerp_(statistics[1], share)


class _Matrix(nn.Module):
    """A `_Matrix` holds the weights that one node has for one input, gates first. It also holds the
    embeddings."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


class _FirstNode(_Matrix):
    """A `_FirstNode` holds the weights of the first node, which reads the previous state by
    `weight`, and the word by `from_x`."""

    def __init__(self, hidden: int, columns: int):
        super().__init__(hidden, columns)
        self.from_x = nn.Parameter(torch.empty(hidden, columns))
