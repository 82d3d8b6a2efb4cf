"""This module records training steps once on a GPU and replays them: the steps of shared weights
for every child, and the steps of a child from scratch.

A recorded step is two pieces of work: the gradient of one child, which is added up over the
children of a step, and the update. The losses are checked between the two, as in any other step.
Both pieces run over vectors of all weights, in which only the weights that a child of this step
used are changed. Parameters, their gradients and the optimiser's momentum are views of these
vectors, so all other code finds them in their usual places. On a CPU the same work runs unrecorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from enas.networks.image_network import ImageNetwork
from enas.networks.static.program import Program
from enas.networks.static.recorded import Recordings
from enas.networks.static.weights import Shared
from enas.networks.supernet import Outputs, Supernet
from enas.procedures.optimizer import forget_gradients, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.tasks.task import Task


class Recorded:
    """A `Recorded` object holds what recorded steps of any model have in common: gradients and
    update."""

    model: nn.Module
    shared: Shared | None = None  # the weights as one vector

    def __init__(self, task: Task, optimizer: torch.optim.Optimizer, settings: OptimizerSettings):
        self.task, self.optimizer, self.settings = task, optimizer, settings

    def weights(self) -> Shared:
        """Returns the weights as one vector. It is another vector where the weights were moved."""
        raise NotImplementedError

    def work(self, inputs: Any) -> Tensor:
        """Adds a gradient to the vector, notes which weights it belongs to, and returns the loss.
        This work is recorded."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Prepares the vectors."""
        shared = self.weights()
        if shared is not self.shared:
            self.shared = shared
            self.gradients, self.moments = (torch.zeros_like(shared.vector) for _ in range(2))
            self.used = torch.zeros_like(shared.vector, dtype=torch.bool)
            self.gradient_of = {p: shared.view(self.gradients, p) for p in shared.parameters}
            self.moment_of = {p: shared.view(self.moments, p) for p in shared.parameters}
            self.held: list[nn.Parameter] = []  # parameters that have a gradient
            sums = [self.gradients, self.used]
            self._works = Recordings(self.work, [*sums, *self.model.buffers()])
            self._updates = Recordings(self._update, [*sums, self.moments, shared.vector])
        if self.held and self.held[0].grad is None:  # a skipped step has cleared the gradients
            self.gradients.zero_()
            self.used.zero_()
            self.held.clear()

    def _add(self, inputs: Any, progress: float, share: float, used: Sequence[nn.Parameter]) -> Tensor:
        """Adds the gradient of `used`, times `share`, and returns the loss."""
        numbers = torch.tensor([progress, share], dtype=self.gradients.dtype).to(self.gradients.device)
        self.model.train()
        with torch.enable_grad():
            loss: Tensor = self._works((numbers, *inputs)).clone()
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = self.gradient_of[parameter]
                self.held.append(parameter)
        return loss

    def update(self, used: Sequence[nn.Parameter], rate: float) -> float:
        """Does what `optimizer.update` does. For SGD this is recorded."""
        if self.settings.kind != "sgd":
            return update(self.optimizer, used, rate, self.settings.grad_clip)
        self._begin()
        if self.settings.momentum:
            for parameter in used:
                state = self.optimizer.state[parameter]
                moment, view = state.get("momentum_buffer"), self.moment_of[parameter]
                if moment is not view:
                    view.zero_() if moment is None else view.copy_(moment)
                    state["momentum_buffer"] = view
        (group,) = self.optimizer.param_groups
        group["lr"] = rate
        norm = float(self._updates(torch.tensor(rate, dtype=torch.float64).to(self.gradients.device)))
        forget_gradients(used)
        self.held.clear()
        return norm

    @torch.no_grad()
    def _update(self, rate: Tensor) -> Tensor:
        """Makes one step of SGD. Returns the gradient's norm, which is inf where no step is
        made."""
        assert self.shared is not None
        s, weights, gradients = self.settings, self.shared.vector, self.gradients
        norm = torch.linalg.vector_norm(gradients, dtype=torch.float64)
        finite = norm.isfinite()
        change = gradients
        if s.grad_clip:
            # the numbers of `optimizer.update`
            scale = torch.where(norm > s.grad_clip, s.grad_clip / (norm + 1e-6), 1.0)
            change = change * scale.to(change.dtype)
        change = change.add(weights, alpha=s.weight_decay)
        taken = self.used & finite
        if s.momentum:
            moments = torch.add(change, self.moments, alpha=s.momentum)
            self.moments.copy_(torch.where(taken, moments, self.moments))
            change = change.add_(moments, alpha=s.momentum)
        weights.copy_(torch.where(taken, weights - rate.to(weights.dtype) * change, weights))
        gradients.zero_()
        self.used.zero_()
        return torch.where(finite, norm, torch.inf)


class Recorder(Recorded):
    """A `Recorder` holds the recorded steps of one search."""

    def __init__(self, net: ImageNetwork[Any], task: Task, optimizer: torch.optim.Optimizer, settings: OptimizerSettings):
        super().__init__(task, optimizer, settings)
        self.model = self.net = net

    @staticmethod
    def of(net: Supernet, task: Task, optimizer: torch.optim.Optimizer, settings: OptimizerSettings) -> Recorder | None:
        """Returns the recorder of a search, or None where steps run as the network and the task are
        written. A recorder needs a network with a static program, which the network's settings ask
        for."""
        if not isinstance(net, ImageNetwork) or not _recordable(task):
            return None
        return Recorder(net, task, optimizer, settings) if net.program() is not None else None

    @property
    def program(self) -> Program:
        """Returns the static program of the network."""
        program = self.net.program()
        assert program is not None
        return program

    def weights(self) -> Shared:
        return self.program.layout.shared

    def gradient(self, arch: Architecture, batch: Any, progress: float, share: float) -> Tensor:
        """Adds a child's gradient, times `share`, to the weights that it uses. Returns the child's
        loss."""
        self._begin()
        codes = self.program.codes(arch).to(self.gradients.device)
        return self._add((codes, batch), progress, share, self.net.parameters_of(arch))

    def work(self, inputs: tuple[Tensor, Tensor, Any]) -> Tensor:
        (numbers, codes, batch), program = inputs, self.program
        index = program.index(codes)
        child = program.layout.shared.vector.index_select(0, index).requires_grad_()
        model = Model(program, child, codes, self.net.aux_weight)
        loss = self.task.loss(model, None, batch, numbers[0])  # type: ignore[arg-type]
        with torch.autocast(child.device.type, enabled=False):  # a backward runs as its forward did
            (gradient,) = torch.autograd.grad(loss * numbers[1], child)
        self.gradients.index_add_(0, index, gradient)
        self.used.index_fill_(0, index, True)
        size = program.layout.shared.size
        self.gradients[size:].zero_()  # these elements stand for no weight
        self.used[size:].zero_()
        return loss.detach()


class ChildRecorder(Recorded):
    """A `ChildRecorder` holds the recorded steps of a child's training from scratch. It records the
    child as it is written."""

    def __init__(self, child: ImageNetwork[Any], task: Task, optimizer: torch.optim.Optimizer, settings: OptimizerSettings):
        super().__init__(task, optimizer, settings)
        self.model = child

    @staticmethod
    def of(
        model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, settings: OptimizerSettings
    ) -> ChildRecorder | None:
        """Returns the recorder of a child, or None where steps run as they are written. A recorder
        needs a child whose settings ask for a static computation."""
        if not isinstance(model, ImageNetwork) or not _recordable(task):
            return None
        return ChildRecorder(model, task, optimizer, settings) if model.settings.computation == "static" else None

    def weights(self) -> Shared:
        if self.shared is not None and self.shared.whole:
            return self.shared
        shared = Shared(self.model)
        shared.adopt(0)
        return shared

    def gradient(self, batch: Any, progress: float, share: float) -> Tensor:
        """Adds the gradient of a batch, times `share`. Returns the loss."""
        self._begin()
        assert self.shared is not None
        return self._add((batch,), progress, share, self.shared.parameters)

    def work(self, inputs: tuple[Tensor, Any]) -> Tensor:
        numbers, batch = inputs
        assert self.shared is not None
        parameters, kind = self.shared.parameters, self.gradients.device.type
        on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # without a cache, which would give a recording the weights of another step
        with torch.autocast(kind, dtype, enabled=on, cache_enabled=False):
            loss = self.task.loss(self.model, None, batch, numbers[0])  # type: ignore[arg-type]
        with torch.autocast(kind, enabled=False):
            gradients = torch.autograd.grad(loss * numbers[1], parameters)
        torch._foreach_add_([self.gradient_of[p] for p in parameters], gradients)
        self.used.fill_(True)
        return loss.detach()


def _recordable(task: Task) -> bool:
    """Returns whether a task's own class says that it can be recorded. It is not inherited, since a
    subclass may have another loss."""
    return bool(vars(type(task)).get("recordable", False))


class Model:
    """A `Model` is one child whose weights and codes are data. A task gets it in place of the
    network."""

    def __init__(self, program: Program, child: Tensor, codes: Tensor, aux_weight: float):
        self.program, self.child, self.codes, self.aux_weight = program, child, codes, aux_weight

    def __call__(self, x: Tensor, arch: None, progress: Tensor) -> Tensor | Outputs:
        return self.program.computed(x, self.child, self.codes, progress)
