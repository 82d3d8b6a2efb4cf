"""What a strategy prefers is told by what it draws, and changes nothing of it."""

from __future__ import annotations

import pytest

from enas.procedures.derive import preferred
from enas.reports.sure import _share
from enas.spaces.decisions import OpChoice, OpSubset, When
from enas.spaces.space import SearchSpace
from enas.state import copied
from enas.strategies.random_search import RandomSearch
from enas.strategies.registry import STRATEGIES

SPACE = SearchSpace(
    "toy",
    (
        OpChoice(("a", "b"), name="first"),
        OpChoice(("x", "y", "z"), name="second", when=When("first", "a")),
        OpSubset(("p", "q", "r"), name="some", least=0),
    ),
)


@pytest.mark.parametrize("name", STRATEGIES)
def test_shares_are_those_of_the_draws(name: str) -> None:
    strategy = STRATEGIES[name].make(SPACE, seed=3)
    before = copied(strategy.state())
    shares = preferred(strategy, SPACE, 40)
    drawn = strategy.ask(40)  # the same draws again: it was left as it was
    strategy.load(before)
    asked = [arch.choices["second"] for arch in drawn if "second" in arch.choices]
    assert shares["second"] == {option: asked.count(option) / len(asked) for option in ("x", "y", "z")}
    assert shares["some"]["q"] == sum("q" in arch.choices["some"] for arch in drawn) / 40


def test_the_share_of_a_subset_counts_what_it_leaves_out() -> None:
    shares = {"some": {"p": 0.9, "q": 0.2, "r": 0.4}}
    assert _share(SPACE.decision("some"), ("p",), shares) == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert _share(SPACE.decision("second"), "x", shares) is None
    assert preferred(RandomSearch(SPACE, seed=0), SPACE, 1).keys() <= {"first", "second", "some"}
