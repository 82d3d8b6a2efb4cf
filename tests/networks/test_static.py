"""The static programs: each equals its network for every architecture, issues the same operations
for all of them, and trains the weights that a child uses and no other."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from enas.networks.micro import MicroNetwork
from enas.networks.static.micro import dropped
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.state import seeded
from programs import CASES, CLASSES, FOUR, MICRO, architectures, gradients, images, network, parts
from repeats import repeats


def assert_equal(name: str, archs: list[Architecture]) -> None:
    """Outputs in training and evaluation, and gradients, of network and program."""
    net, x = network(name), images(name)
    program = net.program()
    assert program is not None
    for arch in archs:
        net.train()
        (a, plain), (b, static) = (gradients(run, net, x, arch) for run in (net.computed, program))
        assert [key for key, g in plain.items() if g is None] == [key for key, g in static.items() if g is None]
        for first, second in zip(a, b, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-10)
        for key, gradient in plain.items():
            if gradient is not None:
                scale = max(1.0, float(gradient.abs().max()))
                torch.testing.assert_close(gradient / scale, static[key] / scale, rtol=0, atol=1e-10, msg=key)
        net.eval()
        with torch.no_grad():
            torch.testing.assert_close(net.computed(x, arch, 1.0), program.scored(x, arch), rtol=0, atol=1e-10)


# -------------------------------------------------------------------------------------- the law
@pytest.mark.parametrize("name", [name for name in CASES if "published" not in name])
def test_a_program_equals_its_network(name: str) -> None:
    assert_equal(name, architectures(name, 2))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("name", [*FOUR, "micro-published", "macro-published"])
def test_a_program_equals_its_network_for_many_architectures(name: str) -> None:
    """24 of each space, 200 in `make soak`; in the published size six: a large cell takes a
    second."""
    assert_equal(name, architectures(name, 6 if name.endswith("published") else repeats(24, 200), seed=1))


def test_nothing_reaches_the_output_of_an_empty_cell() -> None:
    """NAS-Bench-201 has cells of no edges; their zeros have no weights before the head."""
    space = CASES["nasbench201"][0]
    arch = space.architecture({decision.name: "none" for decision in space.decisions})
    assert_equal("nasbench201", [arch])


class Issued(TorchDispatchMode):
    """The operators that are issued, with the shapes of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        flat = out if isinstance(out, tuple | list) else (out,)
        self.calls.append((str(func), [x.shape for x in flat if isinstance(x, Tensor)]))
        return out


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUR)
def test_the_same_operations_are_issued_for_every_architecture(name: str) -> None:
    """Forward and backward; none waits for a number of the device."""
    net, x = network(name).train(), images(name)
    program = net.program()
    assert program is not None
    issued = []
    for arch in architectures(name, 3):
        codes = program.codes(arch)
        index = program.index(codes)
        assert len(index.unique()) == len(index), "additions to one place would wait for each other"
        with Issued() as mode:
            child = program.layout.shared.vector.detach().index_select(0, program.index(codes)).requires_grad_()
            out = parts(program.computed(x, child, codes, torch.tensor(0.5)))
            torch.autograd.grad(sum(part.sum() for part in out), child)
        issued.append(mode.calls)
    assert len(issued[0]) > 100
    assert issued[0] == issued[1] == issued[2]
    waits = ("_local_scalar_dense", "nonzero", "item", "equal.default")
    assert not [name for name, _ in issued[0] if any(wait in name for wait in waits)]


# ------------------------------------------------------------------------------------ the weights
def test_parameters_stay_what_they_were() -> None:
    """Names, values, shapes and memory formats; and what is loaded is found by the program."""
    net = network("micro-one-filter")
    before = {name: (p.detach().clone(), p.stride()) for name, p in net.named_parameters()}
    program = net.program()
    assert program is not None
    assert list(before) == [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        value, stride = before[name]
        assert torch.equal(value, parameter)
        assert stride == parameter.stride()
    name = "micro-one-filter"
    other, x, (arch,) = network(name), images(name), architectures(name, 1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
        net.load_state_dict(other.state_dict())
        torch.testing.assert_close(program.scored(x, arch), other.computed(x, arch, 1.0), rtol=0, atol=1e-10)


def test_a_copy_and_moved_parameters_have_programs_of_their_own() -> None:
    net, x, (arch,) = network("nasbench201"), images("nasbench201"), architectures("nasbench201", 1)
    program = net.program()
    twin = copy.deepcopy(net)
    assert twin.program() is not program
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0)
        assert float(net.program().scored(x, arch).abs().max()) > 0  # type: ignore[union-attr]
    assert net.program() is program
    net.float().double()
    assert net.program() is not program
    with torch.no_grad():
        torch.testing.assert_close(net.program().scored(x, arch), net.computed(x, arch, 1.0))  # type: ignore[union-attr]


def test_a_program_sees_weights_that_change() -> None:
    """Also where it was recorded before: its weights are read from where they lie."""
    net, x, archs = network("macro"), images("macro"), architectures("macro", 4)
    net.settings = replace(net.settings, computation="static")
    net.eval()
    with torch.no_grad():
        first = net(x, archs[0])
        for parameter in net.parameters():
            parameter.mul_(1.3)
        for arch in archs:
            torch.testing.assert_close(net(x, arch), net.computed(x, arch, 1.0), rtol=0, atol=1e-10)
        assert not torch.allclose(first, net(x, archs[0]))


@pytest.mark.parametrize("name", FOUR)
def test_each_of_many_is_scored_as_it_is_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, in groups of which the last is smaller, with equal ones; in one call for a
    group. The plain network agrees to 1e-10."""
    monkeypatch.setattr("enas.networks.static.program.MOST_TOGETHER", 3)
    net, x, y = network(name).eval(), images(name), torch.arange(4)
    archs = architectures(name, 6)
    archs = [*archs, archs[0]]
    program = net.program()
    assert program is not None
    found = program.each(archs, x, F.cross_entropy, y)
    with torch.no_grad():
        alone = torch.stack([F.cross_entropy(program.scored(x, arch), y) for arch in archs])
        plain = torch.stack([F.cross_entropy(net.computed(x, arch, 1.0), y) for arch in archs])
    assert torch.equal(found, alone)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-10)
    assert len(program._each._kept) == 2
    # what was made for some scores others, of other weights, with another score too
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    others = architectures(name, 3, seed=9)
    largest = program.each(others, x, lambda logits, _: logits.amax(), y)
    again = program.each(others, x, F.cross_entropy, y)
    with torch.no_grad():
        logits = [program.scored(x, arch) for arch in others]
    assert torch.equal(again, torch.stack([F.cross_entropy(part, y) for part in logits]))
    assert torch.equal(largest, torch.stack([part.amax() for part in logits]))


# ------------------------------------------------------------------------------- who uses a program
def test_settings_say_whether_the_program_runs() -> None:
    plain, static = (network("micro-two-cells", computation=way) for way in ("plain", "static"))
    arch, x = architectures("micro-two-cells", 1)[0], images("micro-two-cells")
    assert plain.program() is None
    plain(x, arch)
    assert plain._program is None
    static(x, arch)
    assert static._program is not None
    assert static.child(arch).program() is None


def test_an_op_that_no_program_knows_runs_as_it_is_written() -> None:
    space = conv_micro(ConvMicroSettings(num_nodes=2, ops=("identity", "torch.nn:Identity")))
    with pytest.raises(ValueError, match=r"network\.computation 'static' knows .* take plain"):
        MicroNetwork(space, replace(MICRO, computation="static"), 3, 8, CLASSES).program()


def test_drop_path_has_its_rate() -> None:
    """All but identities are dropped for an image, with the rate of the last cell at the end."""
    pools = torch.tensor([0, 3])
    with seeded("drop"):
        y = dropped(torch.ones(4000, 1, 1, 2, 1), pools, torch.tensor(0.3))[:, 0, 0, :, 0]
    assert bool((y[:, 1] == 1).all())
    assert sorted(y[:, 0].unique().tolist()) == pytest.approx([0.0, 1 / 0.7])
    assert float((y[:, 0] == 0).float().mean()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("name", FOUR)
def test_a_program_runs_under_autocast(name: str) -> None:
    """Products in half precision, weights and their gradients in single precision."""
    net, (arch,) = network(name).float().train(), architectures(name, 1)
    program = net.program()
    assert program is not None
    with torch.autocast("cpu", torch.bfloat16):
        out, found = gradients(lambda *args: parts(program(*args))[0].float(), net, images(name).float(), arch)
    assert bool(out[0].isfinite().all())
    assert {g.dtype for g in found.values() if g is not None} == {torch.float32}
