"""This module holds the laws that are true for every space, network, task and strategy (design,
section 6).

The tests ask the laws of everything that is registered, and `enas check` asks them of code that a
user brings. A law is a function that returns nothing of interest where it holds. Where it does not
hold, it raises `Broken`, whose text says in plain words what breaks.

A law that runs a network takes `run(model, arch)`. That function returns all tensors that come out,
computed on one batch with the same random numbers each time. `arch` is None for a child model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from enas.networks.own import Child, OwnNetwork
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.decisions import Decision, SubsetChoice
from enas.spaces.registry import space_of
from enas.spaces.space import SearchSpace

Model = Any  # a supernet, or a child model
Run = Callable[[Model, Architecture | None], Sequence[Tensor]]
MOST_COUNTED = 5_000  # architectures that are enumerated to check a size
SHOWN = 5  # choices of an architecture that a text names


class Broken(Exception):
    """This error says that a law does not hold, and where."""


def require(holds: object, text: str) -> None:
    """Raises `Broken` with this text unless something holds."""
    if not holds:
        raise Broken(text)


def called(arch: Architecture) -> str:
    """Returns an architecture in a few words: its choices, or its id where there are many."""
    if len(arch.choices) > SHOWN:
        return f"architecture {arch.id}"
    answers = (
        (name, answer if isinstance(answer, str) else "+".join(answer) or "none") for name, answer in arch.choices.items()
    )
    return f"architecture {', '.join(f'{name}={answer}' for name, answer in answers)}"


# ------------------------------------------------------------------------------------------ spaces
def has_a_choice(space: SearchSpace) -> None:
    """A space holds at least two architectures."""
    first = next(iter(space.enumerate()), None)
    require(first is not None, f"the limit of space '{space.name}' forbids every architecture")
    if space.limit is None:
        require(space.size() > 1, "there is one architecture only: nothing to choose")


def counts_itself(space: SearchSpace) -> None:
    """The size is the number of architectures, each of which is enumerated once (small spaces)."""
    if space.limit is not None or space.size() > MOST_COUNTED:
        return
    archs = list(space.enumerate())
    require(len(archs) == space.size(), f"the space counts {space.size()} architectures and enumerates {len(archs)}")
    require(len(set(archs)) == len(archs), "the space enumerates an architecture twice")


def survives_json(space: SearchSpace, arch: Architecture, find: bool = True) -> None:
    """An architecture comes back from JSON as it was. With `find`, it also finds its space by
    itself."""
    again = Architecture.from_json(arch.to_json())
    require(again == arch and again.id == arch.id, f"{called(arch)} comes back from JSON as another one")
    require(space.check(again) == arch, f"{called(arch)} does not keep to the rules of its space")
    if find:
        there = space_of(again.space)
        require(
            there.decisions == space.decisions,
            f"the space that architectures record, {dict(again.space)}, has other decisions than the one that was made:"
            " pass all that it was made from as `settings`",
        )


def covering(space: SearchSpace, rng: random.Random, least: int = 8) -> list[Architecture]:
    """Returns architectures that together take every option of every decision, and more, so that
    there are at least `least` where the space has so many. An option of a subset is also left out
    by one of them."""
    wanted = [(d, option, True) for d in space.decisions for option in d.options]
    wanted += [(d, o, False) for d in space.decisions if isinstance(d, SubsetChoice) and d.k is None for o in d.options]
    found: dict[Architecture, None] = {}
    for decision, option, taken in wanted:
        if not any(_takes(arch, decision, option) is taken for arch in found):
            for _ in range(20):  # a limit may forbid the first ones
                arch = _with_option(space, decision, option, taken, rng)
                if arch is not None:
                    found[arch] = None
                    break
    for _ in range(20 * least):
        if len(found) >= least:
            break
        found[space.sample(rng)] = None
    return list(found)


def _takes(arch: Architecture, decision: Decision, option: str) -> bool | None:
    """Returns whether the decision takes the option, or None where it is not asked."""
    return decision.contains(arch.choices[decision.name], option) if decision.name in arch.choices else None


def _with_option(
    space: SearchSpace, decision: Decision, option: str, taken: bool, rng: random.Random
) -> Architecture | None:
    """Returns a random architecture with an option taken, or not taken, or None where none is
    found."""
    forced: dict[str, set[str]] = {decision.name: {option}}
    asked = decision
    while asked.when is not None:
        parent, answers = rng.choice(list(asked.when.ways))
        forced[parent] = set(answers)
        asked = space.decision(parent)
    choices: dict[str, Answer] = {}
    for step in space.decisions:
        if not space.active(step, choices):
            continue
        answer = step.draw(rng)
        if step.name in forced:
            want = taken or step.name != decision.name
            for _ in range(200):
                if any(step.contains(answer, name) for name in forced[step.name]) is want:
                    break
                answer = step.draw(rng)
        choices[step.name] = answer
    if not space.within_limit(choices):
        return None
    arch = space.architecture(choices)
    return arch if _takes(arch, decision, option) is taken else None


# ---------------------------------------------------------------------------------------- networks
def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Returns whether tensors are equal, number by number. nan counts as equal to nan."""
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True)
    )


def child_of(net: Model, arch: Architecture) -> Model:
    """Returns the child of an architecture, in a form that tasks can call."""
    child = net.child(arch)
    return Child(child) if isinstance(net, OwnNetwork) else child


def child_computes_what_the_supernet_does(
    net: Model, arch: Architecture, run: Run, what: str = "computes", child: Model = None
) -> None:
    """A child gives exactly the numbers of the supernet, and updates the same running statistics.
    `child` may be one that was made before."""
    child = child_of(net, arch) if child is None else child
    whole, alone = run(net, arch), run(child, None)
    require(
        same(whole, alone),
        f"the child of {called(arch)} {what} other numbers than the supernet; does a part keep state outside of its"
        " buffers, or run by a global switch?",
    )
    kept, held = net.slice(arch), (child.network if isinstance(child, Child) else child).state_dict()
    require(held.keys() == kept.keys(), f"the child of {called(arch)} holds other weights than the supernet gives it")
    for name, value in held.items():
        require(
            same([value], [kept[name]]), f"'{name}' of {called(arch)} moves otherwise in the child than in the supernet"
        )


def evaluation_is_repeatable(net: Model, arch: Architecture, score: Run) -> None:
    """Evaluation gives the same numbers twice, and changes no weights or buffers."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, second = score(net, arch), score(net, arch)
    require(
        same(first, second),
        f"{called(arch)} gives other numbers when it is evaluated again on the same batch: in eval mode, a forward is"
        " deterministic (is dropout applied without `self.training`?)",
    )
    for name, value in net.state_dict().items():
        require(
            same([value], [before[name]]),
            f"evaluating {called(arch)} changes '{name_of(net, name)}': in eval mode, nothing moves",
        )


def gradients_stay_within(net: Model, arch: Architecture, loss: Callable[[Model, Architecture], Tensor]) -> set[str]:
    """No weight outside of an architecture gets a gradient. Returns the names of the weights that
    get one."""
    net.zero_grad(set_to_none=True)
    loss(net, arch).backward()
    own = {id(parameter) for parameter in net.parameters_of(arch)}
    reached = {name: id(p) in own for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad(set_to_none=True)
    strange = [name_of(net, name) for name, within in reached.items() if not within]
    more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
    require(
        not strange,
        f"training {called(arch)} sends a gradient to '{strange[0] if strange else ''}'{more}, of which it has no part:"
        " does a part call another one?",
    )
    return set(reached)


def exactly_its_weights_get_a_gradient(
    net: Model, arch: Architecture, loss: Callable[[Model, Architecture], Tensor]
) -> set[str]:
    """All weights of an architecture get a gradient, and no others. Returns their names."""
    reached = gradients_stay_within(net, arch, loss)
    own = {id(parameter) for parameter in net.parameters_of(arch)}
    for name, parameter in net.named_parameters():
        require(
            id(parameter) not in own or name in reached or not parameter.requires_grad,
            f"{called(arch)} has weight '{name}', which gets no gradient",
        )
    return reached


def name_of(net: Model, name: str) -> str:
    """Returns the name that a weight has in the user's own network."""
    return name.removeprefix("network.") if isinstance(net, OwnNetwork) else name


def every_weight_is_reached(net: Model, reached: set[str]) -> None:
    """Every trainable weight got a gradient from some architecture."""
    idle = [name_of(net, name) for name, p in net.named_parameters() if p.requires_grad and name not in reached]
    more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
    require(not idle, f"parameter '{idle[0] if idle else ''}'{more} gets a gradient from no architecture: nothing uses it")


def other_weights_play_no_part(net: Model, arch: Architecture, run: Run) -> None:
    """The results of an architecture do not depend on the weights that it does not use. This needs
    a `run` that resets random numbers and statistics."""
    own = {id(parameter) for parameter in net.parameters_of(arch)}
    others = [(p, p.detach().clone()) for p in net.parameters() if id(p) not in own]
    before = run(net, arch)
    with torch.no_grad():
        for parameter, _ in others:
            parameter.fill_(math.nan)
        after = run(net, arch)
        for parameter, value in others:
            parameter.copy_(value)
    require(same(before, after), f"{called(arch)} computes with weights of which it has no part")


class Watched:
    """A `Watched` object records what the parts of choices in a user's own network do while they
    run."""

    def __init__(self) -> None:
        # shapes of outputs by choice, part and shapes of inputs
        self.shapes: dict[str, dict[str, dict[object, object]]] = {}
        self.changing: dict[str, nn.Module] = {}  # parts that change their input in place, by name


@contextmanager
def watching(net: Model) -> Iterator[Watched]:
    """Watches the parts of all choices of a user's own network inside the `with` block. In other
    networks, it watches nothing."""
    seen, hooks = Watched(), []
    for choice, name in net.choices.names.items() if isinstance(net, OwnNetwork) else ():
        for key in choice.keys:
            part = choice.part(key)
            if part not in net.choices.names:  # another choice does not run itself
                place = seen.shapes.setdefault(f"{type(choice).__name__} '{name}'", {}).setdefault(key, {})
                hooks += _watch(part, key, f"{type(choice).__name__} '{name}'", place, seen)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _watch(part: nn.Module, key: str, choice: str, place: dict[object, object], seen: Watched) -> list[Any]:
    versions: list[int] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        versions[:] = [x._version for x in tensors(inputs)]

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if [x._version for x in tensors(inputs)] != versions:
            seen.changing[f"part '{key}' of {choice}"] = part
        place.setdefault(_shapes(inputs), _shapes(output))

    return [part.register_forward_pre_hook(before), part.register_forward_hook(after)]


def parts_keep_their_shape(seen: Watched) -> None:
    """All parts of a choice return the same shapes for the same input."""
    for choice, parts in seen.shapes.items():
        keys = list(parts)
        for i, a in enumerate(keys):
            for b in keys[i + 1 :]:
                for shape in parts[a].keys() & parts[b].keys():
                    require(
                        parts[a][shape] == parts[b][shape],
                        f"{choice}: for an input of shape {_words(shape)}, '{a}' gives {_words(parts[a][shape])} and '{b}'"
                        f" gives {_words(parts[b][shape])}; parts of one choice give one shape",
                    )


def inputs_stay_as_they_are(net: Model, arch: Architecture, run: Run, seen: Watched) -> None:
    """Nothing else sees a change that a part makes to its input in place: a part that gets a copy
    of its input leads to the same numbers, and to no other error."""
    plain = _outcome(net, arch, run, []) if seen.changing else None
    culprits = [label for label, part in seen.changing.items() if not _alike(plain, _outcome(net, arch, run, [part]))]
    if not culprits and not _alike(plain, _outcome(net, arch, run, list(seen.changing.values()))):
        culprits = list(seen.changing)
    require(
        not culprits,
        f"{' and '.join(culprits)} changes its input in place, and something else reads that input in {called(arch)}, or"
        " its gradient does: use one that is not in place",
    )


def _outcome(net: Model, arch: Architecture, run: Run, copied: list[nn.Module]) -> Sequence[Tensor] | None:
    """Returns the tensors that come out where some parts get copies of their inputs, or None for an
    error."""
    hooks = [part.register_forward_pre_hook(_cloned) for part in copied]
    try:
        return run(net, arch)
    except RuntimeError:
        return None
    finally:
        for hook in hooks:
            hook.remove()


def _alike(a: Sequence[Tensor] | None, b: Sequence[Tensor] | None) -> bool:
    return a is b or (a is not None and b is not None and same(a, b))


def _cloned(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    copied: tuple[Any, ...] = torch.utils._pytree.tree_map_only(Tensor, Tensor.clone, inputs)
    return copied


def tensors(values: Any) -> list[Tensor]:
    """Returns the tensors in any nest of tuples, lists and mappings."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _shapes(values: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(x.shape) for x in tensors(values))


def _words(shapes: Any) -> str:
    return ", ".join("x".join(map(str, shape)) or "()" for shape in shapes) or "nothing"


# ---------------------------------------------------------------------------------------- rewards
def rewards_are_finite(rewards: Sequence[float]) -> None:
    """Rewards of all architectures are finite, whatever the targets."""
    for reward in rewards:
        require(math.isfinite(reward), f"a reward is a finite number; got {reward}")


def rewards_differ(rewards: Sequence[float]) -> None:
    """Rewards of several architectures and weights, by the same targets, are not all the same."""
    require(
        len(set(rewards)) > 1,
        f"the reward is {rewards[0]:g} for every architecture, with other weights and with random outputs too: nothing"
        " can be learned from it",
    )


def rewards_depend_on_targets(true: Sequence[float], shuffled: Sequence[Sequence[float]]) -> None:
    """Some architecture gets another reward where the targets are random."""
    require(
        any(list(true) != list(other) for other in shuffled),
        "the reward is the same with random targets: it does not look at them",
    )
