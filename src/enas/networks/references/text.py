"""This module holds the reference models for Table 1 of the paper: a found cell is compared with
them under the same recipe.

`lstm` has variational dropout and words tied to the softmax (Gal & Ghahramani 2016; Inan et al.
2017). `rhn` is a recurrent highway network of one layer, deep in each step (Zilly et al. 2017).
Both are as large as a budget of parameters allows. They are called as a child model is: `model(x,
None, state, progress)` returns `(logits, outputs, dropped), state`. Peepholes, bidirectional
reading and several layers of highways are left out.

In shapes, T is the number of steps, B of streams, V of words, H of hidden units (also of an
embedding), and D of highway layers per step. x is (T, B) int64, logits are (T, B, V), outputs and
dropped are (T, B, H), and each part of a state is (B, H).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.softmax import LanguageModelOutputs, TiedSoftmax
from enas.networks.width import widest
from enas.ranges import COUNT, POSITIVE, RATE, Settings, check_name, check_ranges
from enas.spaces.architecture import Architecture

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class ReferenceSettings:
    """These settings give depth, dropout and initialisation. The number of hidden units follows
    from the budget."""

    layers: int = 2
    """Layers of the LSTM (Inan et al. 2017: 2)."""
    depth: int = 10
    """Highway layers per step, D (Zilly et al. 2017: 10)."""
    word_dropout: float = 0.0
    """Share of the words whose embedding is zero throughout a window (Gal & Ghahramani 2016)."""
    input_dropout: float = 0.2
    """Dropout of what a layer reads, with one mask per window (Zilly et al. 2017: 0.25)."""
    hidden_dropout: float = 0.25
    """Dropout of the state where the next step reads it (Zilly et al. 2017: 0.25)."""
    output_dropout: float = 0.75
    """Dropout of what the softmax reads (Zilly et al. 2017: 0.75)."""
    init_range: float = 0.04
    """Initial weights are uniform in +- this (paper, appendix A)."""
    carry_bias: float = -2.0
    """Initial bias of highway gates: below zero the state is kept (Zilly et al. 2017)."""

    def __post_init__(self) -> None:
        check_ranges(self, "", layers=COUNT, depth=COUNT, init_range=POSITIVE, word_dropout=RATE)
        check_ranges(self, "", input_dropout=RATE, hidden_dropout=RATE, output_dropout=RATE)


class Reference(nn.Module):
    """A `Reference` model maps words to words, with the same matrix at both ends. What is between
    them is `cells`."""

    def __init__(self, vocabulary: int, hidden: int, settings: ReferenceSettings):
        super().__init__()
        self.vocabulary, self.hidden, self.settings = vocabulary, hidden, settings
        self.words = nn.Parameter(torch.empty(vocabulary, hidden))
        self.word_bias = nn.Parameter(torch.zeros(vocabulary))

    @classmethod
    @abstractmethod
    def size(cls, vocabulary: int, hidden: int, settings: ReferenceSettings) -> int:
        """Returns the number of parameters with `hidden` hidden units."""

    @abstractmethod
    def cells(self, inputs_TBH: Tensor, state: States) -> tuple[Tensor, States]:
        """Returns the outputs (T, B, H) of the last layer, and the state after the last step."""

    @abstractmethod
    def initial_state(self, batch: int) -> States:
        """Returns a state of zeros for a batch of streams."""

    def initialise(self) -> None:
        """Draws matrices uniformly and sets biases to zero (paper, appendix A)."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.uniform_(parameter, -self.settings.init_range, self.settings.init_range)
            else:
                nn.init.zeros_(parameter)

    def forward(
        self, x_TB: Tensor, arch: Architecture | None = None, state: States | None = None, progress: float = 1.0
    ) -> tuple[LanguageModelOutputs, States]:
        """Runs a window as a child model does. `arch` is None, a state of None stands for zeros,
        and `progress` is not used."""
        assert arch is None
        inputs_TBH = F.embedding(x_TB, self.words)
        if self.training and self.settings.word_dropout:
            inputs_TBH = inputs_TBH * self.mask(self.settings.word_dropout, self.vocabulary, 1)[x_TB]
        outputs_TBH, state = self.cells(inputs_TBH, self.initial_state(x_TB.shape[1]) if state is None else state)
        dropped_TBH = self.drop(outputs_TBH, self.settings.output_dropout)
        return LanguageModelOutputs(TiedSoftmax(dropped_TBH, self.words, self.word_bias), outputs_TBH, dropped_TBH), state

    def mask(self, share: float, *shape: int) -> Tensor:
        """Returns a mask that is 0 with probability `share`, and else 1 / (1 - share)."""
        return self.words.new_empty(shape).bernoulli_(1 - share).div_(1 - share)

    def drop(self, x_TBH: Tensor, share: float) -> Tensor:
        """Returns x after variational dropout, with one mask for all steps."""
        return x_TBH * self.mask(share, *x_TBH.shape[1:]) if self.training and share else x_TBH

    def state_mask(self, batch: int) -> Tensor | float:
        """Returns the mask (B, H) of the state for one window, or 1 where there is no dropout."""
        share = self.settings.hidden_dropout
        return self.mask(share, batch, self.hidden) if self.training and share else 1.0

    def num_parameters(self, arch: Architecture | None = None, aux: bool = True) -> int:
        """Returns the number of parameters. The words count once."""
        return sum(parameter.numel() for parameter in self.parameters())


class LSTMReference(Reference):
    """An `LSTMReference` is like torch's `nn.LSTM` with one bias per gate, and dropout as in Gal &
    Ghahramani 2016."""

    def __init__(self, vocabulary: int, hidden: int, settings: ReferenceSettings):
        super().__init__(vocabulary, hidden, settings)
        H, layers = hidden, settings.layers
        self.from_input = nn.ParameterList(nn.Parameter(torch.empty(4 * H, H)) for _ in range(layers))
        self.from_state = nn.ParameterList(nn.Parameter(torch.empty(4 * H, H)) for _ in range(layers))
        self.bias = nn.ParameterList(nn.Parameter(torch.empty(4 * H)) for _ in range(layers))
        self.initialise()

    @classmethod
    def size(cls, vocabulary: int, hidden: int, settings: ReferenceSettings) -> int:
        return vocabulary * (hidden + 1) + settings.layers * (8 * hidden**2 + 4 * hidden)

    def initial_state(self, batch: int) -> States:
        return (self.words.new_zeros(batch, self.hidden),) * (2 * self.settings.layers)

    def cells(self, inputs_TBH: Tensor, state: States) -> tuple[Tensor, States]:
        after: list[Tensor] = []
        weights = zip(self.from_input, self.from_state, self.bias, state[0::2], state[1::2], strict=True)
        for from_input, from_state, bias, h, c in weights:
            # what the layer reads of its input, for all steps
            read = F.linear(self.drop(inputs_TBH, self.settings.input_dropout), from_input, bias)
            mask = self.state_mask(h.shape[0])
            outputs = []
            for gates in read.unbind(0):
                i, f, g, o = (gates + F.linear(h * mask, from_state)).chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            inputs_TBH = torch.stack(outputs)
            after += [h, c]
        return inputs_TBH, tuple(after)


class HighwayReference(Reference):
    """A `HighwayReference` computes s = g * tanh(...) + (1 - g) * s, D times per step. The first of
    these reads the input (Zilly et al. 2017, Eq. 6 to 9, with the carry gate 1 - g)."""

    def __init__(self, vocabulary: int, hidden: int, settings: ReferenceSettings):
        super().__init__(vocabulary, hidden, settings)
        H, D = hidden, settings.depth
        self.from_input = nn.Parameter(torch.empty(2 * H, H))  # rows: tanh, then gate
        self.from_state = nn.ParameterList(nn.Parameter(torch.empty(2 * H, H)) for _ in range(D))
        self.bias = nn.ParameterList(nn.Parameter(torch.empty(2 * H)) for _ in range(D))
        self.initialise()
        with torch.no_grad():
            for bias in self.bias:
                bias[H:] = settings.carry_bias

    @classmethod
    def size(cls, vocabulary: int, hidden: int, settings: ReferenceSettings) -> int:
        return vocabulary * (hidden + 1) + 2 * hidden**2 + settings.depth * (2 * hidden**2 + 2 * hidden)

    def initial_state(self, batch: int) -> States:
        return (self.words.new_zeros(batch, self.hidden),)

    def cells(self, inputs_TBH: Tensor, state: States) -> tuple[Tensor, States]:
        (s,) = state
        # what the first highway layer reads of its input, for all steps
        read = F.linear(self.drop(inputs_TBH, self.settings.input_dropout), self.from_input)
        mask = self.state_mask(s.shape[0])
        outputs = []
        for from_x in read.unbind(0):
            for layer, (weight, bias) in enumerate(zip(self.from_state, self.bias, strict=True)):
                z = F.linear(s * mask, weight, bias)
                h, g = (z + from_x if layer == 0 else z).chunk(2, dim=1)
                s = torch.lerp(s, h.tanh(), g.sigmoid())
            outputs.append(s)
        return torch.stack(outputs), (s,)


KINDS: dict[str, type[Reference]] = {"lstm": LSTMReference, "rhn": HighwayReference}


def make_reference(
    name: str, dimensions: Mapping[str, int], settings: ReferenceSettings, parameters: int = 24_000_000
) -> Reference:
    """Returns the registered model with the most hidden units that `parameters` allow (paper 3.1:
    24 M), for a task with these `dimensions`. Raises a ValueError for an unknown name, for a task
    without words, and for a budget below one hidden unit."""
    check_name("a reference model", name, KINDS)
    if "vocabulary" not in dimensions:
        raise ValueError(f"reference model '{name}' is a language model; the task gives {', '.join(dimensions)}")
    kind, V = KINDS[name], dimensions["vocabulary"]
    what = f"reference model '{name}' of {V:,} words"
    return kind(V, widest(lambda hidden: kind.size(V, hidden, settings), parameters, what), settings)


def settings_like(network: Settings) -> ReferenceSettings:
    """Returns reference settings with the dropout and the initialisation of the recipe's own
    network (`RecurrentSettings`)."""
    return ReferenceSettings(
        word_dropout=network.word_dropout,
        input_dropout=network.input_dropout,
        hidden_dropout=network.hidden_dropout,
        output_dropout=network.output_dropout,
        init_range=network.init_range,
    )


def make_lstm(dimensions: Mapping[str, int], network: Settings, parameters: int) -> Reference:
    """Returns the LSTM, regularised as the recipe's own network is."""
    return make_reference("lstm", dimensions, settings_like(network), parameters)


def make_rhn(dimensions: Mapping[str, int], network: Settings, parameters: int) -> Reference:
    """Returns the recurrent highway network, regularised as the recipe's own network is."""
    return make_reference("rhn", dimensions, settings_like(network), parameters)
