"""Laws of the policy: the controller's probabilities, REINFORCE's gradient, and the contract of every strategy.

Where a space is small enough, everything is compared with the exact answer, by enumeration.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from enas.architecture import Architecture
from enas.controller import Controller, ControllerSettings, Walk
from enas.space import Edge, InputChoice, Node, OpChoice, SearchSpace, SubsetChoice
from enas.spaces.nasbench201 import nasbench201
from enas.strategies import STRATEGIES, Strategy
from enas.strategies.evolution import Evolution, EvolutionSettings, mutated
from enas.strategies.reinforce import Reinforce, ReinforceSettings
from enas.training import State
from laws import SMALL, TOYS, of_cell, of_walk, p_value, samples

# Far from uniform, so that a mistake shows.
SHARP = ControllerSettings(hidden=7, temperature=1.3, tanh_constant=2.5, init_range=1.5)
HEADS = ("attention", "softmax")


def walked(walk: Walk) -> dict[str, Tensor]:
    return {name: getattr(walk, name) for name in ("log_prob", "entropy", "log_ratio", "divergence")}


def has_inputs(space: SearchSpace) -> bool:
    return any(isinstance(decision, InputChoice) for decision in space.decisions)


# The input head matters only where an input is chosen.
SPACE_AND_HEAD = {
    f"{name}-{head}": (space, head) for name, space in SMALL.items() for head in (HEADS if has_inputs(space) else HEADS[:1])
}
small_space = pytest.mark.parametrize("space", SMALL.values(), ids=SMALL)
space_and_head = pytest.mark.parametrize(("space", "head"), SPACE_AND_HEAD.values(), ids=SPACE_AND_HEAD)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tensors are tiny: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def controller(space: SearchSpace, settings: ControllerSettings = SHARP, seed: int = 0, **changes: Any) -> Controller:
    return Controller(space, replace(settings, **changes), torch.Generator().manual_seed(seed))


def gradient(value: Tensor, policy: Controller) -> Tensor:
    """All in one vector; a parameter that plays no part has 0."""
    parts = torch.autograd.grad(value, list(policy.parameters()), allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(policy.parameters(), parts, strict=True)]
    )


# --------------------------------------------------------------------------------------------------------- probabilities
@space_and_head
def test_probabilities_sum_to_one(space: SearchSpace, head: str, float64: None) -> None:
    """And the terms along the way add up to what they are called: entropies to the entropy of the whole policy."""
    archs = list(space.enumerate())
    with torch.no_grad():
        walk = controller(space, input_head=head).score(archs)
    p = walk.log_prob.exp()
    assert math.isclose(float(p.sum()), 1, abs_tol=1e-9)
    if len(archs) > 1:
        assert float(p.max() - p.min()) > 0.1 / len(archs)
    assert math.isclose(float(p @ walk.entropy), -float(p @ walk.log_prob), abs_tol=1e-9)
    assert math.isclose(float(p @ walk.divergence), float(p @ walk.log_ratio), abs_tol=1e-9)


@space_and_head
def test_asked_frequencies_match_the_scores(space: SearchSpace, head: str) -> None:
    policy, archs = controller(space, input_head=head), list(space.enumerate())
    with torch.no_grad():
        probability = policy.score(archs).log_prob.double().exp().tolist()
        answers = policy.walk(20_000, generator=torch.Generator().manual_seed(5)).answers
    # Decoded once for each distinct row, which is what takes time.
    columns = [answer.reshape(20_000, -1).long() for answer in answers]
    rows, counts = torch.cat(columns, 1).unique(dim=0, return_counts=True)
    parts = rows.split([column.shape[1] for column in columns], 1)
    drawn = policy.decode([part.reshape(-1, *a.shape[1:]).to(a.dtype) for part, a in zip(parts, answers, strict=True)])
    asked = (arch for arch, count in zip(drawn, counts.tolist(), strict=True) for _ in range(count))
    assert p_value(asked, dict(zip(archs, probability, strict=True))) > 1e-3


@small_space
def test_ask_decodes_what_the_walk_draws(space: SearchSpace) -> None:
    policy = controller(space)
    asked = policy.sample(30, torch.Generator().manual_seed(4))
    with torch.no_grad():
        walk = policy.walk(30, generator=torch.Generator().manual_seed(4))
    assert asked == policy.decode(walk.answers)
    assert [space.check(arch) for arch in asked] == asked
    assert walk.log_prob.requires_grad is False


@small_space
def test_encode_and_decode_are_inverse(space: SearchSpace) -> None:
    archs = list(space.enumerate())
    policy = controller(space)
    answers = policy.encode(archs)
    assert policy.decode(answers) == archs
    again = policy.encode(policy.decode(answers))
    assert all(torch.equal(a, b) for a, b in zip(answers, again, strict=True))


@space_and_head
def test_a_sample_scores_what_its_walk_says(space: SearchSpace, head: str) -> None:
    policy = controller(space, input_head=head)
    drawn = policy.walk(50, generator=torch.Generator().manual_seed(1))
    scored = policy.score(policy.decode(drawn.answers))
    for name, value in walked(drawn).items():
        assert torch.equal(value, walked(scored)[name]), name


@space_and_head
def test_one_by_one_scores_as_in_a_batch(space: SearchSpace, head: str) -> None:
    policy = controller(space, input_head=head)
    archs = samples(space, 8)
    together = policy.score(archs)
    alone = [walked(policy.score([arch])) for arch in archs]
    for name, value in walked(together).items():
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), value)


def test_a_decision_that_is_not_asked_changes_nothing() -> None:
    """The probability of `skip` is that of its one answered decision, whatever stands below the other options."""
    nested, _ = TOYS["nested_ops"]
    flat = SearchSpace("flat", nested.walk[:5])  # the anchors and the first decision
    assert [d.name for d in flat.decisions] == ["c.op"]
    policy = controller(nested)
    alone = controller(flat)
    alone.load_state_dict(
        {  # `nested` has the heads of its other op lists and of inputs besides
            name: tensor for name, tensor in policy.state_dict().items() if name in alone.state_dict()
        }
    )
    choices = {"c.op": "skip"}
    assert torch.equal(
        policy.score([nested.architecture(choices)]).log_prob, alone.score([flat.architecture(choices)]).log_prob
    )


def test_architectures_of_other_spaces_are_refused() -> None:
    policy = controller(TOYS["subset"][0])
    with pytest.raises(ValueError, match="needs an architecture of space subset"):
        policy.score(samples(TOYS["op"][0], 1))
    with pytest.raises(ValueError, match=r"'c.skips' is missing"):
        policy.score([Architecture.of({"name": "subset"}, {})])


# ---------------------------------------------------------------------------------------------------- logits and settings
FIRST = {  # a space, and two architectures that differ in one answer; the first decision asked
    "op": (of_walk("op", OpChoice(("x", "y"), name="c.first")), "x", "y"),
    "input": (of_walk("input", InputChoice(("a", "b"), name="c.first")), "a", "b"),
    "bit": (of_walk("bit", SubsetChoice(("a",), name="c.first")), "a", ()),
}
HEADED = [(kind, head) for kind in FIRST for head in (HEADS if kind == "input" else HEADS[:1])]


def log_odds(policy: Controller, yes: Any, no: Any) -> float:
    pair = [policy.space.architecture({"c.first": answer}) for answer in (yes, no)]
    with torch.no_grad():
        log_prob = policy.score(pair).log_prob
    return float(log_prob[0] - log_prob[1])


@pytest.mark.parametrize(("kind", "head"), HEADED)
def test_temperature_and_tanh_shape_the_logits(kind: str, head: str, float64: None) -> None:
    space, yes, no = FIRST[kind]

    def odds(**changes: Any) -> float:
        return log_odds(controller(space, input_head=head, **changes), yes, no)

    bare = odds(temperature=1.0, tanh_constant=0.0)
    assert abs(bare) > 0.01
    assert math.isclose(odds(temperature=5.0, tanh_constant=0.0), bare / 5, rel_tol=1e-9)
    if kind == "bit":  # one logit; a softmax over two options sees the difference of two
        assert math.isclose(odds(temperature=5.0, tanh_constant=2.5), 2.5 * math.tanh(bare / 5), rel_tol=1e-9)
        assert math.isclose(abs(odds(temperature=1e-6, tanh_constant=0.5)), 0.5, rel_tol=1e-9)
    for seed in range(20):
        wide = controller(space, seed=seed, input_head=head, temperature=0.01, tanh_constant=0.5)
        assert abs(log_odds(wide, yes, no)) <= (0.5 if kind == "bit" else 1.0) + 1e-9


@pytest.mark.parametrize(("kind", "head"), HEADED)
def test_a_prior_is_added_to_the_scaled_logits(kind: str, head: str, float64: None) -> None:
    space, yes, no = FIRST[kind]
    (decision,) = space.decisions
    prior = (0.7, -0.4)[: len(decision.options)]
    shifted = SearchSpace(space.name, (*space.walk[:-1], replace(decision, prior=prior)))
    plain, moved = (log_odds(controller(s, input_head=head), yes, no) for s in (space, shifted))
    shift = prior[0] - prior[1] if len(prior) == 2 else prior[0]
    assert math.isclose(moved, plain + shift, rel_tol=1e-9)


def test_parameters_start_small() -> None:
    policy = controller(SMALL["conv_micro"], ControllerSettings())
    values = torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert 0.0999 < float(values.abs().max()) <= 0.1
    assert abs(float(values.mean())) < 1e-3
    assert math.isclose(float(values.std()), 0.1 / math.sqrt(3), rel_tol=0.02)


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"temperature": 0.0}, {"tanh_constant": -1.0}, {"init_range": -0.1}])
def test_wrong_controller_settings(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"controller\.{name} is at least .*; got {value}"):
        ControllerSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0.0}, {"baseline_decay": 1.0}, {"skip_rate": 0.0}, {"entropy_weight": -1.0}, {"skip_weight": -1.0}],
)
def test_wrong_reinforce_settings(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"strategy\.{name} is .*; got {value}"):
        ReinforceSettings(**wrong)


# ----------------------------------------------------------------------------------------------------- expected gradient
GRADIENT_SPACES = ("subset_and_op", "two_of_four", "prior", "nested_ops", "nested_two_of_three")


def policy_of(space: SearchSpace, **settings: Any) -> Reinforce:
    return Reinforce(space, ReinforceSettings(controller=SHARP, skip_rate=0.3, **settings), seed=2)


def expected_update(strategy: Reinforce, archs: Sequence[Architecture], rewards: Sequence[float]) -> Tensor:
    """Sum over all architectures of probability times the gradient that `tell` would follow for this one alone."""
    p = strategy.controller.score(archs).log_prob.exp().detach()
    parts = [
        p_m * gradient(strategy.loss([arch], [reward])[0], strategy.controller)
        for p_m, arch, reward in zip(p, archs, rewards, strict=True)
    ]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("terms", ["sampled", "exact"])
@pytest.mark.parametrize("name", [*GRADIENT_SPACES, pytest.param("nested_subset", marks=pytest.mark.slow)])
def test_the_expected_update_is_the_exact_gradient(name: str, terms: Any, float64: None) -> None:
    """Of E[R] + w H - k KL, whatever the baseline from before."""
    space = TOYS[name][0]
    archs = list(space.enumerate())
    rng = random.Random(name)
    rewards = [rng.uniform(-1, 2) for _ in archs]
    w, k = 0.7, 1.9
    strategy = policy_of(space, terms=terms, entropy_weight=w, skip_weight=k)
    strategy.baseline = 0.37
    found = expected_update(strategy, archs, rewards)
    walk = strategy.controller.score(archs)
    p = walk.log_prob.exp()
    entropy = -(p * walk.log_prob).sum()
    divergence = (p * walk.divergence).sum()
    objective = (p * torch.tensor(rewards)).sum() + w * entropy - k * divergence
    exact = -gradient(objective, strategy.controller)
    assert float(exact.norm()) > 1e-3
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("terms", ["sampled", "exact"])
def test_a_step_of_many_follows_the_mean_of_each_alone(terms: Any, float64: None) -> None:
    strategy = policy_of(TOYS["prior"][0], terms=terms)
    strategy.baseline = -0.2
    archs, rewards = samples(strategy.space, 5), [0.1, 0.9, -0.4, 0.0, 2.0]
    together = gradient(strategy.loss(archs, rewards)[0], strategy.controller)
    alone = [gradient(strategy.loss([a], [r])[0], strategy.controller) for a, r in zip(archs, rewards, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("terms", ["sampled", "exact"])
def test_a_number_that_does_not_depend_on_the_draw_teaches_nothing(terms: Any, float64: None) -> None:
    """On one yes/no: the exact entropy added to every reward has gradient 0, as a term of the loss it has not."""
    space = FIRST["bit"][0]
    archs = list(space.enumerate())
    plain = policy_of(space, terms=terms, entropy_weight=0.0, skip_weight=0.0)
    plain.baseline = 0.1
    walk = plain.controller.score(archs)
    entropy = (walk.log_prob.exp() * walk.entropy).sum()
    as_number = expected_update(plain, archs, [entropy.item()] * 2)
    assert float(as_number.norm()) < 1e-12
    term = policy_of(space, terms=terms, entropy_weight=1.0, skip_weight=0.0)
    term.baseline = 0.1
    exact = -gradient(entropy, plain.controller)
    assert float(exact.norm()) > 0.01
    torch.testing.assert_close(expected_update(term, archs, [0.0, 0.0]), exact, rtol=1e-7, atol=1e-10)


# -------------------------------------------------------------------------------------------------------------- learning
# Settings with which a strategy learns a space of a few answers in some hundred steps.
QUICK: dict[str, Any] = {
    "reinforce": ReinforceSettings(
        ControllerSettings(hidden=16, temperature=1.0, tanh_constant=5.0),
        learning_rate=0.02,
        entropy_weight=0.01,
        skip_weight=0.0,
        baseline_decay=0.9,
    ),
}


def learner(name: str, space: SearchSpace, seed: int = 0, head: Any = "attention") -> Strategy:
    entry = STRATEGIES[name]
    settings = QUICK.get(name) or entry.settings()
    if isinstance(settings, ReinforceSettings):
        settings = replace(settings, controller=replace(settings.controller, input_head=head))
    return entry.make(space, settings, seed)


LEARNERS = [name for name in STRATEGIES if learner(name, TOYS["op"][0]).learns]
POLICIES = [name for name in LEARNERS if name in QUICK]  # what they ask for is what they think best


def teach(strategy: Strategy, reward: Callable[[Architecture], float], steps: int = 50, n: int = 16) -> None:
    for _ in range(steps):
        archs = strategy.ask(n)
        strategy.tell(archs, [reward(arch) for arch in archs])


def share(strategy: Strategy, archs: set[Architecture]) -> float:
    asked = strategy.ask(200)
    return sum(arch in archs for arch in asked) / len(asked)


# Space, number of the planted architecture in its enumeration, input head. Left out, because they are often not found:
# attention where one node's best input is `a` and another's is `b`, the two cell inputs (the tanh saturates for both before
# they are told apart), and subsets whose best answers differ from node to node, for the same reason.
PLANTED = [
    ("inputs", 2, "softmax"),  # n1 reads a, n2 reads b
    ("inputs", 20, "attention"),  # both read b
    ("two_of_four", 2, "attention"),
    ("op", 2, "attention"),
    pytest.param("nested_two_of_three", 2, "attention", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("space", "which", "head"), PLANTED)
@pytest.mark.parametrize("name", POLICIES)
def test_a_planted_best_arm_is_found(name: str, space: str, which: int, head: Any) -> None:
    planted = list(TOYS[space][0].enumerate())[which]
    strategy = learner(name, TOYS[space][0], head=head)
    teach(strategy, lambda arch: float(arch == planted))
    assert share(strategy, {planted}) > 0.9


@pytest.mark.parametrize("name", POLICIES)
def test_two_decisions_that_must_agree(name: str) -> None:
    """XOR: either alone tells nothing; two optima."""
    space, _ = TOYS["two_ops"]
    good = {arch for arch in space.enumerate() if arch.choices["c.first"] != arch.choices["c.second"]}
    assert len(good) == 2
    strategy = learner(name, space)
    teach(strategy, lambda arch: float(arch in good))
    assert share(strategy, good) > 0.9


@pytest.mark.parametrize("name", LEARNERS)
def test_the_best_of_many_is_found_sooner_than_by_chance(name: str) -> None:
    """A reward that counts right answers: what is asked for gets better, by far more than chance would have it."""
    space = nasbench201()
    wanted = space.sample(random.Random(3)).choices
    strategy = learner(name, space)

    def right(arch: Architecture) -> float:
        return sum(arch.choices[key] == answer for key, answer in wanted.items()) / len(wanted)

    teach(strategy, right, steps=40)
    asked = strategy.ask(50)
    assert sum(map(right, asked)) / len(asked) > 0.4, "uniform ones have a fifth right"


LAYERS = 6
SKIPS = of_cell(
    "skips",
    *(
        Node(f"n{i}", (Edge("a", OpChoice(("conv", "pool"))),), SubsetChoice(("a", *(f"n{j}" for j in range(1, i)))))
        for i in range(1, LAYERS)
    ),
    inputs=("a",),
    output="last",
)


def skip_rate(archs: Sequence[Architecture]) -> float:
    subsets = [d for d in SKIPS.decisions if isinstance(d, SubsetChoice)]
    taken = sum(len(arch.choices[d.name]) for arch in archs for d in subsets)
    return taken / (len(archs) * sum(len(d.options) for d in subsets))


def test_an_untrained_controller_takes_half_of_the_skips() -> None:
    assert abs(skip_rate(Reinforce(SKIPS).ask(2000)) - 0.5) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("terms", ["sampled", "exact"])
def test_the_skip_term_alone_brings_the_skip_rate_to_its_prior(terms: Any) -> None:
    settings = ReinforceSettings(learning_rate=0.003, entropy_weight=0.0, terms=terms)
    assert (settings.skip_weight, settings.skip_rate) == (0.8, 0.4)
    strategy = Reinforce(SKIPS, settings)
    teach(strategy, lambda arch: 1.0, steps=150)
    assert abs(skip_rate(strategy.ask(2000)) - 0.4) < 0.03


def test_the_baseline_is_the_one_from_before() -> None:
    strategy = Reinforce(TOYS["two_ops"][0], ReinforceSettings(entropy_weight=0.0, skip_weight=0.0, baseline_decay=0.9))
    archs = samples(strategy.space, 4)
    before = [p.detach().clone() for p in strategy.controller.parameters()]
    metrics = strategy.tell(archs, [2.0] * 4)  # the very first: its own mean
    assert (metrics["baseline"], metrics["advantage"], strategy.baseline) == (2.0, 0.0, 2.0)
    assert all(torch.equal(a, b) for a, b in zip(before, strategy.controller.parameters(), strict=True))
    metrics = strategy.tell(archs, [5.0] * 4)
    assert (metrics["baseline"], metrics["advantage"], metrics["reward"]) == (2.0, 3.0, 5.0)
    assert strategy.baseline == pytest.approx(0.9 * 2.0 + 0.1 * 5.0)
    assert not all(torch.equal(a, b) for a, b in zip(before, strategy.controller.parameters(), strict=True))
    assert strategy.tell(archs, [0.0] * 4)["advantage"] == pytest.approx(-2.3)


def test_the_baseline_follows_the_reward_with_its_terms() -> None:
    space, _ = TOYS["prior"]
    strategy = policy_of(space, entropy_weight=0.5, skip_weight=0.7)
    archs, rewards = samples(space, 6), [0.1, 0.4, 0.2, 0.9, 0.5, 0.3]
    with torch.no_grad():
        walk = strategy.controller.score(archs)
    total = torch.tensor(rewards) - 0.5 * walk.log_prob - 0.7 * walk.log_ratio
    metrics = strategy.tell(archs, rewards)
    assert strategy.baseline == pytest.approx(float(total.mean()))
    assert metrics["reward"] == pytest.approx(0.4)
    assert metrics["reward_best"] == pytest.approx(0.9)
    assert metrics["entropy"] == pytest.approx(float(walk.entropy.mean()))


def test_normalised_advantages_do_not_know_the_scale_of_rewards() -> None:
    strategy = policy_of(TOYS["op"][0], entropy_weight=0.0, normalise=True)
    archs, rewards = list(strategy.space.enumerate()), [0.1, 0.4, 0.2]
    loss = strategy.loss(archs, rewards)[0]
    scaled = strategy.loss(archs, [10 * reward + 3 for reward in rewards])[0]
    torch.testing.assert_close(loss, scaled)
    assert abs(float(loss.detach())) > 1e-3


# ----------------------------------------------------------------------------------------------------- every strategy
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
STATE_SPACES = ("inputs", "layers", "nested_two_of_three")


def kept(state: State) -> State:
    """As it comes back from disk."""
    tensors = load(save({key: tensor.contiguous() for key, tensor in state.tensors.items()}))
    return State(tensors, json.loads(json.dumps(state.values)))


def go_on(strategy: Strategy, steps: int, seed: int = 0) -> list[Any]:
    """Ask and tell, with rewards that depend on the architecture; everything that was seen."""
    seen: list[Any] = []
    for step in range(steps):
        archs = strategy.ask(5)
        seen += [archs, strategy.tell(archs, [random.Random(f"{seed} {step} {arch.id}").random() for arch in archs])]
    return seen


def same_state(a: State, b: State) -> bool:
    return (
        a.values == b.values
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(tensor, b.tensors[key]) for key, tensor in a.tensors.items())
    )


@pytest.mark.parametrize("told", [0, 1, 3])
@pytest.mark.parametrize("space", STATE_SPACES)
@every_strategy
def test_after_load_a_strategy_goes_on_bit_for_bit(name: str, space: str, told: int) -> None:
    first = learner(name, TOYS[space][0], seed=7)
    go_on(first, told)
    state = kept(first.state())
    second = learner(name, TOYS[space][0], seed=7)
    go_on(second, 2, seed=1)  # a past of its own, which loading has to wipe out
    second.load(state)
    assert same_state(second.state(), state)
    assert go_on(first, 3) == go_on(second, 3)
    assert same_state(first.state(), second.state())
    if first.learns and told:
        assert not same_state(first.state(), state)


@pytest.mark.parametrize("space", STATE_SPACES)
@every_strategy
def test_asking_depends_on_the_state_alone(name: str, space: str) -> None:
    """Not on the global generators, which it leaves alone; not on what was asked by others; each ask draws anew."""
    first, second, other = (learner(name, TOYS[space][0], seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(11), random.seed(11), np.random.seed(11)
    expected = [first.ask(20), first.ask(20)]
    torch.manual_seed(22), random.seed(22), np.random.seed(22)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    found = [second.ask(20)]
    other.ask(20)
    found.append(second.ask(20))
    second.tell(found[0], [0.5] * 20)
    assert found == expected
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]
    assert expected[0] != expected[1]
    assert learner(name, TOYS[space][0], seed=2).ask(20) != expected[0]


@small_space
@every_strategy
def test_every_strategy_serves_every_space(name: str, space: SearchSpace) -> None:
    strategy = learner(name, space)
    archs = strategy.ask(3)
    assert [space.check(arch) for arch in archs] == archs
    metrics = strategy.tell(samples(space, 4), [0.1, 0.5, 0.2, 0.3])  # whatever it asked for itself
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert metrics["reward"] == pytest.approx(0.275)
    assert len(strategy.ask(1)) == 1


# ---------------------------------------------------------------------------------------------------------- evolution
@small_space
def test_a_mutation_changes_one_answer(space: SearchSpace) -> None:
    """And those that depend on it. From any architecture every other can be reached."""
    rng = random.Random(0)
    everything = list(space.enumerate())
    for arch in everything[:40]:
        neighbours = {mutated(space, arch, rng) for _ in range(60)}
        for other in neighbours - {arch}:
            changed = {n for n in arch.choices.keys() & other.choices.keys() if arch.choices[n] != other.choices[n]}
            assert len(changed) == 1
            brought_in = arch.choices.keys() ^ other.choices.keys()
            assert all(d.when is not None for d in space.decisions if d.name in brought_in)
        assert arch not in neighbours or len(everything) == 1
    reached, frontier = {everything[0]}, [everything[0]]
    while frontier and len(reached) < len(everything):
        for _ in range(300):
            new = mutated(space, frontier[0], rng)
            if new not in reached:
                reached.add(new)
                frontier.append(new)
        frontier.pop(0)
    assert len(reached) == len(everything) or len(everything) > 500


def test_the_oldest_dies() -> None:
    space = TOYS["inputs"][0]
    strategy = Evolution(space, EvolutionSettings(population=3, tournament=3))
    archs = list(space.enumerate())[:5]
    strategy.tell(archs, [9.0, 8.0, 1.0, 2.0, 3.0])
    assert [reward for _, reward in strategy.members] == [1.0, 2.0, 3.0], "the best two were the oldest"
    for child in strategy.ask(20):
        assert sum(child.choices[n] != archs[4].choices[n] for n in child.choices) == 1, "all are of the best that is left"


@pytest.mark.parametrize("wrong", [{"population": 0}, {"tournament": 0}, {"population": 3, "tournament": 4}])
def test_wrong_evolution_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"strategy\.(population|tournament) is"):
        EvolutionSettings(**wrong)
