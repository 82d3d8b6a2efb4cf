"""Laws of the language model: what perplexity is, what it may not depend on, which state runs on
where, and that a search or a training stopped at any step goes on as if it had not been."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from enas.cli.display import Display
from enas.data.registry import DATASETS, load, source_of
from enas.data.settings import TextSettings
from enas.data.text import OFFICIAL, PARTS, PTB_COUNTS, TextData, load_ptb, load_text, load_wikitext2
from enas.grading.verdict import verdict
from enas.networks.ops import Statistics
from enas.networks.references.text import KINDS, HighwayReference, LSTMReference, ReferenceSettings, make_reference
from enas.networks.supernet import Supernet
from enas.procedures.events import Diverged, Finished, Step, TrainEpochEnd
from enas.procedures.optimizer import AveragedWeights, learning_rate
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import OptimizerSettings, RetrainSettings, SearchSettings
from enas.runs.files import read_lines
from enas.runs.folder import RunFolder
from enas.runs.loop import drive, never, silent
from enas.runs.planning import make_plan
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice
from enas.state import State
from enas.strategies.registry import STRATEGIES
from enas.strategies.settings import ReinforceSettings
from enas.tasks.language_model import LanguageModel, fixed_windows, random_windows, streams
from enas.tasks.metrics import METRICS, metric_in
from enas.tasks.settings import LanguageModelSettings
from laws import of_walk, one_line

V, H = 17, 6
PLAIN = OptimizerSettings(learning_rate=1.0, schedule="decay", momentum=0.0, weight_decay=0.0, grad_clip=0.25)


def some_text(seed: int = 0, train: int = 400, validation: int = 150, test: int = 101) -> TextData:
    """Words that tell something about the next one: a walk of small steps."""
    generator = torch.Generator().manual_seed(seed)

    def walk(n: int) -> Tensor:
        return torch.randint(4, (n,), generator=generator).cumsum(0) % V

    return TextData("some", walk(train), walk(validation), walk(test), tuple(f"w{i}" for i in range(V)))


def task_of(data: TextData | None = None, seed: int = 0, **settings: Any) -> LanguageModel:
    small = {"batch_size": 4, "bptt": 10, "reward_batch": 5, "reward_window": 8, "eval_batch": 3, "eval_window": 9}
    return LanguageModel(data or some_text(), LanguageModelSettings(**small | settings), seed)


class TorchLSTM(nn.Module):
    """torch's own, in the form of a child model."""

    def __init__(self, vocabulary: int = V, hidden: int = H, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.words = nn.Embedding(vocabulary, hidden)
            self.lstm = nn.LSTM(hidden, hidden)
            self.out = nn.Linear(hidden, vocabulary)

    def forward(
        self, x: Tensor, arch: None = None, state: Any = None, progress: float = 1.0
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        outputs, state = self.lstm(self.words(x), state)
        dropped = F.dropout(outputs, 0.2, self.training)
        return (self.out(dropped), outputs, dropped), state


class Uniform(nn.Module):
    """Knows nothing."""

    def forward(self, x: Tensor, arch: None = None, state: Any = None, progress: float = 1.0) -> Any:
        outputs = torch.zeros(*x.shape, 1)
        return (torch.zeros(*x.shape, V), outputs, outputs), ()


class TinySupernet(Supernet):
    """Two children: a plain recurrent net with tanh or ReLU, each with a matrix of its own for the
    state."""

    def __init__(self, only: Architecture | None = None, statistics: Statistics = "batch"):
        super().__init__(of_walk("tiny", OpChoice(("tanh", "relu"), name="c.op")), only, statistics)
        for address, make in (
            ("words", lambda: nn.Embedding(V, H)),
            *((f"state.{op}", lambda: nn.Linear(H, H)) for op in ("tanh", "relu")),
            ("out", lambda: nn.Linear(H, V)),
        ):
            self.provide(address, make)

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        return ["words", f"state.{arch.choices['c.op']}", "out"]

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> Supernet:
        return TinySupernet(only, statistics)

    def forward(self, x: Tensor, arch: Architecture | None = None, state: Any = None, progress: float = 1.0) -> Any:
        op = str(self.architecture(arch).choices["c.op"])
        words = self.at("words")(x)
        (h,) = state or (torch.zeros(x.shape[1], H),)
        outputs = []
        for word in words:
            h = getattr(torch, op)(word + self.at(f"state.{op}")(h))
            outputs.append(h)
        dropped = F.dropout(torch.stack(outputs), 0.1, self.training)
        return (self.at("out")(dropped), torch.stack(outputs), dropped), (h,)


# ------------------------------------------------------------------------------------- perplexity
@pytest.mark.parametrize("part", PARTS)
def test_knowing_nothing_costs_the_vocabulary(part: str) -> None:
    figures = task_of().evaluate(Uniform(), None, part)
    assert figures["perplexity"] == pytest.approx(V, rel=1e-6)
    assert figures["loss"] == pytest.approx(math.log(V), rel=1e-6)
    assert figures["reward"] == pytest.approx(80 / V, rel=1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_perplexity_is_what_ten_lines_say(part: str) -> None:
    data, model = some_text(), TorchLSTM().eval()
    tokens = getattr(data, part)
    total, state = 0.0, None
    with torch.no_grad():
        for before, after in itertools.pairwise(tokens):
            hidden, state = model.lstm(model.words(before.view(1, 1)), state)
            scores = model.out(hidden).double().view(V)
            total -= float(scores[after] - scores.logsumexp(0))
    task = task_of(data, eval_batch=1)
    assert task.size(part) == len(tokens) - 1
    assert task.evaluate(model, None, part)["perplexity"] == pytest.approx(math.exp(total / (len(tokens) - 1)), rel=1e-6)


def test_perplexity_does_not_depend_on_the_window() -> None:
    model = TorchLSTM()
    found = [task_of(eval_window=w).evaluate(model, None, "validation")["perplexity"] for w in (1, 2, 7, 49, 50, 1000)]
    assert max(found) - min(found) < 1e-5 * found[0]
    test = [task_of(eval_window=w).evaluate(model, None, "test")["perplexity"] for w in (1, 10, 99, 100)]
    assert max(test) - min(test) < 1e-5 * test[0]


def test_perplexity_depends_on_the_batch_size_at_the_seams_only() -> None:
    """A model without memory has no seams; one with memory forgets at each of them, which a long
    text hardly shows."""
    text = some_text(validation=3000)

    class Bigram(Uniform):
        def forward(self, x: Tensor, arch: None = None, state: Any = None, progress: float = 1.0) -> Any:
            (_, outputs, _), _ = super().forward(x)
            return (torch.cos(x[..., None] * torch.arange(V)), outputs, outputs), ()

    for model, rel in ((Bigram(), 1e-6), (TorchLSTM(), 1e-3)):
        found = [task_of(text, eval_batch=b).evaluate(model, None, "validation")["perplexity"] for b in (1, 2, 7, 10)]
        assert found == pytest.approx([found[0]] * 4, rel=rel)


@pytest.mark.parametrize("n", [2, 3, 5, 11, 12, 13])
@pytest.mark.parametrize("B", [1, 2, 3, 4])
def test_every_token_but_the_first_is_predicted_once(n: int, B: int) -> None:
    tokens = torch.arange(n)
    x, y, _ = streams(tokens, B, whole=True)
    counted = y[y >= 0]
    assert sorted(counted.tolist()) == list(range(1, n))
    assert (x[y >= 0] == counted - 1).all()
    if n > B:
        x, y, _ = streams(tokens, B, whole=False)
        assert (y == x + 1).all()
        assert len(y) == (n - 1) // B
        assert len(set(y.flatten().tolist())) == y.numel() > n - 1 - B


def test_reward_is_c_over_the_perplexity_of_a_validation_window_from_zero() -> None:
    task, model = task_of(reward_scale=40.0), TorchLSTM()
    x, y, _ = task.reward_batch(3)
    assert x.shape == y.shape == (8, 5)
    with torch.no_grad():
        (logits, *_), _ = model.eval()(x)
    expected = 40 / math.exp(F.cross_entropy(logits.flatten(0, 1), y.flatten()))
    task.loss(model, None, task.train_batch(0, 0))  # a state that must not be read
    assert task.reward(model, None, task.reward_batch(3)) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        model.out.weight.fill_(math.nan)
    assert task.reward(model, None, task.reward_batch(3)) == 0.0


def test_rewards_read_shuffled_passes_over_validation() -> None:
    data = some_text(validation=1 + 5 * 8 * 6 + 7)
    data = dataclasses.replace(data, validation=torch.arange(len(data.validation)) % V)
    task = task_of(data, reward_batch=5)
    passes = []
    for turn in range(2):
        passes.append([tuple(task.reward_batch(turn * 6 + i).x.flatten().tolist()) for i in range(6)])
        assert len(set(passes[-1])) == 6
    assert set(passes[0]) == set(passes[1])
    assert passes[0] != passes[1]
    assert task_of(data, reward_batch=500, reward_window=500).reward_batch(0).x.numel() <= task.size("validation")


# ------------------------------------------------------------------------------- training windows
@pytest.mark.parametrize("random_lengths", [False, True])
def test_a_pass_covers_the_training_text_in_order(random_lengths: bool) -> None:
    task = task_of(random_lengths=random_lengths)
    lengths = set()
    for epoch in range(5):
        batches = [task.train_batch(epoch, step) for step in range(task.train_steps)]
        assert [batch.first for batch in batches] == [True] + [False] * (task.train_steps - 1)
        x, y = torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches])
        whole = streams(some_text().train, 4, whole=False)
        assert torch.equal(x, whole.x)
        assert torch.equal(y, whole.y)
        lengths.add(tuple(len(b.x) for b in batches))
        scales = [task.rate_scale(epoch, step) for step in range(task.train_steps)]
        assert scales == ([len(b.x) / 10 for b in batches] if random_lengths else [1.0] * len(batches))
    assert (len(lengths) == 5) == random_lengths


@pytest.mark.parametrize("size", [1, 2, 5, 35])
@pytest.mark.parametrize("length", [1, 2, 4, 36, 37, 905, 14_524])
def test_windows_of_any_size_cover_any_length(length: int, size: int) -> None:
    for windows in (fixed_windows(length, size), *(random_windows(length, size, seed) for seed in range(5))):
        assert [start for start, _ in windows] == [0, *(end for _, end in windows[:-1])]
        assert windows[-1][1] == length
        assert all(end > start for start, end in windows)
    assert random_windows(length, size, 1) == random_windows(length, size, 1)
    assert len({len(random_windows(length, size, seed)) for seed in range(5)}) == 1


def test_random_lengths_are_those_of_the_recipe() -> None:
    """Merity et al. 2018: around 35, one in twenty around 17.5, spread 5, never below 5."""
    lengths = torch.tensor([end - start for seed in range(20) for start, end in random_windows(14_524, 35, seed)]).double()
    assert lengths.min() >= 5
    assert float(lengths.median()) == pytest.approx(35, abs=1)
    assert float((lengths < 24).double().mean()) == pytest.approx(0.05 * 0.9 + 0.013, abs=0.012)
    middle = lengths[lengths > 24]
    assert float(middle.std()) == pytest.approx(5, abs=0.5)


def test_the_state_of_each_child_runs_on_alone() -> None:
    task, model = task_of(), TorchLSTM().eval()  # no dropout: what is compared is exact
    for child in (0, 1):
        for step in range(3):
            if child == 1 and step == 1:
                # another child of the search: other weights, the same state
                model.words.weight.data.mul_(-1)
            task.loss(model, None, task.train_batch(0, step), child=child)
    states = task.state().tensors
    assert states.keys() == {"0.0", "0.1", "1.0", "1.1"}
    assert not any(part.requires_grad for part in states.values())
    assert not torch.equal(states["0.0"], states["1.0"])
    model.words.weight.data.mul_(-1)
    x = torch.cat([task.train_batch(0, step).x for step in range(3)])
    _, (h, c) = model(x)
    torch.testing.assert_close(states["0.0"], h)
    torch.testing.assert_close(states["0.1"], c)
    before = {key: value.clone() for key, value in task.state().tensors.items()}
    task.evaluate(model, None, "validation")
    task.reward(model, None, task.reward_batch(0))
    assert all(torch.equal(before[key], value) for key, value in task.state().tensors.items())
    task.loss(model, None, task.train_batch(1, 0))  # a new pass begins from zero
    _, (h, c) = model(task.train_batch(1, 0).x)
    torch.testing.assert_close(task.state().tensors["0.0"], h)


def test_penalties_are_the_formulas() -> None:
    model, batch = TorchLSTM().eval(), task_of().train_batch(0, 0)
    (logits, outputs, dropped), _ = model(batch.x)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.y.flatten())
    change = outputs.diff(dim=0)
    for a, t in ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        loss = task_of(activation_penalty=a, temporal_penalty=t).loss(model, None, batch)
        torch.testing.assert_close(loss, plain + a * dropped.square().mean() + t * change.square().mean())
    single = batch._replace(x=batch.x[:1], y=batch.y[:1])
    assert task_of(temporal_penalty=1.0).loss(model, None, single).isfinite(), "one step changes nothing"


def test_training_on_validation_too_reads_both() -> None:
    data = some_text()
    task = LanguageModel(data, LanguageModelSettings(batch_size=1), train_on="train+validation")
    batches = [task.train_batch(0, step) for step in range(task.train_steps)]
    assert torch.equal(torch.cat([b.y for b in batches]).flatten(), torch.cat([data.train, data.validation])[1:])


def test_wrong_settings_are_one_line() -> None:
    for wrong in ("batch_size", "bptt", "reward_batch", "reward_window", "eval_batch", "test_batch", "eval_window"):
        with one_line(ValueError, f"task.{wrong}", "at least 1", "0"):
            LanguageModelSettings(**{wrong: 0})
    with one_line(ValueError, "activation_penalty", "-1"):
        LanguageModelSettings(activation_penalty=-1.0)
    with one_line(ValueError, "reward_scale"):
        LanguageModelSettings(reward_scale=0.0)
    with one_line(ValueError, "batch_size", "'some'", "400"):
        task_of(batch_size=400)
    with one_line(ValueError, "text", "digits"):
        LanguageModel(load("digits"), LanguageModelSettings())


# ------------------------------------------------------------------------------ resume, laws 6, 7
def copied(state: State) -> State:
    return State({k: t.clone() for k, t in state.tensors.items()}, json.loads(json.dumps(dict(state.values))))


def equal(a: State, b: State) -> bool:
    return (
        json.dumps(dict(a.values)) == json.dumps(dict(b.values))
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)
    )


def search_of(random_lengths: bool = True, train: int = 160, **optimizer: Any) -> Search:
    settings = SearchSettings(
        epochs=2, children=2, controller_steps=2, architectures=2, optimizer=dataclasses.replace(PLAIN, **optimizer)
    )
    task = task_of(some_text(train=train), random_lengths=random_lengths, temporal_penalty=1.0)
    torch.manual_seed(3)
    supernet = TinySupernet()
    return Search(settings, task, supernet, STRATEGIES["reinforce"].make(supernet.space, ReinforceSettings(), seed=0))


def test_a_search_resumed_at_any_step_equals_uninterrupted() -> None:
    whole = search_of()
    events = list(whole.run())
    assert {"task/0.0", "task/1.0"} <= whole.state().tensors.keys()
    for stop in range(1, len(events) + 1):
        first = search_of()
        run = first.run()
        for _ in range(stop):
            next(run)
        second = search_of()
        second.load(copied(first.state()))
        assert events[stop:] == list(second.run())
        assert equal(second.state(), whole.state())


def test_preview_leaves_hidden_states_alone() -> None:
    procedure = search_of()
    run = procedure.run()
    for _ in range(2):
        next(run)
    before = copied(procedure.state())
    procedure.preview(children=2)
    assert equal(before, procedure.state())


def retrain_of(**changes: Any) -> Retrain:
    settings = RetrainSettings(**{"epochs": 4, "average": "nt_asgd", "average_interval": 1, "optimizer": PLAIN} | changes)
    return Retrain(settings, task_of(some_text(train=160), random_lengths=True), TorchLSTM())


@pytest.mark.slow
@pytest.mark.parametrize("average", ["none", "nt_asgd"])
def test_a_training_resumed_at_any_step_equals_uninterrupted(average: str) -> None:
    whole = retrain_of(average=average)
    events = list(whole.run())
    for stop in range(1, len(events)):
        first = retrain_of(average=average)
        run = first.run()
        for _ in range(stop):
            next(run)
        second = retrain_of(average=average)
        second.load(copied(first.state()))
        assert events[stop:] == list(second.run())
        assert equal(second.state(), whole.state())


@pytest.mark.slow
def test_training_learns_and_says_perplexity() -> None:
    optimizer = dataclasses.replace(PLAIN, learning_rate=5.0, grad_clip=1.0)
    task = task_of(some_text(train=2000))
    procedure = Retrain(RetrainSettings(epochs=6, optimizer=optimizer), task, TorchLSTM(hidden=20))
    events = list(procedure.run())
    found = [e.metrics["validation_perplexity"] for e in events if isinstance(e, TrainEpochEnd)]
    assert found[-1] < 0.8 * found[0]
    (last,) = [e.metrics for e in events if isinstance(e, Finished)]
    assert last.keys() == {"test_perplexity", "test_loss", "validation_perplexity", "validation_loss"}
    assert metric_in(last) is METRICS["perplexity"]


# ------------------------------------------------------------------------------------- divergence
def broken(model: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)


@pytest.mark.parametrize("factor", [1e4, math.nan])
def test_losses_that_explode_end_a_search_and_a_training(factor: float) -> None:
    search = search_of(train=400)
    run = search.run()
    next(run)
    broken(search.supernet, factor)
    before = copied(search.state())
    with one_line(
        Diverged, "4 of ", "epoch 1, step 5", "--search.optimizer.learning-rate", "--search.optimizer.warmup-steps"
    ):
        list(run)
    after = search.state().under("weights").tensors
    for key, weight in before.under("weights").tensors.items():
        torch.testing.assert_close(after[key], weight, rtol=0, atol=0, equal_nan=True, msg="the step was made")
    retrain = retrain_of()
    run2 = retrain.run()
    next(run2)
    broken(retrain.model, factor)
    retrain._start = retrain._snapshot()  # nor does going back help
    with one_line(Diverged, "after 3 times", "epoch 1, step 2", "--retrain.optimizer.learning-rate"):
        list(run2)


@pytest.mark.parametrize("factor", [1e4, math.nan])
def test_a_run_that_diverges_goes_back_to_the_last_good_checkpoint(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enas.runs.loop.CHECKPOINT_SECONDS", 0.0)
    search, states = search_of(train=400), []

    def record(event: Any) -> None:
        assert isinstance(event, Step)
        folder.append("metrics", {"step": event.step})
        if event.step == 3:  # this step spoils the weights, which only the next losses can tell
            broken(search.supernet, factor)
        assert (event.skipped is None) == (event.step <= 3)
        states.append(copied(search.state()))

    with RunFolder.create(tmp_path / "run", make_plan("text-rnn").to_dict("search")) as folder:
        with pytest.raises(Diverged):
            drive(folder, search, record, silent, never)
        # weights that are not finite are not even written
        assert len(states) == (3 if math.isnan(factor) else 6)
        assert equal(folder.read_checkpoint(), states[1])
        assert [line["step"] for line in read_lines(folder.path / "metrics.jsonl")] == [1, 2]
    assert read_lines(folder.path / "timing.jsonl")[-1]["why"] == "diverged"
    again = search_of(train=400)
    again.load(RunFolder.open(tmp_path / "run").read_checkpoint())
    assert next(again.run()) is not None


def test_what_counts_as_diverged() -> None:
    task = task_of()
    limit = 3 * math.log(V)
    assert not task.diverged(limit * 0.99)
    assert all(task.diverged(loss) for loss in (limit * 1.01, math.inf, math.nan))


# --------------------------------------------------------------------- rates and averaged weights
def test_the_rate_decays_after_every_epoch_from_the_fifteenth() -> None:
    settings = OptimizerSettings(learning_rate=20.0, schedule="decay", momentum=0.0)
    rates = [learning_rate(settings, epoch, step=7, steps=10, epochs=150) for epoch in range(150)]
    assert rates[:15] == [20.0] * 15
    assert rates[15] == pytest.approx(20 * 0.96)
    assert rates[149] == pytest.approx(20 * 0.96**135)
    with one_line(ValueError, "decay"):
        OptimizerSettings(decay=1.5)


def test_averaging_begins_when_validation_stops_improving_and_is_the_mean_since() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = AveragedWeights({"w": weight}, interval=2)
    seen = []
    for epoch, loss in enumerate([5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 3.8]):
        # Above the least of the losses more than 2 evaluations ago: first at 3.7 (3.0 is of 3 ago).
        for _ in range(4):
            with torch.no_grad():
                weight.add_(1.0)
            average.stepped()
            if epoch > 5:
                seen.append(weight.detach().clone())
        average.evaluated(loss)
        assert bool(average.means) == (epoch >= 5)
    now = weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(weight.detach(), torch.stack(seen).mean(0))
    assert torch.equal(weight, now)
    with one_line(ValueError, "nt_asgd", "validation"):
        RetrainSettings(average="nt_asgd", train_on="train+validation")


# --------------------------------------------------------------------------------------- verdicts
def test_lower_perplexity_is_the_better_one() -> None:
    cells = [[90.0], [100.0], [95.0]]
    answer = verdict([80.0, 81.0], cells, METRICS["perplexity"])
    assert answer.better is True
    assert answer.rank == 1
    assert answer.uniform_best == 90.0
    assert answer.difference < 0
    assert "beats the mean random architecture by 14.50" in str(answer)
    assert "of perplexity" in str(answer)
    assert "lower is better" in str(answer)
    assert "%" not in str(answer)
    worse = verdict([180.0, 181.0], cells, METRICS["perplexity"])
    assert worse.better is False
    assert worse.rank == 4
    assert "loses to" in str(worse)
    assert "%" in str(verdict([80.0, 81.0], cells))


# ------------------------------------------------------------------------------- reference models
NO_DROPOUT = ReferenceSettings(input_dropout=0.0, hidden_dropout=0.0, output_dropout=0.0, init_range=0.5)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_lstm_is_torchs(layers: int) -> None:
    torch.manual_seed(0)
    model = LSTMReference(V, H, dataclasses.replace(NO_DROPOUT, layers=layers)).double()
    theirs = nn.LSTM(H, H, layers).double()
    for i in range(layers):
        ours = {"weight_ih": model.from_input[i], "weight_hh": model.from_state[i], "bias_ih": model.bias[i]}
        nn.init.uniform_(model.bias[i])
        for name, value in ours.items():
            getattr(theirs, f"{name}_l{i}").data.copy_(value)
        nn.init.zeros_(getattr(theirs, f"bias_hh_l{i}"))
    x = torch.randint(V, (7, 3))
    (logits, outputs, dropped), state = model(x)
    expected, (h, c) = theirs(F.embedding(x, model.words))
    torch.testing.assert_close(outputs, expected)
    assert torch.equal(dropped, outputs)
    torch.testing.assert_close(logits.logits_TBV, expected @ model.words.t() + model.word_bias)
    torch.testing.assert_close(torch.stack(state[0::2]), h)
    torch.testing.assert_close(torch.stack(state[1::2]), c)


def test_highways_are_their_formula() -> None:
    torch.manual_seed(0)
    model = HighwayReference(V, H, dataclasses.replace(NO_DROPOUT, depth=3)).double()
    x = torch.randint(V, (4, 2))
    (_, outputs, _), _ = model(x)
    for b in range(2):
        s = torch.zeros(H, dtype=torch.float64)
        for t in range(4):
            for layer in range(3):
                z = model.from_state[layer] @ s + model.bias[layer]
                if layer == 0:
                    z = z + model.from_input @ model.words[x[t, b]]
                g = torch.sigmoid(z[H:])
                s = g * torch.tanh(z[:H]) + (1 - g) * s
            torch.testing.assert_close(outputs[t, b], s)


@pytest.mark.parametrize("name", KINDS)
def test_laws_of_a_reference_model(name: str) -> None:
    settings = ReferenceSettings(word_dropout=0.1, layers=2, depth=3)
    for budget in (1500, 5000, 24_000_000):
        dimensions = {"vocabulary": V if budget < 10**6 else 10_000}
        with torch.device("meta") if budget > 10**6 else torch.device("cpu"):
            model = make_reference(name, dimensions, settings, budget)
        size = model.num_parameters()
        assert size == model.size(model.vocabulary, model.hidden, settings) <= budget
        assert model.size(model.vocabulary, model.hidden + 1, settings) > budget
    torch.manual_seed(0)
    model = make_reference(name, {"vocabulary": V}, settings, 2000)
    x = torch.randint(V, (5, 3))
    model.eval()
    (whole, *_), end = model(x)
    (first, *_), state = model(x[:2])
    (second, *_), state = model(x[2:], None, state)
    torch.testing.assert_close(torch.cat([first.logits_TBV, second.logits_TBV]), whole.logits_TBV)
    for a, b in zip(state, end, strict=True):
        torch.testing.assert_close(a, b)
    # One mask for the whole window: what is dropped is dropped in all its steps.
    # which makes zeros too
    model.train().settings = dataclasses.replace(settings, word_dropout=0.0)
    (*_, dropped), _ = model(x)
    kept = dropped != 0
    assert (kept == kept[0]).all()
    assert 0 < kept.double().mean() < 0.6
    task = task_of(some_text(train=100))
    procedure = Retrain(RetrainSettings(epochs=1, optimizer=PLAIN), task, model)
    (last,) = [e.metrics for e in procedure.run() if isinstance(e, Finished)]
    assert last["test_perplexity"] < 2 * V
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reference_models_refuse_what_does_not_fit() -> None:
    with one_line(ValueError, "lstm, rhn", "'gru'"):
        make_reference("gru", {"vocabulary": V}, ReferenceSettings())
    with one_line(ValueError, "'lstm'", "classes"):
        make_reference("lstm", {"classes": 10}, ReferenceSettings())
    with one_line(ValueError, "'rhn'", "at least", "20"):
        make_reference("rhn", {"vocabulary": V}, ReferenceSettings(), 20)
    with one_line(ValueError, "input_dropout", "1.0"):
        ReferenceSettings(input_dropout=1.0)


# ------------------------------------------------------------------------------------------ texts
def write(folder: Path, *parts: str, names: tuple[str, ...] = OFFICIAL, form: str = "{}.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, parts, strict=True):
        (folder / form.format(name)).write_text(text, encoding="utf-8")
    return folder


def said(data: TextData, part: str) -> str:
    return " ".join(data.vocabulary[i] for i in getattr(data, part).tolist())


@pytest.mark.parametrize("form", ["{}.txt", "ptb.{}.txt"])
def test_a_text_of_ones_own(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "a b a\n\n  b a c \r\na\tÿ\n", "a z\n", "b", form=form)
    data = load("text", folder, min_count=1)
    assert said(data, "train") == "a b a <eos> b a c <eos> a ÿ <eos>"
    assert said(data, "validation") == "a <unk> <eos>"
    assert said(data, "test") == "b <eos>"
    assert data.vocabulary == ("a", "<eos>", "b", "c", "ÿ", "<unk>")
    assert data.counts == {"train": 11, "validation": 3, "test": 2}
    train = folder / form.format("train")
    train.write_bytes(b"\xef\xbb\xbf" + train.read_bytes())
    assert load("text", folder, min_count=1).vocabulary == data.vocabulary
    rare = load("text", folder)
    assert said(rare, "train") == "a b a <eos> b a <unk> <eos> a <unk> <eos>"
    assert load("text", folder, max_vocabulary=3).vocabulary == ("a", "<eos>", "<unk>")
    assert said(load("text", folder, train=4, min_count=1), "train") == "a b a <eos>"


def test_bad_texts_are_one_line(tmp_path: Path) -> None:
    with one_line(ValueError, str(tmp_path), "train.txt", "test.txt"):
        load_text(tmp_path)
    folder = write(tmp_path / "a", "a\n", "b\n", "c\n")
    (folder / "test.txt").unlink()
    with one_line(ValueError, "test.txt", str(folder)):
        load_text(folder)
    for empty in ("", "\n \n"):
        with one_line(ValueError, "valid.txt", "none"):
            load_text(write(tmp_path / "b", "a\n", empty, "c\n"))
    (folder / "test.txt").write_bytes(b"fine \xff\n")
    with one_line(ValueError, "UTF-8", "test.txt", "byte 5"):
        load_text(folder)
    for wrong in ({"train": 1}, {"train": 10}, {"max_vocabulary": 1}, {"min_count": 0}):
        with one_line(ValueError, "got"):
            load("text", write(tmp_path / "c", "a b c\n", "a\n", "a\n"), **wrong)
    with one_line(ValueError, "'ptb'", "train", "'max_vocabulary'"):
        load("ptb", folder, max_vocabulary=10)
    with one_line(ValueError, "data.train", "1"):
        TextSettings(train=1)


def test_text_data_is_checked() -> None:
    data = some_text()
    for wrong in (data.test.int(), data.test[:1], data.test[None], data.test + V, data.test - V):
        with one_line(ValueError, "test part of 'some'"):
            dataclasses.replace(data, test=wrong)


@pytest.mark.parametrize("form", ["{}.txt", "ptb.{}.txt"])
@pytest.mark.parametrize("place", ["", "ptb", "simple-examples/data"])
def test_penn_treebank_is_found_checked_and_as_it_is(
    form: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / place, " a b <unk> \n a N \n", " b N \n", " <unk> \n", form=form)
    with one_line(ValueError, "929,589", "7 / 3 / 2", "'text'"):
        load_ptb(tmp_path)
    monkeypatch.setattr("enas.data.text.PTB_COUNTS", (7, 3, 2, 5))
    data = load("ptb", tmp_path)
    assert data.vocabulary == ("<eos>", "a", "<unk>", "N", "b")
    assert said(data, "train") == "a b <unk> <eos> a N <eos>"
    write(tmp_path / place, " a b <unk> \n a N \n", " b zoo \n", " <unk> \n", form=form)
    with one_line(ValueError, "'zoo'", "line 1", form.format("valid")):
        load_ptb(tmp_path)
    with one_line(ValueError, "enas data get ptb"):
        load_ptb(tmp_path / "elsewhere")


def test_wikitext_is_read_packed_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (" \n = Title = \n \n a b . \n", " \n a . \n", " b \n")
    write(tmp_path / "wikitext-2", *parts, form="wiki.{}.tokens")
    with one_line(ValueError, "2,088,628", "10 / 4 / 2"):
        load_wikitext2(tmp_path)
    monkeypatch.setattr("enas.data.text.WIKITEXT2_COUNTS", (10, 4, 2, 6))
    data = load("wikitext2", tmp_path)
    assert said(data, "train") == "<eos> = Title = <eos> <eos> a b . <eos>"
    packed = tmp_path / "packed"
    packed.mkdir()
    archive = packed / "wikitext-2-v1.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in zip(OFFICIAL, parts, strict=True):
            file.writestr(f"wikitext-2/wiki.{name}.tokens", text)
    again = load("wikitext2", packed)
    assert all(torch.equal(getattr(again, part), getattr(data, part)) for part in PARTS)
    archive.write_bytes(archive.read_bytes()[:-60])
    with one_line(ValueError, str(archive), "download it again"):
        load_wikitext2(packed)
    with one_line(ValueError, "enas data get wikitext2"):
        load_wikitext2(tmp_path / "nothing")


@pytest.mark.slow
def test_topics_are_english_split_by_topic() -> None:
    from pydoc_data.topics import topics

    from enas.data.text import _topic_parts

    data = load("topics")
    assert len(data.vocabulary) == 2000
    assert min(data.counts.values()) > 3000
    assert "the" in data.vocabulary[:5]
    assert all(torch.equal(getattr(load("topics"), part), getattr(data, part)) for part in PARTS)
    unknown = data.vocabulary.index("<unk>")
    assert all(float((getattr(data, part) == unknown).double().mean()) < 0.1 for part in PARTS)
    train, validation, test = _topic_parts(topics)
    shares = [sum(map(len, part)) for part in (train, validation, test)]
    assert 0.05 < min(shares[1:]) / sum(shares) <= max(shares[1:]) / sum(shares) <= 0.1
    # Long sentences are in one part only: what is tested on is not trained on.
    long = [{tuple(s) for s in part if len(s) > 30} for part in (train, validation, test)]
    assert not long[0] & long[1]
    assert not long[0] & long[2]
    source = source_of("topics")
    assert len(source["sha256"]) == 64
    assert source == source_of("topics")
    assert source_of("digits") == {}


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.kind == "text"])
def test_registered_texts_say_what_they_are(name: str) -> None:
    from enas.data import download
    from enas.data.registry import get

    entry = DATASETS[name]
    assert "\n" not in entry.about + entry.how_to_get
    if entry.needs_folder:
        with one_line(ValueError, f"'{name}'", "folder"):
            load(name)
    if name in download.SOURCES:
        assert f"enas data get {name}" in entry.how_to_get
    else:
        with one_line(ValueError, f"'{name}'", "nothing to download"):
            get(name, "some/place")


def test_embedded_text_is_recorded_and_must_stay_the_same() -> None:
    plan = make_plan("digits-micro")
    assert plan.to_dict("search")["source"] == {}
    settings = dataclasses.replace(plan.settings, data=TextSettings(dataset="topics", train=1000, max_vocabulary=500))
    plan = dataclasses.replace(plan, settings=settings)
    source = plan.to_dict("search")["source"]
    assert source == source_of("topics")
    data = plan.load_data()
    assert (data.counts["train"], len(data.vocabulary)) == (1000, 500)
    again = dataclasses.replace(plan, source=source | {"python": "3.11.0"})  # the same text
    assert torch.equal(again.load_data().train, data.train)
    with one_line(ValueError, "'topics'", "0000", source["sha256"][:16]):
        dataclasses.replace(plan, source={"python": "3.9.1", "sha256": "0" * 64}).load_data()


def test_the_command_line_shows_perplexity() -> None:
    file = io.StringIO()
    display = Display(Console(file=file, width=200))
    display(TrainEpochEnd(1, {"epoch": 1, "train_loss": 4.5, "validation_perplexity": 81.2, "validation_loss": 4.397}))
    assert file.getvalue() == "epoch 1: loss 4.500, validation perplexity 81.20\n"


@pytest.mark.slow
def test_the_real_penn_treebank(data_dir: Path) -> None:
    data = load("ptb", data_dir)
    assert (*data.counts.values(), len(data.vocabulary)) == PTB_COUNTS
    assert data.vocabulary[:8] == ("the", "<unk>", "<eos>", "N", "of", "to", "a", "in")
    assert said(data, "train").startswith("aer banknote berlitz calloway")
    assert said(data, "test").startswith("no it was n't black monday <eos> but while")
    task = LanguageModel(data, LanguageModelSettings())
    # "about 400 steps" a pass (released code, of batch 64 and 35 steps)
    assert task.train_steps == 415
    assert task.size("test") == 82_429
    counts = torch.bincount(data.train, minlength=10_000).double()
    unigram = (counts / counts.sum()).log().float()

    class Unigram(nn.Module):
        def forward(self, x: Tensor, arch: None = None, state: Any = None, progress: float = 1.0) -> Any:
            return (unigram.expand(*x.shape, -1), x, x), ()

    expected = math.exp(-float(unigram.double()[data.validation[1:]].mean()))
    assert task.evaluate(Unigram(), None, "validation")["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert 600 < expected < 800
