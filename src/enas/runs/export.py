"""This module exports the result of a training from scratch as files that run without `enas`.

    PATH.py and PATH.safetensors   format python: a readable module and its weights
    PATH.onnx                      format onnx
    PATH.pt2                       format torch, a program of `torch.export`

Every file that is written has been run: its outputs agree with those of the trained network.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils import _pytree

from enas.data.images import ImageData
from enas.data.registry import DATASETS
from enas.data.text import TextData
from enas.networks.export import onnx, program
from enas.networks.export.about import About, Images, Text, Tokens, drawing_of
from enas.networks.export.python import inputs_of, module_of, network_of, outputs_of
from enas.networks.own import Child
from enas.networks.recurrent import RecurrentNetwork
from enas.ranges import check_name
from enas.runs.architectures import architecture_of, best_of
from enas.runs.files import write_atomically
from enas.runs.folder import RunFolder
from enas.runs.own import load_trained
from enas.runs.plan import Plan
from enas.runs.planning import preset_plan
from enas.runs.presets import registry as presets
from enas.runs.process import versions
from enas.runs.results import Result, Retrained
from enas.runs.settings import to_dict
from enas.spaces.architecture import Architecture, Reference, model_from_dict

Format = Literal["python", "onnx", "torch"]
Weights = Literal["trained", "none"]
ENDINGS: Mapping[Format, str] = {"python": ".py", "onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-5  # as a share of the largest output, or of 1


@dataclass(frozen=True)
class Exported:
    """An `Exported` value names the files that were written, and says in words how they were
    checked."""

    files: tuple[Path, ...]
    checked: str
    inputs: str = ""
    """The inputs of a program with their shapes, in which only `batch` may be any number."""


@dataclass(frozen=True)
class _Source:
    """A `_Source` says what is exported: a plan, an architecture, and the training that has its
    weights."""

    plan: Plan
    arch: Architecture
    run: Path | None = None
    training: RunFolder | None = None


def export(
    what: str | Path,
    format: Format = "python",
    *,
    weights: Weights = "trained",
    arch: str | Path | None = None,
    out: str | Path | None = None,
    preset: str | None = None,
    recipe: str | None = None,
    data: str | Path | None = None,
) -> Exported:
    """Exports the training that a run's `retrain` chose, a training by its folder, or an
    architecture.

    `arch` is another architecture to put into the network of a run, without weights. `out` is the
    file; without it, the file is `exported` in the folder, or `SPACE_ID` in the current folder.
    `preset` and `recipe` give the network that an architecture alone is built into, as in `enas
    retrain`. Raises a ValueError where something is missing, or where the file's outputs are not
    those of the network.
    """
    check_name("--format", format, get_args(Format))
    check_name("--weights", weights, get_args(Weights))
    source = _named(Path(what), what, arch, weights, preset, recipe)
    plan = source.plan.on(data, "cpu")
    child, about, inputs = _prepared(plan, source, weights)
    ending = ENDINGS[format]
    place = source.training.path if source.run is None and source.training is not None else source.run
    path = (
        Path(out)
        if out is not None
        else (place / "exported" if place is not None else Path(f"{plan.space.name}_{source.arch.id}"))
    )
    path = path if path.suffix == ending else path.with_name(path.name + ending)
    if path.parent != Path() and not path.parent.is_dir():
        raise ValueError(f"--out is a file in a folder that exists; there is no '{path.parent}'")
    if format == "python":
        if isinstance(child, Child):
            child_of = f"enas.Run('{source.run}').child()" if source.run is not None else "enas.Run(RUN).child()"
            raise ValueError(
                "format python writes the networks of this package; yours is made of classes of your own: --format onnx or"
                f" --format torch exports it, and in Python {child_of} is a plain module"
            )
        return _python(path, child, about, weights == "trained")
    return _traced(path, child, about, inputs, format)


# ------------------------------------------------------------------------------- by what names it
def _named(
    path: Path, what: str | Path, arch: str | Path | None, weights: Weights, preset: str | None, recipe: str | None
) -> _Source:
    if not path.is_dir():
        if weights == "trained":
            raise ValueError(f"'{what}' has no trained weights: name a run or a training, or add --weights none")
        if arch is not None:
            raise ValueError(f"--arch names another architecture beside a run; got it beside '{what}'")
        architecture = architecture_of(what)
        name = preset or presets.preset_for(architecture.space["name"])
        return _Source(preset_plan(name, recipe, device="cpu").with_space(architecture.space), architecture)
    if preset or recipe:
        raise ValueError(f"'{what}' has its own preset and recipe; leave out --preset and --recipe")
    folder = RunFolder.open(path)
    plan = Plan.recorded(folder)
    if arch is not None:
        if weights == "trained":
            raise ValueError(
                f"'{arch}' has no trained weights in '{what}': add --weights none, or name its training's folder"
            )
        architecture = architecture_of(arch)
        return _Source(plan.with_space(architecture.space), architecture, path)
    if folder.config["command"] == "retrain":
        return _Source(plan, _trained(folder), None, folder)
    if (retrained := Retrained.find(path)) is not None:
        training = RunFolder.open(path / retrained.best.folder)
        return _Source(Plan.recorded(training), _trained(training), path, training)
    if weights == "trained":
        again = f"enas retrain {shlex.quote(str(what))}"
        raise ValueError(f"'{what}' has no training from scratch: run `{again}` first, or add --weights none")
    return _Source(plan, best_of(path)[0], path)


def _trained(folder: RunFolder) -> Architecture:
    model = model_from_dict(folder.config["architecture"])
    if isinstance(model, Reference):
        raise ValueError(f"architectures of a space are exported; '{folder.path}' trained the hand-designed '{model.name}'")
    return model


# ------------------------------------------------------------------------- the network and its data
def _prepared(plan: Plan, source: _Source, weights: Weights) -> tuple[nn.Module, About, Any]:
    """Returns the child, the description that its file carries, and inputs for it where they cannot
    be made up."""
    alone = source.run is None and source.training is None
    dimensions: Mapping[str, int] = {}
    reads: Images | Text | None = None
    inputs = None
    fixed = {} if plan.problem or not alone else DATASETS[plan.settings.data.dataset].dimensions
    if fixed:
        dimensions = fixed
    else:
        data = plan.load_data()
        if isinstance(data, ImageData):
            crop = getattr(plan.settings.data, "fit", "resize") == "crop"
            reads = Images(data.channels, data.image_size, data.mean, data.std, data.class_names, crop)
            dimensions = {"channels": data.channels, "image_size": data.image_size, "classes": data.num_classes}
        elif isinstance(data, TextData):
            reads = Text(data.vocabulary, _tokens(plan))
            dimensions = {"vocabulary": len(data.vocabulary)}
        else:
            task: Any = plan.task(data, plan.settings.retrain.task, plan.settings.retrain.train_on)
            batch = task.reward_batch(0)
            dimensions, inputs = task.dimensions, (batch,) if isinstance(batch, Mapping) else tuple(batch[:-1])
    # a network asks a task for nothing but its dimensions
    sized: Any = SimpleNamespace(dimensions=dict(dimensions))
    child: nn.Module = plan.network(plan.settings.retrain.network, sized, source.arch)
    result = None
    if weights == "trained":
        assert source.training is not None
        if (result := Result.find(source.training.path)) is None:
            raise ValueError(f"the training in '{source.training.path}' is not finished: the command that began it goes on")
        load_trained(child, source.training)
    about = About(
        f"Architecture {source.arch.id} of space {plan.space.name}, exported by enas {versions()['enas']}.",
        _provenance(plan, source, weights, result),
        drawing_of(plan.space, source.arch),
        reads,
    )
    return child.eval(), about, inputs


def _tokens(plan: Plan) -> Tokens:
    if getattr(plan.settings.data, "tokens", "words") == "characters":
        return "characters"
    return "marks" if plan.settings.data.dataset == "topics" else "words"


def _provenance(plan: Plan, source: _Source, weights: Weights, result: Result | None) -> dict[str, object]:
    arch, config = source.arch, source.training.config if source.training else {}
    order = [decision.name for decision in plan.space.decisions if decision.name in arch.choices]
    values: dict[str, object] = {"space": dict(arch.space), "id": arch.id}
    run = source.run
    if run is None and source.training is not None and source.training.path.parent.name == "retrain":
        run = source.training.path.parents[1]
    if run is not None:
        values |= {"run": run.name, "search seed": plan.seed}
    elif arch.provenance:
        values["source"] = dict(arch.provenance)
    values |= {"preset": plan.preset, "recipe": plan.recipe, "data": plan.data_name}
    if weights == "trained":
        assert result is not None
        values |= {"training": source.training.path.name if source.training else "", "training seed": config["train_seed"]}
        values |= {"figures": dict(result.figures), "parameters": result.parameters}
    network = to_dict(plan.settings.retrain.network)
    values |= {"network": network} if network else {}
    made = {"trained with": dict(config["versions"])} if weights == "trained" and "versions" in config else {}
    return {**values, **made, "exported with": versions(), "choices": {name: arch.choices[name] for name in order}}


def _first(inputs: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """Returns the inputs of a user's own network for the first n examples of a batch, and for 1
    where the batch has fewer. Raises a ValueError for an input that is no tensor, because a file
    would hold its value for good."""
    for path, leaf in _pytree.tree_flatten_with_path(inputs)[0]:
        if not isinstance(leaf, Tensor):
            raise ValueError(
                f"an exported network takes tensors; input {_name(path, inputs)} is {type(leaf).__name__}, whose value a"
                " file would hold for good: make it a tensor, or leave it out of the examples (in the collate_fn)"
            )
    size = _size(inputs, 0)
    n = n if n <= size else 1

    def first(leaf: Tensor) -> Tensor:
        return leaf[:n] if leaf.ndim and len(leaf) == size else leaf

    return tuple(_pytree.tree_map(first, inputs))


def _size(inputs: Any, dim: int) -> int:
    """Returns the number of examples in the inputs, by the first that has dimension `dim`."""
    return next((int(leaf.shape[dim]) for leaf in _pytree.tree_leaves(inputs) if leaf.ndim > dim), 1)


def _name(path: tuple[Any, ...], inputs: Any) -> str:
    """Returns the name of an input: its place, or its key where the network reads one mapping."""
    keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
    if len(inputs) > 1:
        return f"input{'.'.join(keys)}"
    return ".".join(keys[1:]) or "input"


def _shapes(names: Sequence[str], inputs: Any, dim: int) -> str:
    """Returns the shape and type of every input in words."""
    size, shapes = _size(inputs, dim), list[str]()
    for name, leaf in zip(names, _pytree.tree_leaves(inputs), strict=True):
        sides = ("batch" if i == dim and n == size else str(n) for i, n in enumerate(leaf.shape))
        shapes.append(f"{name} ({', '.join(sides)}) {str(leaf.dtype).removeprefix('torch.')}")
    return ", ".join(shapes)


# ----------------------------------------------------------------------------------------- formats
def _python(path: Path, child: nn.Module, about: About, weights: bool) -> Exported:
    if not path.stem.isidentifier():
        raise ValueError(f"--out is a Python file, named as a module can be; got '{path.name}'")
    module = module_of(child, about, weights)
    inputs = inputs_of(child)
    with torch.no_grad():
        worst = _difference(module.network()(*inputs), outputs_of(child, inputs), "the Python file")
    files = [path]
    if weights:
        files.append(path.with_suffix(".safetensors"))
        header = {"format": "pt", **about.metadata()}
        write_atomically(files[1], save(dict(module.tensors), header))
    write_atomically(path, module.source)
    return Exported(tuple(files), "its outputs equal the network's" if worst == 0 else f"largest difference {worst:.1g}")


def _traced(path: Path, child: nn.Module, about: About, inputs: Any, format: Format) -> Exported:
    if format == "onnx":
        onnx.check_installed()
    names = ["images"], ["logits"]
    if isinstance(child, Child):
        network, dim, whole = child.network.eval(), 0, inputs
        inputs, others = _first(whole, 2), _first(whole, 3)
        with torch.no_grad():
            wanted = _pytree.tree_leaves(network(*others))
        named = [_name(place, inputs) for place, _ in _pytree.tree_flatten_with_path(inputs)[0]]
        names = named, ["output"] if len(wanted) == 1 else [f"output{i}" for i in range(len(wanted))]
    else:
        network, text = network_of(child), isinstance(child, RecurrentNetwork)
        inputs, others = inputs_of(child, steps=1), inputs_of(child, streams=3, steps=1)
        wanted = list(outputs_of(child, others))
        dim = 1 if text else 0
        names = (["words", "state"], ["logits", "state_after"]) if text else names
    made = program.program_of(network, inputs, dim)
    if format == "torch":
        packed = program.packed(made, about)
        found = _answered(lambda: program.loaded(packed)(*others), _size(others, dim), "the program")
        worst = _difference(found, wanted, "the program")
        checked = "its outputs equal the network's" if worst == 0 else f"largest difference {worst:.1g}"
    else:
        packed = onnx.packed(made, about, *names)
        leaves = _pytree.tree_leaves(others)
        found = _answered(lambda: onnx.run(packed, leaves), _size(others, dim), "onnxruntime")
        checked = f"opset {onnx.OPSET}, not checked: onnxruntime is not installed"
        if found is not None:
            worst = _difference(found, wanted, "onnxruntime")
            checked = f"opset {onnx.OPSET}, checked by onnxruntime: largest difference {worst:.1g}"
    write_atomically(path, packed)
    return Exported((path,), checked, _shapes(names[0], inputs, dim))


def _answered(run: Callable[[], Any], examples: int, who: str) -> Any:
    """Returns what a file answers for another number of examples than it was made with. Raises a
    ValueError where it fails."""
    try:
        return run()
    except Exception as error:  # each runtime has its own
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"an exported network takes any number of examples; with {examples} {who} raised {type(error).__name__}: {why}"
        ) from error


def _difference(found: Any, wanted: Any, who: str) -> float:
    """Returns the largest difference between outputs. Raises a ValueError where it is above the
    tolerance."""
    pairs = zip(_pytree.tree_leaves(found), _pytree.tree_leaves(wanted), strict=True)
    worst = 0.0
    for a, b in pairs:
        if not isinstance(b, Tensor) or torch.equal(a, b):
            continue
        gap = float((a.double() - b.double()).abs().max())
        if not gap <= TOLERANCE * max(1.0, float(b.abs().max())):  # also where it is not finite
            raise ValueError(f"an exported network differs by {TOLERANCE:.0e} at most; {who} differs by {gap:.1g}")
        worst = max(worst, gap)
    return worst
