"""Alarms: each known failure raises its own, a healthy epoch none; a probe finds a planted gap and
changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from enas.procedures.alarms import alarms, largest_entropy, probed
from enas.procedures.events import EpochEnd
from enas.procedures.search import Search
from enas.procedures.settings import SearchSettings
from enas.runs.planning import make_plan
from enas.spaces.conv_macro import conv_macro
from enas.spaces.conv_micro import conv_micro
from enas.spaces.nasbench201 import nasbench201
from enas.spaces.rnn_cell import rnn_cell

SPACE = conv_micro()
GOOD: dict[str, Any] = {
    "entropy": 30.0,
    "ops": {"normal.identity": 0.2, "normal.max_pool_3x3": 0.3, "reduce.identity": 0.3, "reduce.sep_conv_3x3": 0.2},
    "policy_minus_uniform": 0.03,
    "policy_minus_uniform_half_width": 0.01,
    "agreement": 0.6,
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "entropy": ({"entropy": 1.0}, "entropy has collapsed to 1.0 of"),
    "one op": ({"ops": {"normal.identity": 0.45, "normal.max_pool_3x3": 0.05}}, "90% of the edges of the normal cell are"),
    "one op of the only cell": ({"ops": {"cell.relu": 0.9, "cell.tanh": 0.1}}, "90% of the edges of the cell are relu"),
    "chance": ({"policy_minus_uniform_half_width": 0.05}, "not better than uniform ones .*: reward \\+0.030"),
    "small rewards": (
        {"policy_minus_uniform": -4.26e-08, "policy_minus_uniform_half_width": 1.5e-07},
        "reward -4.26e-08 \\+- 1.5e-07",
    ),
    "worse": ({"policy_minus_uniform": -0.1}, "reward -0.100"),
    "noise": ({"agreement": 0.1}, "Kendall's tau 0.10"),
}  # fmt: skip


def test_a_healthy_epoch_raises_none() -> None:
    assert alarms(GOOD, SPACE) == []
    assert alarms({"ops": {"cell.only": 1.0}}, nasbench201()) == [], "one op of one is no collapse; warm-up has no policy"


@pytest.mark.parametrize("name", WRONG)
def test_each_failure_raises_its_alarm(name: str) -> None:
    changed, says = WRONG[name]
    space = rnn_cell() if "only cell" in name else SPACE
    (text,) = alarms(GOOD | changed, space)
    assert re.search(says, text)


def test_a_policy_that_stands_still_raises_its_alarm() -> None:
    (text,) = alarms(GOOD, SPACE, GOOD["entropy"])
    assert re.search(r"stands still: its entropy is 30\.0 nats as in the epoch before", text)
    assert alarms(GOOD, SPACE, GOOD["entropy"] + 1e-12) == []
    assert alarms({"ops": {}}, SPACE, None) == [], "random search has no entropy"


def test_skipped_steps_raise_an_alarm_that_blames_an_op_only_where_there_are_several() -> None:
    reasons = {"gradient": 1, "loss": 2, "loss_not_finite": 1}
    skipped = {
        "skipped_steps": 4,
        "skipped_for": reasons,
        "skipped_ops": {"normal.identity": 0.7, "normal.max_pool_3x3": 0.3},
    }
    (text,) = alarms(GOOD | skipped, SPACE)
    why = "1 for a gradient that is not finite, 2 for a loss far off, 1 for a loss that is not finite"
    assert text == f"4 training steps were skipped ({why})"
    (text,) = alarms(GOOD | skipped | {"skipped_steps": 5}, SPACE)
    assert text.endswith("; 70% of the answers of their architectures are normal identity, against 20% of all")


def test_skips_are_not_an_op() -> None:
    ops = {"network.conv_3x3": 0.1, "network.conv_5x5": 0.1, "network.skip": 0.8}
    assert alarms({"ops": ops}, conv_macro()) == []


def test_the_largest_entropy_is_that_of_uniform_answers() -> None:
    assert largest_entropy(nasbench201()) == pytest.approx(math.log(15_625))
    assert largest_entropy(conv_macro()) == pytest.approx(math.log(conv_macro().size()))


def test_a_probe_has_the_interval_of_paired_differences() -> None:
    rng = random.Random(0)
    batches = [rng.gauss(0, 10) for _ in range(12)]  # what a minibatch does to both cancels
    uniform = [b + rng.gauss(0, 0.1) for b in batches]
    found = probed([u + 1 + rng.gauss(0, 0.1) for u in uniform], uniform, uniform)
    assert found["policy_minus_uniform"] == pytest.approx(1, abs=0.1)
    assert found["policy_minus_uniform_half_width"] < 0.2
    assert found["agreement"] == pytest.approx(1)


def searched(probes: int, tmp: Path | None = None) -> tuple[list[dict[str, Any]], Search]:
    plan = make_plan("digits-micro", threads=1, device="cpu")
    s = plan.settings
    settings = dataclasses.replace(
        s,
        space=dataclasses.replace(s.space, num_nodes=2),
        network=dataclasses.replace(s.network, filters=4),
        data=dataclasses.replace(s.data, train=60, validation=60),
        task=dataclasses.replace(s.task, batch_size=20, reward_batch=20),
        search=dataclasses.replace(
            s.search, epochs=3, warmup_epochs=1, children=1, controller_steps=2, architectures=3, probes=probes
        ),
    )
    procedure = dataclasses.replace(plan, settings=settings).search()
    return [event.metrics for event in procedure.run() if isinstance(event, EpochEnd)], procedure


@pytest.mark.slow
def test_probing_changes_nothing_else() -> None:
    with_probes, one = searched(4)
    without, other = searched(0)
    mine = {"policy_minus_uniform", "policy_minus_uniform_half_width", "agreement", "alarms"}
    assert [m.keys() & mine for m in without] == [set()] * 3
    assert mine - {"alarms"} <= with_probes[1].keys()
    assert not mine & with_probes[0].keys(), "nobody learns while warming up"
    assert [{k: v for k, v in m.items() if k not in mine} for m in with_probes] == without
    a, b = one.state(), other.state()
    assert json.dumps(dict(a.values)) == json.dumps(dict(b.values))
    assert all(a.tensors[key].equal(b.tensors[key]) for key in a.tensors)


def test_probes_are_none_or_enough() -> None:
    assert SearchSettings(probes=0).probes == 0
    for few in (1, 2):
        with pytest.raises(ValueError, match=r"search\.probes is 0 or at least 3"):
            SearchSettings(probes=few)
