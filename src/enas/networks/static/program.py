"""This module runs a network as one program for all its children, in which the architecture is
data. `weights` describes how the weights of a child are found, and `parts` what programs are made
of. A file per network puts the parts together. A law holds every program equal to its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from enas.networks.static.parts import KIND
from enas.networks.static.recorded import Recordings
from enas.networks.static.weights import Child, Layout
from enas.networks.supernet import Outputs, Supernet
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice

MOST_TOGETHER = 32  # architectures that one recording scores


class Program:
    """A `Program` runs the children of one supernet. The codes of a child are one vector of int64:
    first where its weights stand, then its choices, as `choices` returns them."""

    space: str  # name of the space whose cells it knows
    ops: frozenset[str] = frozenset(KIND)  # ops that it knows

    @classmethod
    def fits(cls, net: Supernet) -> bool:
        """Returns whether there is a program for this network: it must be a supernet of the
        program's space, with ops that the program knows."""
        choices = {op for d in net.space.decisions if isinstance(d, OpChoice) for op in d.options} - {"none"}
        known = net.space.name == cls.space and choices <= cls.ops
        return known and net.only is None and net.statistics == "batch"

    def __init__(self, net: Any):
        self.net, self.layout = net, Layout(net)
        self.build()
        self.layout.finish()
        self._scores, self._each = Recordings(self._scored), Recordings(self._scored_each)
        self._codes = lru_cache(maxsize=1024)(self._codes_of)

    # ------------------------------------------------------------------------------- for programs
    def build(self) -> None:
        """Declares the weights."""
        raise NotImplementedError

    def choices(self, arch: Architecture) -> Sequence[int]:
        """Returns the choices of a child, in an order that `run` knows."""
        raise NotImplementedError

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor | Outputs:
        """Returns what the network returns, computed from pieces of weights and choices as
        numbers."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- for users
    def codes(self, arch: Architecture) -> Tensor:
        """Returns the codes of a child, on the CPU."""
        return self._codes(arch)

    def _codes_of(self, arch: Architecture) -> Tensor:
        choices = np.array(self.choices(arch), dtype=np.int64)
        return torch.from_numpy(np.concatenate([self.layout.starts(arch), choices]))

    def computed(self, x: Tensor, child: Tensor, codes: Tensor, progress: float | Tensor = 1.0) -> Tensor | Outputs:
        """Returns what the network returns, computed from a child's vector (P,) and its codes on
        the device."""
        x = x.contiguous(memory_format=torch.channels_last)
        return self.run(x, self.layout.pieces(child), codes[self.layout.slots :], progress)

    def index(self, codes: Tensor) -> Tensor:
        """Returns where the weights of a child stand in the shared vector, by its codes."""
        return self.layout.index(codes[: self.layout.slots])

    def scored(self, x: Tensor, arch: Architecture) -> Tensor | Outputs:
        """Returns what the network returns, without gradient. On a GPU this is recorded."""
        codes = self.codes(arch).to(x.device)
        out = self._scores((x.contiguous(memory_format=torch.channels_last), codes), self.net.training)
        return Outputs(*(part.clone() for part in out)) if isinstance(out, Outputs) else out.clone()

    def _scored(self, inputs: tuple[Tensor, Tensor]) -> Tensor | Outputs:
        x, codes = inputs
        return self.computed(x, self.layout.shared.vector.index_select(0, self.index(codes)), codes)

    def each(self, archs: Sequence[Architecture], x: Tensor, score: Callable[[Any, Tensor], Tensor], y: Tensor) -> Tensor:
        """Returns `score(output, y)`, a number (), for each architecture on one batch, (n,),
        without gradient. On a GPU one recording scores all of them together, equal ones too, in
        groups of at most `MOST_TOGETHER`."""
        x, codes = x.contiguous(memory_format=torch.channels_last), torch.stack([self.codes(arch) for arch in archs])
        with torch.no_grad():
            groups = codes.to(x.device).split(MOST_TOGETHER)
            scores = [self._each((x, y, group, score), (score, self.net.training)).clone() for group in groups]
        return torch.cat(scores)

    def _scored_each(self, inputs: tuple[Tensor, Tensor, Tensor, Callable[[Any, Tensor], Tensor]]) -> Tensor:
        x, y, codes, score = inputs
        return torch.stack([score(self._scored((x, one)), y) for one in codes])

    def __deepcopy__(self, memo: object) -> None:
        """Returns None, since a copy of a network makes its own program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a program is not saved with a network

    def __call__(self, x: Tensor, arch: Architecture, progress: float = 1.0) -> Tensor | Outputs:
        """Returns what the network returns, with gradients to the weights that `arch` uses."""
        codes = self.codes(arch).to(x.device)
        child = Child.apply(self.layout.shared, self.index(codes), *self.net.parameters_of(arch))
        return self.computed(x, child, codes, progress)
