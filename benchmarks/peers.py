"""Other programs on the same child, where the environment says where they are:

    ENAS_BENCH_NNI=DIR            a folder that holds the package `nni` (3.0, with tianshou, gym
                                  and pytorch-lightning)
    ENAS_BENCH_XAUTODL=DIR        a folder that holds the package `xautodl` (1.0.0)
    ENAS_BENCH_ENAS_PYTORCH=DIR   a checkout of carpedm20/ENAS-pytorch

Each is run as it comes: its own modules, its own order of work. What had to be added to run it on
today's torch is said at its class. Nothing is installed, and nothing of them is in this repository.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.recurrence.program import Program
from enas.spaces.architecture import Architecture
from enas.spaces.nasbench201 import OPS as NB201_OPS
from enas.spaces.rnn_cell import rnn_cell

Step = Callable[[], Any]


def folder(name: str) -> Path | None:
    """Where a peer is, or None; ValueError where there is no such folder."""
    variable = f"ENAS_BENCH_{name}"
    if not os.environ.get(variable):
        return None
    path = Path(os.environ[variable])
    if not path.is_dir():
        raise ValueError(f"{variable} is a folder; there is none at '{path}'")
    return path


@contextlib.contextmanager
def importing(path: Path, first: bool = False) -> Iterator[None]:
    """Inside, modules of `path` are found, before or after those that are installed; quietly."""
    sys.path.insert(0, str(path)) if first else sys.path.append(str(path))
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class NNI:
    """The micro space of NNI 3.0, `nni.nas.hub.pytorch.ENAS`, as its strategy ENAS makes a supernet
    of it. A step of the controller is its loop: draw, score with the graph it keeps, after 20 of
    them a PPO update with its default settings."""

    updates = 20  # architectures an update: its default

    def __init__(self, path: Path, filters: int, cells: int, batch: int, channels_last: bool):
        with importing(path):
            space = importlib.import_module("nni.nas.hub.pytorch").ENAS(width=filters, num_cells=cells, dataset="cifar")
            self.model: nn.Module = importlib.import_module("nni.nas.strategy").ENAS().mutate_model(space)
            rl = importlib.import_module("nni.nas.strategy._rl_impl")
            self.generator = rl.TuningTrajectoryGenerator(self.model)
            buffer = importlib.import_module("tianshou.data").ReplayBuffer
        self.buffer = buffer(self.generator.expected_trajectory_length * self.updates)
        x = torch.randn(batch, 3, 32, 32)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        self.x, self.y = x, torch.randint(10, (batch,))
        self.chosen = [module for module in self.model.modules() if hasattr(module, "resample")]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.model.train()

    def _choose(self, sample: dict[str, Any]) -> None:
        for module in self.chosen:
            module.resample(memo=sample)

    def use(self, arch: Architecture) -> None:
        sample: dict[str, Any] = {}
        inputs = ("prev_prev", "prev", "n2", "n3", "n4", "n5", "n6")
        for name, answer in arch.choices.items():
            cell, node, what = name.split(".")
            kind, slot = what[:-1], what[-1]
            value = [inputs.index(str(answer))] if kind == "input" else str(answer).replace("identity", "skip_connect")
            sample[f"{cell}/{kind}_{node[1:]}_{slot}"] = value
        self._choose(sample)

    def train(self, arch: Architecture) -> Step:
        def step() -> None:
            self.use(arch)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.x), self.y).backward()
            self.optimizer.step()

        return step

    def forward(self, arch: Architecture) -> Step:
        def step() -> Tensor:
            self.use(arch)
            out: Tensor = self.model(self.x)
            return out

        return step

    def controller(self, _: Architecture) -> Step:
        return self._controller

    def _controller(self) -> None:
        """As many architectures as make an update."""
        self.generator.policy.train()
        for _ in range(self.updates):
            with torch.no_grad():
                sample = self.generator.next_sample()
            self._choose(sample)
            accuracy = float((self.model(self.x).argmax(1) == self.y).float().mean())
            self.buffer.update(self.generator.send_reward(accuracy))
        for _ in range(5):
            self.generator.policy.update(0, self.buffer, batch_size=32, repeat=5, update_times=5)


class Xautodl:
    """`TinyNetworkENAS` of xautodl 1.0.0: the cell of NAS-Bench-201 with all ops, the chosen ones
    run."""

    def __init__(self, path: Path, filters: int, cells: int, batch: int, channels_last: bool):
        with importing(path):
            module = importlib.import_module("xautodl.models.cell_searchs.search_model_enas")
            genotypes = importlib.import_module("xautodl.models.cell_searchs.genotypes")
        self.structure = genotypes.Structure
        self.model: nn.Module = module.TinyNetworkENAS(filters, cells, 4, 10, list(NB201_OPS), False, True)
        x = torch.randn(batch, 3, 32, 32)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        self.x, self.y = x, torch.randint(10, (batch,))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
        self.model.train()

    def _use(self, arch: Architecture) -> None:
        nodes = [tuple((str(arch.choices[f"cell.n{i}.op{j}"]), j) for j in range(i)) for i in range(1, 4)]
        self.model.update_arch(self.structure(nodes))  # type: ignore[operator]

    def train(self, arch: Architecture) -> Step:
        def step() -> None:
            self._use(arch)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.x)[1], self.y).backward()
            self.optimizer.step()

        return step

    def forward(self, arch: Architecture) -> Step:
        def step() -> Tensor:
            self._use(arch)
            with torch.no_grad():
                out: Tensor = self.model(self.x)[1]
            return out

        return step


class EnasPytorch:
    """carpedm20/ENAS-pytorch. Its recurrent network as it is, and the loop of its trainer: clipping
    over all weights, the search for the largest gradient. Its controller's own sampling does not
    run on torch 2 (tensors as keys), so its network is walked here decision by decision, as its
    loop does. Its utilities import drawing libraries that this does not need; empty modules stand
    for those that are not installed."""

    def __init__(self, path: Path, hidden: int, batch: int, steps: int, vocabulary: int, nodes: int):
        for name in ("pygraphviz", "cv2", "imageio", "scipy.misc"):
            if name == "scipy.misc" or importlib.util.find_spec(name) is None:
                sys.modules.setdefault(name, types.ModuleType(name))
        for name in ("imread", "imresize", "imsave"):
            setattr(sys.modules["scipy.misc"], name, None)
        with importing(path, first=True):
            shared = importlib.import_module("models.shared_rnn")
            control = importlib.import_module("models.controller")
        activations = ["tanh", "ReLU", "identity", "sigmoid"]
        args = types.SimpleNamespace(
            mode="train", cuda=False, network_type="rnn", num_blocks=nodes, tie_weights=True, controller_hid=100,
            shared_dropout=0.4, shared_dropoute=0.1, shared_dropouti=0.65, shared_wdrop=0.5, shared_embed=hidden,
            shared_hid=hidden, shared_rnn_activations=activations, tanh_c=2.5, softmax_temperature=5.0,
        )  # fmt: skip
        self.node, self.nodes, self.vocabulary = control.Node, nodes, vocabulary
        self.shared: nn.Module = shared.RNN(args, types.SimpleNamespace(num_tokens=vocabulary))
        self.policy: nn.Module = control.Controller(args)
        self.x, self.y = torch.randint(vocabulary, (steps, batch)), torch.randint(vocabulary, (steps * batch,))
        self.hidden = self.shared.init_hidden(batch)  # type: ignore[operator]
        self.loss = nn.CrossEntropyLoss()
        self.sgd = torch.optim.SGD(self.shared.parameters(), lr=0.01, weight_decay=1e-7)
        self.adam = torch.optim.Adam(self.policy.parameters(), lr=3.5e-4)
        self.baseline: Any = None
        self.activations = activations

    def dag(self, arch: Architecture) -> dict[int, list[Any]]:
        program = Program.of(rnn_cell().wire(arch)["cell"])
        return self._dag(list(program.sources), [op.replace("relu", "ReLU") for op in program.ops])

    def _dag(self, sources: list[int], ops: list[str]) -> dict[int, list[Any]]:
        """Node to what reads it, in its own form; -1 and -2 lead to the first node, the last but
        one is the average."""
        dag: dict[int, list[Any]] = {-1: [self.node(0, ops[0])], -2: [self.node(0, ops[0])]}
        for i in range(1, self.nodes):
            dag.setdefault(sources[i], []).append(self.node(i, ops[i]))
        for i in set(range(self.nodes)) - dag.keys():
            dag[i] = [self.node(self.nodes, "avg")]
        return dag

    def _loss(self, dag: dict[int, list[Any]]) -> tuple[Tensor, dict[str, Tensor]]:
        out, _, extra = self.shared(self.x, dag, hidden=self.hidden)
        return self.loss(out.view(-1, self.vocabulary), self.y), extra

    def train(self, arch: Architecture) -> Step:
        dag = self.dag(arch)

        def step() -> None:
            loss, extra = self._loss(dag)
            self.sgd.zero_grad()
            loss.backward()
            float(extra["hiddens"].detach().norm(dim=-1).max())
            found = [p.grad for p in self.shared.parameters() if p.grad is not None]
            max(float(g.max()) for g in found)
            min(float(g.min()) for g in found)
            nn.utils.clip_grad_norm_(self.shared.parameters(), 0.25)
            self.sgd.step()

        return step

    def controller(self, _: Architecture) -> Step:
        return self._controller

    def _controller(self) -> None:
        """One architecture: its default."""
        inputs = self.policy.static_inputs[1]  # type: ignore[index]
        hidden = self.policy.static_init_hidden[1]  # type: ignore[index]
        answers, log_probs, entropies = [], [], []
        for block in range(2 * (self.nodes - 1) + 1):
            logits, hidden = self.policy(inputs, hidden, block, is_embed=block == 0)
            probs, log_prob = F.softmax(logits, -1), F.log_softmax(logits, -1)
            action = probs.multinomial(num_samples=1).data
            entropies.append(-(log_prob * probs).sum(1))
            log_probs.append(log_prob.gather(1, action)[:, 0])
            inputs = action[:, 0] + sum(self.policy.num_tokens[: block % 2])  # type: ignore[index]
            answers.append(int(action))
        ops = [self.activations[answer] for answer in answers[0::2]]
        with torch.no_grad():
            loss, _ = self._loss(self._dag([-1, *answers[1::2]], ops))
        reward = 80 / loss.exp() + 1e-4 * torch.cat(entropies).detach()
        self.baseline = reward if self.baseline is None else 0.95 * self.baseline + 0.05 * reward
        objective = (-torch.cat(log_probs) * (reward - self.baseline)).sum()
        self.adam.zero_grad()
        objective.backward()
        self.adam.step()
