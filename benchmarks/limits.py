"""Hard limits on every space: a trained policy is asked, and what that takes with a limit and
without. A JSON line for each space.

    python -m benchmarks.limits [NUMBER [SPACE ...]]       NUMBER of architectures: 10,000

The limit is on the first of parameters and multiply-accumulates that differ in a space, at the 20th
percentile of random architectures, in the network of the preset's default recipe. The policy is
taught one architecture within the limit, until its entropy is below 4 nats, so that some
architectures are frequent.
Which ones are counted in the chi-square is decided by another draw; the rest is one category.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from scipy import stats

from enas.runs.plan import Plan
from enas.runs.planning import preset_plan
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Limits
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ControllerSettings, ReinforceSettings

PRESETS = {
    "conv_micro": "digits-micro",
    "conv_macro": "cifar10-macro",
    "rnn_cell": "text-rnn",
    "nasbench201": "nasbench201",
    "nasbench_macro": "nasbench_macro",
}
SHARE, ENTROPY, STEPS, ASKED = 0.2, 4.0, 300, 10
SAMPLES, FREE = 400, 1000  # random ones: for the percentile, and for the share that is within
LEARNING = ReinforceSettings(
    ControllerSettings(temperature=1.0, tanh_constant=0.0),
    learning_rate=0.005,
    entropy_weight=0.0,
    skip_weight=0.0,
    normalise=True,
)


def limits_of(plan: Plan) -> Limits:
    """Returns the limit of a space; none where all architectures cost the same."""
    costs = [plan.cost(arch) for arch in plan.space.samples(random.Random(1), SAMPLES)[0]]
    for kind, flag in (("parameters", "max_params"), ("macs", "max_macs")):
        values = [found.of(kind) for found in costs]
        if min(values) < max(values):
            return Limits(**{flag: int(np.quantile(values, SHARE, method="lower"))})
    return Limits(max_params=costs[0].parameters)


def taught(space: Any, seed: int = 0) -> Reinforce:
    """Returns a policy that prefers one architecture of the space: it is told to be better than
    what the policy asks."""
    target = space.sample(random.Random(seed))
    strategy = Reinforce(space, LEARNING, seed)
    for _ in range(STEPS):
        metrics = strategy.tell([*strategy.ask(ASKED), *[target] * ASKED], [0.0] * ASKED + [1.0] * ASKED)
        if metrics["entropy"] < ENTROPY:
            break
    return strategy


@torch.no_grad()
def probabilities(strategy: Reinforce, archs: list[Architecture]) -> dict[Architecture, float]:
    """Returns exp(scored log p) of each architecture."""
    found: dict[Architecture, float] = {}
    for i in range(0, len(archs), 500):
        some = archs[i : i + 500]
        found |= zip(some, strategy.controller.score(some).log_prob.double().exp().tolist(), strict=True)
    return found


def asked(strategy: Reinforce, n: int) -> list[Architecture]:
    return [arch for begin in range(0, n, 500) for arch in strategy.ask(min(500, n - begin))]


def p_value(strategy: Reinforce, drawn: list[Architecture], n: int) -> tuple[float, int]:
    """Returns the p-value of the frequencies in `drawn`, and the number of categories."""
    often = [arch for arch, count in Counter(asked(strategy, n)).items() if count >= 3]
    expected = {arch: n * p for arch, p in probabilities(strategy, often).items() if n * p >= 5}
    counts = Counter(drawn)
    pairs = [(counts[arch], number) for arch, number in expected.items()]
    pairs.append((n - sum(seen for seen, _ in pairs), n - sum(expected.values())))
    seen, wanted = zip(*(pair for pair in pairs if pair[1] >= 5), strict=True)
    return float(stats.chisquare(seen, np.array(wanted) * sum(seen) / sum(wanted)).pvalue), len(seen)


def seconds(strategy: Reinforce, rounds: int = 5) -> float:
    """Returns the processor time of asking 100 architectures, the fastest of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        strategy.ask(100)
        taken.append(time.process_time() - start)
    return min(taken)


def measured(name: str, n: int) -> dict[str, Any]:
    """Returns what is measured of one space."""
    plan = preset_plan(PRESETS[name], device="cpu")
    limits = limits_of(plan)
    space = dataclasses.replace(plan, limits=limits).limited_space
    strategy = taught(space)
    drawn = asked(strategy, n)
    p, categories = p_value(strategy, drawn, n)
    known = {arch: limits.hold(plan.cost(arch)) for arch in set(drawn)}
    free = plan.space.samples(random.Random(2), FREE)[0]
    with_limit, without = seconds(Reinforce(space)), seconds(Reinforce(plan.space))
    return {
        "space": name,
        "limit": limits.about(),
        "random_within": sum(limits.hold(plan.cost(arch)) for arch in free) / len(free),
        "asked": n,
        "obey": sum(known[arch] for arch in drawn),
        "different": len(known),
        "categories": categories,
        "p_value": round(p, 4),
        "ms_per_100_with": round(1e3 * with_limit, 1),
        "ms_per_100_without": round(1e3 * without, 1),
        "ratio": round(with_limit / without, 2),
    }


def main(n: int = 10_000, *names: str) -> None:
    torch.set_num_threads(1)
    for name in names or PRESETS:
        print(json.dumps(measured(name, n)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, *sys.argv[2:])
