"""The settings of data: which images or text, and how they are split. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass

from enas.ranges import COUNT, at_least, check_ranges


@dataclass(frozen=True)
class DataSettings:
    """Which images, and how they are split."""

    dataset: str = "cifar10"
    """A registered data set (`enas data list`)."""
    train: int | None = None
    """Number of training images to use, a balanced subset; None: all."""
    validation: int = 5000
    """Number of training images kept for rewards and choices (paper 2.2: 45,000 train)."""

    def __post_init__(self) -> None:
        check_ranges(self, "data", train=COUNT, validation=COUNT)


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

    def __post_init__(self) -> None:
        check_ranges(self, "data", train=at_least(2), max_vocabulary=at_least(2), min_count=COUNT)
