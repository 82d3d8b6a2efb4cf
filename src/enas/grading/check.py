"""This module is `enas check`: it asks the laws of code that a user brings, and says in words what
breaks.

The thing that a dotted path leads to decides what is checked. A problem, a space of cells, an op, a
data set, a task or a preset becomes the plan of a small search, and every law is asked of that
plan. A strategy is asked the laws of strategies. Registered names are checked in the same way. The
laws of a plan are asked in `case`.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas.blame import blamed
from enas.data.images import ImageData
from enas.data.registry import DATASETS
from enas.data.text import TextData
from enas.grading import strategy_laws
from enas.grading.case import Asked, Case, Draw, Result, finding_of
from enas.grading.laws import require
from enas.networks.registry import BACKBONES
from enas.plugins import entry_of, load
from enas.runs.plan import Plan
from enas.runs.planning import preset_plan, problem_plan
from enas.runs.presets.registry import PRESETS
from enas.runs.settings import Preset
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings
from enas.spaces.registry import OPS, SPACES, make_space, op_names
from enas.spaces.rnn_cell import RnnCellSettings
from enas.spaces.space import SearchSpace
from enas.strategies.registry import STRATEGIES
from enas.tasks.problem import Problem
from enas.tasks.registry import TASKS
from enas.tasks.task import Task

IMAGES, TEXT = "digits-micro", "text-rnn"  # the presets into which a space, op or task is put


def check(what: str, asked: Asked, data: Path | None, draw: Draw) -> Iterator[Result]:
    """Yields the results for a name or a dotted path. `draw` draws an architecture, and returns
    anything. Raises a ValueError where the path leads to nothing that can be checked."""
    kind, thing = kind_of(what)
    if kind == "strategy":
        yield from _strategy(what, thing, asked)
        return
    if kind == "op":
        yield from _op(what)
    yield from Case.of(plan_of(kind, what, data, asked.seed), asked, draw).results()


# ------------------------------------------------------------------------------- what it leads to
NAMES: Mapping[str, Mapping[str, Any]] = {
    "space": SPACES,  # before presets: some have the name of their space, and need a folder
    "preset": PRESETS,
    "strategy": STRATEGIES,
    "task": TASKS,
    "data set": DATASETS,
}


def kind_of(what: str) -> tuple[str, Any]:
    """Returns what a name or a path stands for, such as "space" or "op", and the thing itself.
    Raises a ValueError for anything that cannot be checked."""
    if ":" not in what:
        for kind, names in NAMES.items():
            if what in names and what != "own":
                return kind, names[what] if kind == "preset" else names[what].make
        if what in op_names():
            return "op", what
        raise ValueError(f"'{what}' is not registered (`enas list`), and no `package.module:thing`")
    thing = load(what)
    if isinstance(thing, Preset):
        return "preset", thing
    if isinstance(thing, Problem):
        return "problem", thing
    if not callable(thing):
        raise ValueError(f"'{what}' is {type(thing).__name__}: a problem, space, strategy, op, data set, task or preset is")
    if inspect.isclass(thing):
        if hasattr(thing, "ask") or hasattr(thing, "tell"):
            return "strategy", thing
        if Task in thing.__mro__:
            return "task", thing
        if not issubclass(thing, nn.Module):
            raise ValueError(f"'{what}' is a class that is no strategy (ask, tell), no task and no op")
    needed = [
        name
        for name, p in inspect.signature(thing).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if "folder" in needed:
        return "data set", thing
    if needed not in ([], ["settings"]):
        if len(needed) == 1:
            _check_activation(what, thing, needed[0])
        return "op", thing
    with blamed(f"'{what}'"):
        made = thing() if not needed else thing(entry_of("a space", what, SPACES).settings())
    for kind, types in {"problem": Problem, "space": SearchSpace, "data set": (ImageData, TextData)}.items():
        if isinstance(made, types):  # type: ignore[arg-type]
            return kind, thing
    if isinstance(made, nn.Module):
        raise ValueError(f"'{what}' makes a network; a function that returns enas.Problem(...) with it can be checked")
    raise ValueError(
        f"'{what}' returns {type(made).__name__}: a problem, a SearchSpace, an ImageData or a TextData can be checked"
    )


def _check_activation(what: str, thing: Callable[..., Any], argument: str) -> None:
    """Raises a ValueError where a function of one argument returns something else than a tensor. An
    error of its own is left to the laws."""
    try:
        made = thing(torch.randn(3, 4))
    except Exception:  # the checked code may raise anything
        return
    if not isinstance(made, Tensor):
        raise ValueError(
            f"'{what}' takes {argument} and returns {type(made).__name__}: an activation returns a tensor for a tensor, and"
            " a function that makes a problem takes no argument, or only ones with defaults"
        )


def _fits_text(thing: Any) -> bool:
    """Returns whether a network or an activation belongs to language models."""
    parameters = inspect.signature(thing).parameters
    return "vocabulary" in parameters or len([p for p in parameters.values() if p.default is p.empty]) == 1


def plan_of(kind: str, what: str, data: Path | None, seed: int) -> Plan:
    """Returns the plan of a small search that contains the thing to check, on the CPU. Raises a
    ValueError for data where none is needed."""
    if kind == "problem":
        return problem_plan(what, seed, "cpu").on(data)
    if kind == "preset":
        return preset_plan(what, seed=seed, device="cpu").on(data)
    plans = {text: preset_plan(TEXT if text else IMAGES, seed=seed, device="cpu") for text in (False, True)}
    if kind == "task":
        text = entry_of("a task", what, TASKS).data is type(plans[True].settings.data)
        plan = plans[text].with_task(what)
    elif kind == "data set":
        made = DATASETS[what].kind if what in DATASETS else None
        text = made == "text" if made else isinstance(_loaded(what, data), TextData)
        changed = dataclasses.replace(plans[text].settings.data, dataset=what)
        return _small(plans[text].with_settings(data=changed)).on(data)
    elif kind == "space":
        settings = entry_of("a space", what, SPACES).settings()
        backbone = entry_of("a network", make_space(what, settings).backbone, BACKBONES)
        plan = plans[_fits_text(backbone.make)].with_space_named(what)
    else:  # an op: beside another one
        text = _fits_text(load(what)) if ":" in what else what in plans[True].settings.space.ops
        macro = not text and ":" not in what and what not in plans[False].settings.space.ops
        plan = preset_plan("digits-macro", seed=seed, device="cpu") if macro else plans[text]
        other = next(op for op in plan.settings.space.ops if op != what)
        space = dataclasses.replace(plan.settings.space, ops=(what, other), **({"num_layers": 3} if macro else {}))
        plan = plan.with_settings(space=space)
    if data is not None:
        raise ValueError(f"--data is of data sets and presets; '{what}' is a {kind}")
    few = {"train": 2000 if plan.names.network == "recurrent" else 200}
    return _small(plan.with_settings(data=dataclasses.replace(plan.settings.data, **few)))


def _small(plan: Plan) -> Plan:
    """Returns the plan with a network and batches that are small enough to look at many
    architectures."""
    network = entry_of("a network", plan.names.network, BACKBONES).small
    if isinstance(plan.settings.space, ConvMicroSettings | RnnCellSettings):
        plan = plan.with_settings(space=dataclasses.replace(plan.settings.space, num_nodes=1))
    return plan.with_settings(network=network, task=dataclasses.replace(plan.settings.task, batch_size=8))


def _loaded(what: str, folder: Path | None) -> object:
    from enas.data.registry import load as load_data

    return load_data(what, folder)


# ------------------------------------------------------------------------------ strategies and ops
def _strategy(what: str, thing: Any, asked: Asked) -> Iterator[Result]:
    """Yields the results of a strategy, on the small instances of all registered spaces."""
    entry = entry_of("a strategy", what, STRATEGIES)
    spaces = [other.make(small) for other in SPACES.values() for small in other.small]
    missing = [name for name in ("learns", "ask", "tell", "state", "load") if not hasattr(thing, name)]
    yield Result("it has learns, ask, tell, state and load", f"'{what}' lacks {', '.join(missing)}" if missing else None)
    if missing:
        return
    settings = [entry.settings()] if "settings" in inspect.signature(thing).parameters else []

    def on(space: SearchSpace) -> strategy_laws.MakeStrategy:
        return lambda seed: thing(space, *settings, seed=asked.seed + seed)

    def others(space: SearchSpace) -> list[Architecture]:
        return [space.sample(random.Random(i)) for i in range(4)]

    about = f"{len(spaces)} spaces"
    for law, holds in (
        ("it asks for architectures of its space", lambda s: strategy_laws.asks_what_there_is(on(s), s, others(s))),
        ("one seed gives one result", lambda s: strategy_laws.asking_depends_on_the_seed_alone(on(s))),
        ("it goes on after it was saved and loaded", lambda s: strategy_laws.goes_on_after_load(on(s))),
        ("it learns where it says so", lambda s: strategy_laws.learns_as_it_says(on(s))),
    ):
        yield Result(law, _asked_of(spaces if "learns" not in law else spaces[:1], holds), about)


def _asked_of(spaces: list[SearchSpace], holds: Callable[[SearchSpace], None]) -> str | None:
    for space in spaces:
        if (finding := finding_of(lambda space=space: holds(space))) is not None:  # type: ignore[misc]
            return f"space '{space.name}': {finding}"
    return None


def _op(what: str) -> Iterator[Result]:
    """Yields the results of an op by itself."""
    from enas.networks.ops import LAYER_OPS, batch_norm, make_op

    if ":" not in what and what not in OPS:
        return  # a registered op is in the networks that are checked
    if _fits_text(load(what)):
        yield Result("it keeps the shape", finding_of(lambda: _activation_keeps_its_shape(what)))
        return

    def shapes() -> None:
        for channels, stride in ((4, 1), (6, 2)):
            op = make_op(what, channels, stride, batch_norm, LAYER_OPS)
            x = torch.randn(2, channels, 8, 8, requires_grad=True)
            side = 8 // stride
            kept = x.detach().clone()
            out = op(x * 1)
            require(
                out.shape == (2, channels, side, side),
                f"an op maps (B, C, H, W) to (B, C, H / stride, W / stride): at stride {stride} (2, {channels}, 8, 8)"
                f" becomes {tuple(out.shape)}",
            )
            y = kept.clone()
            op(y)
            require(torch.equal(y, kept), "the op changes its input in place; other edges read that too")

    yield Result("it keeps channels and input, and halves at stride 2", finding_of(shapes))


def _activation_keeps_its_shape(what: str) -> None:
    x = torch.randn(3, 4)
    kept = x.clone()
    out = load(what)(x)
    require(out.shape == x.shape, f"an activation keeps the shape: (3, 4) becomes {tuple(out.shape)}")
    require(torch.equal(x, kept), "the activation changes its input in place; other nodes read that too")
