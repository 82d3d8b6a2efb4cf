"""The settings of data: which images or text, and how they are split. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.ranges import COUNT, NOT_NEGATIVE, POSITIVE, at_least, check_ranges


@dataclass(frozen=True)
class DataSettings:
    """Which images, and how they are split."""

    dataset: str = "cifar10"
    """A registered data set (`enas data list`)."""
    train: int | None = None
    """Number of training images to use, a balanced subset; None: all."""
    validation: int | None = 5000
    """Number of training images kept for rewards and choices (paper 2.2: 45,000 train).
    None: as the data set has it; of images of your own 15 percent, or their validation folder."""
    image_size: int | None = None
    """Side in pixels that images of your own are brought to.
    None: their own where all are alike, square and at most 32; else their median, at most 32."""
    fit: Literal["resize", "crop"] = "resize"
    """How images of your own become square: resized as a whole, or the middle of them."""
    corrupt: Literal["refuse", "skip"] = "refuse"
    """What is done about images of your own that cannot be read; they are named in both cases."""
    memory: float | None = None
    """Gigabytes that images may take; above it, batches are made of bytes or of files on disk.
    None: half of the free memory of the device."""
    workers: int = 0
    """Processes that make these batches; 0: none beside the run's own. They change no figure."""

    def __post_init__(self) -> None:
        positive = {"image_size": at_least(4), "memory": POSITIVE, "workers": NOT_NEGATIVE}
        check_ranges(self, "data", train=COUNT, validation=COUNT, **positive)


@dataclass(frozen=True)
class TextSettings:
    """Which text, and which of its words count."""

    dataset: str = "ptb"
    """A registered text (`enas data list`)."""
    train: int | None = None
    """Number of tokens to train on, from the beginning; None: all."""
    max_vocabulary: int | None = None
    """Largest number of words, with `<eos>` and `<unk>`, of a text that does not fix them.
    None: as the data set has it."""
    min_count: int | None = None
    """Words that are trained on less often are `<unk>`, in a text that does not fix them.
    None: as the data set has it."""
    tokens: Literal["words", "characters"] = "words"
    """What a text of your own is read by."""

    def __post_init__(self) -> None:
        check_ranges(self, "data", train=at_least(2), max_vocabulary=at_least(2), min_count=COUNT)
