"""This module makes language modelling a task: truncated back-propagation through time, and
perplexity (paper 3.1).

A part of n tokens is laid out in B streams side by side, each a piece of the text in order.
Training reads them window by window. The hidden state is carried from window to window, one state
for each of the M children of a step, and gradients stop there. Each pass begins from a zero state,
and so does each reward, which reads one window of the validation part. `evaluate` reads a whole
part in one go and counts every token but the first exactly once, whatever the batch size.

A model is called as `model(x, arch, state, progress)` and returns `(logits, outputs, dropped),
state`. The logits are a tensor, or a `TiedSoftmax`, which is faster. A `state` of None stands for
zeros. Windows are functions of (seed, epoch, step), so any can be asked for in any order.

In shapes, T is the number of steps of a window, B of streams, V of words, and H of hidden units. x
and y are (T, B) int64, and logits are (T, B, V). outputs and dropped (T, B, H) are those of the
last layer, before and after its dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.data.parts import PARTS, Part
from enas.data.text import TextData
from enas.networks.softmax import TiedSoftmax
from enas.spaces.architecture import Architecture
from enas.state import State, exact, seed_of
from enas.tasks.metrics import METRICS
from enas.tasks.settings import LanguageModelSettings
from enas.tasks.task import Model, Task, sizes

IGNORED = -100  # marks targets that do not count
# Random lengths (Merity et al. 2018): the shortest and the standard deviation as shares of `size`,
# and the share of windows around half of it.
SHORTEST, SPREAD, HALVED = 1 / 7, 1 / 7, 0.05


class Batch(NamedTuple):
    """A `Batch` is a window. `first` says whether it is the first of a pass, which begins from a
    zero state."""

    x: Tensor
    y: Tensor
    first: bool = True


def perplexity(loss: float) -> float:
    """Returns exp(loss), where the loss is in nats per token. Returns infinity where that
    overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def fixed_windows(length: int, size: int) -> list[tuple[int, int]]:
    """Returns the (start, end) of windows of `size` steps. A last single step joins the window
    before it, because batch norm has no statistics of one step."""
    starts = list(range(0, length, size))
    if len(starts) > 1 and length - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], length], strict=True))


def random_windows(length: int, size: int, seed: int) -> list[tuple[int, int]]:
    """Returns the (start, end) of windows of random length. Their number is the same for every
    seed.

    Lengths are normal around `size`, or around half of it one time in twenty, and at least a
    seventh of it (Merity et al. 2018). They are then stretched by single steps, spread evenly, to
    cover `length` exactly. So all passes have the same number of steps, on which schedules and
    progress depend.
    """
    least = max(1, int(size * SHORTEST))
    count = max(1, min(round(length / (size * (1 - HALVED / 2))), length // least))
    generator = torch.Generator().manual_seed(seed)
    halved = torch.rand(count, generator=generator) < HALVED
    centres = torch.where(halved, size / 2, float(size))
    drawn = centres + size * SPREAD * torch.randn(count, generator=generator)
    least = min(least, length)  # a shorter text is one window
    lengths = drawn.round().long().clamp(min=least)
    order = torch.randperm(count, generator=generator)
    while (missing := length - int(lengths.sum())) != 0:
        able = order if missing > 0 else order[lengths[order] > least]
        lengths[able[: abs(missing)]] += 1 if missing > 0 else -1
    ends = lengths.cumsum(0).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


class LanguageModel(Task):
    """A `LanguageModel` task makes windows of `data` and computes their loss. `train_on` says which
    tokens count as training data. With "train+validation" there is nothing left to choose on."""

    metric = METRICS["perplexity"]

    def __init__(
        self,
        data: TextData,
        settings: LanguageModelSettings,
        seed: int = 0,
        device: torch.device | str = "cpu",
        train_on: Literal["train", "train+validation"] = "train",
    ):
        if not isinstance(data, TextData):
            raise ValueError(f"a language model is trained on text; data set '{data.name}' is none (`enas data list`)")
        self.settings, self.seed = settings, seed
        self.device, self.train_on = torch.device(device), train_on
        self.dimensions = {"vocabulary": len(data.vocabulary)}
        self._parts: dict[Part, Tensor] = {part: getattr(data, part).to(self.device) for part in PARTS}
        sizes = " / ".join(f"{n:,}" for n in data.counts.values())
        self.about = (
            f"{data.about or data.name}: {sizes} tokens to train, validate and test on, {len(data.vocabulary):,} types"
        )
        if train_on == "train+validation":
            self._parts["train"] = torch.cat([self._parts["train"], self._parts["validation"]])
        if settings.batch_size >= len(self._parts["train"]):
            raise ValueError(
                f"task.batch_size is below the {len(self._parts['train']):,} tokens that '{data.name}' trains on; got"
                f" {settings.batch_size:,}"
            )
        self._train = streams(self._parts["train"], settings.batch_size, whole=False)
        if settings.batch_size > 1 and bool((self._train.x == self._train.x[:, :1]).all()):
            raise ValueError(
                f"a text is cut into task.batch_size streams that train side by side, and the {settings.batch_size} of"
                f" '{data.name}' are all alike: there is nothing to learn in a text that repeats itself"
            )
        windows = streams(self._parts["validation"], min(settings.reward_batch, self.size("validation")), whole=False)
        self._reward = windows
        self._reward_windows = max(1, windows.x.shape[0] // settings.reward_window)
        self._windows: tuple[int, list[tuple[int, int]]] = (-1, [])
        self._steps = len(self._train_windows(0))
        self._states: dict[int, tuple[Tensor, ...]] = {}  # hidden state of each child

    def size(self, part: Part) -> int:
        """Returns the number of predicted tokens of a part, which are all but the first."""
        return len(self._parts[part]) - 1

    # ------------------------------------------------------------------------------------ training
    @property
    def train_steps(self) -> int:
        """Returns the number of windows of a pass, which is the same for every pass."""
        return self._steps

    def _train_windows(self, epoch: int) -> list[tuple[int, int]]:
        epoch = epoch if self.settings.random_lengths else 0
        if self._windows[0] != epoch:
            length, size = self._train.x.shape[0], self.settings.bptt
            if self.settings.random_lengths:
                self._windows = (epoch, random_windows(length, size, seed_of(self.seed, "windows", epoch)))
            else:
                self._windows = (epoch, fixed_windows(length, size))
        return self._windows[1]

    def train_batch(self, epoch: int, step: int) -> Batch:
        """Returns window `step` of pass `epoch`."""
        start, end = self._train_windows(epoch)[step]
        return Batch(self._train.x[start:end], self._train.y[start:end], first=step == 0)

    def rate_scale(self, epoch: int, step: int) -> float:
        """Returns the length of a window divided by `bptt` where lengths are random, else 1 (Merity
        et al. 2018)."""
        if not self.settings.random_lengths:
            return 1.0
        start, end = self._train_windows(epoch)[step]
        return (end - start) / self.settings.bptt

    def loss(self, model: Model, arch: Architecture | None, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        """Returns the mean cross-entropy (nats per token) plus penalties. The hidden state of
        `child` is carried over to its next window."""
        state = None if batch.first else self._states.get(child)
        (softmax, outputs_TBH, dropped_TBH), state = model(batch.x, arch, state, progress)
        self._states[child] = tuple(part.detach() for part in state)
        if isinstance(softmax, Tensor):
            loss = F.cross_entropy(softmax.flatten(0, 1), batch.y.flatten())
        else:
            loss = softmax.cross_entropy(batch.y)
        s = self.settings
        if s.activation_penalty:
            loss = loss + s.activation_penalty * dropped_TBH.pow(2).mean()
        if s.temporal_penalty and len(outputs_TBH) > 1:
            loss = loss + s.temporal_penalty * (outputs_TBH[1:] - outputs_TBH[:-1]).pow(2).mean()
        return loss

    def cut(self, batch: Batch, k: int) -> list[tuple[float, Batch]]:
        """Returns the batch in parts of some streams each, with their weights. To `loss`, each part
        is a child of its own."""
        B = batch.x.shape[1]
        lengths = sizes(B, k)
        pieces = zip(batch.x.split(lengths, 1), batch.y.split(lengths, 1), strict=True)
        return [(x.shape[1] / B, Batch(x.contiguous(), y.contiguous(), batch.first)) for x, y in pieces]

    def diverged(self, loss: float) -> bool:
        """Returns whether a loss is not finite, or above 3 log V, three times the loss of a model
        that knows nothing."""
        return not loss <= 3 * math.log(self.dimensions["vocabulary"])

    def forget(self, child: int) -> None:
        """Lets the next window of this child begin from a zero state."""
        self._states.pop(child, None)

    def state(self) -> State:
        """Returns the hidden state of each child."""
        return State({f"{child}.{i}": part for child, state in self._states.items() for i, part in enumerate(state)})

    def load(self, state: State) -> None:
        parts: dict[int, dict[int, Tensor]] = {}
        for key, tensor in state.tensors.items():
            child, i = map(int, key.split("."))
            parts.setdefault(child, {})[i] = tensor.to(self.device)
        self._states = {child: tuple(state[i] for i in sorted(state)) for child, state in sorted(parts.items())}

    # ------------------------------------------------------------------------------------- scoring
    def reward_batch(self, step: int) -> Batch:
        """Returns the validation window of controller step `step`, which is counted over the whole
        search. Passes over whole windows are shuffled."""
        turn, place = divmod(step, self._reward_windows)
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", "validation", turn))
        start = int(torch.randperm(self._reward_windows, generator=generator)[place]) * self.settings.reward_window
        x, y, _ = self._reward
        return Batch(x[start : start + self.settings.reward_window], y[start : start + self.settings.reward_window])

    @torch.no_grad()
    def reward(self, model: Model, arch: Architecture | None, batch: Batch) -> float:
        """Returns c / perplexity of a window that is read from a zero state (paper 2.2), or 0 where
        the loss is not finite. The model is left in evaluation mode."""
        model.eval()
        (softmax, *_), _ = model(batch.x, arch, None, 1.0)
        return self._reward_of(float(_losses(softmax, batch.y).mean()))

    def _reward_of(self, loss: float) -> float:
        return self.settings.reward_scale / perplexity(loss) if math.isfinite(loss) else self.worst_reward

    @torch.no_grad()
    def evaluate(self, model: Model, arch: Architecture | None, part: Part) -> dict[str, float]:
        """Returns perplexity, loss (nats per token) and reward over a part, in evaluation mode."""
        total = torch.zeros((), dtype=torch.float64)
        B = self.settings.test_batch if part == "test" else self.settings.eval_batch
        for losses, _ in self._read(model, arch, part, B):
            total = total + exact(losses).sum()
        return self._figures(float(total) / self.size(part))

    def _figures(self, loss: float) -> dict[str, float]:
        return {"perplexity": perplexity(loss), "loss": loss, "reward": self._reward_of(loss)}

    def _read(self, model: Model, arch: Architecture | None, part: Part, B: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the losses (T B,) and the tokens (T, B) of each window. The state is carried from
        window to window."""
        model.eval()
        x, y, _ = streams(self._parts[part], min(B, self.size(part)), whole=True)
        state: tuple[Tensor, ...] | None = None
        for start, end in fixed_windows(len(x), self.settings.eval_window):
            (softmax, *_), state = model(x[start:end], arch, state, 1.0)
            yield _losses(softmax, y[start:end]), y[start:end]

    @torch.no_grad()
    def probabilities(self, model: Model, arch: Architecture | None, part: Part) -> Tensor:
        """Returns the probability of each right token, (n,) float64. The model is left in
        evaluation mode.

        All parts are read in `eval_batch` streams, the test part too. Batch norm with the
        statistics of a single stream would leave nothing of a cell.
        """
        read = self._read(model, arch, part, self.settings.eval_batch)
        return exact(torch.cat([losses[y.flatten() != IGNORED] for losses, y in read])).neg().exp()

    def judged(self, probabilities: Tensor, part: Part) -> dict[str, float]:
        """Returns the figures of `evaluate`, computed from the probabilities of the right tokens
        (n,)."""
        return self._figures(float(-probabilities.clamp(min=1e-300).log().mean()))


def streams(tokens: Tensor, B: int, whole: bool) -> Batch:
    """Returns `tokens` (n,) laid out as x and y (L, B): B pieces side by side, with y one token
    ahead of x.

    Where `whole` is false, the last few of the n - 1 targets that fill no whole step are left out.
    Where it is true, `IGNORED` targets fill up the last stream.
    """
    n = len(tokens) - 1
    L = -(-n // B) if whole else n // B
    filling = tokens.new_full((max(0, L * B - n),), IGNORED)
    x = torch.cat([tokens[:-1], filling.clamp(min=0)])[: L * B]
    y = torch.cat([tokens[1:], filling])[: L * B]
    return Batch(x.view(B, L).t().contiguous(), y.view(B, L).t().contiguous())


def _losses(softmax: Tensor | TiedSoftmax, y_TB: Tensor) -> Tensor:
    """Returns the loss of each token (T B,), in nats."""
    if not isinstance(softmax, Tensor):
        return softmax.losses(y_TB, IGNORED)
    return F.cross_entropy(softmax.flatten(0, 1).float(), y_TB.flatten(), reduction="none", ignore_index=IGNORED)
