"""Several ranks do what one process does: the same updates, rewards, policy and files.

With as many ranks as children, and two of each, sums have one order, so equality is to the last
bit. Otherwise gradients are added up in another order: 1e-6 of the largest weight.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from enas.procedures import ranks as ranks_module
from enas.procedures.events import Diverged
from enas.procedures.ranks import RankError, Ranks, joined
from enas.procedures.search import Search
from enas.runs.plan import Plan
from enas.runs.planning import problem_plan
from enas.state import State
from procedures_small import SMALL, difference, small, to_the_end, training
from together import together


def on_ranks(n: int, plan: Plan, make: Any = None) -> list[tuple[list[Any], State]]:
    def work(rank: int) -> tuple[list[Any], State]:
        with joined("cpu") as ranks:
            return to_the_end((make or (lambda ranks: plan.search(ranks)))(ranks))

    return together(n, work)


# ------------------------------------------------------------------------------------ what is sent
def test_one_process_sends_nothing() -> None:
    alone = Ranks()
    assert alone.mine("abc") == [(0, "a"), (1, "b"), (2, "c")]
    assert alone.gathered([1.0, math.inf], 2) == [1.0, math.inf]
    assert alone.agreed("time is up", True) == ("time is up", True)
    assert alone.told(lambda: 3) == 3
    assert alone.most(5) == 5


def test_what_ranks_tell_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "BUCKET", 16)  # bytes: each of the parameters fills one

    def work(rank: int) -> Any:
        with joined("cpu") as ranks:
            mine = ranks.mine(range(5))
            gathered = ranks.gathered([value / 3 if value else math.inf for value, _ in mine], 5)
            stops = [ranks.agreed(why if rank == 1 else None, due=rank == who) for why, who in ((None, 1), ("SIGTERM", 0))]
            a, b, c, d = (nn.Parameter(torch.zeros(size)) for size in (5, 3, 2, 4))
            a.grad = torch.full((5,), 1.0 + rank)
            if rank == 1:
                b.grad = torch.full((3,), 7.0)
            ranks.add_up([a, b, c])  # of d, which no child used, nothing is sent
            module = nn.BatchNorm1d(2)
            with ranks.one_of_buffers(list(module.buffers())):
                if rank == 1:
                    module(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
            state = State({f"child{rank}": torch.full((1,), float(rank)), "both": torch.full((1,), float(rank))})
            return {
                "mine": mine, "gathered": gathered, "stops": stops, "told": ranks.told(lambda: f"rank {rank}"),
                "gradients": [None if p.grad is None else p.grad.tolist() for p in (a, b, c, d)], "sent": ranks.sent,
                "buffers": [buffer.tolist() for buffer in module.buffers()],
                "whole": {key: float(value) for key, value in ranks.whole(state).tensors.items()},
            }  # fmt: skip

    first, second = together(2, work)
    assert (first.pop("mine"), second.pop("mine")) == ([(0, 0), (2, 2), (4, 4)], [(1, 1), (3, 3)])
    assert first == second
    assert first["gathered"] == [math.inf, 1 / 3, 2 / 3, 1.0, 4 / 3]
    assert first["stops"] == [(None, False), ("SIGTERM", True)]
    assert first["told"] == "rank 0"
    assert first["gradients"] == [[3.0] * 5, [7.0] * 3, None, None]
    assert first["sent"] == (5 + 3 + 2) * 4 + 3
    # the statistics of the one rank that had a batch: 0.9 x before + 0.1 x the batch's
    assert first["buffers"][0] == pytest.approx([0.1, 2.0])
    assert first["buffers"][1] == pytest.approx([0.9 + 0.2, 0.9 + 20.0])
    assert first["buffers"][2] == 1
    assert first["whole"] == {"both": 0.0, "child0": 0.0, "child1": 1.0}


# ------------------------------------------------------------------------- equal to one process
@pytest.mark.parametrize("preset", [pytest.param(p, marks=[pytest.mark.slow] * p.startswith("nasbench")) for p in SMALL])
def test_two_ranks_of_a_child_each_are_one_process_to_the_last_bit(preset: str) -> None:
    plan = small(preset)
    events, state = to_the_end(plan.search())
    for found, reached in on_ranks(2, plan):
        assert found == events
        assert reached.values == state.values
        assert difference(reached, state) == 0


@pytest.mark.parametrize(("n", "children"), [(2, 3), pytest.param(3, 2, marks=pytest.mark.slow)])
def test_other_numbers_of_children_add_up_in_another_order(n: int, children: int) -> None:
    """Also where a rank has no child of a step."""
    plan = small("digits-macro", children, epochs=1, controller_steps=0)
    events, state = to_the_end(plan.search())
    reached = on_ranks(n, plan)
    for found, there in reached:
        assert difference(there, state) < 1e-6
        assert found == reached[0][0]
        assert [event[1] for event in found[:3]] == [event[1] for event in events[:3]]


def test_a_network_of_ones_own_has_equal_buffers_on_all_ranks() -> None:
    """Its weights are those of one process while no reward is asked for; the hash of each epoch
    covers its running statistics. From scratch some of its parameters are never used."""
    plan = problem_plan("procedures_small:problem", device="cpu")
    s = plan.settings
    search = dataclasses.replace(s.search, epochs=2, warmup_epochs=2, children=2)
    plan = plan.with_settings(search=search, retrain=dataclasses.replace(s.retrain, epochs=1))
    _, state = to_the_end(plan.search())
    for _, reached in on_ranks(2, plan):
        parameters = [
            State({key: t for key, t in some.tensors.items() if key.startswith("weights/") and "running" not in key})
            for some in (reached, state)
        ]
        assert difference(*parameters) == 0
    (first, _), (second, _) = on_ranks(2, plan, lambda ranks: training(plan, ranks))
    assert first == second


@pytest.mark.slow
def test_a_step_that_one_child_spoils_is_skipped_by_all() -> None:
    """The second child's loss at the second step, and its gradient at the third."""
    plan = small("text-rnn", max_skipped=1.0)

    def spoiled(ranks: Ranks | None) -> Search:
        procedure = plan.search(ranks)
        usual, calls = procedure.task.loss, iter(range(1000))

        def loss(model: Any, arch: Any, batch: Any, progress: float = 1.0, child: int = 0) -> torch.Tensor:
            value = usual(model, arch, batch, progress, child)
            step = next(calls) if ranks else next(calls) // 2  # in one process both children call
            if child == 1 and step == 1:
                return value * math.inf
            if child == 1 and step == 2:
                value.register_hook(lambda gradient: gradient * math.nan)
            return value

        procedure.task.loss = loss  # type: ignore[method-assign]
        return procedure

    events, state = to_the_end(spoiled(None))
    assert [event[3] for event in events[:4]] == [None, "loss", "gradient", None]
    for found, reached in on_ranks(2, plan, spoiled):
        assert repr(found) == repr(events)  # a loss is infinite
        assert difference(reached, state) == 0


def test_a_search_that_diverges_ends_on_all_ranks() -> None:
    plan = small("digits-macro", max_skipped=0.0)

    def work(rank: int) -> str:
        with joined("cpu") as ranks:
            procedure = plan.search(ranks)
            procedure.task.diverged = lambda loss: True  # type: ignore[method-assign]
            with pytest.raises(Diverged) as caught:
                to_the_end(procedure)
        return str(caught.value)

    first, second = together(2, work)
    assert first == second


def test_ranks_that_differ_stop_and_say_where() -> None:
    plan = small("digits-macro", epochs=1, controller_steps=0)

    def work(rank: int) -> str:
        with joined("cpu") as ranks:
            procedure = plan.search(ranks)
            if rank == 1:
                with torch.no_grad():
                    procedure.supernet.get_parameter("classifier.bias")[3] += 1e-6
            with pytest.raises(RankError) as caught:
                to_the_end(procedure)
        return str(caught.value)

    for said in together(2, work):
        assert said.startswith("all ranks have the same weights and policy; 'weights/classifier.bias' of rank 1 is not")


@pytest.mark.slow
def test_a_state_of_two_ranks_goes_on_in_one_process_and_back() -> None:
    """The hidden state of each child is that of the rank that runs it, also after two changes."""
    plan = small("text-rnn")

    def after(steps: int, procedure: Search, state: State | None) -> State:
        if state is not None:
            procedure.load(state)
        for _, _event in zip(range(steps), procedure.run(), strict=False):
            pass
        state = procedure.state()
        return State({key: tensor.detach().clone() for key, tensor in state.tensors.items()}, dict(state.values))

    def two(steps: int, state: State | None) -> State:
        def work(rank: int) -> State:
            with joined("cpu") as ranks:
                return after(steps, plan.search(ranks), state)

        return together(2, work)[0]

    whole = after(4, plan.search(), None)
    broken = two(1, after(1, plan.search(), two(2, None)))
    assert any(key.startswith("task/1.") for key in whole.tensors)
    assert broken.values == whole.values
    assert difference(broken, whole) == 0


# ------------------------------------------------------------------------------ from scratch (DDP)
@pytest.mark.slow
@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_training_on_ranks_makes_the_updates_of_one_process(n: int) -> None:
    """A language model without batch norm and dropout; three ranks have unequal shares."""
    plan = small("text-rnn")
    network = dataclasses.replace(
        plan.settings.retrain.network, batch_norm=False, input_dropout=0.0, output_dropout=0.0, hidden_dropout=0.0
    )
    plan = plan.with_settings(retrain=dataclasses.replace(plan.settings.retrain, network=network, epochs=1))
    events, state = to_the_end(training(plan))
    weights = {key: tensor for key, tensor in state.tensors.items() if key.startswith("weights/")}
    for found, reached in on_ranks(n, plan, lambda ranks: training(plan, ranks)):
        assert difference(State({key: reached.tensors[key] for key in weights}), State(weights)) < 1e-6
        for name, figure in events[-1].items():
            assert found[-1][name] == pytest.approx(figure, rel=1e-5)


@pytest.mark.slow
def test_a_training_of_images_scores_the_same_on_all_ranks() -> None:
    """With batch norm, an auxiliary head, and a last batch too small for three ranks."""
    plan = small("digits-micro")
    task = dataclasses.replace(plan.settings.retrain.task, batch_size=28)  # 28, 28 and 4 images
    plan = plan.with_settings(retrain=dataclasses.replace(plan.settings.retrain, task=task))
    reached = on_ranks(3, plan, lambda ranks: training(plan, ranks))
    for found, state in reached:
        assert found == reached[0][0]
        assert found[-1]["test_accuracy"] > 0
        weights = [State({key: t for key, t in s.tensors.items() if "running" not in key}) for s in (state, reached[0][1])]
        assert difference(*weights) == 0
