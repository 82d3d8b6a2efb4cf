"""This module holds the settings of every network: sizes and regularisation. It does not import
torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from enas.ranges import COUNT, NOT_NEGATIVE, POSITIVE, RATE, check_name, check_ranges

STAGES = 3  # number of stages of the networks of NAS-Bench-201 and NAS-Bench-Macro
DROPOUTS = ("word_dropout", "embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_dropout")
Computation = Literal["auto", "plain", "fused", "static", "recorded"]
ImageComputation = Literal["plain", "static"]


@dataclass(frozen=True)
class ImageNetworkSettings:
    """These settings give the size of a network for images."""

    filters: int = 16
    """Number of channels of the stem."""
    stem_stride: int = 1
    """Stride of the stem; 1 or 2.
    2 halves the image before the first cell or layer: a quarter of the cost (not in the paper)."""
    computation: ImageComputation = "plain"
    """How training steps are computed; both ways give the same numbers.
    "static" is one program for all children with shared weights, which a GPU records once.
    It records a child from scratch as it is.
    It was not measured on a GPU yet."""

    def __post_init__(self) -> None:
        check_ranges(self, "network", filters=COUNT)
        check_name("network.stem_stride", self.stem_stride, (1, 2))
        check_name("network.computation", self.computation, get_args(ImageComputation))

    @property
    def growth(self) -> int:
        """Returns how many times as many filters as `filters` the highest layer has."""
        raise NotImplementedError

    def widened(self, highest: int) -> Self:
        """Returns settings of a network whose highest layer has `highest` filters (paper 3.2: 512),
        with all widths scaled alike. Raises a ValueError where they do not come out whole."""
        if highest < self.growth or highest % self.growth:
            raise ValueError(
                f"filters of the highest layer are a multiple of {self.growth}, as the stem has 1/{self.growth} of them;"
                f" got {highest}"
            )
        return replace(self, filters=highest // self.growth)


@dataclass(frozen=True)
class MicroSettings(ImageNetworkSettings):
    """These settings give the size and the regularisation of the network around the cells."""

    filters: int = 20
    """Number of channels of the first block; each reduction doubles them.
    Released code: 20 in the search, 36 from scratch."""
    cells: int = 6
    """Number of normal cells per block, N.
    Paper 3.2: 6; released code: 2 in the search, 5 from scratch."""
    reductions: int = 2
    """Number of reduction cells. 2: between the three blocks (released code).
    3: after each block (paper Fig. 4). 1: two blocks only, for small images."""
    stem_multiplier: int = 3
    """The stem has this many times as many channels as `filters` (released code)."""
    dropout: float = 0.1
    """Dropout rate before the classifier.
    Released code: 0.1 in the search, 0.2 from scratch; the paper does not say."""
    drop_path: float = 0.0
    """Probability that an edge's op is dropped for an image, in the last cell, at the end.
    It grows linearly with depth and time; an identity is never dropped.
    Released code: 0.4 from scratch."""
    aux_weight: float = 0.0
    """Weight of the auxiliary head's loss; 0: no head.
    The head is on the cell after the second (or only) reduction.
    Released code: 0.4; the paper has none."""
    extra_calibration: bool = False
    """Adds a second ReLU, 1x1 convolution and batch norm to the previous cell's output.
    Released code's final network; not in the paper."""
    merge_norm: bool = True
    """Adds batch norm after the 1x1 convolutions that calibrate a cell's inputs.
    Appendix B finds it removable in the macro space; here 20 cells without it are not finite."""
    head_norm: bool = False
    """Adds batch norm to each loose end before the classifier (not in the paper).
    Without it children differ in the scale of their outputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self, "network", cells=COUNT, stem_multiplier=COUNT, dropout=RATE, drop_path=RATE, aux_weight=NOT_NEGATIVE
        )
        check_name("network.reductions", self.reductions, (1, 2, 3))

    @property
    def growth(self) -> int:
        return int(2**self.reductions)


@dataclass(frozen=True)
class MacroSettings(ImageNetworkSettings):
    """These settings give the size and the regularisation of the network."""

    filters: int = 36
    """Number of channels of stem and layers.
    Released code: 36 in the search, 96 from scratch; the paper does not say."""
    double_filters: bool = False
    """Doubles the channels at each reduction (released code: from scratch, not in the search)."""
    reductions: int = 2
    """Number of reductions. 2: after layers L/3 and 2L/3 (released code); 1: after L/2; 0: none."""
    dropout: float = 0.1
    """Dropout rate before the classifier.
    Released code: 0.1 in the search, 0.5 from scratch; the paper does not say."""
    entry_conv: bool = False
    """Adds a ReLU, 1x1 convolution and batch norm before each op (released code, not the paper)."""
    merge: bool = True
    """Merges chosen outputs by a 1x1 convolution (appendix B).
    Without it they are added, which shows the use of the convolution."""
    merge_norm: bool = True
    """Adds batch norm after the merging 1x1 convolution; the released final network has it.
    Appendix B finds it removable from scratch; first losses are twice as high without."""
    average_pooling: bool = True
    """Pools globally by the average before the classifier (appendix B).
    Without it the classifier reads every pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "network", dropout=RATE)
        check_name("network.reductions", self.reductions, (0, 1, 2))

    @property
    def growth(self) -> int:
        return int(2**self.reductions) if self.double_filters else 1


@dataclass(frozen=True)
class NasBench201NetworkSettings(ImageNetworkSettings):
    """These settings give the size of the network around the cells."""

    filters: int = 16
    """Number of channels of the first stage, C (published: 16).
    Each of two residual blocks doubles them."""
    cells: int = 5
    """Number of cells per stage, N (published: 5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "network", cells=COUNT)

    @property
    def growth(self) -> int:
        return int(2 ** (STAGES - 1))


@dataclass(frozen=True)
class NasBenchMacroNetworkSettings(ImageNetworkSettings):
    """These settings give the size of the network around the layers."""

    filters: int = 32
    """Number of channels of the stem (published: 32).
    The first layer of each stage doubles them."""
    head: int = 1280
    """Number of channels that the classifier reads (published: 1,280)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "network", head=COUNT)

    @property
    def growth(self) -> int:
        return int(2**STAGES)

    def widened(self, highest: int) -> Self:
        wider = super().widened(highest)
        if self.head * wider.filters % self.filters:
            raise ValueError(
                f"the {self.head} channels before the classifier scale with the filters to a whole number; got {highest}"
                f" for the highest layer in place of {self.filters * self.growth}"
            )
        return replace(wider, head=self.head * wider.filters // self.filters)


@dataclass(frozen=True)
class RecurrentSettings:
    """These settings give the size and the regularisation of the language model."""

    hidden: int = 720
    """Number of hidden units, H, also of an embedding; the paper does not say.
    Released code: 720 in the first search, 200 in the corrected one."""
    layers: int = 1
    """Number of recurrent layers (the paper searches one; appendix A names higher ones)."""
    highway: bool = True
    """Adds a gate to every node that lets its input pass (paper 3.1, appendix A).
    Figure 1 of the paper has none."""
    batch_norm: bool = True
    """Adds batch norm to a cell's output (appendix A: in the search, removable from scratch)."""
    batch_norm_eps: float = 0.1
    """Number that is added to the variance of that batch norm; the paper does not say.
    Cells of sigmoids differ little between streams: 1e-5 would magnify that at every step.
    Released code: 1.0 in the first search."""
    word_dropout: float = 0.0
    """Share of the words whose embedding is zero throughout a window (Gal & Ghahramani).
    Released code: 0.1 in the corrected search."""
    embedding_dropout: float = 0.0
    """Dropout rate of the embeddings (released code: 0.2).
    One mask per window is used, as for all rates below."""
    input_dropout: float = 0.0
    """Dropout rate of what a layer reads (released code: 0.75)."""
    hidden_dropout: float = 0.0
    """Dropout rate of the state and the nodes, where nodes read them (released code: 0.25)."""
    output_dropout: float = 0.0
    """Dropout rate of what the softmax reads (released code: 0.75)."""
    weight_dropout: float = 0.0
    """Dropout rate of the weights that read the previous state (Merity et al. 2018).
    Released code: 0."""
    init_range: float = 0.025
    """Weights start uniform in +- this (appendix A: 0.025 in the search, 0.04 from scratch)."""
    softmax_bias: bool = True
    """Adds a bias for each word (the paper does not say; released code: none)."""
    computation: Computation = "auto"
    """How a window is computed; all ways give the same numbers.
    auto: fused on a CPU, recorded on a GPU."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "network",
            hidden=COUNT,
            layers=COUNT,
            batch_norm_eps=POSITIVE,
            init_range=POSITIVE,
            **dict.fromkeys(DROPOUTS, RATE),
        )
