"""This module holds search spaces as values: their decisions, the cells that these stand in, and
the rule by which weights are shared. It does not import torch.

Every architecture of a space is a subgraph of one graph (paper, section 2). A space is written as
cells whose edges take their input and their op from a decision or from a fixed name. The cells
determine the order of the decisions (`SearchSpace.walk`), the graph of an architecture (`wire`) and
its weights (`address`).

The network that the cells are put into is not described here, but in `enas.networks.registry`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from enas.ranges import Settings
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredCell, WiredEdge, wired
from enas.spaces.decisions import Anchor, Decision, InputChoice, OpChoice, SubsetChoice
from enas.spaces.limits.limit import Cursor, Limit, Rule, RuleLimit
from enas.spaces.own import ModuleTree

MOST_WIRED = 128  # architectures whose graphs a space remembers: those of the step at hand
TRIES = 10_000  # random draws before a limit is taken to forbid everything
MOST_DRAWN = 512  # random architectures that are checked against a limit at once


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A `SearchSpace` is an ordered list of decisions with the rule by which weights are shared.

    - `settings`: the arguments that the space was made from. Every architecture records them.
    - `backbone`: the name of the network that the cells go into.
    - `address(edge, position)`: returns the name of the weights of an edge whose cell stands at
      `position` of the network. Edges with equal names share weights.
    - `paper_size`: the paper's own count of architectures where it differs from `size()`.
    - `limit`: forbids answers, depending on the answers before them (`enas.spaces.limits.limit`).
      It is a `Limit`, or a function that is the rule of a `RuleLimit`.
    - `tree`: the modules that the decisions stand in, where the space was read off a network.
    """

    name: str
    walk: tuple[Decision | Anchor, ...]
    cells: tuple[Cell, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()
    backbone: str = ""
    address: Callable[[WiredEdge, int], str] | None = None
    paper_size: int | None = None
    limit: Limit | Rule | None = None
    tree: ModuleTree | None = None
    _index: dict[str, Decision] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index: dict[str, Decision] = {}
        for step in self.walk:
            if isinstance(step, Anchor):
                continue
            if step.name in index:
                raise ValueError(f"names of decisions are distinct; '{step.name}' stands twice in space '{self.name}'")
            if step.when is not None:
                for parent, answers in step.when.ways:
                    if parent not in index or not answers or set(answers) - set(index[parent].options):
                        raise ValueError(
                            f"decision '{step.name}' may depend on an option of an earlier decision; got {step.when}"
                        )
            index[step.name] = step
        object.__setattr__(self, "_index", index)

    @classmethod
    def of_cells(
        cls,
        name: str,
        cells: tuple[Cell, ...],
        *,
        settings: Mapping[str, object],
        backbone: str,
        address: Callable[[WiredEdge, int], str],
        paper_size: int | None = None,
    ) -> SearchSpace:
        """Makes a space from cells. For each node, its inputs are decided first, then its ops, then
        its subset."""
        placed: list[Cell] = []
        walk: list[Decision | Anchor] = []
        for cell in cells:
            walk += [Anchor(f"{cell.name}.{name}") for name in cell.inputs]
            nodes: list[Node] = []
            for node in cell.nodes:
                earlier = (*cell.inputs, *(n.name for n in nodes))
                node = _placed_node(cell.name, node, earlier)
                nodes.append(node)
                walk += [edge.input for edge in node.edges if isinstance(edge.input, Decision)]
                walk += [edge.op for edge in node.edges if isinstance(edge.op, Decision)]
                walk += [node.skips] if node.skips is not None else []
                walk.append(Anchor(f"{cell.name}.{node.name}"))
            placed.append(replace(cell, nodes=tuple(nodes)))
        return cls(name, tuple(walk), tuple(placed), tuple(settings.items()), backbone, address, paper_size)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Returns the decisions in the order in which they are asked."""
        return tuple(step for step in self.walk if isinstance(step, Decision))

    def decision(self, name: str) -> Decision:
        """Returns the decision of this name."""
        return self._index[name]

    @cached_property
    def num_answers(self) -> int:
        """Returns how many questions a controller is asked: one per decision, but for a subset one
        per option."""
        return sum(len(d.options) if isinstance(d, SubsetChoice) else 1 for d in self.decisions)

    @cached_property
    def spec(self) -> dict[str, object]:
        """Returns the name and the settings, as every architecture of the space records them."""
        return {"name": self.name, **dict(self.settings)}

    def active(self, decision: Decision, choices: Mapping[str, Answer]) -> bool:
        """Returns whether `decision` is asked, given the choices made before it."""
        return decision.when is None or any(
            parent in choices and self._index[parent].contains(choices[parent], answer)
            for parent, answers in decision.when.ways
            for answer in answers
        )

    # --------------------------------------------------------------------------------- the limit
    def limited(self, n: int) -> Cursor | None:
        """Returns a walk of n architectures along the limit, or None where there is no limit."""
        if self.limit is None:
            return None
        return (RuleLimit(self, self.limit) if callable(self.limit) else self.limit).start(n)

    def forbidden(self, rows: Sequence[Mapping[str, Answer]]) -> list[str | None]:
        """Returns for each architecture, given by its choices, the name of the first decision whose
        answer the limit forbids, or None where the architecture obeys the limit."""
        found: list[str | None] = [None] * len(rows)
        cursor = self.limited(len(rows))
        if cursor is None:
            return found
        for decision, answer in zip(self.decisions, self.encoded(rows), strict=True):
            if isinstance(decision, SubsetChoice):
                ok = np.ones(len(rows), dtype=bool)
                for j, bit in enumerate(answer.T):
                    yes, no = cursor.bits(answer[:, :j])
                    ok &= np.where(bit, yes, no)
            else:
                mask = cursor.options()
                ok = np.ones(len(rows), dtype=bool) if mask is None else mask[np.arange(len(rows)), answer]
            for m in np.flatnonzero(~ok).tolist():
                if found[m] is None and decision.name in rows[m]:
                    found[m] = decision.name
            if None not in found:
                break
            cursor.take(answer)
        return found

    def within_limit(self, choices: Mapping[str, Answer]) -> bool:
        """Returns whether the limit allows each of `choices` after those before it."""
        return self.forbidden([choices]) == [None]

    # ------------------------------------------------------------------------------- as numbers
    def encoded(self, rows: Sequence[Mapping[str, Answer]]) -> list[np.ndarray]:
        """Returns the choices of M architectures as numbers, one array per decision: (M,) indices,
        or (M, K) booleans for a subset. A decision that is not asked is 0."""
        out = []
        for decision in self.decisions:
            answers = [choices.get(decision.name) for choices in rows]
            if isinstance(decision, SubsetChoice):
                members = [[option in (answer or ()) for option in decision.options] for answer in answers]
                out.append(np.array(members, dtype=bool).reshape(len(rows), len(decision.options)))
            else:
                index = {option: i for i, option in enumerate(decision.options)}
                out.append(np.array([0 if answer is None else index[str(answer)] for answer in answers], dtype=np.int64))
        return out

    def decoded(self, answers: Sequence[np.ndarray], n: int) -> list[dict[str, Answer]]:
        """Returns the choices of each of n architectures, given by its answers to the first
        decisions. The arrays are as in `encoded`."""
        rows = [answer.tolist() for answer in answers]
        out = []
        for m in range(n):
            choices: dict[str, Answer] = {}
            for decision, row in zip(self.decisions, rows, strict=False):
                if not self.active(decision, choices):
                    continue
                if isinstance(decision, SubsetChoice):
                    choices[decision.name] = tuple(o for o, bit in zip(decision.options, row[m], strict=True) if bit)
                else:
                    choices[decision.name] = decision.options[row[m]]
            out.append(choices)
        return out

    def architecture(self, choices: Mapping[str, object], provenance: Mapping[str, object] | None = None) -> Architecture:
        """Returns an architecture of this space with these choices. Raises a ValueError that names
        the decision and the rule where a choice is missing, unknown or forbidden."""
        unknown = [name for name in choices if name not in self._index]
        if unknown:
            raise ValueError(
                f"space '{self.name}' has no decision '{unknown[0]}'; its decisions are like '{self.decisions[0].name}'"
                f" ({len(self.decisions)} of them)"
            )
        checked: dict[str, Answer] = {}
        for decision in self.decisions:
            if self.active(decision, checked):
                if decision.name not in choices:
                    raise ValueError(
                        f"an architecture of '{self.name}' answers every decision; '{decision.name}' is missing"
                        f" (one of {', '.join(decision.options)})"
                    )
                checked[decision.name] = decision.check(choices[decision.name])
            elif decision.name in choices:
                raise ValueError(f"decision '{decision.name}' is not asked here: it depends on {decision.when}")
        if (forbidden := self.forbidden([checked])[0]) is not None:
            raise ValueError(
                f"the limit of space '{self.name}' forbids the answer {checked[forbidden]!r} to '{forbidden}'"
                f"{self._limit_says}"
            )
        return Architecture.of(self.spec, checked, provenance)

    @property
    def _limit_says(self) -> str:
        """Returns what the limit demands, for the end of an error message."""
        about = getattr(self.limit, "about", "")
        return f": an architecture has {about} here" if about else ""

    def check(self, arch: Architecture) -> Architecture:
        """Returns `arch` with the members of its subsets in the order of the space. Raises a
        ValueError where it is not of this space."""
        if arch.space_items != self._spec_items:
            raise ValueError(
                f"this needs an architecture of space {_spec_text(self.spec)}; got one of {_spec_text(arch.space)}"
            )
        checked = self.architecture(arch.choices, dict(arch.provenance))
        return arch if checked == arch else checked

    @cached_property
    def _spec_items(self) -> tuple[tuple[str, object], ...]:
        return Architecture.of(self.spec, {}).space_items

    @cached_property
    def _wired(self) -> dict[Architecture, dict[str, WiredCell]]:
        return {}

    def wire(self, arch: Architecture) -> dict[str, WiredCell]:
        """Returns the graph that `arch` makes of each cell, by the cell's name. Raises a ValueError
        where `arch` is of another space.

        Forward passes, drawings, counts and tests read this graph, and not the choices. The result
        is cached and shared: do not change it.
        """
        if arch not in self._wired:
            choices = self.check(arch).choices
            if len(self._wired) >= MOST_WIRED:
                self._wired.clear()
            self._wired[arch] = {cell.name: wired(cell, choices) for cell in self.cells}
        return self._wired[arch]

    def sample(self, rng: random.Random) -> Architecture:
        """Returns a random architecture, drawn as `samples` draws."""
        return self.samples(rng, 1)[0][0]

    def samples(self, rng: random.Random, n: int) -> tuple[list[Architecture], int]:
        """Returns n random architectures, and how many were drawn to get them.

        Each active decision is answered by its own `draw`, in order. Everywhere in this package, a
        random architecture means this. An architecture that the limit forbids is thrown away as a
        whole, so the others stay as likely as they were relative to each other. Raises a ValueError
        where the limit forbids 10,000 in a row.
        """
        found: list[Architecture] = []
        drawn, since = 0, 0  # number drawn in all, and since the last one that obeys the limit
        while len(found) < n:
            rows: list[dict[str, Answer]] = []
            lacking = n - len(found)
            for _ in range(lacking if not drawn else min(MOST_DRAWN, -(-lacking * drawn // max(1, len(found))))):
                choices: dict[str, Answer] = {}
                for decision in self.decisions:
                    if self.active(decision, choices):
                        choices[decision.name] = decision.draw(rng)
                rows.append(choices)
            for choices, forbidden in zip(rows, self.forbidden(rows), strict=True):
                if len(found) == n:
                    break
                drawn += 1
                since = since + 1 if forbidden is not None else 0
                if forbidden is None:
                    found.append(Architecture.of(self.spec, choices))
            if since >= TRIES:
                smallest = getattr(self.limit, "smallest", "")
                smallest = f"{self._limit_says}, and the smallest possible is {smallest}" if smallest else ""
                raise ValueError(
                    f"the limit of space '{self.name}' forbids all of {TRIES:,} random architectures{smallest}"
                )
        return found, drawn

    def enumerate(self) -> Iterator[Architecture]:
        """Yields every architecture once. This is only for small spaces: see `size`."""

        def rest(i: int, choices: dict[str, Answer]) -> Iterator[dict[str, Answer]]:
            if i == len(self.decisions):
                yield choices
            elif not self.active(self.decisions[i], choices):
                yield from rest(i + 1, choices)
            else:
                for answer in self.decisions[i].answers():
                    yield from rest(i + 1, {**choices, self.decisions[i].name: answer})

        for some in batched(rest(0, {}), MOST_DRAWN):
            for choices, forbidden in zip(some, self.forbidden(some), strict=True):
                if forbidden is None:
                    yield Architecture.of(self.spec, choices)

    def size(self) -> int:
        """Returns the number of architectures. With a limit it enumerates them all, which only a
        small space allows."""
        if self.limit is not None:
            return sum(1 for _ in self.enumerate())
        # (decision, option) to the names of the decisions that are asked where the option is taken
        asks: dict[tuple[str, str], frozenset[str]] = {}
        for decision in self.decisions:
            for parent, answers in decision.when.ways if decision.when is not None else ():
                for answer in answers:
                    asks[parent, answer] = asks.get((parent, answer), frozenset()) | {decision.name}

        def outcomes(decision: Decision) -> Counter[frozenset[str]]:
            """Returns the number of answers, by the set of decisions that they cause to be
            asked."""
            asked = [asks.get((decision.name, option), frozenset()) for option in decision.options]
            if not isinstance(decision, SubsetChoice):
                return Counter(asked)
            subsets = Counter({(0, frozenset[str]()): 1})  # by the number of members, too
            for more in asked:
                for (members, names), n in list(subsets.items()):
                    subsets[members + 1, names | more] += n
            (low, high), sizes = decision.bounds, Counter[frozenset[str]]()
            for (members, names), n in subsets.items():
                sizes[names] += n if low <= members <= high else 0
            return sizes

        # number of ways to answer the decisions so far, by the later decisions that they ask
        ways = Counter({frozenset[str](): 1})
        for decision in self._parents_first():
            after = Counter[frozenset[str]]()
            for names, n in ways.items():
                unasked = decision.when is not None and decision.name not in names
                for more, m in ((frozenset[str](), 1),) if unasked else outcomes(decision).items():
                    after[(names | more) - {decision.name}] += n * m
            ways = after
        return ways.total()

    def _parents_first(self) -> list[Decision]:
        """Returns the decisions in an order where each comes as soon as possible after those that
        it depends on."""
        waits = {d.name: {name for name, _ in d.when.ways} for d in self.decisions if d.when is not None}
        placed: dict[str, None] = {}

        def place(name: str) -> None:
            placed[name] = None
            for later, parents in waits.items():
                if name in parents and parents <= placed.keys():
                    place(later)

        for decision in self.decisions:
            if decision.name not in waits:
                place(decision.name)
        return [self._index[name] for name in placed]


def batched(values: Iterator[dict[str, Answer]], n: int) -> Iterator[list[dict[str, Answer]]]:
    """Yields lists of n values. The last list holds what is left."""
    while some := list(itertools.islice(values, n)):
        yield some


def recorded(settings: Settings, always: str, *others: str) -> dict[str, object]:
    """Returns the settings that an architecture records: `always`, and those of `others` that
    differ from their default."""
    names = (always, *(name for name in others if getattr(settings, name) != getattr(type(settings), name)))
    return {name: getattr(settings, name) for name in names}


def whole_numbers(tokens: str, what: str) -> list[int]:
    """Returns the numbers of a released form, which are separated by spaces. Raises a ValueError
    where one is no whole number."""
    try:
        return [int(token) for token in tokens.split()]
    except ValueError:
        raise ValueError(f"tokens of {what} are whole numbers; got {tokens!r}") from None


def number_of(op: str, ops: tuple[str, ...]) -> int:
    """Returns the number of an op in a released form. Raises a ValueError where it has none."""
    if op not in ops:
        raise ValueError(f"the released form has numbers for {', '.join(ops)}; got '{op}'")
    return ops.index(op)


def _placed_node(cell: str, node: Node, earlier: tuple[str, ...]) -> Node:
    """Returns the node with its decisions named after their place. Raises a ValueError for an input
    that does not come earlier."""

    def check(names: tuple[str, ...]) -> None:
        for name in names:
            if name not in earlier:
                raise ValueError(f"node '{node.name}' takes input '{name}', which does not come earlier; it may take"
                                 f" {' or '.join(earlier)}")  # fmt: skip

    edges: list[Edge] = []
    for slot, edge in enumerate(node.edges):
        check(edge.input.options if isinstance(edge.input, Decision) else (edge.input,))
        source, op = edge.input, edge.op
        if isinstance(source, InputChoice):
            source = replace(source, name=f"{cell}.{node.name}.input{slot}")
        if isinstance(op, OpChoice):
            op = replace(op, name=f"{cell}.{node.name}.op{slot}")
        edges.append(Edge(source, op))
    skips = node.skips
    if skips is not None:
        check(skips.options)
        skips = replace(skips, name=f"{cell}.{node.name}.skips")
    return Node(node.name, tuple(edges), skips, node.merge)


def _spec_text(spec: Mapping[str, object]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "name")
    return f"{spec['name']}({settings})"


wire = SearchSpace.wire  # as a function, for callers that do not say `space.wire(arch)` yet
