"""Exported networks: a Python file of every architecture computes what its child computes, to the
last digit; programs of torch.export and ONNX files of every space do too, within their
tolerance."""

from __future__ import annotations

import ast
import dataclasses
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from enas.networks import kernels, ops
from enas.networks.export import onnx, program
from enas.networks.export.about import About, Images, Text, drawing_of
from enas.networks.export.layout import call, comment, constant, literal
from enas.networks.export.layout import name as name_of
from enas.networks.export.python import Module, inputs_of, module_of, network_of, outputs_of
from enas.networks.registry import BACKBONES
from enas.networks.settings import MacroSettings, MicroSettings, RecurrentSettings
from enas.networks.supernet import Supernet
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace
from repeats import repeats

CLASSES = ("a cat", 'a "dog"', "it's", "x", "y")
DIMENSIONS: dict[str, dict[str, int]] = {
    "recurrent": {"vocabulary": 11},
    "micro": {"channels": 3, "image_size": 8, "classes": 5},
    # odd sizes: a row and a column are padded
    "macro": {"channels": 1, "image_size": 9, "classes": 5},
    "nasbench201": {"channels": 3, "image_size": 8, "classes": 5},
    "nasbench_macro": {"channels": 3, "image_size": 16, "classes": 5},
}
# Spaces as registered, each with as many architectures as are drawn; large ones take longer.
REGISTERED: dict[str, tuple[SearchSpace, int]] = {
    f"{name}{i or ''}": (entry.make(settings), repeats(8, 20) if i else 3)
    for name, entry in SPACES.items()
    for i, settings in enumerate([entry.settings(), *entry.small] if entry.small else [])
}
MICRO, MACRO, RECURRENT = (SPACES[name] for name in ("conv_micro", "conv_macro", "rnn_cell"))
TWO_NODES = MICRO.make(dataclasses.replace(MICRO.settings(), num_nodes=2))
SIX_LAYERS = [MACRO.make(dataclasses.replace(MACRO.settings(), num_layers=6, form=form)) for form in ("paper", "released")]
# of all ops of a space, and few of each
SMALLER = {"conv_micro": TWO_NODES, "conv_macro": SIX_LAYERS[0]}
SMALLER |= {name: REGISTERED[name][0] for name in ("nasbench201", "nasbench_macro")}
SETTINGS: dict[str, tuple[SearchSpace, Any]] = {
    "calibrated twice": (TWO_NODES, MicroSettings(filters=4, cells=1, extra_calibration=True, stem_multiplier=1)),
    "no merge norm": (TWO_NODES, MicroSettings(filters=4, cells=1, merge_norm=False, aux_weight=0.4, dropout=0.5)),
    "head norm": (TWO_NODES, MicroSettings(filters=4, cells=2, reductions=1, head_norm=True, drop_path=0.5)),
    "three reductions": (TWO_NODES, MicroSettings(filters=3, cells=1, reductions=3)),
    "small stem": (TWO_NODES, MicroSettings(filters=4, cells=1, stem_stride=2)),
    "doubled": (SIX_LAYERS[0], MacroSettings(filters=4, double_filters=True)),
    "entry": (SIX_LAYERS[0], MacroSettings(filters=4, entry_conv=True, reductions=1)),
    "entry, released": (SIX_LAYERS[1], MacroSettings(filters=4, entry_conv=True, stem_stride=2)),
    "added": (SIX_LAYERS[0], MacroSettings(filters=4, merge=False, reductions=0)),
    "added, released": (SIX_LAYERS[1], MacroSettings(filters=4, merge=False)),
    "merged only": (SIX_LAYERS[1], MacroSettings(filters=4, merge_norm=False, average_pooling=False)),
    "two layers": (RECURRENT.make(RECURRENT.small[0]), RecurrentSettings(hidden=6, layers=2, init_range=0.5)),
    "no gate": (RECURRENT.make(RECURRENT.small[0]), RecurrentSettings(hidden=6, highway=False, batch_norm=False)),
    "no bias": (RECURRENT.make(RECURRENT.small[1]), RecurrentSettings(hidden=6, softmax_bias=False, batch_norm_eps=1e-3)),
}


def trained(space: SearchSpace, settings: Any, arch: Architecture, seed: int = 0, **dimensions: int) -> Any:
    """A child whose every tensor differs from what it began with, as after a training."""
    torch.manual_seed(seed)
    sizes = {**DIMENSIONS[space.backbone], **dimensions}
    child = BACKBONES[space.backbone].make(space, settings, **sizes, only=arch, statistics="running")
    with torch.no_grad():
        for name, tensor in child.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(-1, 1)
    return child.eval()


def written(child: Supernet, arch: Architecture) -> Module:
    reads = Text(tuple("abcdefghijk")) if hasattr(child, "vocabulary") else Images(3, 8, (0.5,) * 3, (0.2,) * 3, CLASSES)
    provenance = {"space": child.space.name, "choices": dict(arch.choices)}
    return module_of(child, About("A test.", provenance, drawing_of(child.space, arch), reads))


def called(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    with torch.no_grad():
        outputs = network(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def same(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def check_module(child: Supernet, arch: Architecture) -> str:
    module = written(child, arch)
    inputs = inputs_of(child)
    assert same(called(module.network(), inputs), outputs_of(child, inputs))
    assert "enas" not in module.source.replace("exported by enas", "")
    assert max(map(len, module.source.splitlines())) <= 88
    return module.source


# ------------------------------------------------------------------------------------------ python
@pytest.mark.soak
@pytest.mark.parametrize("name", REGISTERED)
def test_a_python_file_equals_its_child(name: str) -> None:
    space, times = REGISTERED[name]
    rng = random.Random(0)
    for seed in range(times):
        arch = space.sample(rng)
        check_module(trained(space, BACKBONES[space.backbone].small, arch, seed), arch)


@pytest.mark.parametrize("name", SETTINGS)
def test_by_all_settings_of_a_network(name: str) -> None:
    space, settings = SETTINGS[name]
    rng = random.Random(1)
    for size in ({}, {"image_size": 32} if space.backbone != "recurrent" else {}):
        arch = space.sample(rng)
        check_module(trained(space, settings, arch, **size), arch)


def of_all_ops(space: SearchSpace) -> Architecture:
    """An architecture that a space chooses all of its ops in."""
    rng, ops = random.Random(0), {op for d in space.decisions if isinstance(d, OpChoice) for op in d.options} - {"none"}
    while True:
        arch = space.sample(rng)
        if ops == {edge.op for cell in space.wire(arch).values() for node in cell.nodes for edge in node.edges}:
            return arch


@pytest.mark.parametrize("name", [name for name, entry in SPACES.items() if entry.small])
def test_every_op_of_a_space_has_a_source(name: str) -> None:
    space = REGISTERED[name][0]
    arch = of_all_ops(space)
    check_module(trained(space, BACKBONES[space.backbone].small, arch), arch)


def without_a_path() -> tuple[Any, Architecture]:
    space = REGISTERED["nasbench201"][0]
    arch = space.architecture({decision.name: "none" for decision in space.decisions})
    return trained(space, BACKBONES["nasbench201"].small, arch), arch


def test_a_cell_without_a_path_is_a_constant() -> None:
    source = check_module(*without_a_path())
    assert "Conv" not in source.split("class Network")[1].split("def load")[0]


def test_where_the_fast_kernels_run_pooling_differs_in_the_last_digits() -> None:
    """Large average pools add nine pixels in another order on a CPU; all else is equal."""
    space = SPACES["nasbench201"].make(SPACES["nasbench201"].settings())
    arch = space.architecture({decision.name: "avg_pool_3x3" for decision in space.decisions})
    child = trained(space, BACKBONES["nasbench201"].small, arch, image_size=32)
    x = torch.randn(20, 3, 32, 32)
    found, wanted = called(written(child, arch).network(), (x,))[0], called(child, (x,))[0]
    assert x.shape[0] * 4 * 32 * 32 >= kernels.LEAST
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    with kernels.without("pool"):
        assert same(called(child, (x,)), (found,))


def test_a_recurrent_file_is_within_rounding_of_the_fast_computations() -> None:
    space = RECURRENT.make(RECURRENT.small[0])
    arch = space.sample(random.Random(0))
    child = trained(space, BACKBONES["recurrent"].small, arch)
    words, state = inputs_of(child, steps=7)
    outputs, after = child(words, None, tuple(state.unbind(0)))
    logits, found = called(written(child, arch).network(), (words, state))
    torch.testing.assert_close(logits, outputs.logits_TBV, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, torch.stack(after), rtol=0, atol=1e-6)


def test_only_what_an_architecture_uses_is_in_its_file() -> None:
    space = SPACES["conv_micro"].make(SPACES["conv_micro"].small[0])
    pools = space.architecture({d.name: "prev" if "input" in d.name else "max_pool_3x3" for d in space.decisions})
    source = written(trained(space, BACKBONES["micro"].small, pools), pools).source
    assert "SeparableConv" not in source
    assert "avg_pool" not in source
    assert "#   n2 = max_pool_3x3(prev) + max_pool_3x3(prev)\n" in source
    tree = ast.parse(source)
    made = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert all(source.count(name) > 1 for name in made)
    assert "n2 = max_pool(prev) + max_pool(prev)" in source
    assert 'CLASSES = ("a cat", \'a "dog"\', "it\'s", "x", "y")' in source


@pytest.mark.slow
def test_files_are_formatted(tmp_path: Path) -> None:
    """As the formatter would do it; no name in them is unused."""
    some = [(space, BACKBONES[space.backbone].small) for space, _ in REGISTERED.values()] + list(SETTINGS.values())
    for i, (space, settings) in enumerate(some):
        arch = space.sample(random.Random(i))
        (tmp_path / f"file{i}.py").write_text(written(trained(space, settings, arch), arch).source)
    for command in (["format", "--check"], ["check", "--select", "F,I,E"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", tmp_path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:]


def test_lines_are_laid_out() -> None:
    assert call(0, "f(", ["a", "b"]) == "f(a, b)"
    assert call(4, "fun(", ["a" * 41, "b" * 37]) == f"    fun(\n        {'a' * 41}, {'b' * 37}\n    )"
    assert call(0, "f(", ["a" * 60, "b" * 60]) == f"f(\n    {'a' * 60},\n    {'b' * 60},\n)"
    assert comment("a:\n  b = " + "c, " * 30 + "d").count("\n") == 2
    assert name_of("in") == "n_in"
    assert name_of("a-b") == "a_b"
    assert constant("X", ["a"]) == 'X = ("a",)'
    assert constant("X", [1.5, 2]) == "X = (1.5, 2)"
    assert [literal(text) for text in ("a", "it's", 'a "b"')] == ['"a"', '"it\'s"', "'a \"b\"'"]


class Blur(nn.Sequential):
    """An op of a user's own."""


def with_an_op_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Architecture]:
    monkeypatch.setitem(ops.OPS, "blur", lambda c, stride, norm: Blur(nn.AvgPool2d(3, stride, 1), norm(c)))
    space = MICRO.make(dataclasses.replace(MICRO.settings(), num_nodes=1, ops=("blur",)))
    arch = space.sample(random.Random(0))
    return trained(space, BACKBONES["micro"].small, arch), arch


def test_an_op_of_ones_own_has_no_source_and_is_exported_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    child, arch = with_an_op_of_ones_own(monkeypatch)
    with pytest.raises(ValueError, match=r"no source of the op 'blur' \(Blur\): export as onnx or torch"):
        written(child, arch)
    inputs = inputs_of(child)
    assert same(called(network_of(child), inputs), outputs_of(child, inputs))


# -------------------------------------------------------------------------------- programs and ONNX
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["conv_micro", "conv_macro", "nasbench201", "nasbench_macro", "two layers", "blur", "no path"]
)
def test_a_program_and_an_onnx_file_equal_the_child(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At another batch size than they were made with, and at 1."""
    pytest.importorskip("onnxruntime")
    if name == "blur":
        child, arch = with_an_op_of_ones_own(monkeypatch)
    elif name == "no path":
        child, arch = without_a_path()
    else:
        space = SMALLER.get(name) or SETTINGS[name][0]
        settings = SETTINGS[name][1] if name in SETTINGS else BACKBONES[space.backbone].small
        arch = of_all_ops(space) if name in SPACES else space.sample(random.Random(2))
        child = trained(space, settings, arch)
    text = hasattr(child, "vocabulary")
    about = About("A test.", reads=Text(("ä", "b")) if text else Images(3, 8, (0.5,), (0.2,), CLASSES))
    made = program.program_of(network_of(child), inputs_of(child, steps=1), 1 if text else 0)
    data = program.packed(made, about)
    names = (["words", "state"], ["logits", "after"]) if text else (["images"], ["logits"])
    file = onnx.packed(made, about, *names)
    assert str(Path.cwd()).encode() not in data + file
    for streams in (1, 5):
        inputs = inputs_of(child, streams=streams, steps=1)
        wanted = outputs_of(child, inputs)
        for found in (called(program.loaded(data), inputs), onnx.run(file, inputs)):
            assert found is not None
            for a, b in zip(found, wanted, strict=True):
                assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))


@pytest.mark.slow
def test_what_torch_cannot_follow_is_said_in_one_line() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ValueError, match=r"^torch.export cannot follow the network: [^\n]+$"):
        program.program_of(Branches(), (torch.randn(2, 3),))
