"""This module holds what the backbones for images share: the settings of stem and width, the
constructor, and the stem.

Images x are (B, channels, S, S) float32. An output of level l is (B, `width(l)`, `size(l)`,
`size(l)`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Generic, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks import kernels
from enas.networks.ops import AfterRelu, Norm, Statistics, batch_norm, make_stem
from enas.networks.settings import ImageNetworkSettings
from enas.networks.static.program import Program
from enas.networks.supernet import Outputs, Supernet, he_initialise
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace

S = TypeVar("S", bound=ImageNetworkSettings)


class ImageNetwork(Supernet, Generic[S]):
    """An `ImageNetwork` is the supernet of a space of image networks, or with `only` the child
    model of one architecture.

    A backbone works out its structure in `prepare`. It provides its modules in `build`, all but the
    stem.
    """

    program_type: ClassVar[type[Program] | None] = None
    level: Mapping[str, int] = {}  # number of reductions before each output, by its name

    def __init__(
        self,
        space: SearchSpace,
        settings: S,
        channels: int,
        image_size: int,
        classes: int,
        only: Architecture | None = None,
        statistics: Statistics = "batch",
    ):
        super().__init__(space, only, statistics)
        self.settings: S = settings
        self.channels, self.image_size, self.classes = channels, image_size, classes
        self.make_norm: Norm = partial(batch_norm, statistics=statistics)
        self.prepare()
        self.provide("stem", partial(make_stem, channels, self.stem_width, settings.stem_stride, self.make_norm))
        self.build()
        he_initialise(self)
        with torch.no_grad():
            self.rescale()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._program: Program | None = None

    def prepare(self) -> None:
        """Works out the structure of the network from the space and the settings."""
        raise NotImplementedError

    def build(self) -> None:
        """Provides the modules of the network at their addresses, all but the stem."""
        raise NotImplementedError

    def rescale(self) -> None:
        """Changes those initial weights for which He's rule, applied layer by layer, is wrong."""

    # ------------------------------------------------------------------------------------- forward
    def computed(self, x: Tensor, arch: Architecture, progress: float) -> Tensor | Outputs:
        """Returns what `forward` returns, computed module by module."""
        raise NotImplementedError

    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor | Outputs:
        """Returns logits (B, classes), or `Outputs` in training with an auxiliary head. `progress`
        is the share of the training that is over."""
        arch = self.architecture(arch)
        program = self.program()
        if program is None:
            return self.computed(x, arch, progress)
        return program(x, arch, progress) if torch.is_grad_enabled() else program.scored(x, arch)

    def program(self) -> Program | None:
        """Returns the static program of this supernet, which is made once. Returns None for a
        child, and where the settings do not ask for a program. Making it turns the parameters into
        views of one vector. Raises a ValueError where there is no such program."""
        if self.only is not None or self.settings.computation != "static":
            return None
        if self._program is not None and self._program.layout.shared.whole:
            return self._program
        if self.program_type is None or not self.program_type.fits(self):
            raise ValueError(
                f"network.computation 'static' knows a supernet of the ops of its space's paper, with the batch's"
                f" statistics; not this one of space '{self.space.name}': take plain"
            )
        self._program = self.program_type(self)
        return self._program

    def check_image_size(self, halvings: int, what: str) -> None:
        """Raises a ValueError where images are too small for so many halvings. `what` says in the
        error what halves them."""
        stride = self.settings.stem_stride
        if self.image_size < stride * 2**halvings:
            raise ValueError(
                f"{what} and a stem of stride {stride} need images of at least {stride * 2**halvings} pixels;"
                f" got {self.image_size}"
            )

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> Self:
        return type(self)(self.space, self.settings, self.channels, self.image_size, self.classes, only, statistics)

    def width(self, level: int) -> int:
        """Returns the number of channels at a level."""
        return int(self.settings.filters * 2**level)

    @property
    def stem_width(self) -> int:
        """Returns the number of channels of the stem's output."""
        return self.width(0)

    def size(self, level: int) -> int:
        """Returns the number of pixels per side at a level."""
        return -(-self.image_size // (self.settings.stem_stride * 2**level))

    def marks(self) -> dict[str, str]:
        return {
            name: f"{self.size(level)} x {self.size(level)}, {self.width(level)} filters"
            for name, level in self.level.items()
        }

    def compute_again(self) -> None:
        """Makes the ops keep only their inputs from now on, and compute the rest again in a
        backward pass."""
        for module in self._at.values():
            if isinstance(module, AfterRelu):
                module.body = kernels.again(module.body)  # type: ignore[method-assign, assignment]
            elif next(module.parameters(), None) is not None:
                module.forward = kernels.again(module.forward)

    def after_stem(self, x: Tensor, relu: bool = False) -> Tensor:
        """Returns the stem's output for images x; all architectures scored on them share it."""

        def make() -> Tensor:
            out: Tensor = self.at("stem")(x.contiguous(memory_format=torch.channels_last))
            return F.relu(out) if relu else out

        return self.once(x, "stem", make)
