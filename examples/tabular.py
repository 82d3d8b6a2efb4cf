"""A network for tables whose width, activation, depth and skips are chosen, on scikit-learn's wine.

    python examples/tabular.py runs/tabular 0       (folder of the run, seed)
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn

import enas
from enas import OneOf, Repeat, SomeOf

SIZES = {"search.epochs": 30, "retrain.epochs": 30}


class Block(nn.Module):
    def __init__(self, name: str, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        acts = {"relu": nn.ReLU(), "tanh": nn.Tanh(), "gelu": nn.GELU()}
        self.activation = OneOf(f"{name}.activation", acts)
        self.skip = OneOf(f"{name}.skip", {"yes": nn.Identity(), "no": Zero()})

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.linear(x)) + self.skip(x)


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def body(width: int) -> nn.Module:
    blocks = [Block(f"w{width}.block{i}", width) for i in range(3)]
    depth = Repeat(f"w{width}.depth", blocks)
    return nn.Sequential(nn.Linear(13, width), depth, nn.Linear(width, 3))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = SomeOf("inputs", {"standard": nn.Identity(), "tanh": nn.Tanh()}, combine="mean")
        self.body = OneOf("width", {"8": body(8), "32": body(32)})

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.norm(x))


def problem() -> enas.Problem:
    x, y = load_wine(return_X_y=True)
    inputs = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    return enas.Problem(
        Net, (inputs, torch.tensor(y)), reward=enas.rewards.accuracy, batch_size=32, optimizer={"learning_rate": 1e-2}
    )


def main(out: str = "runs/tabular", seed: int | str = 0, sizes: dict[str, Any] = SIZES, seeds: int = 4) -> None:
    run = enas.search("tabular:problem", out=out, seed=int(seed), settings=sizes).derive().retrain()
    print(run.compare(cells=8, seeds=seeds), run.report(), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
