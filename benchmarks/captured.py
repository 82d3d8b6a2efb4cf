"""A training step of the recurrent network as one recorded graph of a GPU's work that serves every cell.

What differs between cells is data: the weights of the chosen edges, copied into one tensor; their gradients, handed back as
views of another; vectors of numbers for inputs and activations. On a CPU there is nothing to record and the same program
runs as it is, which is how a test holds it equal to the network's own step.

Shapes: T steps, B streams, H hidden units, N nodes; x, y (T, B) int64, state (B, H).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.architecture import Architecture
from enas.backbones import recurrence
from enas.backbones.recurrence import ACTIVATIONS, Norm, Program
from enas.backbones.recurrent import RecurrentNetwork
from enas.space import wire


class CapturedStep:
    """`step(arch, x, y, state)` leaves the gradients of the mean cross-entropy in the network's parameters and returns that
    loss and the state after the window. `step_fn`: what runs a time step, `recurrence.static_step` or a compiled one."""

    def __init__(
        self, net: RecurrentNetwork, T: int, B: int, step_fn: Callable[..., Tensor] | None = None, capture: bool = True
    ):
        s = net.settings
        assert s.layers == 1
        assert s.highway
        self.net, self.step_fn = net, step_fn or recurrence.static_step
        self.words: nn.Parameter = net.at("words").weight
        device, H, N = self.words.device, s.hidden, len(net.cell.nodes)
        first = next(name for name, module in net._at.items() if hasattr(module, "from_x"))
        self.from_x: nn.Parameter = net.at(first).from_x
        self.bias: nn.Parameter | None = net.at("softmax").bias if s.softmax_bias else None
        self.norm: Any = net.at("layers.0.norm") if s.batch_norm else None
        self.x, self.y = (torch.zeros(T, B, dtype=torch.long, device=device) for _ in range(2))
        self.state = torch.zeros(B, H, device=device)
        self.weights = torch.zeros(N, H, 2 * H, device=device).requires_grad_()
        self.sources, self.ops = (torch.zeros(N, dtype=torch.long, device=device) for _ in range(2))
        self.share = torch.zeros(N, device=device)
        self.loss, self.after = torch.zeros((), device=device), torch.zeros(B, H, device=device)
        norms = [self.norm.weight, self.norm.bias] if self.norm else []
        self.shared = [p for p in (self.words, self.from_x, self.bias, *norms) if p is not None]
        self.gradients = [torch.zeros_like(p) for p in (*self.shared, self.weights)]
        self.graph: Any = None
        self.choices: dict[Architecture, tuple[Tensor, Tensor, Tensor, list[nn.Parameter]]] = {}
        if capture and device.type == "cuda":
            self._capture()

    def _run(self) -> None:
        s, net = self.net.settings, self.net
        leaves = [*self.shared, self.weights]
        for leaf, gradient in zip(leaves, self.gradients, strict=True):
            leaf.grad = gradient.zero_()
        with torch.enable_grad():
            x = net._drop(F.embedding(self.x, self.words), s.input_dropout)
            mask = net._mask(s.hidden_dropout, *self.state.shape) if net.training and s.hidden_dropout else None
            norm = Norm(self.norm.weight, self.norm.bias) if self.norm else None
            states, state = [], self.state
            for x_t in (x @ self.from_x).unbind(0):
                state = self.step_fn(x_t, state, mask, self.weights, self.sources, self.ops, self.share)
                if norm is not None:
                    state = recurrence._normalise(norm, state)[0]
                states.append(state)
            hidden = net._drop(torch.stack(states), s.output_dropout).flatten(0, 1)
            loss = F.cross_entropy(F.linear(hidden, self.words, self.bias).float(), self.y.flatten())
            loss.backward()
        self.loss.copy_(loss.detach())
        self.after.copy_(state.detach())

    def _capture(self) -> None:
        self.sources[1:] = torch.arange(1, len(self.sources), device=self.sources.device)
        self.share.fill_(1 / len(self.share))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run()
        self.graph = graph

    def _chosen(self, arch: Architecture) -> tuple[Tensor, Tensor, Tensor, list[nn.Parameter]]:
        if arch not in self.choices:
            wired = wire(self.net.space, arch)[self.net.cell.name]
            program = Program.of(wired)
            device = self.words.device
            sources = torch.tensor([source + 1 for source in program.sources], device=device)
            ops = torch.tensor([list(ACTIVATIONS).index(op) for op in program.ops], device=device)
            share = torch.zeros(len(program.ops))
            share[list(program.outputs)] = 1 / len(program.outputs)
            weights = [self.net.at(self.net._address(node.edges[0], 0)).weight for node in wired.nodes]
            self.choices[arch] = (sources, ops, share.to(device), weights)
        return self.choices[arch]

    def __call__(self, arch: Architecture, x: Tensor, y: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of as many nodes as the space has; those whose every node counts, as in the space of the paper."""
        sources, ops, share, weights = self._chosen(arch)
        with torch.no_grad():
            self.x.copy_(x)
            self.y.copy_(y)
            self.state.copy_(state)
            self.sources.copy_(sources)
            self.ops.copy_(ops)
            self.share.copy_(share)
            torch.stack(weights, out=self.weights.data)
        if self.graph is not None:
            self.graph.replay()
        else:
            self._run()
        for parameter, gradient in zip(self.shared, self.gradients, strict=False):
            parameter.grad = gradient
        for parameter, gradient in zip(weights, self.gradients[-1].unbind(0), strict=True):
            parameter.grad = gradient
        return self.loss, self.after
