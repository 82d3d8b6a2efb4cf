"""This module raises alarms: it says what goes wrong in a search with shared weights while it goes
wrong.

After each epoch in which the strategy learned, a few of its architectures and a few random ones are
scored on the same shared weights and validation minibatches (`probed`). The alarms come from these
scores and from the epoch's own figures. docs/decisions.md says where their thresholds come from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from enas.procedures.statistics import interval, kendall
from enas.spaces.decisions import SubsetChoice
from enas.spaces.space import SearchSpace
from enas.state import Values
from enas.tasks.metrics import figure

# largest ratio of the 99 % quantile of gradient norms to their median; above it training is mostly
# noise
SPREAD = 100.0
ENTROPY = 0.1  # share of the largest entropy; below it a policy asks for nearly one architecture
ONE_OP = 0.8  # largest share of a cell's edges that may have the same op
ONLY = "cell."  # begins the names of ops in a space of one cell, where it says nothing
NAMING = 5  # skipped steps; fewer have too few architectures to name an op for them
AGREEMENT = 0.2  # Kendall's tau between two minibatches; below it shared weights hardly rank
REASONS = {
    "loss": "a loss far off",
    "loss_not_finite": "a loss that is not finite",
    "gradient": "a gradient that is not finite",
}


def largest_entropy(space: SearchSpace) -> float:
    """Returns the entropy, in nats, of a policy that asks every decision and finds all answers
    equally likely."""
    return sum(
        math.log(2) * len(d.options) if isinstance(d, SubsetChoice) else math.log(len(d.options)) for d in space.decisions
    )


def probed(policy: Sequence[float], uniform: Sequence[float], again: Sequence[float]) -> dict[str, float]:
    """Returns the figures of a probe.

    `policy` and `uniform` are the rewards of the policy's and of random architectures, each pair on
    one minibatch. `again` are the rewards of the same random architectures, all on one other
    minibatch. The 95 % interval of `policy_minus_uniform` is +- `policy_minus_uniform_half_width`.
    """
    gap = interval([a - b for a, b in zip(policy, uniform, strict=True)])
    return {
        "policy_minus_uniform": gap.mean,
        "policy_minus_uniform_half_width": gap.half_width,
        "agreement": kendall(np.array(uniform), np.array(again)),
    }


def alarms(metrics: Values, space: SearchSpace, entropy_before: float | None = None) -> list[str]:
    """Returns a sentence for each thing that is wrong by an epoch's metrics. `entropy_before` is
    the entropy of the epoch before, or None where the policy rested then."""
    sentences = []
    if "skipped_steps" in metrics:
        why = ", ".join(f"{n} for {REASONS[reason]}" for reason, n in metrics["skipped_for"].items())
        text = f"{metrics['skipped_steps']} training steps were skipped ({why})"
        if metrics["skipped_steps"] >= NAMING:
            usual = metrics.get("ops", {})
            op, share = max(metrics["skipped_ops"].items(), key=lambda item: item[1] - usual.get(item[0], 0.0))
            text += (
                f"; {share:.0%} of the answers of their architectures are {op.removeprefix(ONLY).replace('.', ' ')},"
                f" against {usual.get(op, 0.0):.0%} of all"
            )
        sentences.append(text)
    if "gradient_norm_median" in metrics:
        middle, high = metrics["gradient_norm_median"], metrics["gradient_norm_p99"]
        if high > SPREAD * middle:
            sentences.append(
                f"gradients differ in size beyond measure: one in a hundred has a norm of {high:.3g} or more before"
                f" clipping, the median is {middle:.3g}"
            )
    largest = largest_entropy(space)
    if "entropy" in metrics and metrics["entropy"] < ENTROPY * largest:
        sentences.append(
            f"the policy's entropy has collapsed to {metrics['entropy']:.1f} of {largest:.1f} nats: it asks for nearly one"
            " architecture"
        )
    if "entropy" in metrics and metrics["entropy"] == entropy_before:
        sentences.append(
            f"the policy stands still: its entropy is {entropy_before!r} nats as in the epoch before, to the last digit; a"
            " rate of learning that is far too high or too low does this (--strategy.learning-rate)"
        )
    # A single decision may well settle on one op, but the edges of a cell should not.
    cells = {cell.name for cell in space.cells}
    by_cell: dict[str, Counter[str]] = {}
    for name, share in metrics.get("ops", {}).items():
        cell, op = name.split(".", 1)
        if op != "skip" and cell in cells:
            by_cell.setdefault(cell, Counter())[op] += share
    for cell, shares in by_cell.items():
        (op, most), total = shares.most_common(1)[0], sum(shares.values())
        if len(shares) > 1 and most > ONE_OP * total:
            where = "cell" if f"{cell}." == ONLY else f"{cell} cell"
            sentences.append(f"{most / total:.0%} of the edges of the {where} are {op}")
    if "policy_minus_uniform" in metrics:
        gap, half = metrics["policy_minus_uniform"], metrics["policy_minus_uniform_half_width"]
        if gap <= half:
            sentences.append(
                f"the policy's architectures are not better than uniform ones on the same shared weights: reward"
                f" {figure(gap, 3, '+')} +- {figure(half, 3)}"
            )
        if metrics["agreement"] < AGREEMENT:
            sentences.append(
                "the shared weights rank uniform architectures on one minibatch almost by chance as on another: Kendall's"
                f" tau {metrics['agreement']:.2f}"
            )
    return sentences
