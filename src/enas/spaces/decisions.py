"""This module holds the kinds of decisions: one op, one earlier node, or a subset of earlier nodes
(design, section 3)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from enas.ranges import SHARE, check_ranges
from enas.spaces.architecture import Answer


@dataclass(frozen=True)
class When:
    """A `When` is a condition on a decision. The decision is asked only where the answer to
    `decision` is, or contains, `answer` (or one of the names in it), or else where `otherwise`
    holds."""

    decision: str
    answer: str | tuple[str, ...]
    otherwise: When | None = field(default=None, repr=False)

    @property
    def ways(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields each way to meet the condition: a decision, and its answers of which any one is
        enough."""
        yield self.decision, (self.answer,) if isinstance(self.answer, str) else self.answer
        if self.otherwise is not None:
            yield from self.otherwise.ways


@dataclass(frozen=True)
class Decision:
    """A `Decision` is one question. `options` are its possible answers by name, in order. `name` is
    given by the place where the decision stands.

    `prior` holds a fixed number per option, which is added to the controller's logit after all
    scaling (for a subset, to the logit of "yes"). It says what the space prefers from the start.
    `when` makes the decision conditional.
    """

    options: tuple[str, ...]
    prior: tuple[float, ...] | None = None
    when: When | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options) or not self.options:
            raise ValueError(f"options are distinct names, at least one; got {list(self.options)}")
        if self.prior is not None and len(self.prior) != len(self.options):
            raise ValueError(f"a prior has one number per option ({len(self.options)}); got {len(self.prior)}")

    def answers(self) -> Iterator[Answer]:
        """Yields all possible answers, in order."""
        yield from self.options

    def contains(self, answer: Answer, option: str) -> bool:
        """Returns whether `answer` takes `option`."""
        return answer == option

    @property
    def anchors(self) -> tuple[str, ...] | None:
        """Returns the anchors that a controller attends to, one per option, or None where there is
        no attention."""
        return None

    def neighbours(self, answer: Answer) -> list[Answer]:
        """Returns all answers that differ from `answer` by one change."""
        return [option for option in self.options if option != answer]

    def draw(self, rng: random.Random) -> Answer:
        """Returns a random answer. All are equally likely unless a subclass says otherwise."""
        return rng.choice(self.options)

    def check(self, answer: object) -> Answer:
        """Returns the answer in canonical form. Raises a ValueError that says the rule where the
        answer is not possible."""
        if not isinstance(answer, str) or answer not in self.options:
            raise ValueError(f"decision '{self.name}' takes one of {', '.join(self.options)}; got {answer!r}")
        return answer


@dataclass(frozen=True)
class OpChoice(Decision):
    """An `OpChoice` takes exactly one op. `bias` holds the first values of a learnable bias of the
    controller's logits, one per option. All choices with equal options share that bias."""

    bias: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias is not None and len(self.bias) != len(self.options):
            raise ValueError(f"a bias has one number per option ({len(self.options)}); got {len(self.bias)}")


class InputChoice(Decision):
    """An `InputChoice` takes exactly one earlier node of the same cell."""

    @cached_property
    def anchors(self) -> tuple[str, ...]:
        return _anchors(self)


@dataclass(frozen=True)
class SubsetChoice(Decision):
    """A `SubsetChoice` takes any subset of the options (earlier nodes), or exactly `k` of them. It
    is answered by a yes or no for each option in turn.

    `rate` is the probability with which a random architecture takes an option of a free subset.
    Only 0.5 makes all subsets equally likely.
    """

    k: int | None = None
    rate: float = 0.5
    least: int = 0
    """The smallest number of members of a free subset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "", rate=SHARE)
        if self.k is not None and not 0 <= self.k <= len(self.options):
            raise ValueError(f"k of a subset is between 0 and the number of options ({len(self.options)}); got {self.k}")
        if not 0 <= self.least <= (len(self.options) if self.k is None else self.k):
            raise ValueError(f"least of a subset is between 0 and its number of members; got {self.least}")

    @property
    def bounds(self) -> tuple[int, int]:
        """Returns the smallest and the largest number of members."""
        return (self.least, len(self.options)) if self.k is None else (self.k, self.k)

    def answers(self) -> Iterator[Answer]:
        for bits in itertools.product((False, True), repeat=len(self.options)):
            if self.bounds[0] <= sum(bits) <= self.bounds[1]:
                yield tuple(itertools.compress(self.options, bits))

    def contains(self, answer: Answer, option: str) -> bool:
        return option in answer

    @cached_property
    def anchors(self) -> tuple[str, ...] | None:
        return _anchors(self)

    def neighbours(self, answer: Answer) -> list[Answer]:
        """Returns the subsets with one member more or less. For exactly `k` members, it returns
        those with one member exchanged."""
        taken = set(answer)
        if self.k is None:
            sets = [changed for option in self.options if len(changed := taken ^ {option}) >= self.least]
        else:
            left = [option for option in self.options if option not in taken]
            sets = [taken - {old} | {new} for old in answer for new in left]
        return [tuple(option for option in self.options if option in members) for members in sets]

    def draw(self, rng: random.Random) -> Answer:
        members = self.k
        if members is None and not self.least:
            return tuple(option for option in self.options if rng.random() < self.rate)
        # The number of members comes first. Its distribution is that of free draws of which those
        # with too few members were thrown away.
        if members is None:
            n = len(self.options)
            sizes = range(self.least, n + 1)
            weights = [math.comb(n, m) * self.rate**m * (1 - self.rate) ** (n - m) for m in sizes]
            members = rng.choices(sizes, weights)[0]
        chosen = set(rng.sample(self.options, members))
        return tuple(option for option in self.options if option in chosen)

    def check(self, answer: object) -> Answer:
        if not isinstance(answer, str | list | tuple):
            raise ValueError(f"decision '{self.name}' takes a list of names; got {answer!r}")
        members = (answer,) if isinstance(answer, str) else tuple(answer)
        unknown = [name for name in members if name not in self.options]
        if unknown or len(set(members)) != len(members):
            raise ValueError(f"decision '{self.name}' takes a subset of {', '.join(self.options)}; got {list(members)!r}")
        if self.k is not None and len(members) != self.k:
            raise ValueError(f"decision '{self.name}' takes exactly {self.k} names; got {len(members)}: {list(members)!r}")
        if len(members) < self.least:
            raise ValueError(f"decision '{self.name}' takes at least {self.least} names; got {list(members)!r}")
        return tuple(option for option in self.options if option in members)


@dataclass(frozen=True)
class OpSubset(SubsetChoice):
    """An `OpSubset` takes any subset of ops, or exactly `k` of them. It is a `SubsetChoice` whose
    options are no nodes."""

    @property
    def anchors(self) -> None:
        return None


def _anchors(decision: Decision) -> tuple[str, ...]:
    return tuple(f"{decision.name.split('.')[0]}.{option}" for option in decision.options)


@dataclass(frozen=True)
class Anchor:
    """An `Anchor` marks what later decisions can refer to: a cell input or a finished node, such as
    `normal.n2`."""

    name: str
