"""This module holds the controller: an LSTM policy over the decisions of any search space (paper
2.2, 3.1, 3.2).

It walks over `space.walk`, one LSTM step for each decision and for each anchor (a cell input or a
finished node that later decisions can refer to). The answer to one decision is the input of the
next step. The first input is an empty embedding. Heads belong to kinds of decisions, so one
controller serves every space:

- OpChoice: a softmax over a linear layer, one layer for each distinct list of ops.
- InputChoice: a softmax over attention between the LSTM state and the anchors of earlier nodes
  (released code), or over a linear layer (the paper says "softmax classifiers").
- SubsetChoice: a yes or no for each earlier node, also by attention.
- OpSubset: a yes or no for each op, over a linear layer, one layer for each distinct list of ops.

One walk handles any number of architectures at once. It both samples and scores: to score, the
given answers are replayed. So log-probabilities, with a graph, are computed from plain
architectures whenever they are needed.

In shapes, M is the number of architectures, H of hidden units, K of options of a decision, and D of
decisions of one head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.spaces.architecture import Architecture
from enas.spaces.decisions import Anchor, Decision, InputChoice, OpChoice, SubsetChoice
from enas.spaces.limits.limit import Cursor, counted_bits
from enas.spaces.space import SearchSpace
from enas.strategies.noise import Noise
from enas.strategies.settings import ControllerSettings


@dataclass(frozen=True)
class Walk:
    """A `Walk` holds the answers to every decision, (M,) indices or (M, K) booleans for a subset,
    and their scores."""

    answers: list[Tensor]
    log_prob: Tensor  # (M,) log-probability of the whole architecture, nats
    entropy: Tensor  # (M,) sum of the entropies of the decisions along the way, nats
    log_ratio: Tensor  # (M,) mean over skips of log(p(bit) / rho(bit)); 0 if not asked or forced
    divergence: Tensor  # (M,) mean over skips of KL(p || rho); 0 if not asked or forced


class Controller(nn.Module):
    """A `Controller` is the LSTM policy of a space. `generator` draws its parameters. `skip_rate`
    is rho, the prior belief in a skip."""

    def __init__(
        self, space: SearchSpace, settings: ControllerSettings, generator: torch.Generator, skip_rate: float = 0.4
    ):
        super().__init__()
        self.space, self.settings, self.skip_rate = space, settings, skip_rate
        H = settings.hidden
        self.cell = nn.LSTMCell(H, H, bias=settings.lstm_bias)
        self.empty = nn.Parameter(torch.empty(1, H))
        op_lists = list(dict.fromkeys((type(d), d.options) for d in space.decisions if d.anchors is None))
        self._head_of = {op_list: f"ops{i}" for i, op_list in enumerate(op_lists)}
        self.op_heads = nn.ModuleDict({self._head_of[o]: nn.Linear(H, len(o[1]), bias=False) for o in op_lists})
        self.op_embeddings = nn.ModuleDict({self._head_of[o]: nn.Embedding(len(o[1]), H) for o in op_lists})
        self.attention = nn.ModuleDict()
        widest = max((len(d.options) for d in space.decisions if isinstance(d, InputChoice)), default=0)
        if widest and settings.input_head == "softmax":
            self.input_head = nn.Linear(H, widest, bias=False)
            self.input_embedding = nn.Embedding(widest, H)
        elif widest:
            self.attention["input"] = _Attention(H)
        if any(isinstance(d, SubsetChoice) and d.anchors is not None for d in space.decisions):
            self.attention["subset"] = _Attention(H)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-settings.init_range, settings.init_range, generator=generator)
        biases = {(type(d), d.options): d.bias for d in space.decisions if isinstance(d, OpChoice) and d.bias is not None}
        self.op_biases = nn.ParameterDict(
            {self._head_of[op_list]: nn.Parameter(torch.tensor(bias)) for op_list, bias in biases.items()}
        )
        self._position = {d.name: i for i, d in enumerate(space.decisions)}
        subsets = [d for d in space.decisions if isinstance(d, SubsetChoice) and d.anchors is not None]
        self.skips = sum(len(d.options) for d in subsets)  # number of yes or no questions
        self._constants: dict[tuple[object, ...], Tensor] = {}

    def _constant(self, values: Any, dtype: torch.dtype | None = None) -> Tensor:
        """Returns `values` as a tensor on the device. It is made once, so that a walk copies
        nothing."""
        key = (repr(values), dtype, self.empty.device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=self.empty.device)
        return self._constants[key]

    @property
    def is_static(self) -> bool:
        """Returns whether a walk does the same operations whatever is answered: no limit and no
        number of members forces an answer, and every decision is asked."""
        decisions = self.space.decisions
        free = all(d.bounds == (0, len(d.options)) for d in decisions if isinstance(d, SubsetChoice))
        return free and self.space.limited(1) is None and all(d.when is None for d in decisions)

    # ----------------------------------------------------------------------------------- for users
    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> list[Architecture]:
        """Returns n architectures drawn from the policy, in one walk."""
        return self.decode(self.walk(n, generator=generator, scored=False).answers)

    def score(self, archs: Sequence[Architecture]) -> Walk:
        """Returns the walk over given architectures, with a graph."""
        return self.walk(len(archs), given=self.encode(archs))

    def encode(self, archs: Sequence[Architecture], device: torch.device | str | None = None) -> list[Tensor]:
        """Returns the answers of architectures as indices, one tensor per decision of the space.
        They are on the policy's device by default. Inactive decisions hold 0. Raises a ValueError
        for an architecture of another space."""
        checked = [self.space.check(arch).choices for arch in archs]
        return [torch.from_numpy(answer).to(device or self.empty.device) for answer in self.space.encoded(checked)]

    def decode(self, answers: list[Tensor]) -> list[Architecture]:
        """Returns the architectures that `encode` encoded. Inactive decisions are left out."""
        rows = self.space.decoded([answer.cpu().numpy() for answer in answers], len(answers[0]))
        return [Architecture.of(self.space.spec, choices) for choices in rows]

    @staticmethod
    def packed(answers: list[Tensor]) -> Tensor:
        """Returns answers as one vector, which can be copied to another device at once."""
        return torch.cat([answer.flatten().long() for answer in answers])

    def unpacked(self, packed: Tensor, n: int) -> list[Tensor]:
        """Returns the answers of n architectures that `packed` packed."""
        subsets = [isinstance(d, SubsetChoice) for d in self.space.decisions]
        sizes = [n * len(d.options) if subset else n for d, subset in zip(self.space.decisions, subsets, strict=True)]
        parts = zip(torch.split(packed, sizes), subsets, strict=True)
        return [part.view(n, -1).bool() if subset else part for part, subset in parts]

    # ------------------------------------------------------------------------------------ the walk
    def walk(
        self,
        n: int,
        given: list[Tensor] | None = None,
        generator: torch.Generator | Noise | None = None,
        scored: bool = True,
    ) -> Walk:
        """Returns one pass over all decisions for n architectures: drawn with `generator`, or
        replayed where answers are `given`.

        The LSTM states are computed one after the other. The scores of the answers are computed
        afterwards, one head at a time. With `scored=False` only the answers are computed, and all
        scores are zero.
        """
        assert (given is None) != (generator is None)
        noise = Noise(generator) if isinstance(generator, torch.Generator) else generator
        x = self.empty.expand(n, self.settings.hidden)
        h = c = torch.zeros_like(x)
        seen, limit = _Seen(self), self.space.limited(n)
        previous = self.settings.after_anchor == "previous"
        after_decision = False
        for step in self.space.walk:
            if isinstance(step, Anchor):
                if not (previous and after_decision):
                    h, c = self.cell(x, (h, c))
                    x = x if previous else self.empty.expand_as(x)
                seen.anchors[step.name] = h
                after_decision = False
                continue
            after_decision = True
            h_new, c_new = self.cell(x, (h, c))
            active = self._active(step, seen.answers)
            given_here = None if given is None else given[len(seen.answers)]
            answer = self._answered(step, h_new, seen, limit, given_here, noise)
            if limit is not None:
                limit.take(answer.cpu().numpy())
            x_new = self._fed_back(step, answer, seen)
            seen.states.append(h_new)
            seen.answers.append(answer)
            seen.active.append(active)
            if active is None:
                h, c, x = h_new, c_new, x_new
            else:  # a decision that is not asked leaves the state as it was
                h, c, x = (torch.where(active[:, None], a, b) for a, b in ((h_new, h), (c_new, c), (x_new, x)))
        if scored:
            return self._scored(seen, n)
        zeros = torch.zeros(n, device=x.device)
        return Walk(seen.answers, zeros, zeros, zeros, zeros)

    def _active(self, decision: Decision, answers: list[Tensor]) -> Tensor | None:
        """Returns where the decision is asked, (M,), or None where it is asked everywhere."""
        if decision.when is None:
            return None
        ways: list[Tensor] = []
        for name, options in decision.when.ways:
            answer, parent = answers[self._position[name]], self.space.decision(name)
            places = self._constant([parent.options.index(option) for option in options])
            taken = answer[:, places].any(1) if isinstance(parent, SubsetChoice) else torch.isin(answer, places)
            above = self._active(parent, answers)
            ways.append(taken if above is None else taken & above)
        return torch.stack(ways).any(0)

    def _kind(self, decision: Decision) -> str:
        """Returns the name of the head that answers a decision."""
        if decision.anchors is None:
            return self._head_of[type(decision), decision.options]
        if isinstance(decision, SubsetChoice):
            return "subset"
        return "input" if self.settings.input_head == "attention" else "place"

    def _fed_back(self, decision: Decision, answer: Tensor, seen: _Seen) -> Tensor:
        """Returns the next LSTM input (M, H): an embedding of the answer, or its anchors."""
        kind = self._kind(decision)
        if kind == "place":
            out: Tensor = self.input_embedding(answer)
        elif kind == "input":
            out = seen.of(decision)[answer, torch.arange(len(answer), device=answer.device)]
            if self.settings.near_feedback:
                out = out / (0.1 + len(decision.options) - answer[:, None])
        elif kind == "subset":
            weight = answer.to(self.empty.dtype)
            out = (weight.t()[:, :, None] * seen.of(decision)).sum(0) / (1 + weight.sum(1, keepdim=True))
        elif isinstance(decision, SubsetChoice):
            weight = answer.to(self.empty.dtype)
            vectors = self.op_embeddings[kind].get_parameter("weight")
            out = weight @ vectors / (1 + weight.sum(1, keepdim=True))
        else:
            out = self.op_embeddings[kind](answer)
        return out

    # ------------------------------------------------------------------------------------- drawing
    @torch.no_grad()
    def _answered(
        self,
        decision: Decision,
        h: Tensor,
        seen: _Seen,
        limit: Cursor | None,
        given: Tensor | None,
        noise: Noise | None,
    ) -> Tensor:
        """Returns the answer to a decision, indices (M,) or booleans (M, K) for a subset: as given,
        or drawn.

        Adds to `seen` which options the limit allows for a decision that is no subset (None: all),
        and which bits of a subset are not forced.
        """
        device = h.device
        logits = self._logits([decision], h[None], seen)[0][:, : len(decision.options)] if given is None else None
        if not isinstance(decision, SubsetChoice):
            mask = None if limit is None else limit.options()
            allowed = None if mask is None else torch.from_numpy(mask).to(device)
            self._check(mask is None or mask.any(1).all(), decision)
            seen.free.append(allowed)
            if given is not None:
                return given
            assert logits is not None
            logits = logits if allowed is None else logits.masked_fill(~allowed, FAR_BELOW)
            # Gumbel's trick needs one exponential draw per option.
            assert noise is not None
            drawn = noise.exponential(*logits.shape).to(device).log()
            return (logits.log_softmax(1) - drawn).argmax(1)
        M, K = len(h), len(decision.options)
        probability = None if logits is None else logits.sigmoid()
        if limit is None and decision.bounds == (0, K):  # nothing forces a bit
            seen.free.append(torch.ones(M, K, dtype=torch.bool, device=device))
            if given is not None:
                return given
            assert noise is not None
            assert probability is not None
            return torch.stack([noise.uniform(M).to(device) < probability[:, j] for j in range(K)], 1)
        bits = np.zeros((M, K), dtype=bool) if given is None else given.cpu().numpy()
        free = np.zeros((M, K), dtype=bool)
        for j in range(K):
            yes, no = counted_bits(decision, bits[:, :j]) if limit is None else limit.bits(bits[:, :j])
            self._check((yes | no).all(), decision)
            free[:, j] = yes & no
            if probability is not None:
                assert noise is not None
                drawn = noise.uniform(M).to(device) < probability[:, j]
                bits[:, j] = np.where(free[:, j], drawn.cpu().numpy(), yes)
        seen.free.append(torch.from_numpy(free).to(device))
        return given if given is not None else torch.from_numpy(bits).to(device)

    def _check(self, answerable: bool | np.bool_, decision: Decision) -> None:
        if not answerable:
            raise ValueError(f"the limit of space '{self.space.name}' leaves no answer to '{decision.name}'")

    # ------------------------------------------------------------------------------------- scoring
    def _logits(self, decisions: Sequence[Decision], h: Tensor, seen: _Seen) -> Tensor:
        """Returns the scaled logits (D, M, K) of decisions of one head, from the states h (D, M,
        H). K is that of the decision with the most options. The logits of missing options are far
        below all others."""
        kind = self._kind(decisions[0])
        lengths = [len(d.options) for d in decisions]
        K = max(lengths)
        if kind == "place":
            logits: Tensor = self.input_head(h)[..., :K]
        elif kind in ("input", "subset"):
            attention = self.attention[kind]
            assert isinstance(attention, _Attention)
            places = self._constant([seen.places(d, K) for d in decisions])
            logits = attention(h, seen.keys(kind, attention), places)
        else:
            logits = self.op_heads[kind](h)
            if kind in self.op_biases:
                logits = logits + self.op_biases[kind]
        constant = self.settings.tanh_constant
        if kind in self.op_heads and self.settings.op_tanh_constant is not None:
            constant = self.settings.op_tanh_constant
        logits = logits / self.settings.temperature
        if constant:
            logits = constant * torch.tanh(logits)
        if any(d.prior is not None for d in decisions):
            rows = [[*(d.prior or [0.0] * n), *[0.0] * (K - n)] for d, n in zip(decisions, lengths, strict=True)]
            logits = logits + self._constant(rows, h.dtype)[:, None]
        if min(lengths) < K:
            none = torch.arange(K, device=h.device) >= self._constant(lengths)[:, None]
            logits = logits.masked_fill(none[:, None], FAR_BELOW)
        return logits

    def _scored(self, seen: _Seen, n: int) -> Walk:
        device = self.empty.device
        kinds: dict[str, list[int]] = {}
        for i, decision in enumerate(self.space.decisions):
            kinds.setdefault(self._kind(decision), []).append(i)
        log_prob = entropy = log_ratio = divergence = torch.zeros(n, device=device)
        for kind, places in kinds.items():
            decisions = [self.space.decisions[i] for i in places]
            logits = self._logits(decisions, torch.stack([seen.states[i] for i in places]), seen)
            everywhere = torch.ones(n, dtype=torch.bool, device=device)
            active = [everywhere if seen.active[i] is None else seen.active[i] for i in places]
            asked = torch.stack([a for a in active if a is not None])  # (D, M)
            answers, free = [seen.answers[i] for i in places], [seen.free[i] for i in places]
            if isinstance(decisions[0], SubsetChoice):
                bits = self._bits(logits, answers, [part for part in free if part is not None], asked)
                log_prob, entropy = log_prob + bits[0], entropy + bits[1]
                if kind == "subset":  # subsets of nodes are skips
                    # Only with a constant divisor are the two means equal in expectation.
                    log_ratio, divergence = bits[2] / self.skips, bits[3] / self.skips
                continue
            if any(mask is not None for mask in free):
                everything = torch.ones_like(logits[0], dtype=torch.bool)
                masks = [everything if m is None else F.pad(m, (0, logits.shape[2] - m.shape[1])) for m in free]
                logits = logits.masked_fill(~torch.stack(masks), FAR_BELOW)
            log_p = logits.log_softmax(2)
            chosen = log_p.gather(2, torch.stack(answers)[:, :, None])[:, :, 0]
            log_prob = log_prob + torch.where(asked, chosen, 0).sum(0)
            entropy = entropy - torch.where(asked, (log_p.exp() * log_p).sum(2), 0).sum(0)
        return Walk(seen.answers, log_prob, entropy, log_ratio, divergence)

    def _bits(self, logits: Tensor, answers: list[Tensor], free: list[Tensor], asked: Tensor) -> list[Tensor]:
        """Returns sums over yes/no answers, (M,) each: log p, entropy, log(p / rho), KL(p || rho).
        Answers that are not asked, or are forced, count as nothing."""
        K = logits.shape[2]
        bits, unforced = (torch.stack([F.pad(part, (0, K - part.shape[1])) for part in parts]) for parts in (answers, free))
        counted = unforced & asked[:, :, None]
        logits = torch.where(counted, logits, 0)
        yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)  # log p(1), log p(0)
        p = logits.sigmoid()
        log_p = torch.where(bits, yes, no)
        rho = self._constant([1 - self.skip_rate, self.skip_rate], logits.dtype).log()
        ratio = log_p - rho[bits.long()]
        divergence = p * (yes - rho[1]) + (1 - p) * (no - rho[0])
        terms = (log_p, -(p * yes + (1 - p) * no), ratio, divergence)
        return [torch.where(counted, term, 0).sum((0, 2)) for term in terms]


FAR_BELOW = -1e9  # a finite logit of probability 0


class _Seen:
    """A `_Seen` object keeps what a walk has seen: the LSTM state at each decision and each anchor,
    and the answers."""

    def __init__(self, controller: Controller):
        self.anchors: dict[str, Tensor] = {}  # LSTM output (M, H) of each anchor, by full name
        self.states: list[Tensor] = []  # LSTM output (M, H) of each decision
        self.answers: list[Tensor] = []
        self.active: list[Tensor | None] = []  # (M,) where the decision is asked; None: everywhere
        self.free: list[Tensor | None] = []  # (M, K) options allowed, or bits not forced; None: all
        self._keys: dict[str, list[Tensor]] = {}

    def of(self, decision: Decision) -> Tensor:
        """Returns the anchors that a decision chooses from, (K, M, H)."""
        return torch.stack([self.anchors[name] for name in decision.anchors or ()])

    def places(self, decision: Decision, K: int) -> list[int]:
        """Returns the indices of a decision's anchors among the anchors so far, padded to K."""
        order = {name: i for i, name in enumerate(self.anchors)}
        places = [order[name] for name in decision.anchors or ()]
        return places + places[:1] * (K - len(places))

    def keys(self, kind: str, attention: _Attention) -> Tensor:
        """Returns the attention keys of all anchors so far, (A, M, H). Without a graph, each is
        computed only once."""
        anchors = list(self.anchors.values())
        if torch.is_grad_enabled():
            out: Tensor = attention.key(torch.stack(anchors))
            return out
        made = self._keys.setdefault(kind, [])
        made += [attention.key(anchor) for anchor in anchors[len(made) :]]
        return torch.stack(made)


class _Attention(nn.Module):
    """An `_Attention` module computes score = v tanh(W_key anchor + W_query h)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, h: Tensor, keys: Tensor, places: Tensor) -> Tensor:
        """Returns the scores (D, M, K) for h (D, M, H), from the keys of all anchors (A, M, H) and
        the indices (D, K) of the anchors that each decision reads."""
        read = keys[places]  # (D, K, M, H)
        scores: Tensor = self.score(torch.tanh(read + self.query(h)[:, None]))
        return scores.squeeze(3).transpose(1, 2)
