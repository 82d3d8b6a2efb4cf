"""The controller: an LSTM policy over the decisions of any search space (paper 2.2, 3.1, 3.2).

It walks over `space.walk`, one LSTM step for each decision and for each anchor (a cell input or a finished node that later
decisions can refer to). The answer to one decision is fed back as the input of the next step, beginning with an empty
embedding. Heads go by the kind of decision, so one controller serves every space:

- OpChoice: softmax over a linear layer, one for each distinct list of ops;
- InputChoice: softmax over attention between the LSTM state and the anchors of earlier nodes (released code), or over a
  linear layer (paper's words: "softmax classifiers");
- SubsetChoice: a yes/no for each earlier node, on attention likewise.

One walk handles any number of architectures at once, and both samples and scores: given answers are replayed, so that
log-probabilities come from plain architectures, with a graph, whenever they are needed.

Shapes: M architectures, H hidden units, K options of a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.architecture import Answer, Architecture
from enas.space import Anchor, Decision, InputChoice, OpChoice, SearchSpace, SubsetChoice


@dataclass(frozen=True)
class ControllerSettings:
    """The policy network."""

    hidden: int = 100
    """LSTM units (paper 2.2: 100; released code: 64)."""
    temperature: float = 5.0
    """Logits are divided by it (paper 3.1 and 3.2: 5.0; released CIFAR-10 code: none, that is 1)."""
    tanh_constant: float = 2.5
    """Logits are then c tanh(logit) (paper: 2.5; released micro code: 1.1 for inputs, 0.44 for ops). 0: no tanh."""
    init_range: float = 0.1
    """All parameters start uniform in +- this (paper: 0.1)."""
    input_head: Literal["attention", "softmax"] = "attention"
    """How an input is chosen: attention over anchors (released code) or a linear softmax (paper 2.2)."""

    def __post_init__(self) -> None:
        for name, low in (("hidden", 1), ("temperature", 1e-6), ("tanh_constant", 0), ("init_range", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"controller.{name} is at least {low}; got {getattr(self, name)}")


@dataclass(frozen=True)
class Walk:
    """What a walk found. Tensors of M rows; `answers` a decision: (M,) indices, or (M, K) booleans for a subset."""

    answers: list[Tensor]
    log_prob: Tensor  # (M,) log-probability of the whole architecture, nats
    entropy: Tensor  # (M,) sum of the entropies of the decisions along the way, nats
    log_ratio: Tensor  # (M,) mean over the space's skips of log(p(bit) / rho(bit)); one not asked or forced counts 0
    divergence: Tensor  # (M,) mean over the space's skips of KL(p || rho), likewise


class Controller(nn.Module):
    """LSTM policy for `space`; parameters are drawn from `generator`. `skip_rate`: rho, the prior belief in a skip."""

    def __init__(
        self, space: SearchSpace, settings: ControllerSettings, generator: torch.Generator, skip_rate: float = 0.4
    ):
        super().__init__()
        self.space, self.settings, self.skip_rate = space, settings, skip_rate
        H = settings.hidden
        self.cell = nn.LSTMCell(H, H)
        self.empty = nn.Parameter(torch.empty(1, H))
        op_lists = list(dict.fromkeys(d.options for d in space.decisions if isinstance(d, OpChoice)))
        self._head_of = {options: f"ops{i}" for i, options in enumerate(op_lists)}
        self.op_heads = nn.ModuleDict({self._head_of[o]: nn.Linear(H, len(o), bias=False) for o in op_lists})
        self.op_embeddings = nn.ModuleDict({self._head_of[o]: nn.Embedding(len(o), H) for o in op_lists})
        self.attention = nn.ModuleDict()
        widest = max((len(d.options) for d in space.decisions if isinstance(d, InputChoice)), default=0)
        if widest and settings.input_head == "softmax":
            self.input_head = nn.Linear(H, widest, bias=False)
            self.input_embedding = nn.Embedding(widest, H)
        elif widest:
            self.attention["input"] = _Attention(H)
        if any(isinstance(d, SubsetChoice) for d in space.decisions):
            self.attention["subset"] = _Attention(H)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-settings.init_range, settings.init_range, generator=generator)
        self._position = {d.name: i for i, d in enumerate(space.decisions)}
        self._skips = sum(len(d.options) for d in space.decisions if isinstance(d, SubsetChoice))

    # --------------------------------------------------------------------------------------------- for users
    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> list[Architecture]:
        """n architectures drawn from the policy, in one walk."""
        return self.decode(self.walk(n, generator=generator).answers)

    def score(self, archs: Sequence[Architecture]) -> Walk:
        """The walk over given architectures, with a graph: log-probabilities (M,), entropies and skip terms."""
        return self.walk(len(archs), given=self.encode(archs))

    def encode(self, archs: Sequence[Architecture]) -> list[Tensor]:
        """Answers as indices, a tensor for each decision of the space. Inactive decisions hold 0. ValueError for an
        architecture of another space."""
        archs = [self.space.check(arch) for arch in archs]
        out: list[Tensor] = []
        device = self.empty.device
        for decision in self.space.decisions:
            answers = [arch.choices.get(decision.name) for arch in archs]
            if isinstance(decision, SubsetChoice):
                rows = [[option in (answer or ()) for option in decision.options] for answer in answers]
                out.append(torch.tensor(rows, dtype=torch.bool, device=device))
            else:
                index = {option: i for i, option in enumerate(decision.options)}
                out.append(torch.tensor([0 if a is None else index[str(a)] for a in answers], device=device))
        return out

    def decode(self, answers: list[Tensor]) -> list[Architecture]:
        """The inverse of `encode`; inactive decisions are left out."""
        rows = [answer.tolist() for answer in answers]
        archs = []
        for m in range(len(rows[0])):
            choices: dict[str, Answer] = {}
            for decision, row in zip(self.space.decisions, rows, strict=True):
                if not self.space.active(decision, choices):
                    continue
                if isinstance(decision, SubsetChoice):
                    choices[decision.name] = tuple(o for o, bit in zip(decision.options, row[m], strict=True) if bit)
                else:
                    choices[decision.name] = decision.options[row[m]]
            archs.append(Architecture.of(self.space.spec, choices))
        return archs

    # ---------------------------------------------------------------------------------------------- the walk
    def walk(self, n: int, given: list[Tensor] | None = None, generator: torch.Generator | None = None) -> Walk:
        """One pass over all decisions for n architectures: drawn with `generator`, or replayed where `given`."""
        assert (given is None) != (generator is None)
        H, device = self.settings.hidden, self.empty.device
        x = self.empty.expand(n, H)
        h = c = torch.zeros(n, H, device=device)
        anchors: dict[str, Tensor] = {}  # full name to LSTM output (M, H)
        keys: dict[tuple[str, str], Tensor] = {}  # (head, full name) to the anchor's share of the attention (M, H)
        answers: list[Tensor] = []
        total = _Totals(n, device)
        for step in self.space.walk:
            if isinstance(step, Anchor):
                h, c = self.cell(x, (h, c))
                anchors[step.name] = h
                for head, attention in self.attention.items():
                    assert isinstance(attention, _Attention)
                    keys[head, step.name] = attention.key(h)
                x = self.empty.expand(n, H)
                continue
            active = self._active(step, answers)
            h_new, c_new = self.cell(x, (h, c))
            chosen = given[len(answers)] if given is not None else None
            if isinstance(step, SubsetChoice):
                answer, x_new = self._subset(step, h_new, anchors, keys, chosen, generator, active, total)
            else:
                answer, x_new = self._one(step, h_new, anchors, keys, chosen, generator, active, total)
            answers.append(answer)
            if active is None:
                h, c, x = h_new, c_new, x_new
            else:  # a decision that is not asked leaves the state as it was
                h, c, x = (torch.where(active[:, None], a, b) for a, b in ((h_new, h), (c_new, c), (x_new, x)))
        return total.walk(answers, self._skips)

    def _active(self, decision: Decision, answers: list[Tensor]) -> Tensor | None:
        """(M,) where the decision is asked; None: everywhere."""
        if decision.when is None:
            return None
        position = self._position[decision.when.decision]
        parent = self.space.decisions[position]
        option = parent.options.index(decision.when.answer)
        answer = answers[position]
        here = answer[:, option] if isinstance(parent, SubsetChoice) else answer == option
        above = self._active(parent, answers)
        return here if above is None else here & above

    def _scaled(self, logits: Tensor, prior: Sequence[float] | None) -> Tensor:
        logits = logits / self.settings.temperature
        if self.settings.tanh_constant:
            logits = self.settings.tanh_constant * torch.tanh(logits)
        return logits if prior is None else logits + torch.tensor(prior, dtype=logits.dtype, device=logits.device)

    def _one(self, decision, h, anchors, keys, chosen, generator, active, total) -> tuple[Tensor, Tensor]:
        """An OpChoice or InputChoice: answer (M,), next LSTM input (M, H)."""
        K = len(decision.options)
        names = [f"{decision.name.split('.')[0]}.{option}" for option in decision.options]
        by_anchor = isinstance(decision, InputChoice) and self.settings.input_head == "attention"
        if by_anchor:
            logits = self.attention["input"](h, torch.stack([keys["input", name] for name in names], 1))
        elif isinstance(decision, InputChoice):
            logits = self.input_head(h)[:, :K]
        else:
            logits = self.op_heads[self._head_of[decision.options]](h)
        log_p = F.log_softmax(self._scaled(logits, decision.prior), 1)  # (M, K)
        if chosen is None:
            # Gumbel's trick: one exponential draw an option, no normalisation needed.
            noise = torch.empty_like(log_p).exponential_(generator=generator).log()
            chosen = (log_p - noise).argmax(1)
        total.add(log_p.gather(1, chosen[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(1), active)
        if by_anchor:
            stacked = torch.stack([anchors[name] for name in names], 1)  # (M, K, H)
            return chosen, stacked[torch.arange(len(chosen), device=h.device), chosen]
        if isinstance(decision, InputChoice):
            return chosen, self.input_embedding(chosen)
        return chosen, self.op_embeddings[self._head_of[decision.options]](chosen)

    def _subset(self, decision, h, anchors, keys, chosen, generator, active, total) -> tuple[Tensor, Tensor]:
        """A SubsetChoice: answer (M, K) booleans, next LSTM input (M, H), the mean of the chosen anchors.

        With exactly k, each bit that the count so far forces has probability 1: every set has one path."""
        names = [f"{decision.name.split('.')[0]}.{option}" for option in decision.options]
        scores = self.attention["subset"](h, torch.stack([keys["subset", name] for name in names], 1))
        logits = self._scaled(scores, decision.prior)  # (M, K), of "yes"
        M, K = logits.shape
        bits = []
        taken = torch.zeros(M, dtype=torch.long, device=h.device)
        for j in range(K):
            z = logits[:, j]
            bit = torch.rand(M, generator=generator, device=h.device) < torch.sigmoid(z) if chosen is None else chosen[:, j]
            free = torch.ones_like(bit)
            if decision.k is not None:
                must, full = decision.k - taken == K - j, taken == decision.k
                free = ~(must | full)
                bit = torch.where(free, bit, must)
            total.add_bit(z, bit, free if active is None else free & active, self.skip_rate)
            taken = taken + bit
            bits.append(bit)
        answer = torch.stack(bits, 1)
        stacked = torch.stack([anchors[name] for name in names], 1)  # (M, K, H)
        weight = answer.to(h.dtype)
        mean = (weight[:, :, None] * stacked).sum(1) / (1 + weight.sum(1, keepdim=True))
        return answer, mean


class _Attention(nn.Module):
    """score = v tanh(W_key anchor + W_query h)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, h: Tensor, keys: Tensor) -> Tensor:
        return self.score(torch.tanh(keys + self.query(h)[:, None])).squeeze(2)  # (M, K)


class _Totals:
    """Sums over the decisions of a walk."""

    def __init__(self, n: int, device: torch.device):
        self.log_prob = self.entropy = self.log_ratio = self.divergence = torch.zeros(n, device=device)

    def add(self, log_prob: Tensor, entropy: Tensor, active: Tensor | None) -> None:
        if active is not None:
            log_prob, entropy = torch.where(active, log_prob, 0), torch.where(active, entropy, 0)
        self.log_prob = self.log_prob + log_prob
        self.entropy = self.entropy + entropy

    def add_bit(self, logit: Tensor, bit: Tensor, free: Tensor, rho: float) -> None:
        yes, no = F.logsigmoid(logit), F.logsigmoid(-logit)  # log p(1), log p(0), (M,)
        p = torch.sigmoid(logit)
        log_prob = torch.where(bit, yes, no)
        self.add(log_prob, -(p * yes + (1 - p) * no), free)
        log_rho = torch.tensor([1 - rho, rho], dtype=logit.dtype, device=logit.device).log()
        ratio = log_prob - log_rho[bit.long()]
        divergence = p * (yes - log_rho[1]) + (1 - p) * (no - log_rho[0])
        self.log_ratio = self.log_ratio + torch.where(free, ratio, 0)
        self.divergence = self.divergence + torch.where(free, divergence, 0)

    def walk(self, answers: list[Tensor], skips: int) -> Walk:
        # Divided by a number that does not depend on what was drawn: only so are both means of equal expectation.
        skips = max(skips, 1)
        return Walk(answers, self.log_prob, self.entropy, self.log_ratio / skips, self.divergence / skips)
