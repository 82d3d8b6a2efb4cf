"""This says what shared weights are worth at full size: the supernet of NAS-Bench-201 as published
(16 filters, 5 cells a stage, 32x32), against the benchmark's own table. A row of `benchmarks.gpu`.

Random children train it for 100 passes over 25,000 images of CIFAR-10, by the recipe `paper`. That
may take several leases of a GPU: the state of the search is in a file, and a later call goes on
from there bit for bit. At the end of each lease 300 random cells are scored by their accuracy on
validation minibatches, and a policy is taught by the same rewards, the weights standing still.
Kendall's tau, with its interval, of scores and of the number of parameters with the accuracy after
200 epochs: of all cells, of the better half, and among the cells to which the policy leads.

Data: $ENAS_DATA, or shared/data in the repository or beside it: `nasbench/nasbench201.csv.gz`, and
CIFAR-10 in an official form or with `unpack.py`, which needs pillow. At tiny sizes images are noise
and the truth is the number of parameters.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from enas.data.cifar10 import load_cifar10
from enas.data.images import ImageData, ImagePart
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.settings import NasBench201NetworkSettings
from enas.procedures.search import Search
from enas.procedures.settings import OptimizerSettings, SearchSettings
from enas.procedures.statistics import rank
from enas.spaces.architecture import Architecture
from enas.spaces.nasbench201 import nasbench201, to_string
from enas.state import State, seeded
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ReinforceSettings
from enas.tasks.image_classification import ImageClassification
from enas.tasks.settings import ImageClassificationSettings

ROOT = Path(__file__).parents[1]
PASSES, CELLS = 100, 300
SCORED_ON = 10  # validation minibatches
POLICY_STEPS, TOGETHER = 300, 10  # of the policy, and the cells of each
LEAST = 6  # cells that a ranking has
RESERVE = 60.0  # seconds kept for scoring
TRUTH = "cifar10_test_ep200"
TRAINED = OptimizerSettings(schedule="cosine", learning_rate=0.025, weight_decay=5e-4)


def ranked(device: str, tiny: bool, left: Callable[[], float], file: Path) -> dict[str, Any]:
    """Returns the row; "skipped" says that there is no data, "unfinished" that passes are left.
    Takes `left`, the seconds that this call may still take, and the `file` of the state."""
    folder = None if tiny else _folder()
    if not tiny and folder is None:
        return {"skipped": "no CIFAR-10 with NAS-Bench-201's table: set ENAS_DATA"}
    reserve = 0.0 if tiny else RESERVE
    if left() <= 2 * reserve:
        return {"skipped": "too little time"}
    data = _noise() if folder is None else _cifar10(folder)
    search = _search(data, device, tiny)
    if file.exists():
        saved = torch.load(file, map_location=device, weights_only=True)
        search.load(State(saved["tensors"], saved["values"]))
    passes = search.settings.epochs
    events, done = search.run(), search.epoch
    while left() > reserve and next(events, None) is not None:
        if search.epoch > done:
            done = search.epoch
            _save(search, file)
    _save(search, file)
    row: dict[str, Any] = {"passes": search.epoch, "steps": search.step, "of": passes}
    truth = search.supernet.num_parameters if folder is None else _table(folder)
    row |= judged(search, truth, LEAST if tiny else CELLS, 2 if tiny else POLICY_STEPS, 1 if tiny else SCORED_ON)
    return row | ({"unfinished": True} if search.epoch < passes else {})


def judged(search: Search, truth: Callable[[Architecture], float], cells: int, steps: int, batches: int) -> dict[str, Any]:
    """Returns the coefficients of random cells and of those of a policy."""
    net: Any = search.supernet
    strategy = Reinforce(net.space, ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True))
    strategy.on(search.task.device)  # type: ignore[attr-defined]
    for step in range(steps):
        archs = strategy.ask(TOGETHER)
        strategy.tell(archs, search.task.rewards(net, archs, search.task.reward_batch(step)))
    drawn = {"random": RandomSearch(net.space, seed=1).ask(cells), "policy": strategy.ask(cells)}
    row: dict[str, Any] = {}
    for name, archs in drawn.items():
        archs = list(dict.fromkeys(archs))  # a policy that is sure draws the same cell
        scores = [search.task.rewards(net, archs, search.task.reward_batch(i)) for i in range(batches)]
        by = {"shared": list(map(fmean, zip(*scores, strict=True))), "parameters": list(map(net.num_parameters, archs))}
        real = list(map(truth, archs))
        row |= {f"{name}_cells": len(archs), f"{name}_truth": fmean(real)}
        for judge, judgements in by.items() if len(archs) >= LEAST else ():
            ranking = rank(judge, judgements, real)
            row[f"{name}_tau_{judge}"] = str(ranking.kendall)
            row[f"{name}_tau_{judge}_better_half"] = str(ranking.kendall_better_half)
            row[f"{name}_pick_{judge}"] = ranking.pick
    return row


def _search(data: ImageData, device: str, tiny: bool) -> Search:
    network = NasBench201NetworkSettings(computation="static")
    task = ImageClassificationSettings(batch_size=64, reward_batch=512)
    if tiny:
        network = NasBench201NetworkSettings(filters=2, cells=1, computation="static")
        task = ImageClassificationSettings(batch_size=8, reward_batch=8)
    passes = 2 if tiny else PASSES
    with seeded("supernet"):
        net = NasBench201Network(nasbench201(), network, 3, data.image_size, data.num_classes).to(device)
    # the policy begins when this is over
    settings = SearchSettings(epochs=passes, warmup_epochs=passes, controller_steps=0, probes=0, optimizer=TRAINED)
    return Search(settings, ImageClassification(data, task, device=device), net, RandomSearch(net.space))


def _save(search: Search, file: Path) -> None:
    """Writes the state of the search, whole or not at all."""
    state = search.state()
    parts = {"tensors": dict(state.tensors), "values": dict(state.values)}
    torch.save(parts, file.with_suffix(".part"))
    os.replace(file.with_suffix(".part"), file)


# ----------------------------------------------------------------------------------------- data
def _folder() -> Path | None:
    folders = [Path(os.environ["ENAS_DATA"])] if "ENAS_DATA" in os.environ else []
    folders += [ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    return next((folder for folder in folders if (folder / "nasbench" / "nasbench201.csv.gz").is_file()), None)


def _cifar10(folder: Path) -> ImageData:
    if not (folder / "unpack.py").is_file():
        return load_cifar10(folder, validation=25_000)
    if importlib.util.find_spec("PIL") is None:
        raise ValueError("unpacking CIFAR-10 needs pillow: pip install pillow")
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run([sys.executable, folder / "unpack.py", unpacked], check=True, capture_output=True)
        return load_cifar10(unpacked, validation=25_000)


def _table(folder: Path) -> Callable[[Architecture], float]:
    with gzip.open(folder / "nasbench" / "nasbench201.csv.gz", "rt") as file:
        accuracy = {row["arch"]: float(row[TRUTH]) for row in csv.DictReader(file)}
    return lambda arch: accuracy[to_string(arch)]


def _noise() -> ImageData:
    with seeded("noise"):
        part = ImagePart(torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8), torch.arange(40) % 10)
    return ImageData("noise", part, part, part, tuple("abcdefghij"))
