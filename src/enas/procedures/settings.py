"""This module holds the settings of every procedure (search, derivation, training from scratch) and
of the optimiser. It does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from enas.ranges import COUNT, INSIDE, NOT_NEGATIVE, POSITIVE, RATE, SHARE, Range, check_name, check_ranges
from enas.spaces.costs import CostTerm

TrainOn = Literal["train", "train+validation"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
# what can be said of architectures before they are trained
Judge = Literal["parameters", "macs", "zico", "expressivity", "progressivity", "shared"]
LEAST_TRAININGS = 6  # fewer trainings teach nothing


@dataclass(frozen=True)
class OptimizerSettings:
    """These settings describe the optimiser: SGD with Nesterov momentum on a cosine schedule (paper
    3.2), or plain SGD with a decaying rate (paper 3.1)."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """SGD (paper), or AdamW (Loshchilov & Hutter 2019), which does not use `momentum`."""
    learning_rate: float = 0.05
    """The largest learning rate, l_max (paper 3.2)."""
    min_learning_rate: float = 0.001
    """The smallest learning rate, l_min (paper 3.2: 0.001; released code: 0.0005 in the search)."""
    schedule: Literal["cosine_restarts", "cosine", "decay", "constant"] = "cosine_restarts"
    """How the rate falls: cosines with restarts (paper 3.2; Loshchilov & Hutter 2017),
    or one cosine over all epochs.
    "decay" multiplies it by a factor per epoch (paper 3.1); "constant" keeps it."""
    restart_epochs: int = 10
    """Length of the first cosine in epochs, T0 (paper 3.2)."""
    restart_factor: int = 2
    """Each cosine is longer than the one before by this factor, Tmul (paper 3.2)."""
    decay: float = 0.96
    """Factor per epoch of schedule "decay", from epoch `decay_start` on (paper 3.1: 0.96)."""
    decay_start: int = 15
    """The first epoch, counted from 1, after which the rate decays (paper 3.1: 15)."""
    per_epoch: bool = False
    """Changes the rate once per epoch (released code), not at every batch (Loshchilov & Hutter)."""
    warmup_steps: int = 0
    """Number of first steps in which the rate rises linearly (not in the paper)."""
    momentum: float = 0.9
    """Nesterov momentum; 0 is plain SGD (released code; the paper gives no value)."""
    weight_decay: float = 1e-4
    """The l2 penalty as torch counts it: gradient += weight_decay x weight (paper 3.2: 1e-4).
    The released code's flag is half of torch's."""
    grad_clip: float = 0.0
    """Largest norm of the gradient; 0: no clipping (paper 3.1: 0.25).
    The released code's flag of 5.0 for images clips nothing."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "optimizer",
            learning_rate=POSITIVE,
            min_learning_rate=Range(f"between 0 and learning_rate ({self.learning_rate})", 0, self.learning_rate),
            restart_epochs=COUNT,
            restart_factor=COUNT,
            decay=Range("above 0 and at most 1", 0, 1, includes_low=False),
            decay_start=COUNT,
            warmup_steps=NOT_NEGATIVE,
            momentum=RATE,
            weight_decay=NOT_NEGATIVE,
            grad_clip=NOT_NEGATIVE,
        )


@dataclass(frozen=True)
class ComputeSettings:
    """These settings say how the numbers of a training step are computed, and with how much
    memory."""

    precision: Precision = "tf32"
    """Precision of training steps and of rewards in a search; weights are always float32.
    tf32: float32, whose products a GPU rounds to 19 bits; the same as fp32 on a CPU.
    bf16, fp16: products in 16 bits (autocast); fp16 scales losses."""
    accumulate: int = 1
    """Number of parts into which each batch is cut; one update is made from all of them.
    It is the same update within rounding, but batch norm takes the statistics of a part."""
    checkpoint_activations: bool = False
    """Keeps only the inputs of a network's ops, and computes the rest again in the backward.
    It is the same update with less memory, for a second forward; networks of images only."""

    def __post_init__(self) -> None:
        check_ranges(self, "compute", accumulate=COUNT)


@dataclass(frozen=True)
class SearchSettings:
    """These settings give the length and the rhythm of the search."""

    epochs: int = 310
    """Number of passes over the training data (paper 3.2: 310; released micro code: 150)."""
    warmup_epochs: int = 0
    """Number of first epochs with random architectures and no step of the strategy.
    Not in the paper."""
    children: int = 1
    """Number of children that train on each minibatch, M (paper 2.2: 1)."""
    controller_steps: int = 2000
    """Number of steps of the strategy between two passes (paper 2.2: 2,000; released micro: 30)."""
    architectures: int = 1
    """Number of architectures scored in each of these steps, n.
    The paper does not say; released code: 10."""
    probes: int = 8
    """Number of the strategy's and of random architectures to score side by side after an epoch.
    They show whether the strategy learns, and change nothing (not in the paper).
    0: none; otherwise at least 3."""
    max_skipped: float = 0.1
    """Largest share of an epoch's training steps that may be skipped; beyond it the search ends.
    A step is skipped for a loss that is far off, or a gradient that is not finite.
    Three may always be skipped, but never all of an epoch (not in the paper)."""
    cost_terms: tuple[str, ...] = ()
    """Terms that take the cost of an architecture into the reward that the strategy is told.
    A term is KIND:TARGET:FORM:WEIGHT, such as macs:600M:power:-0.07 or latency:8ms:absolute:-0.5.
    The forms are power (MnasNet) and absolute (TuNAS); not in the paper.
    The kinds are parameters, macs, memory and latency."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)

    def __post_init__(self) -> None:
        for term in self.cost_terms:
            CostTerm.parse(term)
        check_ranges(
            self,
            "search",
            epochs=COUNT,
            warmup_epochs=NOT_NEGATIVE,
            children=COUNT,
            controller_steps=NOT_NEGATIVE,
            architectures=COUNT,
            probes=NOT_NEGATIVE,
            max_skipped=SHARE,
        )
        if self.probes in (1, 2):
            raise ValueError(f"search.probes is 0 or at least 3; got {self.probes}")


@dataclass(frozen=True)
class DeriveSettings:
    """These settings say how the architecture is picked."""

    samples: int = 100
    """Number of architectures drawn from the policy (the paper: "several"; released code: 10)."""
    score_on: Literal["validation", "minibatch"] = "validation"
    """Data of the final score of the best `keep`: all validation data, or the minibatch.
    Paper 2.2: the minibatch."""
    keep: int = 10
    """Number of architectures that go on to the full validation set, and that `best.json` ranks."""
    uniform: int = 30
    """Number of random architectures to score beside the policy's on the same minibatch.
    0: none (not in the paper)."""
    statistics: Literal["batch", "recalibrated"] = "batch"
    """Batch-norm statistics of a score: those of the batch, or measured anew for each child."""
    recalibration_steps: int = 10
    """Number of training batches on which they are measured anew."""
    draw: Literal["policy", "uniform", "both"] = "policy"
    """Who draws the samples: the policy, random search (with weight sharing), or half of them each.
    With both, half of the finalists are from either, whatever the shared weights say of them,
    unless trainings teach, which find finalists among all."""
    shortlist: int = 0
    """Number of samples to score, those that `shortlist_by` picks; 0: all (not in the paper).
    Trainings that teach are of these only."""
    shortlist_by: tuple[Judge, ...] = ("parameters",)
    """Judges that pick the shortlist one after the other, each by keeping the same share.
    Put one that costs nothing first.
    On NAS-Bench-201 the number of parameters ranks better than shared weights,
    and progressivity finds the best among the large ones."""
    finalists: int = 0
    """Number of the best to train from scratch for a short time; 0: none.
    The better half goes on, again and again: successive halving (not in the paper)."""
    pareto: Literal["none", "parameters", "macs", "memory", "latency"] = "none"
    """Also keeps the architectures that no other one beats in reward and in this cost at once.
    They are taken from all that were scored on the minibatch (not in the paper)."""
    finalist_steps: int = 150
    """Number of training steps of each finalist in a round.
    The rate falls from its largest to zero in each round."""
    trainings: int = 0
    """Number of short trainings from scratch that teach which architectures are good; 0: none.
    Each has `finalist_steps`, and a policy follows what they teach.
    In the end `finalists` are trained for longer and decide (not in the paper)."""
    budget: float = 0.0
    """Processor time of all of this in seconds, which decides how many trainings there are;
    0: `trainings` decides it."""
    rounds: int = 6
    """Number of rounds that the trainings are divided among; with a budget, at least 2."""
    judges: tuple[Judge, ...] = ("parameters", "macs", "zico", "expressivity", "shared")
    """The judges that the trainings correct, each as much as it proves wrong: parameters, macs,
    scores without training (zico, expressivity, progressivity),
    and shared, the reward by shared weights."""

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("samples", "keep", "recalibration_steps", "finalist_steps", "rounds"), COUNT)
        others = dict.fromkeys(("uniform", "shortlist", "finalists", "trainings", "budget"), NOT_NEGATIVE)
        check_ranges(self, "derive", **counts, **others)
        for name in ("judges", "shortlist_by"):
            for judge in getattr(self, name):
                check_name(f"derive.{name}", judge, get_args(Judge))
        if self.shortlist and not self.shortlist_by:
            raise ValueError("derive.shortlist_by names a judge at least: parameters costs nothing")
        if 0 < self.trainings < LEAST_TRAININGS:
            raise ValueError(f"derive.trainings is 0 or at least {LEAST_TRAININGS}; got {self.trainings}")

    @property
    def teaches(self) -> bool:
        """Returns whether short trainings teach what is good."""
        return bool(self.trainings or self.budget)


@dataclass(frozen=True)
class RetrainSettings:
    """These settings give the length and the optimiser of the training from scratch."""

    epochs: int = 310
    """Number of passes over the training data (paper 3.2: as in the search, 310).
    Released micro code: 630."""
    train_on: TrainOn = "train"
    """The part to train on: the training part, which leaves validation figures to choose by;
    or all data (released code for images)."""
    average: Literal["none", "nt_asgd"] = "none"
    """Which weights are scored: as they are, or their mean since validation stopped improving.
    nt_asgd is by Merity et al. 2018 and in the released code for text (not in the paper)."""
    average_interval: int = 5
    """The number n of its trigger: validation is worse than the best of more than n epochs ago.
    Merity et al.: 5; released code: 10."""
    rollbacks: int = 3
    """How often a training that diverges goes back to the start of its epoch, before it ends.
    Not in the paper. The released code for text goes back to the last checkpoint,
    at the same rate."""
    rollback_factor: float = 0.5
    """Factor by which the learning rate is multiplied each time, for the rest of the training."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)

    def __post_init__(self) -> None:
        check_ranges(self, "retrain", epochs=COUNT, average_interval=COUNT, rollbacks=NOT_NEGATIVE, rollback_factor=INSIDE)
        if self.average != "none" and self.train_on != "train":
            raise ValueError(
                f"retrain.average {self.average} begins by validation figures, and retrain.train_on {self.train_on} leaves"
                " none: train on 'train'"
            )
