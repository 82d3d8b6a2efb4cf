"""Supernets with a static program, and what a run of one gives: for the tests of programs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.image_network import ImageNetwork
from enas.networks.registry import BACKBONES
from enas.networks.settings import (
    MacroSettings,
    MicroSettings,
    NasBench201NetworkSettings,
    NasBenchMacroNetworkSettings,
)
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import NasBench201Settings, nasbench201
from enas.spaces.nasbench_macro import NasBenchMacroSettings, nasbench_macro
from enas.spaces.space import SearchSpace
from enas.state import seeded

CLASSES = 5
MICRO = MicroSettings(filters=4, cells=1, dropout=0.0)
MACRO = MacroSettings(filters=4, dropout=0.0)
SIX = conv_macro(ConvMacroSettings(num_layers=6))
RELEASED = conv_macro(ConvMacroSettings(num_layers=6, form="released"))
SMALL = conv_micro(ConvMicroSettings(num_nodes=2))
POOLS = conv_micro(ConvMicroSettings(num_nodes=2, ops=("avg_pool_3x3", "identity")))
CHAIN = nasbench_macro(NasBenchMacroSettings(num_layers=4))
# Every space, then every setting of a network that changes what is computed.
CASES: dict[str, tuple[SearchSpace, Any, int]] = {
    "micro": (conv_micro(ConvMicroSettings(num_nodes=3)), replace(MICRO, aux_weight=0.4), 8),
    "macro": (conv_macro(ConvMacroSettings(num_layers=5)), MACRO, 8),
    "nasbench201": (nasbench201(), NasBench201NetworkSettings(filters=4, cells=1), 8),
    "nasbench_macro": (nasbench_macro(), NasBenchMacroNetworkSettings(filters=4, head=16), 8),
    "micro-two-cells": (SMALL, replace(MICRO, cells=2), 8),
    "micro-extras": (SMALL, replace(MICRO, extra_calibration=True, head_norm=True, aux_weight=0.4), 9),
    "micro-no-norm": (SMALL, replace(MICRO, merge_norm=False, reductions=1, stem_multiplier=1), 8),
    "micro-stem-stride": (SMALL, replace(MICRO, stem_stride=2, filters=3, reductions=3), 18),
    "micro-one-filter": (SMALL, replace(MICRO, filters=1, stem_multiplier=1), 8),
    "micro-pools": (POOLS, MICRO, 8),
    "macro-wider": (SIX, replace(MACRO, double_filters=True), 9),
    "macro-released": (RELEASED, replace(MACRO, entry_conv=True, merge_norm=False), 8),
    "macro-no-merge": (SIX, replace(MACRO, merge=False, average_pooling=False, reductions=1), 8),
    "macro-released-no-merge": (RELEASED, replace(MACRO, merge=False, reductions=0), 8),
    "macro-one-layer": (conv_macro(ConvMacroSettings(num_layers=1)), MACRO, 8),
    "nasbench201-stem-stride": (nasbench201(NasBench201Settings(num_nodes=3)), NasBench201NetworkSettings(4, 2), 8),
    "nasbench_macro-chain": (CHAIN, NasBenchMacroNetworkSettings(filters=2, head=8), 9),
}
FOUR = list(CASES)[:4]
CASES |= {
    "micro-published": (conv_micro(), replace(MICRO, aux_weight=0.4), 8),
    "macro-published": (conv_macro(), MACRO, 8),
}


def network(name: str, **settings: Any) -> ImageNetwork[Any]:
    """A network with a program, in double precision; its batch norms are not as they begin."""
    space, own, size = CASES[name]
    with seeded("network", name):
        net = (
            BACKBONES[space.backbone]
            .make(space, replace(own, **{"computation": "static"} | settings), 3, size, CLASSES)
            .double()
        )
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    assert isinstance(net, ImageNetwork)
    return net


def images(name: str, n: int = 4) -> Tensor:
    with seeded("images", name):
        return torch.randn(n, 3, CASES[name][2], CASES[name][2], dtype=torch.double)


def architectures(name: str, n: int, seed: int = 0) -> list[Architecture]:
    rng = random.Random(seed)
    return [CASES[name][0].sample(rng) for _ in range(n)]


def parts(out: Any) -> tuple[Tensor, ...]:
    return tuple(out) if isinstance(out, tuple) else (out,)


def gradients(run: Any, net: ImageNetwork[Any], x: Tensor, arch: Architecture) -> tuple[Any, dict[str, Tensor | None]]:
    """Returns outputs and all gradients, None where there is none."""
    net.zero_grad()
    out = parts(run(x, arch, 0.5))
    sum(F.cross_entropy(part, torch.arange(len(x)) % CLASSES) for part in out).backward()
    return out, {name: p.grad for name, p in net.named_parameters()}
