"""This module derives: it picks architectures after the search (paper 2.2).

Samples of the trained policy are scored with the shared weights on one validation minibatch. The
paper takes the best of these. By default the best `keep` are then scored on the full validation
set, because a minibatch of 128 tells little about differences of a few points.

Random architectures are scored as well, on the same shared weights and minibatch, to see whether
the policy knows more than chance. A score by shared weights only ranks. It is not the figure that a
network reaches when it is trained from scratch. So the best can be trained from scratch for a short
time, and then those trainings decide (`halving`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain
from statistics import median
from typing import Any

import torch
from torch import nn

from enas.networks.ops import Statistics
from enas.networks.own import Child
from enas.networks.supernet import Supernet
from enas.procedures.events import Judged, Scored
from enas.procedures.halving import Rewards, ShortTraining, finals
from enas.procedures.settings import DeriveSettings
from enas.procedures.taught import Judge
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import copied
from enas.strategies.strategy import Strategy
from enas.tasks.task import Task


def derive(
    settings: DeriveSettings,
    task: Task,
    supernet: Supernet,
    strategy: Strategy,
    uniform: Strategy,
    training: ShortTraining | None = None,
    rewards: Rewards | None = None,
    judges: Mapping[str, Judge] | None = None,
) -> Iterator[Scored]:
    """Yields each score as it comes. `ranked` orders them.

    `strategy` draws the architectures that are ranked, and `uniform` those that they are compared
    with. `training` says how finalists are trained, and is needed where there are any. `rewards`
    trains them elsewhere. `judges` holds by name the judges that can pick a shortlist; the number
    of parameters needs none.
    """
    first: list[Scored] = []
    drawers = {"policy": [strategy], "uniform": [uniform], "both": [strategy, uniform]}[settings.draw]
    asked = [drawer.ask(n) for drawer, n in zip(drawers, _shares(settings.samples, len(drawers)), strict=True)]
    sources = [set(archs) for archs in asked]
    judges = {"parameters": supernet.num_parameters, **(judges or {})}
    drawn = {"minibatch": (yield from shortlisted(list(dict.fromkeys(chain(*asked))), settings, judges))}
    if settings.uniform:
        drawn["uniform"] = uniform.ask(settings.uniform)
    for stage, archs in drawn.items():
        for i, arch in enumerate(archs):
            reward = shared_reward(settings, task, supernet, arch)
            scored = Scored(arch, stage, {"reward": reward}, i + 1, len(archs))
            first += [scored] if stage == "minibatch" else []
            yield scored
    first = _best_first(first)
    best = first
    if settings.score_on == "validation":
        again, second = first[: settings.keep], []
        for i, scored in enumerate(again):
            model, argument = _scorer(settings, task, supernet, scored.arch)
            second.append(
                Scored(scored.arch, "validation", task.evaluate(model, argument, "validation"), i + 1, len(again))
            )
            yield second[-1]
        best = _best_first(second) + first[settings.keep :]
    if settings.finalists and not settings.teaches:
        assert training is not None
        finalists = _from_each([scored.arch for scored in best], sources, settings.finalists)
        yield from finals(settings.finalist_steps, training, finalists, rewards)


def shared_reward(settings: DeriveSettings, task: Task, supernet: Supernet, arch: Architecture) -> float:
    """Returns the reward of an architecture by shared weights, on one validation minibatch."""
    model, argument = _scorer(settings, task, supernet, arch)
    return task.reward(model, argument, task.reward_batch(0))


def _shares(n: int, parts: int) -> list[int]:
    """Returns n in parts that are as equal as possible. The first parts are larger by one where n
    cannot be divided."""
    return [n // parts + (i < n % parts) for i in range(parts)]


def _from_each(ranked: list[Architecture], sources: list[set[Architecture]], n: int) -> list[Architecture]:
    """Returns the first n of `ranked`, equally many from each source, in the order of `ranked`.
    Where a source has too few, architectures of the others take their places."""
    chosen: list[Architecture] = []
    for source, share in zip(sources, _shares(n, len(sources)), strict=True):
        chosen += [arch for arch in ranked if arch in source and arch not in chosen][:share]
    chosen += [arch for arch in ranked if arch not in chosen][: n - len(chosen)]
    return sorted(chosen, key=ranked.index)


def shortlisted(
    archs: list[Architecture], settings: DeriveSettings, judges: Mapping[str, Judge]
) -> Generator[Scored, None, list[Architecture]]:
    """Returns the architectures on the shortlist, the best by its last judge first. Returns all
    where no shortlist is wanted. Yields what each judge says. Raises a ValueError where a judge
    says the same of all."""
    n, names = len(archs), settings.shortlist_by
    if not 0 < settings.shortlist < n:
        return archs
    for turn, name in enumerate(names, 1):
        said: dict[Architecture, float] = {}
        for i, arch in enumerate(archs):
            said[arch] = judges[name](arch)
            yield Scored(arch, "shortlist", {name: said[arch]}, i + 1, len(archs))
        if len(archs) > 1 and not _differ(said.values()):
            able = [free for free in ("parameters", "macs") if free in judges and _differ(map(judges[free], archs))]
            raise ValueError(
                f"judge {name} says the same of all {len(archs)} architectures, so it can pick none for a shortlist;"
                f" {' and '.join(able) or 'neither parameters nor macs'} can tell them apart: change --shortlist-by"
            )
        archs = sorted(archs, key=lambda arch: -said[arch])[: round(n * (settings.shortlist / n) ** (turn / len(names)))]
    return archs


def _differ(scores: Iterable[float]) -> bool:
    return len(set(scores)) > 1


def ranked(scores: list[Scored], keep: int, judged: Judged | None = None) -> list[Scored]:
    """Returns the best `keep` scores by the reward of the last stage, best first. Finalists that
    were trained longer come first. `judged` holds what short trainings taught, if there were
    any."""
    if judged is not None:
        # the last score of each architecture
        of_training = {s.arch: s for s in scores if s.stage in ("short", "final")}
        return [of_training[arch] for arch in judged.ranked[:keep]]
    trained = {s.arch: s for s in scores if s.stage == "alone"}  # the last score of each
    if trained:
        order = sorted(trained.values(), key=lambda s: (-s.metrics["round"], -s.metrics["reward"]))
        return order[:keep]
    last = [s for s in scores if s.stage == "validation"] or [s for s in scores if s.stage == "minibatch"]
    return _best_first(last)[:keep]


def _best_first(scores: list[Scored]) -> list[Scored]:
    return sorted(scores, key=lambda scored: -scored.metrics["reward"])


def learned(scores: list[Scored], settings: DeriveSettings) -> dict[str, float] | None:
    """Returns the median rewards of the policy's and of random architectures on one minibatch, and
    the probability that the policy's is the better one of a pair (at 0.5 it knows no more than
    chance). Each architecture counts once, however often the policy drew it.

    Returns None where no random ones were scored, and where the samples were not the policy's only,
    or were picked by judges.
    """
    if settings.draw != "policy" or settings.shortlist:
        return None
    policy, uniform = ([s.metrics["reward"] for s in scores if s.stage == stage] for stage in ("minibatch", "uniform"))
    if not uniform:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in policy for b in uniform) / (len(policy) * len(uniform))
    return {"policy_median": median(policy), "uniform_median": median(uniform), "policy_beats_uniform": wins}


def preferred(strategy: Strategy, space: SearchSpace, draws: int) -> dict[str, dict[str, float]]:
    """Returns for each decision and option the share of the strategy's architectures that take the
    option, among those where the decision is asked. It draws `draws` architectures, and leaves the
    strategy as it is."""
    before = copied(strategy.state())
    archs = strategy.ask(draws)
    strategy.load(before)
    shares: dict[str, dict[str, float]] = {}
    for decision in space.decisions:
        answers = [arch.choices[decision.name] for arch in archs if decision.name in arch.choices]
        if answers:
            counts = {option: sum(decision.contains(answer, option) for answer in answers) for option in decision.options}
            shares[decision.name] = {option: count / len(answers) for option, count in counts.items()}
    return shares


def _scorer(
    settings: DeriveSettings, task: Task, supernet: Supernet, arch: Architecture
) -> tuple[nn.Module, Architecture | None]:
    """Returns the model that scores `arch` and the architecture to call it with: the supernet, or a
    child with its own batch-norm statistics and None."""
    if settings.statistics == "batch":
        return supernet, arch
    return recalibrated(task, supernet, arch, settings.recalibration_steps), None


@torch.no_grad()
def recalibrated(task: Task, supernet: Supernet, arch: Architecture, steps: int) -> nn.Module:
    """Returns the child of `arch` with shared weights, and with running statistics averaged over
    `steps` training batches."""
    statistics: Statistics = "running"
    child: nn.Module = supernet.child(arch, statistics)
    child = (child if isinstance(child, Supernet) else Child(child)).train()
    norms: list[Any] = [m for m in child.modules() if hasattr(m, "reset_running_stats")]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    remembered = task.state()
    for step in range(min(steps, task.train_steps)):
        task.loss(child, None, task.train_batch(0, step))
    task.load(remembered)
    return child.eval()
