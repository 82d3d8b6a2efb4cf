"""Reference models for Table 1 of the paper: what a found cell is compared with under the same recipe.

`lstm`: variational dropout, words tied to the softmax (Gal & Ghahramani 2016; Inan et al. 2017). `rhn`: a recurrent highway
network, one layer, deep in each step (Zilly et al. 2017). Both are as large as a budget of parameters allows, and are
called as a child model is: `model(x, None, state, progress)` gives `(logits, outputs, dropped), state`. They choose
nothing, so they belong to no search space.

Left out: peepholes, bidirectional reading, several layers of highways.

Shapes: T steps, B streams, V words, H hidden units (also of an embedding), D highway layers in a step; x (T, B) int64,
logits (T, B, V), outputs and dropped (T, B, H), each part of a state (B, H).
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
    """Depth, dropout and initialisation; the number of hidden units follows from the budget of parameters."""

    layers: int = 2
    """Of the LSTM (Inan et al. 2017: 2)."""
    depth: int = 10
    """Highway layers in a step, D (Zilly et al. 2017: 10)."""
    word_dropout: float = 0.0
    """Share of the words whose embedding is zero wherever they stand in a window (Gal & Ghahramani 2016)."""
    input_dropout: float = 0.2
    """Of what a layer reads, one mask for the whole window, as all that follow (Zilly et al. 2017: 0.25)."""
    hidden_dropout: float = 0.25
    """Of the state, where the next step reads it (Zilly et al. 2017: 0.25)."""
    output_dropout: float = 0.75
    """Of what the softmax reads (Zilly et al. 2017: 0.75)."""
    init_range: float = 0.04
    """Weights begin uniform in +- this (paper, appendix A)."""
    carry_bias: float = -2.0
    """Bias of the highways' gates at the beginning: below zero the state is carried on (Zilly et al. 2017)."""

    def __post_init__(self) -> None:
        check_ranges(self, "", layers=COUNT, depth=COUNT, init_range=POSITIVE, word_dropout=RATE)
        check_ranges(self, "", input_dropout=RATE, hidden_dropout=RATE, output_dropout=RATE)


class Reference(nn.Module):
    """Words in, words out, and the same matrix at both ends; what is between is `cells`."""

    def __init__(self, vocabulary: int, hidden: int, settings: ReferenceSettings):
        super().__init__()
        self.vocabulary, self.hidden, self.settings = vocabulary, hidden, settings
        self.words = nn.Parameter(torch.empty(vocabulary, hidden))
        self.word_bias = nn.Parameter(torch.zeros(vocabulary))

    @classmethod
    @abstractmethod
    def size(cls, vocabulary: int, hidden: int, settings: ReferenceSettings) -> int:
        """Parameters at so many hidden units."""

    @abstractmethod
    def cells(self, inputs_TBH: Tensor, state: States) -> tuple[Tensor, States]:
        """Outputs (T, B, H) of the last layer, and the state after the last step."""

    @abstractmethod
    def initial_state(self, batch: int) -> States:
        """Zeros."""

    def initialise(self) -> None:
        """Matrices uniform, biases zero (paper, appendix A)."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.uniform_(parameter, -self.settings.init_range, self.settings.init_range)
            else:
                nn.init.zeros_(parameter)

    def forward(
        self, x_TB: Tensor, arch: Architecture | None = None, state: States | None = None, progress: float = 1.0
    ) -> tuple[LanguageModelOutputs, States]:
        """As a child model's: `arch` is None, a state of None is zero, and nothing depends on `progress`."""
        assert arch is None
        inputs_TBH = F.embedding(x_TB, self.words)
        if self.training and self.settings.word_dropout:
            inputs_TBH = inputs_TBH * self.mask(self.settings.word_dropout, self.vocabulary, 1)[x_TB]
        outputs_TBH, state = self.cells(inputs_TBH, self.initial_state(x_TB.shape[1]) if state is None else state)
        dropped_TBH = self.drop(outputs_TBH, self.settings.output_dropout)
        return LanguageModelOutputs(TiedSoftmax(dropped_TBH, self.words, self.word_bias), outputs_TBH, dropped_TBH), state

    def mask(self, share: float, *shape: int) -> Tensor:
        """Zeros with probability `share`, the others larger by what is lost."""
        return self.words.new_empty(shape).bernoulli_(1 - share).div_(1 - share)

    def drop(self, x_TBH: Tensor, share: float) -> Tensor:
        """Variational dropout: one mask for all steps."""
        return x_TBH * self.mask(share, *x_TBH.shape[1:]) if self.training and share else x_TBH

    def state_mask(self, batch: int) -> Tensor | float:
        share = self.settings.hidden_dropout
        return self.mask(share, batch, self.hidden) if self.training and share else 1.0

    def num_parameters(self, arch: Architecture | None = None, aux: bool = True) -> int:
        """All parameters; the words count once."""
        return sum(parameter.numel() for parameter in self.parameters())


class LSTMReference(Reference):
    """As torch's `nn.LSTM` with one bias a gate, and dropout where Gal & Ghahramani 2016 put it."""

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
            read = F.linear(self.drop(inputs_TBH, self.settings.input_dropout), from_input, bias)  # all steps at once
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
    """s = g * tanh(...) + (1 - g) * s, D times in a step; the input is read by the first of them (Zilly et al. 2017, Eq. 6
    to 9, with the carry gate 1 - g)."""

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
        read = F.linear(self.drop(inputs_TBH, self.settings.input_dropout), self.from_input)  # all steps at once
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
    """The registered model at the most hidden units that `parameters` allow (paper 3.1: 24 M). ValueError for an unknown
    name, a task that is not about words, or a budget that not even one hidden unit fits into.

    dimensions: of the task; `vocabulary` is read.
    """
    check_name("a reference model", name, KINDS)
    if "vocabulary" not in dimensions:
        raise ValueError(f"reference model '{name}' is a language model; the task gives {', '.join(dimensions)}")
    kind, V = KINDS[name], dimensions["vocabulary"]
    what = f"reference model '{name}' of {V:,} words"
    return kind(V, widest(lambda hidden: kind.size(V, hidden, settings), parameters, what), settings)


def settings_like(network: Settings) -> ReferenceSettings:
    """What the recipe's own network is regularised and begun by (`RecurrentSettings`)."""
    return ReferenceSettings(
        word_dropout=network.word_dropout,
        input_dropout=network.input_dropout,
        hidden_dropout=network.hidden_dropout,
        output_dropout=network.output_dropout,
        init_range=network.init_range,
    )


def make_lstm(dimensions: Mapping[str, int], network: Settings, parameters: int) -> Reference:
    """Returns the LSTM, regularised as the recipe's own network."""
    return make_reference("lstm", dimensions, settings_like(network), parameters)


def make_rhn(dimensions: Mapping[str, int], network: Settings, parameters: int) -> Reference:
    """Returns the recurrent highway network, regularised as the recipe's own network."""
    return make_reference("rhn", dimensions, settings_like(network), parameters)
