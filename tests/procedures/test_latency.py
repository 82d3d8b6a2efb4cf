"""Latencies as sums over parts: what is timed, how times are found, and what they say of others."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from enas.networks.choices import OneOf, Repeat, SomeOf
from enas.networks.cost import EVERYTHING_ELSE, Bill, OwnBill, example_of
from enas.networks.limited import limited
from enas.networks.own import OwnNetwork
from enas.networks.registry import BACKBONES
from enas.procedures import latency
from enas.procedures.latency import LatencySettings, clock_of, measure, solve, timed
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Limits
from laws import SMALL

IMAGES = {"channels": 3, "image_size": 16, "classes": 10}


def test_the_fastest_of_runs_in_turn_counts() -> None:
    """The first two rounds do not: they warm up."""
    now, order = [0.0], []
    takes = {name: iter(seconds) for name, seconds in (("a", [0, 0, 5, 3, 4]), ("b", [0, 0, 2, 9, 7]))}

    def runs(name: str) -> Callable[[], object]:
        def run() -> None:
            order.append(name)
            now[0] += next(takes[name])

        return run

    assert timed([runs("a"), runs("b")], 3, lambda: now[0]) == [3, 2]
    assert order == ["a", "b"] * 5


def test_one_thread_is_timed_by_the_processor() -> None:
    """So that what waits does not count; more threads, by the clock."""
    assert clock_of("cpu", 1) is time.thread_time
    assert clock_of("cpu", 2) is time.perf_counter


def test_times_of_parts_are_found() -> None:
    """Planted ones, from sums over other children; none is negative, and a part that no child has
    gets a first guess."""
    rng = np.random.default_rng(0)
    macs = rng.integers(0, 50, 8).astype(float)
    planted = 1e-3 + 1e-4 * macs
    planted[2] *= 3
    counts = rng.integers(0, 4, (40, 8)).astype(float)
    counts[:, 7] = 0
    found = solve(counts, counts @ planted, macs)
    assert np.allclose(found[:7], planted[:7], rtol=0.03)
    assert found[7] == pytest.approx(planted[7], rel=0.5)
    noisy = solve(counts, counts @ planted * rng.uniform(0.7, 1.3, 40), macs)
    assert (noisy >= 0).all()


def planted(bill: Bill | OwnBill, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times of all parts that `measure` cannot see but in children."""
    parts = bill.every_part()
    times = {part.key: 1e-4 * (1 + i % 5) + 1e-9 * part.macs for i, part in enumerate(parts)}
    monkeypatch.setattr(latency, "timed", lambda passes, rounds, clock: [forward() for forward in passes])
    return times


def test_a_table_knows_every_part_and_says_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SMALL["conv_macro"]
    with torch.device("meta"):
        network = BACKBONES[space.backbone].make(space, BACKBONES[space.backbone].small, **IMAGES, statistics="running")
    bill = Bill(network, example_of(IMAGES))
    times = planted(bill, monkeypatch)

    def build(arch: Architecture) -> Callable[[], object]:
        return lambda: sum(times[part.key] for part in bill.parts(arch))

    found = measure(LatencySettings(children=60, held_out=10), bill, build, time.thread_time)
    assert found.seconds.keys() == times.keys()
    assert found.relative_error <= found.largest_error < 0.1
    assert found.kendall > 0.8
    bill.priced(found.seconds)
    arch = space.sample(random.Random(9))
    assert bill.of(arch).latency == pytest.approx(build(arch)(), rel=0.1)
    shuffled = dict(zip(archs := space.samples(random.Random(0), 70)[0], random.Random(1).sample(archs, 70), strict=True))
    wrong = measure(LatencySettings(children=60, held_out=10), bill, lambda arch: build(shuffled[arch]), time.thread_time)
    assert wrong.relative_error > found.relative_error, "an error is that of children held out"
    bill.priced({})
    with pytest.raises(ValueError, match=r"the table of latencies has nothing like '.*': measure it anew"):
        bill.of(arch)


def test_networks_of_ones_own_have_latencies_and_limits_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def layer(width: int) -> nn.Module:
        return nn.Conv2d(3, 3, width, padding=width // 2)

    net = nn.Sequential(
        OneOf("op", {"1": layer(1), "nested": OneOf("inner", {"3": layer(3), "5": layer(5)})}),
        SomeOf("some", {"1": layer(1), "3": layer(3), "none": nn.Identity()}),
        Repeat("depth", [layer(3), layer(1), layer(3)]),
    )
    supernet, x = OwnNetwork(net), torch.rand(1, 3, 4, 4)
    bill, space = OwnBill(supernet, lambda model: model(x), batch=1), supernet.space
    times = planted(bill, monkeypatch)
    assert times.keys() == {
        EVERYTHING_ELSE,
        *(f"{d.name}={option}" for d, option in itertools.chain(*([(d, o) for o in d.options] for d in space.decisions))),
    }

    def build(arch: Architecture) -> Callable[[], object]:
        return lambda: sum(times[part.key] for part in bill.parts(arch))

    found = measure(LatencySettings(children=30, held_out=10), bill, build, time.thread_time)
    assert found.largest_error < 0.05
    assert bill.of(space.sample(random.Random(0))).latency is None
    bill.priced(times)
    costs = {arch: bill.of(arch).latency or 0.0 for arch in space.enumerate()}
    assert costs[space.sample(random.Random(0))] == build(space.sample(random.Random(0)))()
    most = sorted(costs.values())[len(costs) // 5]
    for counted in (10**6, 0):  # by a table of all, and by a tree
        monkeypatch.setattr("enas.networks.limited.COUNTED", counted)
        within = limited(space, Limits(max_latency=most), bill)
        assert set(within.enumerate()) == {arch for arch, cost in costs.items() if cost <= most * (1 + 1e-9)}
    with pytest.raises(ValueError, match="a limit on latency needs a table of latencies"):
        limited(space, Limits(max_latency=most), OwnBill(supernet, lambda model: model(x), batch=1))
