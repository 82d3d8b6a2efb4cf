"""Cost of a training step against size: nodes, layers (cells a block), filters, batch, children and
steps of a window, each by itself, with the line that fits best; where that line misses, R^2 says
so. Makes a picture.

python -m benchmarks.scaling [--out docs/cost.svg] [--rounds 3]

One thread. A point is the median over rounds of the mean of four drawn children, except over nodes,
layers and so on of the recurrent cell, where every cell of a size costs the same and one is taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.cells import Ours, images, micro, recurrent
from benchmarks.timing import emit, options, paired
from enas.networks.macro import MacroNetwork
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.settings import MacroSettings, RecurrentSettings
from enas.reports.charts import charting
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.rnn_cell import RnnCellSettings, rnn_cell
from enas.state import seeded

CHILDREN = 4


def macro(layers: int = 12, filters: int = 12) -> Ours:
    with seeded(0):
        space = conv_macro(ConvMacroSettings(num_layers=layers))
        settings = MacroSettings(filters=filters, stem_stride=2, dropout=0.0)
        return Ours(MacroNetwork(space, settings, 3, 32, 10), *images())


def recurrent_of(nodes: int) -> Ours:
    with seeded(0):
        x, y = (torch.randint(1000, (35, 64)) for _ in range(2))
        space = rnn_cell(RnnCellSettings(num_nodes=nodes))
        return Ours(RecurrentNetwork(space, RecurrentSettings(hidden=200), 1000), x, y, clip=0.25)


def steps_of(ours: Ours, children: int = CHILDREN) -> Callable[[], None]:
    rng = random.Random(0)
    steps = [ours.train(ours.network.space.sample(rng)) for _ in range(children)]

    def run() -> None:
        for step in steps:
            step()

    return run


def children_of(ours: Ours, children: int) -> Callable[[], None]:
    """One step of the shared weights with so many children (Eq. 1), all of one size of cell."""
    return steps_of(ours, children)


# What grows, its sizes, and the program of a size with how many children one call of it trains.
Case = tuple[str, str, Sequence[int], Callable[[int], tuple[Callable[[], None], int]]]


def cases() -> Iterator[Case]:
    def of(make: Callable[[int], Ours]) -> Callable[[int], tuple[Callable[[], None], int]]:
        return lambda size: (steps_of(make(size)), CHILDREN)

    yield "micro", "nodes", (1, 2, 3, 5, 7), of(lambda n: micro(8, 1, nodes=n))
    yield "micro", "normal cells a block", (1, 2, 3, 4), of(lambda n: micro(8, n))
    yield "micro", "filters", (8, 16, 24, 32, 48), of(lambda n: micro(n, 1))
    yield "micro", "batch", (16, 32, 64, 96, 128), of(lambda n: micro(8, 1, batch=n))
    yield "macro", "layers", (6, 9, 12, 18, 24), of(lambda n: macro(layers=n))
    yield "recurrent", "nodes", (4, 8, 12, 16), of(recurrent_of)
    yield "recurrent", "steps of a window", (10, 20, 35, 50, 70), of(lambda n: recurrent(200, steps=n))
    yield "recurrent", "hidden units", (100, 200, 300, 400), of(lambda n: recurrent(n))
    yield "micro", "children a step", (1, 2, 4, 8), lambda n: (children_of(micro(8, 1), n), 1)


def measure(case: Case, rounds: int) -> tuple[list[float], float, float]:
    """Seconds a size; the share of the spread that a line explains; and one that a parabola
    explains."""
    space, what, sizes, make = case
    made = {str(size): make(size) for size in sizes}
    taken = paired({name: run for name, (run, _) in made.items()}, rounds, warm=1)
    seconds = [median(taken[name]) / count for name, (_, count) in made.items()]
    straight, curved = fit(sizes, seconds, 1), fit(sizes, seconds, 2)
    for size, value in zip(sizes, seconds, strict=True):
        emit(
            f"{space} step against {what}", {what: size}, [value], line_r2=round(straight, 4), parabola_r2=round(curved, 4)
        )
    return seconds, straight, curved


def fit(sizes: Sequence[int], seconds: Sequence[float], degree: int) -> float:
    x, y = np.array(sizes, float), np.array(seconds)
    misses = y - np.polyval(np.polyfit(x, y, degree), x)
    return float(1 - (misses**2).sum() / ((y - y.mean()) ** 2).sum())


def draw(results: list[tuple[Case, list[float], float]], out: Path) -> None:
    with charting():
        figure = Figure(figsize=(10, 8.4), layout="constrained")
        for axes, ((space, what, sizes, _), seconds, straight) in zip(figure.subplots(3, 3).flat, results, strict=True):
            slope, start = np.polyfit(sizes, seconds, 1)
            ends = np.array([0, max(sizes)])
            axes.plot(ends, 1e3 * (slope * ends + start), color="#b9c0c8", linewidth=1)
            axes.plot(sizes, [1e3 * s for s in seconds], "o", color="#1f5fa8", markersize=4.5)
            axes.set(xlabel=f"{space}: {what}", ylabel="ms a step", xlim=(0, None), ylim=(0, None))
            axes.set_title(f"line explains {straight:.1%}", fontsize=8.5, color="#737c87", loc="left")
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = options(__doc__, 3)
    parser.add_argument("--out", type=Path, default=None, help="where the picture goes, .svg or .png")
    args: Any = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for case in cases():
        seconds, straight, _ = measure(case, args.rounds)
        results.append((case, seconds, straight))
    if args.out:
        draw(results, args.out)


if __name__ == "__main__":
    main()
