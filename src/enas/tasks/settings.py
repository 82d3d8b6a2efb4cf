"""This module holds the settings of every task: batches, losses and rewards. It does not import
torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.ranges import COUNT, INSIDE, NOT_NEGATIVE, POSITIVE, RATE, at_least, check_name, check_ranges

OWN_METRICS = ("accuracy", "score")  # figures that rewards of a user's own may stand for


@dataclass(frozen=True)
class ImageClassificationSettings:
    """These settings say how images are batched, augmented and rewarded."""

    batch_size: int = 128
    """Number of images per training step.
    Paper 2.2: 128; released micro code: 160 in the search, 144 from scratch."""
    pad: int = 4
    """Number of zero pixels around an image before the random crop (paper 3.2: 4)."""
    flip: bool = True
    """Flips images left to right at random (paper 3.2)."""
    cutout: int = 0
    """Side of the square that CutOut blanks, in pixels; 0: none.
    Paper 3.2 names CutOut and no size; released code: 16."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes in training (not in the paper)."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the training loss (not in the paper).
    "balanced" is the inverse of their numbers of images, with a mean of 1 over images."""
    reward: Literal["accuracy", "loss"] = "accuracy"
    """Reward of a validation minibatch: its accuracy (paper 2.2), or exp(-cross-entropy)."""
    reward_batch: int = 128
    """Number of validation images per reward (released code: the batch size)."""
    eval_batch: int = 500
    """Number of images per step when a whole part is scored."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "task",
            batch_size=at_least(2),
            pad=NOT_NEGATIVE,
            cutout=NOT_NEGATIVE,
            label_smoothing=RATE,
            reward_batch=COUNT,
            eval_batch=COUNT,
        )


@dataclass(frozen=True)
class LanguageModelSettings:
    """These settings say how text is cut into windows, penalised and rewarded."""

    batch_size: int = 64
    """Number of streams side by side, B.
    Paper 2.2: 64; corrected release: 128 in the search, 64 from scratch."""
    bptt: int = 35
    """Number of steps of a window, T; gradients go back so far (paper 2.2: 35)."""
    random_lengths: bool = False
    """Makes windows of random length around `bptt`; the learning rate is scaled with the length.
    Released code; Merity et al. 2018."""
    activation_penalty: float = 0.0
    """Weight of the mean square of the dropped outputs (AR of Merity et al. 2018).
    Released code: 0 in the search, 0.7 from scratch."""
    temporal_penalty: float = 0.0
    """Weight of the mean square of the outputs' change per step (TAR of Merity et al. 2018).
    Released code: 1.0 in the search, 0 from scratch."""
    reward_scale: float = 80.0
    """The number c of the reward c / perplexity (paper 2.2 names c; released code: 80)."""
    reward_batch: int = 64
    """Number of streams of the validation part; a reward reads a window of all of them."""
    reward_window: int = 35
    """Number of steps of that window."""
    eval_batch: int = 64
    """Number of streams when the validation part is scored."""
    test_batch: int = 1
    """Number of streams when the test part is scored.
    1 is usual, and exact: no stream begins in the middle of the text."""
    eval_window: int = 35
    """Number of steps at a time when a part is scored.
    It does not change the figures of a training from scratch."""

    def __post_init__(self) -> None:
        counts = ("batch_size", "bptt", "reward_batch", "reward_window", "eval_batch", "test_batch", "eval_window")
        check_ranges(
            self,
            "task",
            **dict.fromkeys(counts, COUNT),
            activation_penalty=NOT_NEGATIVE,
            temporal_penalty=NOT_NEGATIVE,
            reward_scale=POSITIVE,
        )


@dataclass(frozen=True)
class OwnDataSettings:
    """These settings say how much of the training examples is kept back, where a problem has no
    other parts. Where the class of each example is known, each class is split by these shares."""

    dataset: str = "own"
    """The name of every problem's data."""
    validation: float = 0.15
    """Share of the training examples kept for rewards and choices, where there is no `valid`."""
    test: float = 0.15
    """Share of the training examples kept for the test, where there is no `test`."""

    def __post_init__(self) -> None:
        check_ranges(self, "data", validation=INSIDE, test=INSIDE)
        if self.validation + self.test >= 1:
            raise ValueError(f"data.validation and data.test leave something to train on; got {self}")


@dataclass(frozen=True)
class OwnTaskSettings:
    """These settings describe the batches of a problem of a user's own."""

    batch_size: int = 64
    """Number of examples per training step."""
    reward_batch: int = 256
    """Number of validation examples per reward."""
    eval_batch: int = 256
    """Number of examples per step when a whole part is scored."""
    workers: int = 0
    """Number of processes that read examples ahead; they change no figure.
    0: each batch is read when it is needed. Tensors in memory need none."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss: none, or balanced, where a rare class counts more.
    "balanced" is n / (classes x n of the class), over the examples that are trained on."""
    metric: str = "score"
    """The figure that the reward stands for: accuracy (a share, shown in percent), or score."""

    def __post_init__(self) -> None:
        check_ranges(self, "task", batch_size=COUNT, reward_batch=COUNT, eval_batch=COUNT, workers=NOT_NEGATIVE)
        check_name("task.metric", self.metric, OWN_METRICS)
