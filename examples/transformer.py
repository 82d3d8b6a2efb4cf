"""A small language model for the Penn Treebank: each block chooses attention, convolution or a
gated MLP, and it is chosen how many blocks there are.

    python examples/transformer.py runs/transformer 0       (folder of the run, seed)

ENAS_DATA: folder with the Penn Treebank; ENAS_TOKENS: how many words to train on (100,000). Windows
of 32 words, no state before them, the 1,000 commonest words. Verdicts of 2026-11-28, torch 2.13.0:
it beats random networks by 0.051 +- 0.031, 0.058 +- 0.039, 0.068 +- 0.051 nats (seeds 0, 1, 2).
"""

import os
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import enas
from enas.data.registry import load

WORDS, T, D = 1000, 32, 64  # vocabulary, window, features
SIZES = {"search.epochs": 8, "search.warmup_epochs": 4, "search.controller_steps": 10, "task.reward_batch": 32}
SIZES |= {"derive.finalist_steps": 48, "retrain.epochs": 4}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D), four heads
        q, k, v = (part.unflatten(2, (4, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Convolution(nn.Conv1d):  # over a word and the three before it
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(super().forward(F.pad(x.transpose(1, 2), (3, 0)))).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GLU(), nn.Linear(2 * D, D))
        parts = {"attention": Attention(), "convolution": Convolution(D, D, 4), "gated_mlp": mlp}
        self.norm, self.mixer = nn.LayerNorm(D), enas.OneOf(f"{name}.mixer", parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, D), nn.Parameter(0.02 * torch.randn(T, D))
        self.blocks = enas.Repeat("depth", [Block(f"block{i}") for i in range(1, 5)])
        self.head = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, WORDS))

    def forward(self, words: Tensor) -> Tensor:  # (B, T) to (B, WORDS, T)
        return self.head(self.blocks(self.words(words) + self.places)).transpose(1, 2)


def problem() -> enas.Problem:
    count = int(os.environ.get("ENAS_TOKENS", "100000"))
    text = load("ptb", os.environ.get("ENAS_DATA", "data"), train=count)
    parts = [text.train, text.validation[: count // 5], text.test[: count // 2]]
    windows = [words.clamp(max=WORDS - 1).unfold(0, T + 1, T) for words in parts]
    examples = [(part[:, :-1], part[:, 1:]) for part in windows]
    reward, optimizer = enas.rewards.minus(F.cross_entropy), {"learning_rate": 3e-3}
    return enas.Problem(Net, *examples, reward=reward, batch_size=32, optimizer=optimizer)


def main(out: str = "runs/transformer", seed: int | str = 0, sizes: dict[str, int] = SIZES, seeds: int = 3) -> None:
    run = enas.search("transformer:problem", out=out, seed=int(seed), settings=sizes).derive().retrain()
    print(run.compare(cells=8, seeds=seeds), run.report(), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
