"""This module holds the settings of the controller and of how it learns, and computes what the
weights of its reward lead to.

    R'(m) = R(m) + w H - k KL                      reward, entropy bonus, skip penalty

A setting each says how H and KL are summed over the answers. That decides what the policy converges
to: `odds` and `skip_rate` compute it. This module does not import torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from enas.ranges import COUNT, INSIDE, NOT_NEGATIVE, POSITIVE, RATE, Range, at_least, check_ranges
from enas.spaces.decisions import SubsetChoice
from enas.spaces.space import SearchSpace

FINITE = Range("a finite number", -math.inf, includes_low=False, includes_high=False)


@dataclass(frozen=True)
class ControllerSettings:
    """These settings describe the policy network."""

    hidden: int = 100
    """Number of LSTM units (paper 2.2: 100; released code: 64)."""
    temperature: float = 5.0
    """Number by which logits are divided.
    Paper 3.1 and 3.2: 5.0; released code for images: 1, which changes nothing."""
    tanh_constant: float = 2.5
    """Number c by which logits become c tanh(logit); 0: no tanh.
    Paper 3.1 and 3.2: 2.5; released micro code: 1.1."""
    init_range: float = 0.1
    """All parameters start uniform in +- this (paper 3.2: 0.1)."""
    input_head: Literal["attention", "softmax"] = "attention"
    """Way to choose an input: attention over anchors (released code) or a softmax (paper 2.2)."""
    op_tanh_constant: float | None = None
    """The number c for the logits of ops, where it differs (released micro code: 0.44)."""
    after_anchor: Literal["empty", "previous"] = "empty"
    """The LSTM reads this after a finished node, and later decisions attend to it.
    empty: they attend to a step of the node's own; then the LSTM reads the empty embedding.
    previous: it reads the node's last decision, and they attend to the state that this left.
    Paper 2.2 and released macro code: previous; released micro code: empty."""
    near_feedback: bool = False
    """Divides a chosen input, where it is fed back, by 0.1 + its distance (corrected release)."""
    lstm_bias: bool = True
    """Whether the LSTM has biases (released code: none)."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "strategy.controller",
            hidden=COUNT,
            temperature=at_least(1e-6),
            tanh_constant=NOT_NEGATIVE,
            init_range=NOT_NEGATIVE,
            op_tanh_constant=NOT_NEGATIVE,
        )


@dataclass(frozen=True)
class ReinforceSettings:
    """These settings say how the controller learns."""

    controller: ControllerSettings = field(default_factory=ControllerSettings)
    learning_rate: float = 3.5e-4
    """Adam's learning rate (paper 3.1 and 3.2: 0.00035; released micro code: 0.0035)."""
    adam_beta1: float = 0.9
    """Adam's decay of the mean gradient (released code for images: 0; the paper does not say)."""
    adam_eps: float = 1e-8
    """Number added to Adam's denominator.
    Released code for images: 1e-3; the paper does not say."""
    entropy_weight: float = 0.1
    """Bonus per nat of policy entropy, w.
    Paper 3.2: 0.1 for images; 3.1: 1e-4 for text; released code: 1e-4."""
    entropy: Literal["sum", "mean"] = "sum"
    """Entropy of all answers of an architecture together (released code), or the mean per answer.
    The paper does not say which; docs/decisions.md."""
    skip_weight: float = 0.8
    """Weight of the penalty on the skip rate, k (paper 3.2: 0.8); no effect without skips."""
    skip_penalty: Literal["mean", "layer_mean"] = "mean"
    """The penalty is a mean over all skips, or over layers of their sums (released code)."""
    skip_rate: float = 0.4
    """Prior belief in a skip, rho (paper 3.2: 0.4)."""
    terms: Literal["sampled", "exact"] = "sampled"
    """Whether entropy and skip penalty are one-sample estimates in the reward ("sampled"),
    or differentiated sums ("exact")."""
    baseline_decay: float = 0.99
    """Decay of the moving average of rewards (released code: 0.99; the paper does not say)."""
    baseline_start: float | None = None
    """Value of the moving average before the first step (released code: 0).
    None: that step's mean reward."""
    normalise: bool = False
    """Standardises the rewards of a step by its own mean and standard deviation (not in the paper).
    A step of one architecture has neither, and uses the moving average."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "strategy",
            learning_rate=POSITIVE,
            adam_beta1=RATE,
            adam_eps=POSITIVE,
            entropy_weight=NOT_NEGATIVE,
            skip_weight=NOT_NEGATIVE,
            skip_rate=INSIDE,
            baseline_decay=INSIDE,
            baseline_start=FINITE,
        )


def skips_of(space: SearchSpace) -> list[int]:
    """Returns the number of skips of each layer that chooses among earlier nodes."""
    return [len(d.options) for d in space.decisions if isinstance(d, SubsetChoice) and d.anchors is not None]


def weights(settings: ReinforceSettings, space: SearchSpace) -> tuple[float, float]:
    """Returns two weights: that of an architecture's entropy per nat, and that of the mean over
    skips of their divergence. They are in these two units, whatever the settings say of sums and
    means."""
    skips = skips_of(space)
    per_layer = sum(skips) / len(skips) if skips and settings.skip_penalty == "layer_mean" else 1.0
    entropy = settings.entropy_weight / (space.num_answers if settings.entropy == "mean" else 1)
    return entropy, settings.skip_weight * per_layer


def odds(settings: ReinforceSettings, space: SearchSpace, gain: float = 0.01) -> float:
    """Returns how many times as likely the best policy draws an architecture whose reward is larger
    by `gain`, if all else is equal: exp(gain / entropy weight). Returns inf without an entropy
    bonus, or where the result is above 1e304."""
    weight, _ = weights(settings, space)
    return math.exp(gain / weight) if weight and gain / weight < 700 else math.inf


def skip_rate(settings: ReinforceSettings, space: SearchSpace) -> float:
    """Returns the rate of skips to which entropy bonus and penalty lead, where rewards do not
    depend on skips. For each skip they are stationary where w logit(p) + (k / n) (logit(p) -
    logit(rho)) = 0. Here w and k are the `weights`, and n is the number of skips."""
    entropy, penalty = weights(settings, space)
    each = penalty / max(1, sum(skips_of(space)))
    prior = math.log(settings.skip_rate / (1 - settings.skip_rate))
    logit = prior * each / (entropy + each) if entropy + each else 0.0
    return 1 / (1 + math.exp(-logit))
