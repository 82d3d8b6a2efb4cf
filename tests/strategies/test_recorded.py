"""The recorded controller, on a CPU by its stand-in: given the same random numbers it asks for the
same architectures as the eager one and learns the same from them."""

from __future__ import annotations

import pytest
import torch

from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import nasbench201
from enas.spaces.rnn_cell import RnnCellSettings, rnn_cell
from enas.spaces.space import SearchSpace
from enas.strategies.noise import Noise
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ControllerSettings, ReinforceSettings

SPACES = {
    "micro": conv_micro(ConvMicroSettings(num_nodes=2, prior="released")),
    "macro": conv_macro(ConvMacroSettings(num_layers=3)),
    "nasbench201": nasbench201(),
    "rnn": rnn_cell(RnnCellSettings(num_nodes=3)),
}
SETTINGS = {
    "paper": ReinforceSettings(),
    "softmax": ReinforceSettings(controller=ControllerSettings(hidden=8, input_head="softmax")),
    "normalised": ReinforceSettings(normalise=True, terms="exact", baseline_start=0.5),
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("space", SPACES)
def test_recorded_asks_and_tells_are_the_eager_ones(space: str, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over steps of several numbers of architectures, with the baseline and Adam's memory."""
    monkeypatch.setattr("enas.networks.static.recorded.PREPARE_ON_CPU", True)
    eager, recorded = (Reinforce(SPACES[space], SETTINGS[settings], seed=3) for _ in range(2))
    recorded.on(torch.device("cpu"))
    assert recorded._asks is not None
    for n in (1, 4, 4, 1):
        asked = eager.ask(n)
        assert recorded.ask(n) == asked
        rewards = [0.1 * i + len(arch.id) % 3 for i, arch in enumerate(asked)]
        first, second = eager.tell(asked, rewards), recorded.tell(asked, rewards)
        assert first == pytest.approx(second, abs=1e-6)
        for a, b in zip(eager.controller.parameters(), recorded.controller.parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None and b.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-8)
    for key, value in eager.state().tensors.items():
        torch.testing.assert_close(value, recorded.state().tensors[key], rtol=1e-5, atol=1e-6)


def test_numbers_drawn_before_are_those_drawn_on_the_way() -> None:
    space = SPACES["macro"]
    policy = Reinforce(space, seed=1).controller
    drawn = Noise.drawn(space, 5, torch.Generator().manual_seed(7))
    a = policy.walk(5, generator=torch.Generator().manual_seed(7)).answers
    b = policy.walk(5, generator=Noise(drawn)).answers
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(a, policy.unpacked(policy.packed(a), 5), strict=True))


def test_only_a_policy_whose_walk_is_always_the_same_is_recorded() -> None:
    from laws import ABDE, SubsetChoice, of_walk

    forced: SearchSpace = of_walk("forced", SubsetChoice(ABDE, name="c.skips", k=2))
    policy = Reinforce(forced)
    policy.on(torch.device("cpu"))
    assert policy._asks is None
    assert len(policy.ask(2)) == 2
