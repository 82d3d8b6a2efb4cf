"""The random architectures that a verdict compares with."""

from __future__ import annotations

import dataclasses
import random

import pytest

from enas.grading.verdict import drawn_for
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace

SETTINGS = SPACES["nasbench_macro"].settings()


def chains(ops: tuple[str, ...]) -> SearchSpace:
    space: SearchSpace = SPACES["nasbench_macro"].make(dataclasses.replace(SETTINGS, num_layers=2, ops=ops))
    return space


def test_a_space_with_few_architectures_gives_all_that_are_not_derived() -> None:
    """Only where nobody says how many: a number that the space does not have is refused."""
    space = chains(("identity", "mb3_k3", "mb6_k5"))
    derived = space.sample(random.Random(0))
    with pytest.warns(
        UserWarning, match="9 architectures, of which one is derived: there are 8 random ones in place of 16"
    ):
        archs, share = drawn_for(space, None, 0, without=derived)
    assert set(archs) == set(space.enumerate()) - {derived}
    assert share == 1
    assert drawn_for(space, 8, 0, without=derived)[0] == archs
    with pytest.raises(ValueError, match="has 9 architectures, of which one is derived: give --cells 8 at most"):
        drawn_for(space, 9, 0, without=derived)


def test_a_space_without_two_others_has_no_verdict() -> None:
    space = chains(("identity",))
    with pytest.raises(ValueError, match="of which one is derived: a verdict needs at least 2 random ones"):
        drawn_for(space, None, 0, without=next(iter(space.enumerate())))


def test_a_limit_that_leaves_few_gives_those(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enas.grading.verdict.TRIES", 50)
    space, few = chains(("identity", "mb3_k3", "mb6_k5")), chains(("identity", "mb3_k3"))
    within = list(few.enumerate())
    monkeypatch.setattr(SearchSpace, "samples", lambda self, rng, n: ([rng.choice(within)], 2))
    with pytest.warns(UserWarning, match="the limit of space .* leaves 3 different .*: there are 3 random ones"):
        archs, share = drawn_for(space, None, 0, without=within[0])
    assert set(archs) == set(within[1:])
    assert share == 0.5
    with pytest.raises(ValueError, match="leaves 3 different architectures to compare with: give --cells 3 at most"):
        drawn_for(space, 4, 0, without=within[0])
