"""Networks that nobody here wrote become spaces in a few lines: those of docs/foreign.md, a ResNet
of torchvision and a GPT-2 of Hugging Face."""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enas.networks.own import OwnNetwork
from laws import samples

PAGE = Path(__file__).parents[2] / "docs" / "foreign.md"
LIBRARY = {"resnet": "torchvision", "gpt2": "transformers"}
INPUTS: dict[str, Callable[[], Tensor]] = {
    "resnet": lambda: torch.randn(2, 3, 32, 32),
    "gpt2": lambda: torch.randint(100, (2, 8)),
}


def code(name: str) -> str:
    """The text of a function of the page, with its imports."""
    (text,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if f"def {name}(" in block
    )
    return text


def factory(name: str) -> Callable[[], nn.Module]:
    """The function, or a skip where the library is missing or does not fit this torch."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # A torchvision whose compiled operators do not load names two of them while it is imported,
    # also by transformers.
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
    scope: dict[str, Any] = {}
    try:
        exec(code(name), scope)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{LIBRARY[name]} cannot be imported: {str(error).splitlines()[0]}")
    return scope[name]


def tensor(outputs: Any) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs.logits


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("resnet", marks=pytest.mark.slow), "gpt2"])
def test_it_obeys_the_laws(name: str) -> None:
    lines = [line for line in code(name).partition("def ")[2].splitlines() if line.strip()]
    assert len(lines) <= 15
    make = factory(name)
    torch.manual_seed(0)
    net = OwnNetwork(make(), factory=make)
    assert len(net.space.decisions) >= 4
    x = INPUTS[name]()
    for arch in samples(net.space, 2):
        child = net.child(arch)
        assert not any(type(module).__module__.startswith("enas") for module in child.modules())
        assert type(child) is type(make())
        for mode in (True, False):
            torch.manual_seed(1)  # of dropout
            expected = tensor(child.train(mode)(x))
            torch.manual_seed(1)
            assert torch.equal(tensor(net.train(mode)(x, arch)), expected)
        tensor(net.train()(x, arch)).square().mean().backward()
        used = net.parameters_of(arch)
        assert {id(p) for p in net.parameters() if p.grad is not None} == {id(p) for p in used}
        assert len(used) == len(list(child.parameters()))  # tied weights are one
        net.zero_grad()
        for again in (copy.deepcopy(child), pickle.loads(pickle.dumps(child))):
            assert torch.equal(tensor(again.eval()(x)), tensor(child.eval()(x)))
        assert net.child(arch, fresh=True).state_dict().keys() == child.state_dict().keys()


@pytest.mark.slow
def test_the_whole_architecture_is_the_network_as_it_came() -> None:
    """All blocks and the options that were there: the weights have the names of the library's."""
    net = OwnNetwork(factory("gpt2")())
    answers = {d.name: d.options[-1] if d.name == "layers" else "gelu" for d in net.space.decisions}
    child = net.child(net.space.architecture(answers))
    from transformers import GPT2LMHeadModel

    plain = GPT2LMHeadModel(child.config)
    assert plain.state_dict().keys() == child.state_dict().keys()
    plain.load_state_dict(child.state_dict())
    x = INPUTS["gpt2"]()
    assert torch.equal(plain.eval()(x).logits, child.eval()(x).logits)
