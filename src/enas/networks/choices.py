"""This module holds the choices that a user puts into a network of their own: `OneOf`, `SomeOf` and
`Repeat` (design, section 3).

    network = nn.Sequential(
        OneOf("stem", {"conv3": nn.Conv2d(3, 16, 3), "conv5": nn.Conv2d(3, 16, 5)}),
        Repeat("depth", [block() for _ in range(6)], least=2),
        SomeOf("merge", {"pool": nn.AvgPool2d(2), "conv": lambda: nn.Conv2d(16, 16, 2, 2)}),
    )

Choices may stand anywhere in an `nn.Module`, also inside each other. `space_from` reads the search
space off the network, and `enas.networks.own.OwnNetwork` runs it. A choice itself never runs. Each
architecture runs a view of the network, in which the parts that it takes stand in place of the
choices.

The name of a decision is the name that the user gave, or else the place of the choice in the
network. A choice inside an option of another is asked only where that option is taken. If it can be
reached through several options, it is asked where any of them is taken.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, fx, nn

from enas.spaces.architecture import Answer
from enas.spaces.decisions import Decision, OpChoice, OpSubset, When
from enas.spaces.own import ModuleTree
from enas.spaces.space import SearchSpace

Part = nn.Module | Callable[[], nn.Module]  # a module, or a function that makes it when needed
PLAIN = fx.GraphModule(nn.Module(), fx.Graph())  # of the type that replaces `SomeOf` in a child
Combine = Literal["sum", "mean", "concat"] | Callable[[list[Tensor]], Tensor]


class Choice(nn.Module):
    """A `Choice` is a place in a network where parts are chosen. This is the base class. Raises a
    ValueError for parts that cannot be used."""

    def __init__(self, name: str | None, parts: Mapping[str, Part]):
        super().__init__()
        self.name = name
        self.keys = tuple(parts)
        self._makers: dict[str, Callable[[], nn.Module]] = {}
        if not parts:
            raise ValueError(f"{self.label} chooses between parts; got none")
        for key, part in parts.items():
            if not isinstance(key, str) or not key or "." in key:
                raise ValueError(f"{self.label} names its parts by words without dots; got {key!r}")
            if isinstance(part, nn.Module):
                self._modules[key] = part  # not add_module, which refuses names such as "half"
            elif callable(part):
                self._modules[key] = None
                self._makers[key] = part
            else:
                raise ValueError(f"{self.label} takes modules or functions that make them; '{key}' is {part!r}")

    @property
    def label(self) -> str:
        """Returns what error messages call this choice."""
        return f"{type(self).__name__} '{self.name}'" if self.name else type(self).__name__

    def part(self, key: str) -> nn.Module:
        """Returns the part of this key. A part that is given as a function is made now."""
        if key in self._makers:
            made = self._makers[key]()
            if not isinstance(made, nn.Module):
                raise ValueError(f"{self.label} needs a function that returns a module; '{key}' returned {made!r}")
            self._modules[key] = made
            del self._makers[key]
        part = self._modules[key]
        assert part is not None
        return part

    def forward(self, *inputs: object, **keywords: object) -> object:
        raise ValueError(
            f"{self.label} does not run by itself: wrap the network that registers it, OwnNetwork(network)(x, arch)"
        )

    # --------------------------------------------------------------- what each kind says of itself
    kind: ClassVar[Literal["OneOf", "SomeOf", "Repeat"]] = "OneOf"

    def decision(self, name: str, when: When | None) -> Decision:
        """Returns the question that this choice puts to a strategy."""
        return OpChoice(self.keys, when=when, name=name)

    def taken(self, answer: Answer) -> tuple[str, ...]:
        """Returns the keys of the parts that run for an answer."""
        return (answer,) if isinstance(answer, str) else answer

    def answers_with(self, key: str) -> tuple[str, ...]:
        """Returns the answers for which the part of this key runs."""
        return (key,)


class OneOf(Choice):
    """A `OneOf` takes exactly one of its options, which stands in its place. It is written
    `OneOf("name", {...})` or `OneOf({...})`."""

    def __init__(self, name: str | Mapping[str, Part] | None, options: Mapping[str, Part] | None = None):
        super().__init__(*_named(name, options))


class SomeOf(Choice):
    """A `SomeOf` takes some of its options: exactly `k`, or any number from `least` on. All of them
    run on the same inputs, which are given by position.

    `combine` makes one output from theirs, in the order of the options. It is their sum or mean,
    `concat` along dimension 1, or any function or module that takes the list. The sum and the mean
    of no option are zeros like the first input.
    """

    kind = "SomeOf"

    def __init__(
        self,
        name: str | Mapping[str, Part] | None,
        options: Mapping[str, Part] | None = None,
        k: int | None = None,
        combine: Combine = "sum",
        least: int = 1,
    ):
        super().__init__(*_named(name, options))
        if k is not None and not 1 <= k <= len(self.keys):
            raise ValueError(f"{self.label} takes k of its {len(self.keys)} options, at least 1; got k={k}")
        if not 0 <= least <= len(self.keys):
            raise ValueError(f"{self.label} has {len(self.keys)} options; got least={least}")
        function = isinstance(combine, nn.Module) or (callable(combine) and hasattr(combine, "__name__"))
        # The generated code calls a function by its name, and a partial has none.
        if combine not in ("sum", "mean", "concat") and not function:
            raise ValueError(f"{self.label} combines by sum, mean, concat, a function or a module; got {combine!r}")
        if combine == "concat" and k is None and least == 0:
            raise ValueError(f"{self.label} cannot concatenate none of its options; least is at least 1")
        for key in self.keys:
            if hasattr(PLAIN, key) or (key == "combine" and isinstance(combine, nn.Module)):
                raise ValueError(f"{self.label} needs another name for option '{key}', which modules use themselves")
        if isinstance(combine, nn.Module) and any(isinstance(module, Choice) for module in combine.modules()):
            raise ValueError(f"{self.label} is combined by a module that holds a choice; put it beside, not in `combine`")
        self.k, self.least = k, least if k is None else k
        self.combine = combine

    def decision(self, name: str, when: When | None) -> Decision:
        return OpSubset(self.keys, when=when, name=name, k=self.k, least=self.least)


class Repeat(Choice):
    """A `Repeat` runs the first n of its blocks, one after the other. The number n is chosen, and
    is at least `least`.

    An `nn.Sequential` of these blocks stands in its place. A network calls it, or goes through its
    blocks where they need more than one input.
    """

    kind = "Repeat"

    def __init__(self, name: str | Sequence[Part] | None, blocks: Sequence[Part] | None = None, least: int = 1):
        given, blocks = (name, blocks) if isinstance(name, str) or name is None else (None, name)
        super().__init__(given, {str(i): block for i, block in enumerate(blocks or ())})
        if not 0 <= least <= len(self.keys):
            raise ValueError(f"{self.label} has {len(self.keys)} blocks; got least={least}")
        self.least = least

    @property
    def counts(self) -> range:
        """Returns the numbers of blocks that it may run."""
        return range(self.least, len(self.keys) + 1)

    def decision(self, name: str, when: When | None) -> Decision:
        return OpChoice(tuple(map(str, self.counts)), when=when, name=name)

    def taken(self, answer: Answer) -> tuple[str, ...]:
        assert isinstance(answer, str)
        return self.keys[: int(answer)]

    def answers_with(self, key: str) -> tuple[str, ...]:
        return tuple(str(count) for count in self.counts if count > int(key))


def _named(
    name: str | Mapping[str, Part] | None, parts: Mapping[str, Part] | None
) -> tuple[str | None, Mapping[str, Part]]:
    """Returns the name and the parts, where the name may have been left out."""
    if name is None or isinstance(name, str):
        return name, parts or {}
    return None, name


def joined(combine: str, outputs: list[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Returns the sum, mean or concatenation of the outputs of parts that ran on `inputs`."""
    if not outputs:
        return torch.zeros_like(inputs[0])
    if combine == "concat":
        return torch.cat(outputs, 1)
    total = functools.reduce(operator.add, outputs)
    return total / len(outputs) if combine == "mean" else total


# ------------------------------------------------------------------------------ reading the space
@dataclass(frozen=True, eq=False)
class Choices:
    """A `Choices` value holds what was read off a network about its choices."""

    space: SearchSpace
    names: dict[Choice, str]  # names of their decisions
    holders: set[nn.Module]  # modules with a choice somewhere below them


def space_from(module: nn.Module, name: str = "own") -> SearchSpace:
    """Returns the search space of a network. Raises a ValueError where it holds no choice, or two
    of one name."""
    return read(module, name).space


def read(module: nn.Module, name: str = "own") -> Choices:
    """Returns the space of a network and the places of its choices. All parts that do not exist yet
    are made."""
    paths: dict[Choice, str] = {}  # first place of each choice, in order of registration
    inside: dict[Choice, dict[Choice | None, set[str]]] = {}  # by parent: answers that lead here
    holders: set[nn.Module] = set()

    def visit(module: nn.Module, path: str, parent: Choice | None, answers: tuple[str, ...], seen: set[nn.Module]) -> bool:
        """Goes through the modules that run where `parent` has one of `answers`. Returns whether
        there are choices among them."""
        if isinstance(module, Choice):
            inside.setdefault(module, {}).setdefault(parent, set()).update(answers)
            if module not in paths:
                paths[module] = path
                for key in module.keys:
                    visit(module.part(key), _joined(path, key), module, module.answers_with(key), set())
            return True
        if module not in seen:
            seen.add(module)
            for key, child in _children(module):
                if visit(child, _joined(path, key), parent, answers, seen):
                    holders.add(module)
        return module in holders

    visit(module, "", None, (), set())
    if not paths:
        raise ValueError("the network holds no choice: put OneOf, SomeOf or Repeat in the place of a module")
    names = {choice: choice.name or path or type(choice).__name__ for choice, path in paths.items()}
    places: dict[str, str] = {}
    for choice, path in paths.items():
        if (key := names[choice]) in places:
            raise ValueError(
                f"two choices are named '{key}', at '{places[key]}' and at '{path}'; a name left out is that of the place"
            )
        places[key] = path
    decisions = {choice: _decision(choice, names, inside[choice]) for choice in _parents_first(inside)}
    space = SearchSpace(name, tuple(decisions.values()), tree=_tree(module, names, holders))
    return Choices(space, names, holders)


def _tree(module: nn.Module, names: dict[Choice, str], holders: set[nn.Module]) -> ModuleTree:
    """Returns the tree of modules down to those without a choice. A module that stands in several
    places is shown whole only in the first."""
    shown: set[nn.Module] = set()

    def of(name: str, module: nn.Module) -> ModuleTree:
        below = (module in holders or module in names) and module not in shown
        shown.add(module)
        parts = tuple(of(key, child) for key, child in _children(module)) if below else ()
        if isinstance(module, Choice):
            return ModuleTree(name, module.kind, names[module], parts)
        return ModuleTree(name, type(module).__name__, "", parts)

    return of("", module)


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((key, child) for key, child in module._modules.items() if child is not None)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _decision(choice: Choice, names: dict[Choice, str], inside: dict[Choice | None, set[str]]) -> Decision:
    """Returns the decision of a choice. It is asked where any parent takes a part that the choice
    stands in."""
    when: When | None = None
    for parent, answers in reversed(inside.items()):
        if parent is None:
            return choice.decision(names[choice], None)
        options = parent.decision("", None).options
        when = When(names[parent], tuple(option for option in options if option in answers), when)
    return choice.decision(names[choice], when)


def _parents_first(inside: dict[Choice, dict[Choice | None, set[str]]]) -> list[Choice]:
    """Returns the choices in order of registration, but none before a choice that it stands in."""
    placed: dict[Choice | None, None] = {None: None}
    left = list(inside)
    while left:
        ready = next((choice for choice in left if inside[choice].keys() <= placed.keys()), None)
        if ready is None:
            raise ValueError(f"{left[0].label} stands inside itself")
        placed[ready] = None
        left.remove(ready)
    return [choice for choice in placed if choice is not None]
