"""This module holds the laws that are true for every strategy, in the manner of
`enas.grading.laws`: the tests ask them of everything that is registered, and `enas check` of code
that a user brings."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from enas.grading.laws import Broken, called, require
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import State
from enas.strategies.strategy import Strategy

MakeStrategy = Callable[[int], Strategy]  # makes a strategy from a seed


def asks_what_there_is(make: MakeStrategy, space: SearchSpace, others: Sequence[Architecture]) -> None:
    """`ask` returns as many architectures as it should, all of the space. `tell` takes any
    architectures, and returns figures."""
    strategy = make(0)
    for n in (3, 1):
        archs = strategy.ask(n)
        require(len(archs) == n, f"ask({n}) returns {n} architectures; got {len(archs)}")
        for arch in archs:
            try:
                good = space.check(arch) == arch
            except ValueError as error:
                raise Broken(f"ask returns architectures of its space: {error}") from None
            require(good, f"ask returns {called(arch)} with a subset out of order")
    metrics = strategy.tell(list(others), [0.1 * i for i in range(len(others))])
    require(
        isinstance(metrics, Mapping) and all(isinstance(v, float) and math.isfinite(v) for v in metrics.values()),
        f"tell returns finite numbers by name, also for architectures that it never asked for; got {metrics}",
    )


def asking_depends_on_the_seed_alone(make: MakeStrategy) -> None:
    """Two strategies of one seed ask alike, whatever else draws random numbers."""
    torch.manual_seed(1), random.seed(1)
    first = make(1).ask(10)
    torch.manual_seed(2), random.seed(2)
    second = make(1).ask(10)
    require(
        first == second, "two strategies of one seed ask for other architectures: draw from generators seeded by `seed`"
    )


def goes_on_after_load(make: MakeStrategy, told: int = 2) -> None:
    """A strategy that was saved, written as JSON and loaded goes on as if it had not been."""
    first, second = make(7), make(7)
    teach(first, told)
    kept = first.state()
    try:
        values = json.loads(json.dumps(dict(kept.values)))
    except TypeError as error:
        raise Broken(f"state() has values that JSON can hold: {error}") from None
    kept = State({key: tensor.clone() for key, tensor in kept.tensors.items()}, values)
    teach(second, 3, seed=1)  # loading has to replace this other past
    second.load(kept)
    require(
        teach(first, 2) == teach(second, 2),
        "a strategy that is loaded goes on otherwise than the one that was saved: state() holds all that ask and tell read",
    )


def teach(strategy: Strategy, steps: int, seed: int = 0) -> list[Any]:
    """Asks and tells, with rewards that depend on the architecture. Returns everything that the
    strategy returned."""
    seen: list[Any] = []
    for step in range(steps):
        archs = strategy.ask(5)
        seen += [archs, strategy.tell(archs, [random.Random(f"{seed} {step} {arch.id}").random() for arch in archs])]
    return seen


def learns_as_it_says(make: MakeStrategy) -> None:
    """A strategy that says that it learns changes its state by what it is told. One that says that
    it does not learn asks for the same architectures, whatever it is told."""
    told, untold = make(3), make(3)
    for step in range(20):
        archs = told.ask(8)
        untold.ask(8)
        told.tell(archs, [random.Random(f"{step} {arch.id}").random() for arch in archs])
    one, other = told.state(), untold.state()
    tensors_differ = one.tensors.keys() != other.tensors.keys() or not all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )
    changed = tensors_differ or dict(one.values) != dict(other.values)
    require(changed or not told.learns, "the strategy says that it learns, and tell changes nothing of its state")
    require(
        told.learns or told.ask(50) == untold.ask(50),
        "the strategy says that it does not learn, and tell changes what it asks",
    )
