"""Laws 6 and 7, and the two phases: a search stopped at any step and loaded again equals one that
never stopped; one seed, one result; what each phase trains and tells."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F

from enas.cli.derive import DeriveFlags
from enas.networks.supernet import Supernet
from enas.procedures.derive import derive, learned, ranked
from enas.procedures.events import Begun, EpochEnd, Finished, Scored, Step, TrainEpochEnd
from enas.procedures.halving import ShortTraining, finals
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings, OptimizerSettings
from enas.runs.files import read_lines
from enas.runs.folder import RunFolder
from enas.runs.loop import silent
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.presets import registry as presets
from enas.runs.search import search_plan
from enas.runs.settings import difference, from_dict, to_dict
from enas.spaces.architecture import Architecture
from enas.spaces.published import named
from enas.state import State
from enas.strategies.random_search import RandomSearch
from enas.strategies.registry import STRATEGIES


def tiny(seed: int = 0, strategy: str = "reinforce", **changes: object) -> Plan:
    """A search of seconds: two nodes, 4 filters, 3 shared and 2 controller steps an epoch."""
    plan = make_plan("digits-micro", seed=seed, threads=1, device="cpu")
    s = plan.settings
    network = dataclasses.replace(s.network, filters=4, dropout=0.1, drop_path=0.1, aux_weight=0.4)
    settings = dataclasses.replace(
        s,
        space=dataclasses.replace(s.space, num_nodes=2),
        network=network,
        data=dataclasses.replace(s.data, train=60, validation=40),
        task=dataclasses.replace(s.task, batch_size=20, reward_batch=20),
        search=dataclasses.replace(s.search, epochs=3, warmup_epochs=1, children=2, controller_steps=2, architectures=2),
        derive=dataclasses.replace(s.derive, samples=4, keep=2),
        retrain=dataclasses.replace(
            s.retrain, epochs=2, network=network, task=dataclasses.replace(s.retrain.task, batch_size=20)
        ),
    )
    return dataclasses.replace(plan, settings=dataclasses.replace(settings, **changes)).with_strategy(strategy)


def log(folder: RunFolder, event: object) -> None:
    if isinstance(event, Step):
        for arch, value in zip(event.archs, event.values, strict=True):
            folder.append_architecture(arch, {"phase": event.phase, "step": event.step, "value": value})
    elif isinstance(event, EpochEnd | TrainEpochEnd):
        folder.append("metrics", event.metrics)


def equal(a: State, b: State) -> bool:
    return (
        json.dumps(dict(a.values)) == json.dumps(dict(b.values))
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)
    )


def files(path: Path) -> dict[str, bytes]:
    return {name: (path / f"{name}.jsonl").read_bytes() for name in ("metrics", "architectures")}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_resumed_at_any_step_equals_uninterrupted(tmp_path: Path, strategy: str) -> None:
    plan = tiny(strategy=strategy)
    plan = plan.with_settings(search=dataclasses.replace(plan.settings.search, epochs=2))
    whole = plan.search()
    with RunFolder.create(tmp_path / "whole", tiny().to_dict("search")) as folder:
        for event in whole.run():
            log(folder, event)
        folder.checkpoint(whole.state())
    events = 1 + sum(1 for _ in plan.search().run())

    # One run that is killed after every single event: after each, logs go on past the checkpoint
    # and are lost.
    path = tmp_path / "broken"
    RunFolder.create(path, tiny().to_dict("search")).close()
    for count in range(events):
        with RunFolder.open(path) as folder:
            procedure = plan.search()
            state = folder.restore()
            assert (state is None) == (count == 0)
            if state is not None:
                procedure.load(state)
            run = procedure.run()
            for number, event in enumerate(run):
                log(folder, event)
                if number == 0:
                    folder.checkpoint(procedure.state())
                else:  # lost work: not in the checkpoint
                    break
    with RunFolder.open(path) as folder:
        state = folder.restore()
    assert state is not None
    assert equal(state, whole.state())
    assert files(path) == files(tmp_path / "whole")


@pytest.mark.slow
def test_one_seed_one_result_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name))  # global state has no say
        search_plan(tiny(seed), out=tmp_path / name)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert len(read_lines(tmp_path / "a" / "metrics.jsonl")) == 3


def test_the_two_phases() -> None:
    plan = tiny()
    procedure = plan.search()
    phases: list[str] = []
    for event in procedure.run():
        before = phases[-1] if phases else ""
        if isinstance(event, EpochEnd):
            phases.append("end")
            continue
        phases.append(event.phase)
        assert len(event.archs) == len(event.values) == 2
        assert all(math.isfinite(v) for v in event.values)
        if event.phase == "controller":
            assert event.epoch >= 1, "the controller rests while warming up"
            assert all(0 <= reward <= 1 for reward in event.values)
            assert before in ("shared", "controller")
    assert phases == ["shared"] * 3 + ["end"] + (["shared"] * 3 + ["controller"] * 2 + ["end"]) * 2


@pytest.mark.slow
def test_phase_one_leaves_the_policy_and_phase_two_the_weights() -> None:
    procedure = tiny().search()

    def shared() -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in procedure.supernet.state_dict().items()}

    def policy() -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in procedure.strategy.state().tensors.items() if k.startswith("controller")}

    def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(a[k], b[k]) for k in a)

    before = shared(), policy()
    for event in procedure.run():
        after = shared(), policy()
        if isinstance(event, Step):
            assert same(before[0], after[0]) == (event.phase == "controller")
            assert same(before[1], after[1]) == (event.phase == "shared")
        before = after


def test_children_of_a_step_train_on_one_minibatch_and_average() -> None:
    """Eq. 1: the gradient of a step is the mean of its children's."""
    procedure = tiny().search()
    archs = procedure.uniform.ask(3)
    batch = procedure.task.train_batch(0, 0)
    key = (0, "test")
    procedure._gradients(archs, batch, key)
    together = {n: p.grad.clone() for n, p in procedure.supernet.named_parameters() if p.grad is not None}
    mean: dict[str, torch.Tensor] = {}
    for child, arch in enumerate(archs):
        procedure.supernet.zero_grad()
        from enas.state import seeded

        with seeded(*key, child):
            procedure.task.loss(procedure.supernet, arch, batch, 0.0).backward()
        for name, p in procedure.supernet.named_parameters():
            if p.grad is not None:
                mean[name] = mean.get(name, torch.zeros_like(p)) + p.grad / 3
    assert mean.keys() == together.keys()
    for name, gradient in mean.items():
        torch.testing.assert_close(gradient, together[name], rtol=1e-4, atol=1e-6)


def test_preview_changes_nothing() -> None:
    procedure = tiny().search()
    before = procedure.state()
    before = State({k: t.clone() for k, t in before.tensors.items()}, json.loads(json.dumps(dict(before.values))))
    cost = procedure.preview(children=3, warm=1, seconds=0.1, most=5)
    assert equal(before, procedure.state())
    assert all(p.grad is None for p in procedure.supernet.parameters())
    assert cost.shared_steps == 9
    assert cost.controller_steps == 4
    assert cost.seconds > 0


def test_random_search_spends_nothing_on_rewards() -> None:
    events = list(tiny(strategy="random").search().run())
    assert {e.phase for e in events if isinstance(e, Step)} == {"shared"}


def test_rewards_never_touch_training_or_test_images() -> None:
    task = tiny().task(tiny().load_data(), tiny().settings.task)
    validation = {image.numpy().tobytes() for image in task._parts["validation"].x}
    for step in range(6):
        assert all(image.numpy().tobytes() in validation for image in task.reward_batch(step).x)
    seen = [i for step in range(2) for i in task.reward_batch(step).x.sum((1, 2, 3)).tolist()]
    assert len(set(seen)) > 35, "two steps of 20 are one pass over 40 images"


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["batch", "recalibrated"])
@pytest.mark.parametrize("score_on", ["validation", "minibatch"])
def test_derive_ranks_by_its_last_stage(statistics: str, score_on: str) -> None:
    procedure = tiny().search()
    weights = {k: v.clone() for k, v in procedure.supernet.state_dict().items()}
    settings = DeriveSettings(samples=6, keep=3, score_on=score_on, statistics=statistics, recalibration_steps=2)
    scores = list(derive(settings, procedure.task, procedure.supernet, procedure.strategy, procedure.uniform))
    best = ranked(scores, settings.keep)
    assert all(torch.equal(v, weights[k]) for k, v in procedure.supernet.state_dict().items())
    assert {s.stage for s in best} == {score_on}
    rewards = [s.metrics["reward"] for s in best]
    assert rewards == sorted(rewards, reverse=True)
    kept = sorted((s.metrics["reward"] for s in scores if s.stage == "minibatch"), reverse=True)[:3]
    first = {s.arch: s.metrics["reward"] for s in scores if s.stage == "minibatch"}
    assert sorted((first[s.arch] for s in best), reverse=True) == kept, "only the best of the minibatch go on"
    found = learned(scores, settings)
    assert found is not None
    assert sum(s.stage == "uniform" for s in scores) == settings.uniform == 30
    assert 0 <= found["policy_beats_uniform"] <= 1
    assert found["policy_median"] == median(first.values())


@pytest.mark.slow
def test_finalists_are_halved_by_training_alone() -> None:
    """8, 4, 2 and no further: each round trains on from the last, the better half stays, the
    longest trained rank first."""
    search = tiny().search()
    settings = DeriveSettings(samples=30, draw="uniform", shortlist=12, score_on="minibatch", uniform=0, finalists=8,
                              finalist_steps=2)  # fmt: skip
    built: list[Architecture] = []

    def build(arch: Architecture) -> Supernet:
        built.append(arch)
        return search.supernet.child(arch, "running")

    training = ShortTraining(build, search.task, OptimizerSettings(learning_rate=0.05), batches=2)
    before = {name: value.clone() for name, value in search.supernet.state_dict().items()}
    scores = list(derive(settings, search.task, search.supernet, search.strategy, search.uniform, training))
    first = [s for s in scores if s.stage == "minibatch"]
    sizes = [search.supernet.num_parameters(s.arch) for s in first]
    assert len(first) == 12
    drawn = RandomSearch(search.supernet.space, seed=search.seed).ask(30)
    assert sorted(sizes) == sorted(search.supernet.num_parameters(a) for a in dict.fromkeys(drawn))[-12:]
    rounds = [[s for s in scores if s.stage == "alone" and s.metrics["round"] == r] for r in (1, 2, 3)]
    assert [len(r) for r in rounds] == [8, 4, 2]
    assert set(built) == {s.arch for s in sorted(first, key=lambda s: -s.metrics["reward"])[:8]}
    for earlier, later in itertools.pairwise(rounds):
        best = sorted(earlier, key=lambda s: -s.metrics["reward"])[: len(later)]
        assert {s.arch for s in later} == {s.arch for s in best}
    order = ranked(scores, 8)
    assert [s.metrics["round"] for s in order] == [3, 3, 2, 2, 1, 1, 1, 1]
    assert order[0].metrics["reward"] >= order[1].metrics["reward"]
    assert all(torch.equal(value, before[name]) for name, value in search.supernet.state_dict().items())


def test_judges_pick_a_shortlist_one_after_the_other() -> None:
    """Of 100 samples a first judge keeps 20 and a second 4: the square root of a 25th each. What
    they say is told, and the last one's order is that in which they are scored."""
    search = tiny().search()
    archs = RandomSearch(search.supernet.space, seed=3).ask(100)
    assert len(set(archs)) == 100
    first = {arch: float(i * 37 % 101) for i, arch in enumerate(archs)}
    second = {arch: float(i * 53 % 103) for i, arch in enumerate(archs)}
    settings = DeriveSettings(samples=100, draw="uniform", score_on="minibatch", uniform=0, shortlist=4,
                              shortlist_by=("macs", "zico"))  # fmt: skip
    judges = {"macs": first.__getitem__, "zico": second.__getitem__}
    drawer = RandomSearch(search.supernet.space, seed=3)

    def scores(settings: DeriveSettings) -> list[Scored]:
        drawer.load(RandomSearch(search.supernet.space, seed=3).state())
        return list(derive(settings, search.task, search.supernet, search.strategy, drawer, judges=judges))

    told = scores(settings)
    kept = sorted(archs, key=lambda arch: -first[arch])[:20]
    assert [s.metrics for s in told[:100]] == [{"macs": first[arch]} for arch in archs]
    assert [(s.metrics, s.done, s.total) for s in told[100:120]] == [
        ({"zico": second[arch]}, i, 20) for i, arch in enumerate(kept, 1)
    ]
    assert {s.stage for s in told[:120]} == {"shortlist"}
    assert [s.arch for s in told[120:]] == sorted(kept, key=lambda arch: -second[arch])[:4]
    assert {s.stage for s in told[120:]} == {"minibatch"}
    all_of_them = dataclasses.replace(settings, shortlist=100)  # there is nothing to pick
    assert {s.stage for s in scores(all_of_them)} == {"minibatch"}
    with pytest.raises(ValueError, match=r"shortlist_by names a judge at least"):
        DeriveSettings(shortlist=3, shortlist_by=())
    with pytest.raises(ValueError, match=r"derive\.shortlist_by"):
        DeriveSettings(shortlist_by=("size",))  # type: ignore[arg-type]


def test_finalists_of_both_sources() -> None:
    """Half of the policy's, half of the uniform ones, though the shared weights score the policy's
    above all others."""
    search = tiny().search()
    space = search.supernet.space
    policy, others = RandomSearch(space, seed=11), RandomSearch(space, seed=12)
    mine, uniform = RandomSearch(space, seed=11).ask(9), RandomSearch(space, seed=12).ask(9)
    settings = DeriveSettings(samples=18, draw="both", score_on="minibatch", uniform=0, finalists=5, finalist_steps=1)
    training = ShortTraining(
        lambda arch: search.supernet.child(arch, "running"), search.task, OptimizerSettings(), batches=1
    )

    class Biased:
        """Scores what the policy drew at 1, all else at 0, and trains as the task does."""

        def __getattr__(self, name: str) -> Any:
            return getattr(search.task, name)

        def reward(self, model: Any, arch: Architecture | None, batch: Any) -> float:
            return float(arch in mine) if arch is not None else 0.5

    task: Any = Biased()
    scores = list(derive(settings, task, search.supernet, policy, others, dataclasses.replace(training, task=task)))
    assert {s.arch for s in scores if s.stage == "minibatch"} == {*mine, *uniform}
    finalists = [s.arch for s in scores if s.stage == "alone" and s.metrics["round"] == 1]
    assert len(finalists) == 5
    assert sum(arch in mine for arch in finalists) == 3
    assert sum(arch in uniform for arch in finalists) == 2
    none_left = DeriveSettings(samples=1, draw="both", score_on="minibatch", uniform=0, finalists=4, finalist_steps=1)
    alone_scores = derive(none_left, task, search.supernet, policy, others, dataclasses.replace(training, task=task))
    assert len({s.arch for s in alone_scores if s.stage == "alone"}) == 1, "there is one architecture only"


@pytest.mark.parametrize(("n", "rounds"), [(1, [1]), (2, [2]), (3, [3]), (4, [4, 2]), (6, [6, 3]), (12, [12, 6, 3])])
def test_halving_ends_where_one_is_left(n: int, rounds: list[int]) -> None:
    """To train the last one further would change nothing."""
    archs = tiny().space.samples(random.Random(0), n)[0]
    none: Any = None
    asked = list[int]()

    def rewards(left: Sequence[Architecture], round_: int) -> list[float]:
        asked.append(len(left))
        return [float(archs.index(arch)) for arch in left]

    scores = list(finals(1, none, archs, rewards))
    assert asked == rounds
    last = [s.arch for s in scores if s.metrics["round"] == len(rounds)]
    assert archs[-1] in last


def test_what_a_policy_knows() -> None:
    def scored(stage: str, *rewards: float) -> list[Scored]:
        return [Scored(named("enas_micro"), stage, {"reward": r}, 1, 1) for r in rewards]

    policy = scored("minibatch", 1.0, 3.0, 5.0)
    assert learned(policy, DeriveSettings()) is None
    for other in (DeriveSettings(draw="both"), DeriveSettings(draw="uniform"), DeriveSettings(shortlist=3)):
        assert learned(policy + scored("uniform", 0.0, 3.0), other) is None, "not the policy's alone"
    assert learned(policy + scored("uniform", 0.0, 3.0), DeriveSettings()) == {
        "policy_median": 3.0,
        "uniform_median": 1.5,
        "policy_beats_uniform": (2 + 1.5 + 1) / 6,
    }
    with pytest.raises(ValueError, match=r"derive\.uniform is at least 0; got -1"):
        DeriveSettings(uniform=-1)


def child(plan: Plan, seed: int = 0) -> Retrain:
    import random

    arch = plan.space.sample(random.Random(1))
    task = plan.task(plan.load_data(), plan.settings.retrain.task, plan.settings.retrain.train_on)
    return Retrain(plan.settings.retrain, task, plan.network(plan.settings.retrain.network, task, arch, seed), seed)


@pytest.mark.slow
def test_retraining_resumed_at_any_step_equals_uninterrupted() -> None:
    plan = tiny()
    whole = child(plan)
    last = next(event for event in whole.run() if isinstance(event, Finished))
    steps = 2 * 3 + 2
    for stop in range(1, steps + 1):
        first = child(plan)
        run = first.run()
        for _ in range(stop):
            next(run)
        state = first.state()
        state = State({k: t.clone() for k, t in state.tensors.items()}, json.loads(json.dumps(dict(state.values))))
        second = child(plan)
        second.load(state)
        (again,) = [event for event in second.run() if isinstance(event, Finished)]
        assert equal(second.state(), whole.state())
        assert again == last


def test_retraining_on_everything_has_no_validation_and_says_so() -> None:
    plan = tiny()
    everything = dataclasses.replace(plan.settings.retrain, train_on="train+validation")
    procedure = child(dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, retrain=everything)))
    assert procedure.task.train_steps == 5  # 60 + 40 images, 20 a batch
    events = list(procedure.run())
    assert all("validation_accuracy" not in e.metrics for e in events if isinstance(e, TrainEpochEnd | Finished))


def test_the_loss_of_the_auxiliary_head_counts() -> None:
    plan = tiny()
    network = dataclasses.replace(plan.settings.network, dropout=0.0, drop_path=0.0)
    procedure = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, network=network)).search()
    arch, batch = procedure.strategy.ask(1)[0], procedure.task.train_batch(0, 0)
    logits, aux = procedure.supernet.train()(batch.x, arch)
    expected = F.cross_entropy(logits, batch.y) + 0.4 * F.cross_entropy(aux, batch.y)
    torch.testing.assert_close(procedure.task.loss(procedure.supernet, arch, batch), expected)


def test_the_test_set_is_read_once() -> None:
    procedure = child(tiny())
    read: list[str] = []
    evaluate = procedure.task.evaluate
    procedure.task.evaluate = lambda model, arch, part: (read.append(part), evaluate(model, arch, part))[1]  # type: ignore[method-assign]
    list(procedure.run())
    assert read == ["validation", "validation", "test"]


@pytest.mark.slow
def test_a_search_never_reads_the_test_set() -> None:
    procedure = tiny().search()
    del procedure.task._parts["test"]
    list(procedure.run())
    list(derive(DeriveSettings(samples=2), procedure.task, procedure.supernet, procedure.strategy, procedure.uniform))


def test_a_rate_that_no_weights_survive_ends_the_search() -> None:
    plan = tiny()
    wild = dataclasses.replace(plan.settings.search.optimizer, learning_rate=1e18, schedule="constant")
    plan = dataclasses.replace(
        plan, settings=dataclasses.replace(plan.settings, search=dataclasses.replace(plan.settings.search, optimizer=wild))
    )
    from enas.procedures.events import Diverged

    with pytest.raises(Diverged, match=r"\d of 3 steps were skipped .* [0-9a-f]{10} is .* epoch \d+, step 3; "):
        list(plan.search().run())


def test_every_recipe_round_trips_through_json() -> None:
    for name, entry in presets.PRESETS.items():
        for recipe in entry.recipes:
            settings = presets.config_of(name, recipe)
            back = from_dict(entry.names.settings(), json.loads(json.dumps(to_dict(settings))))
            assert back == settings
            assert difference(settings, back) == []


def test_a_setting_that_a_run_did_not_know_is_what_the_code_did_then() -> None:
    settings = to_dict(presets.config_of("ptb-rnn", "released"))
    del settings["network"]["batch_norm_eps"], settings["strategy"]["baseline_start"], settings["retrain"]["rollbacks"]
    del settings["strategy"]["controller"]["after_anchor"], settings["space"]["near_prior"]
    # as it was written then
    settings |= {"reinforce": settings["strategy"], "strategy": "reinforce"}
    plan = Plan.of({"command": "search", "preset": "ptb-rnn", "recipe": "released", "settings": settings})
    assert plan.names == presets.preset("ptb-rnn").names
    old = plan.settings
    assert (old.network.batch_norm_eps, old.strategy.baseline_start) == (1e-5, None)
    assert (old.strategy.controller.after_anchor, old.space.near_prior, old.retrain.rollbacks) == ("empty", False, 3)
    assert old.network.hidden == 200  # what was recorded stays


@pytest.mark.slow
def test_begun_comes_with_a_cost(tmp_path: Path) -> None:
    heard: list[object] = []
    search_plan(tiny(), out=tmp_path / "run", listen=heard.append)
    begun = heard[0]
    assert isinstance(begun, Begun)
    assert begun.cost is not None
    assert silent(begun) is None
    assert isinstance(tiny().search(), Search)


def test_the_flags_of_derive_are_its_settings() -> None:
    """Every setting that the command takes allows what the setting allows."""
    flags, settings = get_type_hints(DeriveFlags), get_type_hints(DeriveSettings)
    # which is text with a unit, such as 10m
    for name in (flags.keys() & settings.keys()) - {"budget"}:
        allowed = set(get_args(flags[name])) - {type(None)}
        assert (get_args(*allowed) or tuple(allowed)) == (get_args(settings[name]) or (settings[name],)), name
