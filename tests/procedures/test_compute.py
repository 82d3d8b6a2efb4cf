"""Other ways to compute a step make the same update within rounding, some with less memory."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enas.cli.main import main
from enas.procedures.compute import Compute
from enas.procedures.events import Step
from enas.procedures.optimizer import make_optimizer
from enas.procedures.search import Search
from enas.procedures.settings import ComputeSettings, OptimizerSettings
from enas.runs.files import read_json
from enas.runs.plan import Plan
from enas.state import State
from kills import SHORT, SPACES
from procedures_small import difference, small, to_the_end, training

# how near losses are, as a share, and updates, by the cosine between them
NEAR = {"bf16": (0.01, 0.95), "fp16": (0.001, 0.995)}


def computed(plan: Plan, **changes: Any) -> Plan:
    compute = ComputeSettings(**changes)
    s = plan.settings
    return plan.with_settings(
        search=dataclasses.replace(s.search, compute=compute), retrain=dataclasses.replace(s.retrain, compute=compute)
    )


def without_noise(preset: str) -> Plan:
    """No dropout and no batch norm, whose statistics are of a part."""
    plan = small(preset, epochs=1, controller_steps=0)
    network = plan.settings.network
    none = {f.name: 0.0 for f in dataclasses.fields(network) if "dropout" in f.name or f.name == "drop_path"}
    network = dataclasses.replace(network, **none, **({"batch_norm": False} if preset == "text-rnn" else {}))
    return plan.with_settings(network=network, retrain=dataclasses.replace(plan.settings.retrain, network=network))


def wider(plan: Plan) -> Plan:
    return plan.with_settings(network=dataclasses.replace(plan.settings.network, filters=8))


def kept(procedure: Search) -> int:
    """Returns the bytes of activations that the forward of one child keeps for its backward."""
    held: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in procedure.supernet.parameters()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        held.update({storage.data_ptr(): storage.nbytes()} if storage.data_ptr() not in weights else {})
        return x

    (arch,) = procedure.uniform.ask(1)
    batch = procedure.task.train_batch(0, 0)
    most = 0
    for _, part in procedure.task.cut(batch, procedure.settings.compute.accumulate):
        held.clear()
        procedure.supernet.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            procedure.task.loss(procedure.supernet, arch, part)
        most = max(most, sum(held.values()))
    return most


def weights(state: State) -> State:
    return State({key: tensor for key, tensor in state.tensors.items() if key.startswith("weights/")})


@pytest.mark.slow
def test_parts_of_a_text_make_the_update_of_the_whole_with_less_memory() -> None:
    plan = without_noise("text-rnn")
    parts = computed(plan, accumulate=3)  # of 8 streams: 3, 3 and 2, each with a state of its own
    for make in (Plan.search, training):
        (_, whole), (_, cut) = to_the_end(make(plan)), to_the_end(make(parts))
        assert 0 < difference(weights(cut), weights(whole)) < 1e-6
    assert {key.split(".")[0] for key in cut.tensors if key.startswith("task/")} == {"task/0", "task/1", "task/2"}


@pytest.mark.slow
def test_parts_of_images_weigh_what_they_hold() -> None:
    """Their losses are those of the batch, also by the weights of classes: one linear layer. A part
    keeps less than the whole."""
    plan = small("digits-micro")
    task = dataclasses.replace(plan.settings.task, class_weights="balanced")
    made = plan.task(plan.load_data(), task)
    batch = made.train_batch(0, 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    call = lambda x, arch, progress: model(x)  # noqa: E731
    parts = made.cut(batch, 3)
    assert [len(part.y) for _, part in parts] == [7, 7, 6]
    mean = sum(share * made.loss(call, None, part) for share, part in parts)
    torch.testing.assert_close(mean, made.loss(call, None, batch))
    assert len(made.cut(batch, 50)) == 10, "batch norm needs two images or more"
    assert kept(computed(wider(plan), accumulate=4).search()) < 0.4 * kept(wider(plan).search())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["digits-micro", "digits-macro", "nasbench201", "nasbench_macro"])
def test_ops_that_are_computed_again_change_nothing_but_memory(preset: str) -> None:
    """Nor the running statistics of a training from scratch, which move once."""
    plan = small(preset, epochs=1, controller_steps=0)
    again = computed(plan, checkpoint_activations=True)
    for make in (Plan.search, training):
        (events, state), (found, reached) = to_the_end(make(plan)), to_the_end(make(again))
        assert difference(reached, state) == 0
        assert found == events
    usual, less = (kept(wider(p).search()) for p in (plan, again))
    assert less < 0.8 * usual


def test_a_network_that_cannot_compute_again_says_so() -> None:
    with pytest.warns(UserWarning, match="RecurrentNetwork keeps all its activations"):
        computed(small("text-rnn"), checkpoint_activations=True).search()


def first_update(plan: Plan) -> tuple[list[float], Tensor]:
    """The losses of the first step, and what it changes."""
    procedure = plan.search()
    before = {name: p.detach().clone() for name, p in procedure.supernet.named_parameters()}
    step = next(procedure.run())
    assert isinstance(step, Step)
    changes = [(p.detach() - before[name]).flatten() for name, p in procedure.supernet.named_parameters()]
    assert all(change.dtype == torch.float32 for change in changes)
    return step.values, torch.cat(changes)


@pytest.mark.parametrize("preset", ["digits-micro", "digits-macro", "text-rnn"])
def test_sixteen_bits_come_near(preset: str) -> None:
    """On a CPU the window of a recurrent cell stays in float32 whatever is asked for."""
    plan = without_noise(preset)
    if preset != "text-rnn":
        plan = wider(plan)
    losses, update = first_update(plan)
    for precision, (share, cosine) in NEAR.items():
        found, low = first_update(computed(plan, precision=precision))
        assert found == pytest.approx(losses, rel=share)
        assert float(torch.cosine_similarity(low, update, 0)) > cosine
        assert (found == losses) == (preset == "text-rnn")


def test_short_flags_are_recorded_for_both_phases(tmp_path: Path) -> None:
    flags = ["--precision", "bf16", "--accumulate", "2", "--checkpoint-activations", "--device", "auto"]
    command = ["search", "digits-macro", "--out", str(tmp_path / "run"), *SPACES["digits-macro"], *SHORT, *flags]
    assert main([*command, "--max-time", "0s"]) == 0
    settings = read_json(tmp_path / "run" / "config.json")["settings"]
    expected = {"precision": "bf16", "accumulate": 2, "checkpoint_activations": True}
    assert settings["search"]["compute"] == settings["retrain"]["compute"] == expected


def test_a_scale_that_overflows_is_halved_and_the_step_left_out() -> None:
    """It is no sign of divergence: the search goes on, and says how often."""
    plan = computed(small("digits-macro", epochs=1, controller_steps=0, max_skipped=0.0), precision="fp16")
    procedure = plan.search()
    procedure.compute.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {key: tensor.clone() for key, tensor in procedure.supernet.state_dict().items()}
    run = procedure.run()
    step = next(run)
    assert isinstance(step, Step)
    assert step.skipped == "scale"
    assert all(torch.equal(tensor, before[key]) for key, tensor in procedure.supernet.state_dict().items())
    assert procedure.compute.scaler.get_scale() == 2.0**39
    assert procedure.skipped.metrics() == {"scale_lowered": 1}
    # the scale is part of the state
    other = plan.search()
    other.load(procedure.state())
    assert other.compute.scaler.get_scale() == 2.0**39


def test_a_gradient_that_no_scale_mends_is_one_that_is_not_finite() -> None:
    weight = nn.Parameter(torch.ones(2))
    compute = Compute(ComputeSettings(precision="fp16"), nn.ParameterList([weight]))
    optimizer = make_optimizer([weight], OptimizerSettings())
    steps = 0
    while True:
        compute.backward((weight * math.inf).sum())
        assert not math.isfinite(compute.update(optimizer, [weight], 0.1, 0.0))
        steps += 1
        if not compute.may_overflow:
            break
    assert steps == 17  # from 2^16 to below one
    assert weight.tolist() == [1.0, 1.0]
