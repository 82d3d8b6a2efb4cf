"""Search spaces as values: decisions, the cells they stand in, and the sharing rule. No torch in
here.

Every architecture of a space is a subgraph of one graph (paper, section 2). A space is written as
cells whose edges take their input and their op from a decision or from a fixed name. From the cells
follow the order of the decisions (`SearchSpace.walk`), the graph of an architecture (`wire`) and
its weights (`address`).

Left out: the network that the cells are put into (`enas.networks.registry`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from enas.ranges import Settings
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredCell, WiredEdge, wired
from enas.spaces.decisions import Anchor, Decision, InputChoice, OpChoice, SubsetChoice
from enas.spaces.own import ModuleTree

Limit = Callable[[Decision, Mapping[str, Answer]], tuple[bool, ...] | None]
MOST_WIRED = 4096  # architectures whose graphs a space remembers
TRIES = 10_000  # random draws before a limit is taken to forbid everything


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """An ordered list of decisions and the sharing rule.

    `settings` are the arguments that the space was made from; every architecture records them.
    `backbone` names the network that its cells go into. `address(edge, position)` names the weight
    of an edge whose cell stands at `position` of the network: equal names share. `paper_size` is
    the paper's own count where it counts otherwise. `limit` forbids answers by those before them,
    see `allowed`; every prefix that it allows should lead to an architecture. `tree`: the modules
    that the decisions stand in, where the space was read off a network.
    """

    name: str
    walk: tuple[Decision | Anchor, ...]
    cells: tuple[Cell, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()
    backbone: str = ""
    address: Callable[[WiredEdge, int], str] | None = None
    paper_size: int | None = None
    limit: Limit | None = None
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
        """Makes a space of cells. The order: per node its inputs, then its ops, then its subset."""
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
        return tuple(step for step in self.walk if isinstance(step, Decision))

    def decision(self, name: str) -> Decision:
        """The decision of this name."""
        return self._index[name]

    @cached_property
    def num_answers(self) -> int:
        """Number of questions to a controller: one per decision, one per option of a subset."""
        return sum(len(d.options) if isinstance(d, SubsetChoice) else 1 for d in self.decisions)

    @cached_property
    def spec(self) -> dict[str, object]:
        """Name and settings, as every architecture of the space records them."""
        return {"name": self.name, **dict(self.settings)}

    def active(self, decision: Decision, choices: Mapping[str, Answer]) -> bool:
        """Returns whether `decision` is asked, given the choices made before it."""
        return decision.when is None or any(
            parent in choices and self._index[parent].contains(choices[parent], answer)
            for parent, answers in decision.when.ways
            for answer in answers
        )

    def allowed(self, decision: Decision, answers: Mapping[str, Answer]) -> tuple[bool, ...] | None:
        """Returns which options `decision` may take after `answers`, by the limit; None: all."""
        return None if self.limit is None else self.limit(decision, answers)

    def permits(self, decision: Decision, answer: Answer, answers: Mapping[str, Answer]) -> bool:
        """Returns whether every option that `answer` takes is allowed after `answers`."""
        allowed = self.allowed(decision, answers)
        return allowed is None or all(
            ok or not decision.contains(answer, option) for option, ok in zip(decision.options, allowed, strict=True)
        )

    def within_limit(self, choices: Mapping[str, Answer]) -> bool:
        """Returns whether each of `choices` is permitted after those before it."""
        answers: dict[str, Answer] = {}
        for decision in self.decisions if self.limit is not None else ():
            if decision.name in choices:
                if not self.permits(decision, choices[decision.name], answers):
                    return False
                answers[decision.name] = choices[decision.name]
        return True

    def architecture(self, choices: Mapping[str, object], provenance: Mapping[str, object] | None = None) -> Architecture:
        """Returns an architecture, checked: ValueError names the decision and the rule."""
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
                answer = decision.check(choices[decision.name])
                if not self.permits(decision, answer, checked):
                    raise ValueError(f"the limit of space '{self.name}' forbids the answer {answer!r} to '{decision.name}'")
                checked[decision.name] = answer
            elif decision.name in choices:
                raise ValueError(f"decision '{decision.name}' is not asked here: it depends on {decision.when}")
        return Architecture.of(self.spec, checked, provenance)

    def check(self, arch: Architecture) -> Architecture:
        """Returns `arch`, its subsets in order; ValueError where it is not of this space."""
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
        """Returns the graph that `arch` makes of each cell, by the cell's name; ValueError where it
        is of another space.

        Forward passes, drawings, counts and tests read this, and not the choices. The result is
        cached and shared: do not change it.
        """
        if arch not in self._wired:
            choices = self.check(arch).choices
            if len(self._wired) >= MOST_WIRED:
                self._wired.clear()
            self._wired[arch] = {cell.name: wired(cell, choices) for cell in self.cells}
        return self._wired[arch]

    def sample(self, rng: random.Random) -> Architecture:
        """Returns a random architecture: each active decision is answered by its own `draw`, in
        order. Everything that says random means this. What the limit forbids is drawn anew as a
        whole; ValueError where that never ends."""
        for _ in range(TRIES):
            choices: dict[str, Answer] = {}
            for decision in self.decisions:
                if self.active(decision, choices):
                    choices[decision.name] = decision.draw(rng)
            if self.within_limit(choices):
                return Architecture.of(self.spec, choices)
        raise ValueError(f"the limit of space '{self.name}' forbids all of {TRIES:,} random architectures")

    def enumerate(self) -> Iterator[Architecture]:
        """Yields every architecture once. Only for small spaces: see `size`."""

        def rest(i: int, choices: dict[str, Answer]) -> Iterator[dict[str, Answer]]:
            if i == len(self.decisions):
                yield choices
            elif not self.active(self.decisions[i], choices):
                yield from rest(i + 1, choices)
            else:
                permitted = (a for a in self.decisions[i].answers() if self.permits(self.decisions[i], a, choices))
                for answer in permitted:
                    yield from rest(i + 1, {**choices, self.decisions[i].name: answer})

        return (Architecture.of(self.spec, choices) for choices in rest(0, {}))

    def size(self) -> int:
        """Returns the number of architectures. With a limit only for small spaces."""
        if self.limit is not None:
            return sum(1 for _ in self.enumerate())
        asks: dict[tuple[str, str], frozenset[str]] = {}  # decisions that are asked where one took an option
        for decision in self.decisions:
            for parent, answers in decision.when.ways if decision.when is not None else ():
                for answer in answers:
                    asks[parent, answer] = asks.get((parent, answer), frozenset()) | {decision.name}

        def outcomes(decision: Decision) -> Counter[frozenset[str]]:
            """Returns the number of answers, by the decisions that are asked because of them."""
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

        ways = Counter({frozenset[str](): 1})  # to answer some decisions, by what they ask of those to come
        for decision in self._parents_first():
            after = Counter[frozenset[str]]()
            for names, n in ways.items():
                unasked = decision.when is not None and decision.name not in names
                for more, m in ((frozenset[str](), 1),) if unasked else outcomes(decision).items():
                    after[(names | more) - {decision.name}] += n * m
            ways = after
        return ways.total()

    def _parents_first(self) -> list[Decision]:
        """Returns the decisions, each as soon after those that it depends on as can be."""
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


def recorded(settings: Settings, always: str, *others: str) -> dict[str, object]:
    """Returns what architectures record: `always`, and which of `others` are not the default."""
    names = (always, *(name for name in others if getattr(settings, name) != getattr(type(settings), name)))
    return {name: getattr(settings, name) for name in names}


def whole_numbers(tokens: str, what: str) -> list[int]:
    """Reads space-separated numbers of a released form; ValueError where they are none."""
    try:
        return [int(token) for token in tokens.split()]
    except ValueError:
        raise ValueError(f"tokens of {what} are whole numbers; got {tokens!r}") from None


def number_of(op: str, ops: tuple[str, ...]) -> int:
    """Returns the number of an op in a released form; ValueError where it has none."""
    if op not in ops:
        raise ValueError(f"the released form has numbers for {', '.join(ops)}; got '{op}'")
    return ops.index(op)


def _placed_node(cell: str, node: Node, earlier: tuple[str, ...]) -> Node:
    """Returns the node, its decisions named after their place; ValueError for later inputs."""

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
