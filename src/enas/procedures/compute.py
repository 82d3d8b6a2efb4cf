"""This module says how a training step computes: in which precision, and with how much memory.

It applies `ComputeSettings` to a search or to a training from scratch. The update is that of the
plain step within rounding. fp16 has few exponents, so its losses are scaled up. Where a gradient
overflows, the step is left out and the scale is halved (Micikevicius et al. 2018; `torch.amp`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from enas.procedures.optimizer import update
from enas.procedures.settings import ComputeSettings
from enas.state import Record

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # the precisions that need autocast


class Compute:
    """A `Compute` object runs the steps of one training by its settings."""

    def __init__(self, settings: ComputeSettings, model: nn.Module):
        self.settings = settings
        self.device = next((p.device.type for p in model.parameters()), "cpu")
        self.scaler = torch.amp.GradScaler(self.device, enabled=settings.precision == "fp16")
        if settings.checkpoint_activations:
            again: Any = getattr(model, "compute_again", None)
            if again is not None:
                again()
            else:
                warnings.warn(
                    f"{type(model).__name__} keeps all its activations: it cannot compute any again", stacklevel=2
                )

    def casting(self) -> AbstractContextManager[Any]:
        """Computes products in the precision asked for inside the `with` block. It is not for
        backwards."""
        dtype = DTYPES.get(self.settings.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device, dtype)

    def backward(self, loss: Tensor) -> None:
        """Runs the backward of a loss, scaled where fp16 asks for it."""
        torch.autograd.backward(self.scaler.scale(loss))

    def update(self, optimizer: torch.optim.Optimizer, used: Sequence[nn.Parameter], rate: float, clip: float) -> float:
        """Makes the step of `optimizer.update` with the gradients that `backward` made. Returns the
        gradient's norm."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)
        norm = update(optimizer, used, rate, clip)
        if self.scaler.is_enabled():
            self.scaler.update()
        return norm

    @property
    def may_overflow(self) -> bool:
        """Returns whether a gradient that is not finite may be so only because losses are
        scaled."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def state(self) -> Record:
        """Returns the scale and its history, or an empty dict where none is used."""
        return self.scaler.state_dict()

    def load(self, state: Record) -> None:
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
