"""This module turns a network of a user's own into a supernet: any `nn.Module` that holds choices
(design, section 3).

`OwnNetwork(network)` is called as `supernet(*inputs, arch)`, and offers what procedures ask of a
supernet. For each architecture it makes a *view*: the tree of modules in which every choice is
replaced by the parts that it takes. A module without a choice below it is in the view itself. Each
of the others is replaced by another module that shares everything with it but the submodules. So
parameters, buffers, hooks and all attributes are those of the network, and the network knows of no
architecture.

`child` returns a deep copy of a view: a plain network that consists only of types of torch and of
the user.

Networks whose state goes from batch to batch as an argument (language models) are left out.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from torch import Tensor, fx, nn

from enas.networks.choices import Choice, Choices, Combine, Repeat, SomeOf, joined, read
from enas.networks.ops import Statistics
from enas.spaces.architecture import Architecture

MOST_VIEWED = 128  # architectures whose views a network remembers


class OwnNetwork(nn.Module):
    """An `OwnNetwork` runs any architecture of a network that holds choices.

    `network` takes anything and returns anything. Its submodules must not be exchanged from now on.
    `name` is the name of the search space. `factory` makes the network anew, for children with
    fresh weights. A network whose `forward` takes `progress` is told the share of the training that
    is over.
    """

    aux_weight: float = 0.0  # weight of the auxiliary loss, where the network returns `Outputs`
    only: Architecture | None = None
    statistics: Statistics = "running"

    def __init__(self, network: nn.Module, name: str = "own", factory: Callable[[], nn.Module] | None = None):
        super().__init__()
        self.network, self.factory = network, factory
        self.choices = read(network, name)
        self.space = self.choices.space
        self._views: dict[Architecture, View] = {}
        self._mode: bool | None = None  # what `train` was last called with

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Returns what the child of an architecture returns. The last argument is the
        architecture."""
        if not inputs or not isinstance(inputs[-1], Architecture):
            raise ValueError("a supernet is called with an architecture: supernet(x, arch)")
        return self.view(inputs[-1])(inputs[:-1], keywords)

    def view(self, arch: Architecture) -> View:
        """Returns the view of an architecture, which is cached. Raises a ValueError where the
        architecture is of another space."""
        if arch not in self._views:
            if len(self._views) >= MOST_VIEWED:
                self._views.clear()
            self._views[arch] = View.of(self.network, self.choices, self.space.check(arch))
        return self._views[arch]

    def child(self, arch: Architecture, statistics: Statistics | None = None, fresh: bool = False) -> nn.Module:
        """Returns the network of one architecture alone, a plain module. It has copies of these
        weights, or with `fresh` new weights, which needs a function that makes the network. Raises
        a ValueError without one.

        `statistics` is there because procedures call every supernet alike. It changes nothing:
        parts keep the batch-norm statistics that they were made with.
        """
        if not fresh:
            return View.of(self.network, self.choices, self.space.check(arch), plain=True).copied()
        if self.factory is None:
            raise ValueError("fresh weights need a function that makes the network: OwnNetwork(network, factory=...)")
        child = View.of(self.factory(), self.choices, self.space.check(arch), plain=True, like=self.network).copied()
        reference = next(self.parameters(), None)
        return child if reference is None else child.to(reference.device)

    def rebuilt(self, only: Architecture, statistics: Statistics = "running") -> Child:
        """Returns a child with fresh weights that tasks can call like any other child."""
        return Child(self.child(only, statistics, fresh=True))

    # ------------------------------------------------------------------------------ for procedures
    def architecture(self, arch: Architecture | None) -> Architecture:
        """Returns `arch`. Raises a ValueError for None."""
        if arch is None:
            raise ValueError("a supernet is called with an architecture: supernet(x, arch)")
        return arch

    def parameters_of(self, arch: Architecture | None = None) -> list[nn.Parameter]:
        """Returns the parameters of a child, each once."""
        return list(self.view(self.architecture(arch)).module.parameters())

    def used(self, arch: Architecture | None = None) -> list[str]:
        """Returns the names of a child's parameters in this network. Two children share the
        parameters that both have."""
        names = {parameter: name for name, parameter in self.named_parameters()}
        return [names[parameter] for parameter in self.parameters_of(arch)]

    def num_parameters(self, arch: Architecture | None = None, aux: bool = True) -> int:
        """Returns the number of parameters of a child. Those of an auxiliary head always count."""
        return sum(parameter.numel() for parameter in self.parameters_of(arch))

    def slice(self, arch: Architecture) -> dict[str, Tensor]:
        """Returns the weights of a child by the names that they have in its `state_dict`."""
        return dict(self.view(arch).module.state_dict())

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Changes nothing, since it is not known here what several architectures compute alike."""
        yield

    def marks(self) -> dict[str, str]:
        """Returns no notes for a drawing."""
        return {}

    def train(self, mode: bool = True) -> Self:
        """Does what `nn.Module.train` does, but costs nothing where nothing changes."""
        if not self._mode == self.network.training == mode:
            self._mode = mode
            super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": {}}


class Child(nn.Module):
    """A `Child` wraps a plain network so that tasks can call it like the child of any supernet:
    `model(x, None)`. Without None or an architecture as the last argument, the network is called as
    it is."""

    aux_weight: float = 0.0

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self._timed = network, _timed(network)

    def num_parameters(self, aux: bool = True) -> int:
        """Returns the number of parameters. Those of an auxiliary head always count."""
        return sum(parameter.numel() for parameter in self.parameters())

    def marks(self) -> dict[str, str]:
        """Returns no notes for a drawing."""
        return {}

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        if not self._timed:
            keywords.pop("progress", None)
        named = bool(inputs) and (inputs[-1] is None or isinstance(inputs[-1], Architecture))
        return self.network(*(inputs[:-1] if named else inputs), **keywords)


def _timed(network: nn.Module) -> bool:
    """Returns whether a network takes `progress`."""
    return "progress" in inspect.signature(network.forward).parameters


# ------------------------------------------------------------------------------------------ views
@dataclass(frozen=True, eq=False)
class View:
    """A `View` is a network in which the parts that one architecture takes stand in place of the
    choices."""

    module: nn.Module
    # the modules that stand for choices and for modules above them, the inner ones first
    stands: dict[nn.Module, nn.Module]

    @classmethod
    def of(
        cls,
        network: nn.Module,
        choices: Choices,
        arch: Architecture,
        plain: bool = False,
        like: nn.Module | None = None,
    ) -> View:
        """Makes the view of an architecture. With `plain`, it has only types of torch and of the
        user. `like` is the network that the choices were read from, where `network` is another one
        with the same modules. Raises a ValueError where the modules are not the same."""
        stands: dict[nn.Module, nn.Module] = {}

        def of(module: nn.Module, like: nn.Module) -> nn.Module:
            if like not in choices.names and like not in choices.holders:
                return module
            if module in stands:
                return stands[module]
            if module is not like and _kind(module) != _kind(like):
                raise ValueError(f"the factory makes another network: {_kind(module)} in the place of {_kind(like)}")
            if isinstance(module, Choice) and isinstance(like, Choice):
                keys = module.taken(arch.choices[choices.names[like]])
                stand = _placed(module, {key: of(module.part(key), like.part(key)) for key in keys}, plain)
            else:
                stand = _stand_in(module)
                for key, child in module._modules.items():
                    other = like._modules[key]
                    stand._modules[key] = None if child is None or other is None else of(child, other)
            stands[module] = stand
            return stand

        return cls(of(network, network if like is None else like), stands)

    @cached_property
    def _timed(self) -> bool:
        return _timed(self.module)

    def __call__(self, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if not self._timed:
            keywords.pop("progress", None)
        return self.module(*inputs, **keywords)

    def copied(self) -> nn.Module:
        """Returns a deep copy. Whatever refers to the network itself, such as a hook that is a
        method of one of its modules, refers to the copy in it."""
        memo: dict[int, Any] = {}
        holders = [(module, stand) for module, stand in self.stands.items() if not isinstance(module, Choice)]
        for module, stand in holders:
            memo[id(module)] = memo[id(stand)] = object.__new__(type(module))
            for value in vars(module).values():
                # A forward may leave such a tensor, and torch cannot copy its graph.
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
        for module, stand in self.stands.items():
            if isinstance(module, Choice):
                memo[id(module)] = copy.deepcopy(stand, memo)
            else:
                attributes = {**vars(module), "_modules": stand._modules}
                vars(memo[id(module)]).update(copy.deepcopy(attributes, memo))
        root: nn.Module = copy.deepcopy(self.module, memo)
        return root


def _stand_in(module: nn.Module) -> nn.Module:
    """Returns a module that shares everything with `module` but has its own, empty table of
    submodules. It shares the very dict of attributes, so that each sees at once what the other
    changes."""
    if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
        raise ValueError("a compiled module holds a choice: compile the parts of choices, or the child")
    stand: nn.Module = object.__new__(_class_of(type(module)))  # type: ignore[arg-type]
    object.__setattr__(stand, "__dict__", module.__dict__)
    object.__setattr__(stand, "_stands", {})
    return stand


@functools.cache
def _class_of(cls: type[nn.Module]) -> type[nn.Module]:
    """Returns the class of the modules that stand for holders of class `cls`."""

    def submodules(self: nn.Module) -> dict[str, nn.Module | None]:
        stands: dict[str, nn.Module | None] = object.__getattribute__(self, "_stands")
        return stands

    def attribute(self: nn.Module, name: str) -> Any:
        stands = submodules(self)
        return stands[name] if name in stands else cls.__getattr__(self, name)

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__slots__": ("_stands",)}
    body = {**names, "_modules": property(submodules), "__getattr__": attribute}
    return types.new_class(cls.__name__, (cls,), exec_body=lambda namespace: namespace.update(body))


def _placed(choice: Choice, parts: dict[str, nn.Module], plain: bool) -> nn.Module:
    """Returns the module that stands in the place of a choice that takes `parts`."""
    if choice._forward_hooks or choice._forward_pre_hooks or choice._backward_hooks or choice._backward_pre_hooks:
        raise ValueError(f"{choice.label} does not run, so its hooks do not: register them on its parts")
    if isinstance(choice, SomeOf):
        stand: nn.Module = _graph(parts, choice.combine) if plain else _Merged(parts, choice.combine)
    elif isinstance(choice, Repeat):
        stand = nn.Sequential(*parts.values())
    else:
        (stand,) = parts.values()
        return stand
    stand.training = choice.training
    return stand


class _Merged(nn.Module):
    """A `_Merged` module runs several parts on the same inputs, and makes one output from
    theirs."""

    def __init__(self, parts: dict[str, nn.Module], combine: Combine):
        super().__init__()
        self._modules.update(parts)
        self.parts, self.combine = tuple(parts), combine

    def forward(self, *inputs: Any) -> Any:
        outputs = [self._modules[key](*inputs) for key in self.parts]  # type: ignore[misc]
        if isinstance(self.combine, str):
            return joined(self.combine, outputs, inputs)
        return self.combine(outputs)


def _graph(parts: dict[str, nn.Module], combine: Combine) -> fx.GraphModule:
    """Returns a module of torch's own that does what `_Merged` does. Its code can be pickled."""
    graph, root = fx.Graph(), nn.Module()
    root._modules.update(parts)
    inputs = tuple(graph.placeholder(name, default_value=default) for name, default in _inputs(parts))
    nodes = [graph.call_module(key, inputs) for key in parts]
    if isinstance(combine, str):
        tracer = fx.proxy.GraphAppendingTracer(graph)  # notes what `joined` does
        firsts, outputs = [[fx.Proxy(node, tracer) for node in some] for some in (inputs, nodes)]
        graph.output(joined(combine, outputs, firsts).node)  # type: ignore[arg-type, attr-defined]
    elif isinstance(combine, nn.Module):
        root._modules["combine"] = combine
        graph.output(graph.call_module("combine", (nodes,)))
    else:
        graph.output(graph.call_function(combine, (nodes,)))
    return fx.GraphModule(root, graph)


def _inputs(parts: dict[str, nn.Module]) -> list[tuple[str, Any]]:
    """Returns the name and the default of each positional input that all parts take: those of the
    part with the fewest. Returns one input where no part says which it takes."""
    found: list[list[tuple[str, Any]]] = []
    for part in parts.values():
        parameters = inspect.signature(part.forward).parameters.values()
        if not any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
            kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            found.append([(p.name, p.default) for p in parameters if p.kind in kinds])
    return min(found, key=len, default=[("x", inspect.Parameter.empty)])


def _kind(module: nn.Module) -> str:
    return f"{type(module).__name__} with {', '.join(module._modules) or 'no submodules'}"
