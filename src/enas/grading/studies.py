"""This module changes an architecture, to ask whether it is a local optimum. It has the paper's own
changes (3.1, 3.2), and every single change.

A study draws changed architectures. The registry below says which studies a space has.
`single_changes` needs no entry, because it is made from a space's decisions. Two architectures that
build the same network count as one. This module does not import torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from enas.spaces.architecture import Answer, Architecture
from enas.spaces.decisions import Decision, InputChoice, OpChoice, SubsetChoice
from enas.spaces.space import SearchSpace

Change = Callable[[SearchSpace, Architecture, random.Random], Architecture | None]
SINGLE = "single_changes"
TRIES = 200  # number of draws after which a study counts as having no more different networks


@dataclass(frozen=True)
class Study:
    """A `Study` has a `change` that draws one changed architecture, or None where there is nothing
    to change."""

    name: str
    about: str
    paper: str  # what the paper found
    change: Change
    equal_parameters: bool = False
    """True where the changed network gets as many parameters as the unchanged one, by its width."""


# ----------------------------------------------------------------------------------- every change
def single_changes(space: SearchSpace, arch: Architecture) -> Iterator[tuple[str, Architecture]]:
    """Yields every other network that differs in one answer (in one member of a subset), with the
    change in words. A change that makes another decision active is left out."""
    same = _network(space, arch)
    for decision in space.decisions:
        if decision.name not in arch.choices:
            continue
        answer = arch.choices[decision.name]
        for other in _in_order(decision, answer):
            changed = _with(space, arch, {decision.name: other})
            if changed is not None and _network(space, changed) != same:
                yield _said(decision.name, answer, other), changed


def _network(space: SearchSpace, arch: Architecture) -> object:
    """Returns what tells one network from another: the graphs of its cells, or its answers where
    the space has no cells, as that of a user's own network."""
    return space.wire(arch) if space.cells else arch.choices


def _in_order(decision: Decision, answer: Answer) -> list[Answer]:
    """Returns the answers that are one change away, in the order in which a decision lists its
    answers. So a draw among them is the same as in earlier versions."""
    if not isinstance(decision, SubsetChoice):
        return decision.neighbours(answer)
    return sorted(decision.neighbours(answer), key=lambda subset: [option in subset for option in decision.options])


def _with(space: SearchSpace, arch: Architecture, changes: dict[str, Answer]) -> Architecture | None:
    try:
        return space.architecture({**arch.choices, **changes})
    except ValueError:  # the change alters which decisions are active, or the limit forbids it
        return None


def _said(name: str, before: Answer, after: Answer) -> str:
    def text(answer: Answer) -> str:
        return answer if isinstance(answer, str) else "+".join(answer) or "nothing"

    return f"{name}: {text(before)} to {text(after)}"


# ---------------------------------------------------------------------------- the paper's changes
def _some(names: list[str], rng: random.Random) -> list[str]:
    """Returns each name with probability one half, but at least one."""
    return [name for name in names if rng.random() < 0.5] or [rng.choice(names)]


def _ops(space: SearchSpace, arch: Architecture) -> dict[str, OpChoice]:
    return {d.name: d for d in space.decisions if isinstance(d, OpChoice) and d.name in arch.choices}


def _switched(to: Callable[[str, random.Random], str | None]) -> Change:
    """Returns a change that switches the ops of some nodes to the op that `to` returns, among those
    for which it returns one."""

    def change(space: SearchSpace, arch: Architecture, rng: random.Random) -> Architecture | None:
        able = {
            name: new
            for name, decision in _ops(space, arch).items()
            if (new := to(str(arch.choices[name]), rng)) is not None and new in decision.options
        }
        if not able:
            return None
        return _with(space, arch, {name: able[name] for name in _some(list(able), rng)})

    return change


def _to_identity_or_sigmoid(op: str, rng: random.Random) -> str | None:
    return rng.choice([new for new in ("identity", "sigmoid") if new != op])


def _relu_and_tanh(op: str, rng: random.Random) -> str | None:
    return {"relu": "tanh", "tanh": "relu"}.get(op)


def _connections(space: SearchSpace, arch: Architecture, rng: random.Random) -> Architecture | None:
    """Lets three inputs, or as many as there are, read from other nodes."""
    able = [d for d in space.decisions if isinstance(d, InputChoice) and d.name in arch.choices and len(d.options) > 1]
    if not able:
        return None
    changed = rng.sample(able, min(3, len(able)))
    return _with(space, arch, {d.name: rng.choice([o for o in d.options if o != arch.choices[d.name]]) for d in changed})


def _plain(space: SearchSpace, arch: Architecture, rng: random.Random) -> Architecture | None:
    """Turns every separable convolution into a plain one with the same kernel."""
    to = {name: str(arch.choices[name]).removeprefix("sep_") for name in _ops(space, arch)}
    to = {name: op for name, op in to.items() if op != arch.choices[name]}
    return _with(space, arch, dict(to)) if to else None


STUDIES: dict[str, tuple[Study, ...]] = {
    "rnn_cell": (
        Study(
            "identity_sigmoid",
            "some nodes' activations become identity or sigmoid",
            "up to 8 perplexity worse (3.1)",
            _switched(_to_identity_or_sigmoid),
        ),
        Study(
            "relu_tanh",
            "some nodes' ReLU become tanh, and tanh ReLU",
            "up to 3 perplexity worse (3.1)",
            _switched(_relu_and_tanh),
        ),
    ),
    "conv_micro": (Study("connections", "three connections are drawn anew", "2.1 points worse (3.2)", _connections),),
    "conv_macro": (
        Study(
            "plain_convolutions",
            "all separable convolutions become plain ones, at as many parameters",
            "1.7 points worse (3.2)",
            _plain,
            equal_parameters=True,
        ),
    ),
}


# ---------------------------------------------------------------------------------------- drawing
def drawn(
    study: Study, space: SearchSpace, arch: Architecture, n: int, rng: random.Random
) -> list[tuple[str, Architecture]]:
    """Returns up to n different changed networks, each with its change in words."""
    seen = [_network(space, arch)]
    out: list[tuple[str, Architecture]] = []
    for _ in range(TRIES):
        if len(out) == n:
            break
        changed = study.change(space, arch, rng)
        if changed is None:  # nothing to change, or the limit of the space forbids it
            continue
        network = _network(space, changed)
        if network not in seen:
            seen.append(network)
            out.append((difference(space, arch, changed), changed))
    return out


def difference(space: SearchSpace, before: Architecture, after: Architecture) -> str:
    """Returns the change in words."""
    names = [d.name for d in space.decisions if before.choices.get(d.name) != after.choices.get(d.name)]
    return "; ".join(_said(name, before.choices.get(name, ()), after.choices.get(name, ())) for name in names)
