"""Short trainings that teach: what they lead to, what they cost, and that judges which are wrong
are found out. Trainings here are looked up in a planted truth."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import numpy as np
import pytest

from enas.procedures import taught
from enas.procedures.correction import Correction, Known
from enas.procedures.events import Judged, Scored
from enas.procedures.settings import LEAST_TRAININGS, DeriveSettings
from enas.procedures.taught import Outcome, Short, Taught
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.features import features
from enas.spaces.nasbench201 import nasbench201
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace
from enas.state import seed_of
from enas.strategies.reinforce import Reinforce
from enas.strategies.strategy import Strategy

SETTINGS = DeriveSettings(trainings=24, finalists=3, finalist_steps=10, rounds=4, judges=("parameters",))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few candidates per round."""
    monkeypatch.setattr(taught, "POLICY_STEPS", 10)
    monkeypatch.setattr(taught, "POOL", 200)


def planted(space: SearchSpace) -> Callable[[Architecture], float]:
    """Returns a truth that is a sum over the parts of the graph, each worth a fixed random
    amount."""

    def truth(arch: Architecture) -> float:
        return sum(n * random.Random(f"worth {part}").gauss(0, 1) for part, n in features(space, arch).items())

    return truth


class Lab:
    """Trains by looking up: notes what was asked, and lets time pass. Longer trainings are less
    noisy."""

    def __init__(self, truth: Callable[[Architecture], float], noise: float = 0.0):
        self.truth, self.noise, self.asked, self.seconds = truth, noise, list[Short](), 0.0

    def __call__(self, wanted: Sequence[Short]) -> Iterator[Outcome]:
        for short in wanted:
            self.asked.append(short)
            self.seconds += 0.1 * short.steps
            yield Outcome(self.truth(short.arch) + self.luck(short), 0.1 * short.steps)

    def luck(self, short: Short) -> float:
        return random.Random(seed_of(short.arch.id, short.seed)).gauss(0, self.noise) * (10 / short.steps) ** 0.5


def rounds(
    space: SearchSpace,
    lab: Lab,
    settings: DeriveSettings = SETTINGS,
    judge: Callable[[Architecture], float] = lambda arch: 0.0,
    seed: int = 0,
    full_steps: int = 40,
    searched: Sequence[Architecture] = (),
) -> tuple[Judged, list[Scored]]:
    def no_policy() -> Strategy | None:
        return None

    method = Taught(
        settings, space, lab, {"parameters": judge}, frozenset(), no_policy, searched, full_steps, lambda: lab.seconds, seed
    )
    events = list(method.run())
    assert isinstance(events[-1], Judged)
    return events[-1], [event for event in events if isinstance(event, Scored)]


@pytest.mark.slow
@pytest.mark.parametrize("make", [nasbench201, lambda: conv_micro(ConvMicroSettings(num_nodes=2))])
def test_taught_trainings_lead_further_than_as_many_random_ones(make: Callable[[], SearchSpace]) -> None:
    """Random ones are picked by the same noisy rewards; means over seeds."""
    space, taught_ones, random_ones = make(), [], []
    for seed in range(3):
        lab = Lab(planted(space), noise=0.7)
        taught_ones.append(lab.truth(rounds(space, lab, seed=seed)[0].ranked[0]))
        for draw in range(10):
            archs = space.samples(random.Random(10 * seed + draw), len(lab.asked))[0]
            random_ones.append(lab.truth(max(archs, key=lambda arch: lab.truth(arch) + lab.luck(Short(arch, 10, 0)))))
    assert fmean(taught_ones) > fmean(random_ones)


@pytest.mark.parametrize("n", [1, 2, 4, 12])
def test_only_the_shortlist_is_trained_where_judges_picked_one(n: int) -> None:
    """However small it is, and however much more the trainings could afford."""
    space = nasbench201()
    picked, lab = space.samples(random.Random(0), n)[0], Lab(planted(space))
    for changes in ({"trainings": 24}, {"trainings": 0, "budget": 1000.0}):
        settings = dataclasses.replace(SETTINGS, shortlist=n, **changes)
        judged, scores = rounds(space, lab, settings, judge=lab.truth, searched=picked)
        assert {score.arch for score in scores} == set(picked)
        assert judged.ranked[0] == max(picked, key=lab.truth)
        assert judged.trainings == n


def test_a_policy_follows_what_the_trainings_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it draws in the end is predicted to be better than what it drew at first."""
    monkeypatch.setattr(taught, "POLICY_STEPS", 40)
    space = nasbench201()
    truth = planted(space)
    archs = space.samples(random.Random(0), 40)[0]
    method = Taught(SETTINGS, space, Lab(truth), {}, frozenset(), lambda: Reinforce(space), [], 10, lambda: 0.0)
    known = [method._known(arch, []) for arch in archs]
    correction = Correction.taught(known, [truth(arch) for arch in archs])
    drawn = method._followed(correction, random.Random(0))
    assert len(drawn) == 400
    first, last = (fmean(correction.predict([method._known(a, []) for a in some])[0]) for some in (drawn[:50], drawn[-50:]))
    assert last > first + 0.3


def test_each_training_is_made_once_and_the_best_are_trained_longer_in_the_end() -> None:
    space = nasbench201()
    lab = Lab(planted(space), noise=1.0)
    judged, scored = rounds(space, lab)
    short, final = ([s for s in lab.asked if s.seed == seed] for seed in (0, 1))
    assert [len(short), len(final)] == [24, 3]
    assert len({s.arch for s in short}) == 24
    assert {s.steps for s in short} == {10}
    assert {s.steps for s in final} == {40}
    assert {s.arch for s in final} < {s.arch for s in short}
    rewards = {s.arch: s.metrics["reward"] for s in scored if s.stage == "final"}
    assert judged.ranked[:3] == tuple(sorted(rewards, key=lambda arch: -rewards[arch]))
    assert set(judged.ranked) == {s.arch for s in short}
    assert judged.trainings == 24
    assert judged.predicted == 18  # all but the first round


def test_no_graph_is_trained_twice_under_two_names() -> None:
    """In a space of few graphs: each differs in what it is wired to, not in the order of a sum."""
    space = conv_micro(ConvMicroSettings(num_nodes=1, ops=("identity", "max_pool_3x3")))
    lab = Lab(planted(space))
    rounds(space, lab)
    short = [s.arch for s in lab.asked if s.seed == 0]
    graphs = {frozenset(features(space, arch).items()) for arch in short}
    assert len(graphs) == len(short) == 24
    assert len({frozenset(features(space, arch).items()) for arch in space.enumerate()}) < space.size() / 2


def test_a_final_training_is_no_longer_than_one_from_scratch_and_else_both_count() -> None:
    space = nasbench201()
    lab = Lab(planted(space), noise=1.0)
    _, scored = rounds(space, lab, full_steps=10)
    first = {s.arch: s.metrics["reward"] for s in scored if s.stage == "short"}
    for s in scored:
        if s.stage == "final":
            again = lab.truth(s.arch) + lab.luck(Short(s.arch, 10, 1))
            assert s.metrics["reward"] == pytest.approx((first[s.arch] + again) / 2)
    assert {s.steps for s in lab.asked} == {10}


@pytest.mark.parametrize("budget", [11.0, 20.0, 60.0])
def test_a_budget_is_used_and_kept(budget: float) -> None:
    """A second per training; the last ones are four times as long, fewer where less is left."""
    lab = Lab(planted(nasbench201()))
    rounds(nasbench201(), lab, dataclasses.replace(SETTINGS, trainings=0, budget=budget))
    assert 0.85 * budget <= lab.seconds <= budget


def test_a_budget_is_used_in_a_single_round_too() -> None:
    """The trainings that show what one takes are a part of it, and do not end it."""
    lab = Lab(planted(nasbench201()))
    rounds(nasbench201(), lab, dataclasses.replace(SETTINGS, trainings=0, budget=60.0, rounds=1))
    assert 0.85 * 60 <= lab.seconds <= 60


def test_what_teaches_anything_is_trained_whatever_the_budget() -> None:
    lab = Lab(planted(nasbench201()))
    judged, _ = rounds(nasbench201(), lab, dataclasses.replace(SETTINGS, trainings=0, budget=2.0))
    assert (lab.seconds, len(judged.ranked)) == (LEAST_TRAININGS, LEAST_TRAININGS)


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    space = nasbench201()
    results = [rounds(space, Lab(planted(space)), seed=seed)[0].ranked for seed in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.slow
def test_a_judge_that_is_wrong_is_found_out() -> None:
    """Whether a judge ranks by the truth or against it, what is derived is as good; and the tau
    that is reported says which it was."""
    space = nasbench201()
    truth, found = planted(space), {}
    for sign in (1, -1):
        judged, _ = rounds(space, Lab(truth), judge=lambda arch, sign=sign: sign * truth(arch))  # type: ignore[misc]
        found[sign] = truth(judged.ranked[0])
        assert judged.taus["parameters"].value == pytest.approx(sign)
    everything = sorted(map(truth, space.samples(random.Random(9), 2000)[0]))
    assert min(found.values()) > everything[int(0.99 * len(everything))]
    judged, _ = rounds(space, Lab(truth), judge=lambda arch: 1.0)  # that says the same of all
    assert set(judged.taus) == {"prediction"}


def test_a_correction_says_how_sure_it_is() -> None:
    """Of an architecture like those that taught it surer than of one unlike all."""
    known = [Known({"a": float(i % 2), "b": float(i % 3)}, {"size": float(i)}) for i in range(12)]
    correction = Correction.taught(known, [float(i) + (i % 2) for i in range(12)])
    mean, deviation = correction.predict([known[5], known[11], Known({"a": 9.0, "b": -9.0}, {"size": 5.0})])
    assert mean[1] > mean[0]
    assert deviation[2] > deviation[0]
    with pytest.raises(ValueError, match="6 trainings at least; got 5"):
        Correction.taught(known[:5], [0.0] * 5)


def test_a_judge_may_be_right_up_to_a_point_only() -> None:
    """Rewards rise with the size up to 10 and fall from there."""
    known = [Known({"a": float(i % 2)}, {"size": float(i)}) for i in range(21)]
    correction = Correction.taught(known, [-abs(i - 10.0) for i in range(21)])
    mean, _ = correction.predict([Known({"a": 0.0}, {"size": size}) for size in (0.0, 10.0, 20.0)])
    assert mean[1] > mean[0] + 1
    assert mean[1] > mean[2] + 1


def test_the_first_round_is_random_whatever_judges_prefer() -> None:
    space, first = nasbench201(), {}
    truth = planted(space)
    for sign in (1, -1):
        lab = Lab(truth)
        rounds(space, lab, judge=lambda arch, sign=sign: sign * truth(arch))  # type: ignore[misc]
        first[sign] = [short.arch for short in lab.asked[: SETTINGS.trainings // SETTINGS.rounds]]
    assert first[1] == first[-1]


def test_trainings_that_diverged_do_no_harm() -> None:
    """A reward far below all others moves the regression no more than any last place."""
    space = nasbench201()
    truth, results = planted(space), []
    for worst in (-100.0, -1e30):
        lab = Lab(lambda arch, worst=worst: worst if truth(arch) < 0 else truth(arch))  # type: ignore[misc]
        results.append(rounds(space, lab)[0].ranked[0])
    assert results[0] == results[1]


def test_predictions_are_held_against_others_of_their_round() -> None:
    """Each regression has a scale of its own: its zero is the median of what was trained before. A
    prediction that is right within every round is right."""
    space = nasbench201()
    lab = Lab(planted(space))
    method = Taught(SETTINGS, space, lab, {}, frozenset(), lambda: None, (), 40, lambda: lab.seconds)
    archs = space.samples(random.Random(0), 18)[0]
    for i, arch in enumerate(archs):
        method.outcomes[arch] = Outcome(float(i), 1.0)
        method.predicted[arch], method.predicted_in[arch] = i - 100.0 * (i // 6), i // 6
    assert method.judged().taus["prediction"].value == pytest.approx(1.0)


def test_equal_rewards_have_one_place_whatever_was_trained_last() -> None:
    """The regression, which prefers the second, decides."""
    space = nasbench201()
    archs = space.samples(random.Random(0), 12)[0]
    sizes = {arch: float(i == 1) for i, arch in enumerate(archs)}
    lab = Lab(lambda arch: sizes[arch])
    method = Taught(SETTINGS, space, lab, {"parameters": sizes.__getitem__}, frozenset(), lambda: None, (), 40, lambda: 0.0)
    list(method.trained(archs, 0))
    assert method.ranked()[0] == archs[1]
    method.outcomes = dict.fromkeys(archs, Outcome(1.0, 1.0))
    method.learns = False
    assert method.ranked() == archs


def test_without_learning_rewards_alone_rank() -> None:
    space = nasbench201()
    lab = Lab(planted(space), noise=2.0)
    method = Taught(SETTINGS, space, lab, {}, frozenset(), lambda: None, (), 40, lambda: 0.0, learns=False)
    list(method.trained(space.samples(random.Random(0), 30)[0], 0))
    assert method.ranked() == sorted(method.outcomes, key=lambda arch: -method.outcomes[arch].reward)


def test_a_judge_that_says_no_number_says_its_least() -> None:
    """As shared weights do of an architecture whose outputs overflow."""
    rng = random.Random(0)
    values = [rng.gauss(0, 1) for _ in range(12)]
    known = [Known({}, {"judge": value}) for value in values]
    worst = [Known({}, {"judge": value}) for value in (-math.inf, math.nan)]
    correction = Correction.taught([*known, *worst], [*values, -math.inf, -math.inf])
    mean, _ = correction.predict([Known({}, {"judge": min(values)}), *worst])
    assert np.isfinite(mean).all()
    assert mean.tolist() == pytest.approx([mean[0]] * 3)


@pytest.mark.parametrize("name", [name for name in SPACES if name != "own"])
def test_parts_tell_architectures_apart(name: str) -> None:
    space = SPACES[name].make(SPACES[name].settings())
    archs = space.samples(random.Random(0), 30)[0]
    assert len({tuple(sorted(features(space, arch).items())) for arch in archs}) == 30


def test_two_cells_that_are_wired_alike_have_the_same_parts() -> None:
    """Swapped edges of a node are the same sum."""
    space = conv_micro(ConvMicroSettings(num_nodes=1))

    def parts(first: str, second: str, first_op: str, second_op: str) -> dict[str, int]:
        answers = {"n2.input0": first, "n2.op0": first_op, "n2.input1": second, "n2.op1": second_op}
        choices = {f"{cell}.{name}": answer for cell in ("normal", "reduce") for name, answer in answers.items()}
        return features(space, space.architecture(choices))

    one = parts("prev", "prev_prev", "identity", "max_pool_3x3")
    assert one == parts("prev_prev", "prev", "max_pool_3x3", "identity")
    assert one != parts("prev_prev", "prev", "identity", "max_pool_3x3")
