"""This module holds the settings of data: which images or text to use, and how they are split. It
does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.ranges import COUNT, NOT_NEGATIVE, POSITIVE, at_least, check_ranges


@dataclass(frozen=True)
class DataSettings:
    """These settings say which images are used, and how they are split."""

    dataset: str = "cifar10"
    """Name of a registered data set (`enas data list`)."""
    train: int | None = None
    """Number of training images to use, a balanced subset; None: all."""
    validation: int | None = 5000
    """Number of training images kept for rewards and choices (paper 2.2: 45,000 train).
    None: as the data set has it. Images of your own keep 15 percent, or their validation folder."""
    image_size: int | None = None
    """Side in pixels that images of your own are brought to.
    None: their own where all are alike, square and at most 32; else their median, at most 32."""
    fit: Literal["resize", "crop"] = "resize"
    """How images of your own become square: resized as a whole, or the middle of them."""
    corrupt: Literal["refuse", "skip"] = "refuse"
    """Whether unreadable images of your own are an error or skipped; both name them."""
    memory: float | None = None
    """Gigabytes that images may take; above it, batches are made from bytes or from files on disk.
    None: half of the free memory of the device."""
    workers: int = 0
    """Number of processes that make these batches; 0: none beside the run's own.
    It changes no figure."""

    def __post_init__(self) -> None:
        positive = {"image_size": at_least(4), "memory": POSITIVE, "workers": NOT_NEGATIVE}
        check_ranges(self, "data", train=COUNT, validation=COUNT, **positive)


@dataclass(frozen=True)
class TextSettings:
    """These settings say which text is used, and which of its words count."""

    dataset: str = "ptb"
    """Name of a registered text (`enas data list`)."""
    train: int | None = None
    """Number of tokens to train on, from the beginning; None: all."""
    max_vocabulary: int | None = None
    """Largest number of words, with `<eos>` and `<unk>`, of a text that does not fix them.
    None: as the data set has it."""
    min_count: int | None = None
    """Words that occur less often in the training text are `<unk>`, unless the text fixes them.
    None: as the data set has it."""
    tokens: Literal["words", "characters"] = "words"
    """Whether a text of your own is read by words or by characters."""

    def __post_init__(self) -> None:
        check_ranges(self, "data", train=at_least(2), max_vocabulary=at_least(2), min_count=COUNT)
