"""The recurrent space and its network: the paper's figures by hand, three computations held equal,
the evaluator's laws."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import shutil
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from enas.data.text import TextData
from enas.networks.recurrence import recorded
from enas.networks.recurrence.fused import fused
from enas.networks.recurrence.plain import plain
from enas.networks.recurrence.program import ACTIVATIONS, BOUND, Codes, Norm, Program, Window
from enas.networks.recurrence.static import static_program
from enas.networks.recurrent import COMPUTATIONS, RecurrentNetwork
from enas.networks.settings import DROPOUTS, RecurrentSettings
from enas.networks.softmax import ROWS, TiedSoftmax
from enas.procedures.derive import recalibrated
from enas.procedures.events import EpochEnd, TrainEpochEnd
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.runs.planning import make_plan
from enas.runs.presets import registry as presets
from enas.spaces.architecture import Architecture
from enas.spaces.published import named
from enas.spaces.rnn_cell import CORRECTED_OPS, RnnCellSettings, from_corrected_tokens, from_tokens, rnn_cell
from enas.state import seeded
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.tasks.language_model import LanguageModel
from enas.tasks.settings import LanguageModelSettings
from laws import samples

V = 12
FIGURE_1 = {"h1": ("x_and_h", "tanh"), "h2": ("h1", "relu"), "h3": ("h2", "relu"), "h4": ("h1", "tanh")}
FOUR = rnn_cell(RnnCellSettings(num_nodes=4))


def cell_of(nodes: dict[str, tuple[str, str]]) -> Architecture:
    choices = {f"cell.{name}.op0": op for name, (_, op) in nodes.items()}
    choices |= {f"cell.{name}.input0": source for name, (source, _) in nodes.items() if source != "x_and_h"}
    return rnn_cell(RnnCellSettings(num_nodes=len(nodes))).architecture(choices)


def network(arch: Architecture, **settings: Any) -> RecurrentNetwork:
    like = RecurrentSettings(hidden=7, batch_norm=False, init_range=0.6)
    with seeded("network"):
        space = rnn_cell(presets_of(arch))
        return RecurrentNetwork(space, replace(like, **settings), V, only=arch, statistics="running")


def presets_of(arch: Architecture) -> RnnCellSettings:
    return RnnCellSettings(**{key: value for key, value in arch.space.items() if key != "name"})


def words(T: int = 5, B: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------- golden examples
def test_figure_1() -> None:
    """Paper 2.1, without highways: h1 = tanh(x Wx + h W1), h2 = relu(h1 W2), h3 = relu(h2 W3), h4 =
    tanh(h1 W4), and (h3 + h4) / 2 leaves."""
    model = network(cell_of(FIGURE_1), highway=False).eval()
    wired = FOUR.wire(cell_of(FIGURE_1))["cell"]
    assert wired.outputs == ("h3", "h4")
    weights = {name: model.at(f"layers.0.{name}.{source}").weight for name, (source, _) in FIGURE_1.items()}
    x = words(3, 1)
    (softmax, outputs, _), (end,) = model(x)
    state = torch.zeros(7)
    for t, word in enumerate(x[:, 0]):
        e = model.at("words").weight[word]
        h1 = torch.tanh(e @ model.at("layers.0.h1.x_and_h").from_x + state @ weights["h1"])
        h2 = torch.relu(h1 @ weights["h2"])
        h3 = torch.relu(h2 @ weights["h3"])
        h4 = torch.tanh(h1 @ weights["h4"])
        state = (h3 + h4) / 2
        torch.testing.assert_close(outputs[t, 0], state)
        torch.testing.assert_close(softmax.logits_TBV[t, 0], model.at("words").weight @ state + model.at("softmax").bias)
    torch.testing.assert_close(end[0], state)


def test_highways() -> None:
    """Appendix A, Eq. 2 to 5, for the same cell, node by node; gates have the first half of the
    columns."""
    model = network(cell_of(FIGURE_1)).eval()
    x, state = words(3, 1), torch.zeros(7)
    (_, outputs, _), _ = model(x)
    for t, word in enumerate(x[:, 0]):
        h: dict[str, Tensor] = {}
        for name, (source, op) in FIGURE_1.items():
            module = model.at(f"layers.0.{name}.{source}")
            read = state if source == "x_and_h" else h[source]
            z = read @ module.weight
            if source == "x_and_h":
                z = z + model.at("words").weight[word] @ module.from_x
            c = torch.sigmoid(z[:7])
            h[name] = c * ACTIVATIONS[op](z[7:]) + (1 - c) * read
        state = (h["h3"] + h["h4"]) / 2
        torch.testing.assert_close(outputs[t, 0], state)


def test_the_sizes_of_the_space() -> None:
    space = rnn_cell()
    assert space.size() == 4**12 * math.factorial(11)
    assert f"{space.size():.1e}" == "6.7e+14"
    assert space.paper_size == 4**12 * math.factorial(12)
    assert f"{space.paper_size:.1e}" == "8.0e+15"


def test_figure_6() -> None:
    """Twelve nodes, only tanh and relu, six of them loose; the tokens parse to the cell that
    ships."""
    arch = from_tokens("0 0 0 1 1 2 1 2 0 2 0 5 1 1 0 6 1 8 1 8 1 8 1")
    assert arch == named("enas_rnn")
    wired = rnn_cell().wire(arch)["cell"]
    assert len(wired.nodes) == 12
    assert {edge.op for node in wired.nodes for edge in node.edges} == {"tanh", "relu"}
    assert wired.outputs == ("h4", "h5", "h8", "h10", "h11", "h12")


def test_the_corrected_cell_and_darts() -> None:
    enas = from_corrected_tokens("0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2")
    darts = from_corrected_tokens("0 2 1 1 1 1 1 3 2 0 5 2 3 0 5 1")
    assert (enas, darts) == (named("enas_rnn_corrected"), named("darts_rnn"))
    space = rnn_cell(presets_of(darts))
    wired = space.wire(darts)["cell"]
    assert [(n.name, n.edges[0].input, n.edges[0].op) for n in wired.nodes] == [
        ("h0", "x_and_h", "tanh"),
        ("h1", "h0", "sigmoid"),
        ("h2", "h1", "relu"),
        ("h3", "h1", "relu"),
        ("h4", "h1", "identity"),
        ("h5", "h2", "tanh"),
        ("h6", "h5", "sigmoid"),
        ("h7", "h3", "tanh"),
        ("h8", "h5", "relu"),
    ]
    assert wired.outputs == tuple(f"h{i}" for i in range(1, 9))
    for arch in (enas, darts):
        assert dict(arch.provenance) == {}
        assert dict(named("darts_rnn").provenance)["from"].startswith("google-research/enas_lm")
    assert "layers.0.h5.h2.tanh" in network(darts).used()


@pytest.mark.parametrize(
    ("parse", "tokens", "says"),
    [
        (from_tokens, "0 1", "an op, then two tokens per node"),
        (from_tokens, "0 1 0", "input is a number from 0 to 0; got 1"),
        (from_tokens, "4", "op of node 1 is a number from 0 to 3; got 4"),
        (from_tokens, "tanh", "whole numbers"),
        (from_corrected_tokens, "0", "two tokens per node"),
        (from_corrected_tokens, "1 0", "input of node 1 is a number from 0 to 0; got 1"),
    ],
)
def test_wrong_tokens(parse: Any, tokens: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(tokens)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_nodes": 0}, "space.num_nodes is between 1 and 256; got 0"),
        ({"ops": ()}, "distinct names, at least one"),
        ({"output": "last"}, "space.output is one of loose_ends, all; got 'last'"),
        ({"sharing": "none"}, "space.sharing is one of edge, edge_op; got 'none'"),
    ],
)
def test_wrong_space_settings(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RnnCellSettings(**wrong)


def test_an_unknown_activation() -> None:
    space = rnn_cell(RnnCellSettings(num_nodes=1, ops=("swish",)))
    model = RecurrentNetwork(space, RecurrentSettings(hidden=4), V, only=samples(space, 1)[0])
    with pytest.raises(ValueError, match="an activation is one of tanh, relu, sigmoid, identity; got 'swish'"):
        model(words())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hidden": 0}, "network.hidden is at least 1; got 0"),
        ({"layers": 0}, "network.layers is at least 1; got 0"),
        ({"output_dropout": 1.0}, "network.output_dropout is at least 0 and below 1; got 1.0"),
        ({"init_range": 0.0}, "network.init_range is above 0; got 0.0"),
        ({"computation": "magic"}, "network.computation is one of auto, plain, fused, static, recorded; got 'magic'"),
    ],
)
def test_wrong_network_settings(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RecurrentSettings(**wrong)


# ------------------------------------------------------------------- three computations, one cell
SPACES = {
    "paper": RnnCellSettings(num_nodes=6),
    "released": RnnCellSettings(num_nodes=5, ops=CORRECTED_OPS, fixed_input=True, output="all", sharing="edge_op"),
}
NORMS = ("none", "batch", "running")


def problem(space: str, highway: bool, norm: str, dropout: bool, seed: int, T: int = 4) -> Window:
    B, E, H = 3, 4, 5
    (arch,) = samples(rnn_cell(SPACES[space]), 1, seed=seed)
    program = Program.of(rnn_cell(SPACES[space]).wire(arch)["cell"], highway)
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    G = H * (2 if highway else 1)
    x, state, wx = drawn(T, B, E), drawn(B, H), drawn(E, G)
    weights = [drawn(H, G) for _ in program.ops]
    mask = torch.randint(2, (B, H), generator=g).double() * 1.5 if dropout else None
    running = (drawn(H).detach(), drawn(H).detach().square() + 0.1) if norm == "running" else (None, None)
    return Window(program, x, state, mask, Norm(drawn(H), drawn(H), *running) if norm != "none" else None, wx, weights)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("highway", [True, False])
@pytest.mark.parametrize("space", SPACES)
def test_all_computations_give_the_same_numbers(space: str, highway: bool, norm: str) -> None:
    """Outputs, statistics, and the gradient of everything, for random cells, with and without
    masks."""
    for seed in range(6):
        window = problem(space, highway, norm, dropout=seed % 2 == 0, seed=seed)
        found = []
        for compute in COMPUTATIONS.values():
            out, statistics = compute(window)
            assert (statistics is not None) == (norm == "batch")
            weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
            found.append([out, *torch.autograd.grad((out * weight).sum(), window.leaves), *(statistics or ())])
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("highway", [True, False])
def test_the_hand_written_backward_is_the_gradient(highway: bool, norm: str) -> None:
    window = problem("paper", highway, norm, dropout=True, seed=3, T=3)

    def function(x: Tensor, state: Tensor, wx: Tensor, *rest: Tensor) -> Tensor:
        norm = window.norm and window.norm._replace(weight=rest[-2], bias=rest[-1])
        weights = rest[: len(window.program.ops)]
        return fused(replace(window, x=x, state=state, norm=norm, wx=wx, weights=weights))[0]

    assert torch.autograd.gradcheck(function, window.leaves)


def test_running_statistics_hold_a_state_that_would_grow_without_end() -> None:
    """A gain of ten per step, normalised by the statistics of calmer text: far outside, the state
    is held within three standard deviations, by every computation alike; values and gradients."""
    window = problem("paper", False, "running", dropout=False, seed=4, T=30)
    assert window.norm is not None
    norm = window.norm._replace(weight=torch.ones_like(window.norm.weight, requires_grad=True), eps=0.1)
    window = replace(
        window,
        program=replace(window.program, ops=("relu",) * 6),
        weights=[(3 * w.detach().abs()).requires_grad_() for w in window.weights],
        norm=norm,
    )
    found = []
    for compute in COMPUTATIONS.values():
        out, _ = compute(window)
        normalised = (out - norm.bias).detach()
        assert float(normalised.abs().max()) <= BOUND + 1e-9
        assert (normalised[-1] - BOUND).abs().min() < 1e-9  # it is at the bound
        found.append([out, *torch.autograd.grad(out.square().sum(), window.leaves)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_leaves_nothing_behind(norm: str) -> None:
    """What a step computed is freed when its result is, without waiting for the garbage
    collector."""
    window = problem("paper", True, norm, dropout=True, seed=1)
    gc.disable()
    try:
        for backward in (True, False):
            out, _ = fused(window)
            if backward:
                out.sum().backward()
            kept = weakref.ref(out.grad_fn)
            del out
            assert kept() is None
    finally:
        gc.enable()


def test_one_program_serves_every_cell() -> None:
    """The static program gets only tensors that could be overwritten in place between two
    replays."""
    buffers: dict[str, Tensor] = {}
    for seed in range(4):
        window = problem("paper", True, "none", dropout=False, seed=seed)
        data = {"x": window.x, "state": window.state, "wx": window.wx, "weights": torch.stack(list(window.weights))}
        data |= Codes.of(window.program, window.state)._asdict()
        for name, value in data.items():
            buffers.setdefault(name, value.detach().clone()).copy_(value.detach())
        x, state, wx, weights, *codes = buffers.values()
        with torch.no_grad():
            # The program is of the first cell throughout: it must not be looked at but for its
            # gates.
            first = problem("paper", True, "none", dropout=False, seed=0).program
            out, _ = static_program(Window(first, x, state, None, None, wx, weights.unbind(0)), Codes(*codes))
            torch.testing.assert_close(out, plain(window)[0])


@pytest.mark.parametrize("lengths", [(5,), (1, 3, 7)])
def test_networks_agree_whatever_computes_them(lengths: tuple[int, ...]) -> None:
    """A training step in float32 with every kind of dropout, two layers and batch norm, windows of
    several lengths."""
    arch = samples(FOUR, 1, seed=5)[0]
    settings: dict[str, Any] = {**dict.fromkeys(DROPOUTS, 0.2), "layers": 2, "batch_norm": True}
    models = [network(arch, **settings, computation=name).train() for name in COMPUTATIONS]
    found = []
    for model in models:
        state = None
        for i, T in enumerate(lengths):
            with seeded("window", i):
                out, state = model(words(T, seed=i), None, state)
                out.softmax.cross_entropy(words(T, seed=i + 50)).backward()
                state = tuple(part.detach() for part in state)
        found.append([*state, *(p.grad for p in model.parameters()), *model.buffers()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            # Sums in another order over several windows: 2e-5 apart on torch 2.13, 5.4e-5 on 2.4.
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4)


def test_running_statistics_are_those_of_the_windows() -> None:
    """After one window of one step: a tenth of the way to mean and unbiased variance of what the
    norm was given."""
    model, bare = network(cell_of(FIGURE_1), batch_norm=True).train(), network(cell_of(FIGURE_1)).train()
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if "norm" not in k})
    x = words(1, 50)
    with torch.no_grad():
        model(x)
        given = bare(x)[0].outputs_TBH[0]
        norm = model.at("layers.0.norm")
        torch.testing.assert_close(norm.running_mean, 0.1 * given.mean(0))
        torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * given.var(0))
        alone, together = model.eval()(x[:, :1])[0].outputs_TBH, model(x)[0].outputs_TBH
    torch.testing.assert_close(alone, together[:, :1])


# ------------------------------------------------------------------------------------ the softmax
@pytest.mark.parametrize("bias", [True, False])
def test_the_softmax_in_pieces_is_the_softmax(bias: bool) -> None:
    """Values and gradients against torch's, for fewer and more rows than are taken at a time."""
    for T, B in ((1, 2), (3, 50), (4, ROWS)):
        g = torch.Generator().manual_seed(T)
        hidden = torch.randn(T, B, 6, generator=g, dtype=torch.float64).requires_grad_()
        matrix = (10 * torch.randn(V, 6, generator=g, dtype=torch.float64)).requires_grad_()
        offset = torch.randn(V, generator=g, dtype=torch.float64).requires_grad_() if bias else None
        y = torch.randint(V, (T, B), generator=g)
        softmax = TiedSoftmax(hidden, matrix, offset)
        inputs = [hidden, matrix] + ([offset] if offset is not None else [])
        expected = F.cross_entropy(softmax.logits_TBV.flatten(0, 1), y.flatten())
        found = softmax.cross_entropy(y)
        torch.testing.assert_close(found, expected)
        for a, b in zip(torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * expected, inputs), strict=True):
            torch.testing.assert_close(a, b)
        y[0, 0] = -100
        each = softmax.losses(y)
        assert float(each[0]) == 0
        torch.testing.assert_close(
            each[1:].double(), F.cross_entropy(softmax.logits_TBV.flatten(0, 1), y.flatten(), reduction="none")[1:],
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip


# ---------------------------------------------------------------------------------- with the task
def some_text(n: int = 900) -> TextData:
    g = torch.Generator().manual_seed(0)
    step = torch.randint(1, 4, (n,), generator=g).cumsum(0) % V  # the next word is one of three
    names = tuple(f"w{i}" for i in range(V))
    return TextData("some", step, step[: n // 3].clone(), step[n // 3 : n // 2].clone(), names)


SMALL_TASK = LanguageModelSettings(batch_size=6, bptt=10, reward_batch=4, reward_window=8, eval_batch=5, eval_window=10)


@pytest.mark.slow
def test_a_search_and_a_training_learn() -> None:
    """Both end below the perplexity of a uniform model, which is the vocabulary's size."""
    like = presets.config_of("text-rnn")
    task = LanguageModel(some_text(), SMALL_TASK)
    space = rnn_cell(RnnCellSettings(num_nodes=3))
    optimizer = replace(like.search.optimizer, learning_rate=2.0, momentum=0.0, grad_clip=1.0)
    with seeded("net"):
        net = RecurrentNetwork(space, RecurrentSettings(hidden=16, init_range=0.2), V)
    search = Search(replace(like.search, epochs=6, optimizer=optimizer), task, net, RandomSearch(space, seed=0))
    ends = [event.metrics["shared_loss"] for event in search.run() if isinstance(event, EpochEnd)]
    assert ends[-1] < 0.85 * math.log(V) < ends[0] * 1.1
    arch = samples(space, 1)[0]
    with seeded("child"):
        child = RecurrentNetwork(space, RecurrentSettings(hidden=16, batch_norm=False, init_range=0.2), V, arch, "running")
    training = Retrain(replace(like.retrain, epochs=30, optimizer=replace(optimizer, learning_rate=5.0)), task, child)
    last = [e.metrics["validation_perplexity"] for e in training.run() if isinstance(e, TrainEpochEnd)][-1]
    assert 2.9 < last < 0.5 * V


@pytest.mark.slow
def test_a_search_resumed_at_any_step_equals_uninterrupted() -> None:
    """With the controller, two children a step, dropout, batch norm, two layers and windows of
    random length."""
    like = presets.config_of("text-rnn")
    space = rnn_cell(RnnCellSettings(num_nodes=3))
    settings = RecurrentSettings(hidden=6, layers=2, init_range=0.3, **dict.fromkeys(DROPOUTS, 0.2))
    rhythm = replace(like.search, epochs=2, warmup_epochs=1, children=2, controller_steps=3, architectures=2)

    def begin() -> Search:
        with seeded("begin"):
            net = RecurrentNetwork(space, settings, V)
        task = LanguageModel(some_text(400), replace(SMALL_TASK, random_lengths=True))
        return Search(rhythm, task, net, Reinforce(space, like.strategy, seed=0))

    def said(event: Any) -> Any:
        return event.metrics if isinstance(event, EpochEnd) else (event.archs, event.values)

    whole = [said(event) for event in begin().run()]
    for stop in range(1, len(whole), 4):
        search = begin()
        first = [said(event) for event in itertools.islice(search.run(), stop)]
        state, again = copy.deepcopy(search.state()), begin()
        again.load(state)
        assert first + [said(event) for event in again.run()] == whole


def test_recalibrated_statistics_are_a_plain_average() -> None:
    """Of the training windows that were read for it; the supernet itself keeps none."""
    arch = samples(FOUR, 1)[0]
    with seeded("net"):
        net = RecurrentNetwork(FOUR, RecurrentSettings(hidden=6, init_range=0.3), V)
    task = LanguageModel(some_text(), SMALL_TASK)
    child = recalibrated(task, net, arch, steps=3)
    norm = child.at("layers.0.norm")
    assert int(norm.num_batches_tracked) == 3
    seen: list[Tensor] = []
    watched = net.child(arch, "running").train()
    watched.at("layers.0.norm").seen = lambda statistics: seen.append(statistics[0])
    for step in range(3):
        task.loss(watched, None, task.train_batch(0, step))
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0))
    assert math.isfinite(task.evaluate(child, None, "validation")["loss"])


def test_a_trained_childs_perplexity_does_not_depend_on_how_it_is_evaluated() -> None:
    child = network(samples(FOUR, 1)[0])
    figures = []
    for window in (1, 7, 35, 500):
        task = LanguageModel(some_text(), replace(SMALL_TASK, eval_window=window))
        figures.append(task.evaluate(child, None, "test")["loss"])
    assert figures == pytest.approx([figures[0]] * 4, rel=1e-6)
    batched = LanguageModel(some_text(), replace(SMALL_TASK, test_batch=3)).evaluate(child, None, "test")["loss"]
    # the first tokens of two streams see no context
    assert batched == pytest.approx(figures[0], rel=0.02)


# ---------------------------------------------------------------------------------------- recipes
def test_parameters_under_the_papers_limit() -> None:
    """24 M (paper 3.1): by hand, V H words, V biases, 4 H^2 of the first node, 2 H^2 of each
    other."""
    hidden = presets.config_of("ptb-rnn", "paper").retrain.network.hidden
    with torch.device("meta"):
        model = RecurrentNetwork(
            rnn_cell(),
            presets.config_of("ptb-rnn", "paper").retrain.network,
            10_000,
            only=named("enas_rnn"),
            statistics="running",
        )

    def size(H: int) -> int:
        return 10_000 * H + 10_000 + 4 * H**2 + 11 * 2 * H**2

    assert model.num_parameters() == size(hidden)
    assert size(hidden) <= 24_000_000 < size(hidden + 1)


@pytest.mark.parametrize("recipe", presets.PRESETS["ptb-rnn"].recipes)
def test_recipes_build(recipe: str) -> None:
    plan = make_plan("ptb-rnn", recipe, data=".")
    with torch.device("meta"):
        net = RecurrentNetwork(plan.space, plan.settings.network, 10_000)
    assert net.num_parameters(samples(plan.space, 1)[0]) > 1_000_000
    assert plan.settings.retrain.network.batch_norm is False


# ------------------------------------------------------------------------------- recorded windows
needs_a_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++ on a CPU")


def keep_windows(monkeypatch: pytest.MonkeyPatch, fuse: bool) -> list[Any]:
    """As on a GPU, every window of a kind in the same buffers; only replays are missing."""
    kept: dict[Any, Any] = {}

    def recording(inputs: dict[str, Tensor], kind: recorded.Kind) -> recorded.Recording:
        key = (kind, *((name, x.shape) for name, x in inputs.items()))
        if key not in kept:
            kept[key] = recorded.Recording(inputs, kind)
            kept[key].fuse = fuse
        return kept[key]

    monkeypatch.setattr(recorded, "_recording", recording)
    return kept  # type: ignore[return-value]


@pytest.mark.parametrize("norm", NORMS)
def test_a_window_that_is_filled_up_is_the_window(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, statistics and gradients, as without."""
    monkeypatch.setattr(recorded, "_length", lambda T, kind: -(-T // recorded.ROUND_TO) * recorded.ROUND_TO)
    window = problem("paper", True, norm, dropout=True, seed=1, T=5)
    found = []
    for compute in (plain, recorded.recorded):
        out, statistics = compute(window)
        found.append([out, *torch.autograd.grad(out.square().sum(), window.leaves), *(statistics or ())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_few_lengths_run_as_they_are_and_many_are_filled_up() -> None:
    recorded.forget()
    kind = ((4, 8), torch.float32, torch.device("cuda"))
    assert [recorded._length(T, kind) for T in (35, 20, 35, 7, 36, 35, 40)] == [35, 20, 35, 7, 40, 40, 40]
    recorded.forget()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
@pytest.mark.parametrize(
    ("norm", "fuse"),
    [("none", False), ("batch", False), pytest.param("batch", True, marks=[pytest.mark.slow, needs_a_compiler])],
)
def test_one_window_serves_many_cells(norm: str, fuse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, two forwards before their backwards, and a second backward through the
    same graph."""
    kept = keep_windows(monkeypatch, fuse)
    found: dict[str, list[Tensor]] = {"plain": [], "recorded": []}
    for name, compute in (("plain", plain), ("recorded", recorded.recorded)):
        problems = [problem("paper", True, norm, dropout=True, seed=seed, T=3) for seed in range(3)]
        outs = [compute(window)[0] for window in problems]
        for out, window in zip(outs, problems, strict=True):
            for _ in range(2):
                found[name] += [out, *torch.autograd.grad(out.square().sum(), window.leaves, retain_graph=True)]
        with torch.no_grad():
            found[name] += [compute(window)[0] for window in problems]
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b)
    assert len(kept) == 2  # with a backward, and without
