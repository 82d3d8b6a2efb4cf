"""A model of what a training step costs, fitted to measurements on this machine, and what it says
of ImageNet on 64 GPUs: docs/scale.md shows and explains it.

python -m benchmarks.model [--rounds 2] [--toy]

Three counts of a child's step are known without running it, on torch's meta device: the calls of
kernels in forward and backward, the bytes that they read and write, and the operations of its
convolutions and products (three times those of a forward). Time is a sum of the three, each with a
price of the machine, fitted on small networks and held against others. One thread; seconds of
processor time, so that other programs disturb little.
"""

from __future__ import annotations

import io
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy.optimize import nnls
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cells import Ours, images, micro
from benchmarks.gpu import Traffic
from benchmarks.scaling import macro
from benchmarks.timing import options
from enas.data.pictures import Frame, Packed, decoded
from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.settings import MacroSettings, MicroSettings
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import update
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import conv_macro
from enas.spaces.conv_micro import conv_micro

CHILDREN = 3  # drawn; a figure is the mean over them
# What docs/log, 2026-11-26, measured on an H200 in fp32: seconds of a training step at the paper's
# sizes (batch 128), and the ceilings of the same run.
H200 = {"micro": 0.130, "macro": 0.0154}
PRODUCTS, COPY = 51.2e12, 4.13e12  # operations and bytes per second
# Assumed, not measured: what the network gives each of 64 GPUs, bytes per second.
LINK = 25e9
GPUS, BATCH, PASSES, IMAGES = 64, 128, 10, 1_281_167
# the log's micro network has 20 filters and 6 cells a block, its macro network 36 filters
GROUPS = ("kernels", "bytes", "operations")


class Counted(Traffic):
    """Calls of kernels, and bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.kernels += not (func.is_view or "empty" in str(func))
        return super().__torch_dispatch__(func, types, args, kwargs)


@dataclass(frozen=True)
class Step:
    """A network on the meta device, and its batch."""

    network: Supernet
    batch: int
    size: int
    classes: int

    def loss(self, arch: Architecture) -> torch.Tensor:
        x = torch.zeros(self.batch, 3, self.size, self.size, device="meta")
        y = torch.zeros(self.batch, dtype=torch.long, device="meta")
        return F.cross_entropy(self.network(x.contiguous(memory_format=torch.channels_last), arch), y)

    def counts(self, arch: Architecture) -> np.ndarray:
        """Kernels, bytes and operations of a step, (3,)."""
        with Counted() as counted:
            self.loss(arch).backward()
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            self.loss(arch)
        return np.array([counted.kernels, counted.bytes, 3 * forward.get_total_flops()], float)

    def kept(self, arch: Architecture) -> int:
        """Bytes that a step keeps for its backward pass, each storage once."""
        return kept(lambda: self.loss(arch))

    def mean(self, of: Callable[[Architecture], Any], children: int = CHILDREN) -> Any:
        rng = random.Random(0)
        return np.mean([of(self.network.space.sample(rng)) for _ in range(children)], axis=0)


def kept(loss: Callable[[], object]) -> int:
    storages: dict[int, Any] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        made = loss()
    del made
    return sum(storage.nbytes() for storage in storages.values())


def on_meta(make: Callable[[], Supernet], batch: int, size: int = 32, classes: int = 10) -> Step:
    with torch.device("meta"):
        return Step(make().train(), batch, size, classes)


# ---------------------------------------------------------------------------------------- the time
# Space, nodes or layers, filters, cells a block, batch.
Size = tuple[str, int, int, int, int]
FITTED: Sequence[Size] = (
    ("micro", 5, 8, 1, 32), ("micro", 2, 8, 1, 32), ("micro", 5, 8, 2, 32), ("micro", 5, 24, 1, 32), ("micro", 5, 8, 1, 96),
    ("macro", 6, 12, 0, 32), ("macro", 12, 12, 0, 32), ("macro", 12, 24, 0, 32), ("macro", 12, 12, 0, 96),
)  # fmt: skip
HELD_OUT: Sequence[Size] = (("micro", 4, 16, 1, 64), ("macro", 9, 20, 0, 64), ("macro", 18, 16, 0, 16))
TOYS: tuple[Sequence[Size], Sequence[Size]] = (
    (("micro", 2, 4, 1, 4), ("macro", 2, 4, 0, 8), ("macro", 3, 8, 0, 4)),
    (("macro", 2, 8, 0, 4),),
)


def real(size: Size) -> Ours:
    space, depth, filters, cells, batch = size
    ours = micro(filters, cells, nodes=depth, batch=batch) if space == "micro" else macro(depth, filters)
    if space == "macro":
        ours.x, ours.y = images(batch)
    return ours


def abstract(size: Size) -> Step:
    made = real(size).network
    return on_meta(lambda: type(made)(made.space, made.settings, 3, 32, 10), size[-1])  # type: ignore[attr-defined,call-arg]


def seconds(size: Size, rounds: int) -> float:
    """Processor time of a child's training step, with its update: mean of drawn children, the
    fastest round of each."""
    ours, rng = real(size), random.Random(0)
    taken = []
    for _ in range(CHILDREN):
        step = ours.train(ours.network.space.sample(rng))
        step()
        taken.append(min(timed(step) for _ in range(rounds)))
    return fmean(taken)


def timed(step: Callable[[], Any]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def time_model(rounds: int, sizes: tuple[Sequence[Size], Sequence[Size]]) -> None:
    steps = {size: abstract(size) for part in sizes for size in part}
    rows = [(size, step.mean(step.counts), seconds(size, rounds)) for size, step in steps.items()]
    n = len(sizes[0])
    counts, taken = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    # shares of the measured time, so that every size counts alike
    prices, _ = nnls(counts[:n] / taken[:n, None], np.ones(n))
    predicted = counts @ prices
    said = [f"{1e6 * prices[0]:.1f} us per kernel"]
    said += [
        f"{1e-9 / price:.1f} {unit}" if price else f"no {unit}"
        for price, unit in zip(prices[1:], ("GB/s", "GFLOP/s"), strict=True)
    ]
    print(f"prices of this machine, one thread: {', '.join(said)}")
    print(f"{'':34}{'kernels':>9}{'MB':>8}{'GFLOP':>8}{'ms':>8}{'model':>8}{'error':>8}")
    for i, (size, count, value) in enumerate(rows):
        space, depth, filters, cells, batch = size
        name = f"{space} {depth} nodes, {cells} cells a block" if cells else f"{space} {depth} layers"
        name = f"{'held out: ' * (i >= n)}{name}"
        print(f"{name:34}{count[0]:9.0f}{count[1] / 1e6:8.0f}{count[2] / 1e9:8.2f}{1e3 * value:8.1f}"
              f"{1e3 * predicted[i]:8.1f}{predicted[i] / value - 1:+8.0%}   filters {filters}, batch {batch}")  # fmt: skip
    errors = np.abs(predicted / taken - 1)
    fitted, held_out = median(errors[:n]), median(errors[n:])
    print(f"median error {fitted:.0%} of what was fitted, {held_out:.0%} of the held out; largest {max(errors):.0%}")


def children_and_memory(size: Size) -> None:
    """One step with M children (Eq. 1) against M times one; and kept bytes, real against
    counted."""
    ours, rng = real(size), random.Random(0)
    archs = [ours.network.space.sample(rng) for _ in range(8)]

    def step(archs: Sequence[Architecture]) -> None:
        for arch in archs:
            ours._loss(arch).backward()
        used = {id(p): p for arch in archs for p in ours.network.parameters_of(arch)}
        update(ours.optimizer, list(used.values()), 0.01, 0.0)

    for few in (archs[:1], archs):  # to warm up
        step(few)
    one = fmean(min(timed(lambda arch=arch: step([arch])) for _ in range(2)) for arch in archs)  # type: ignore[misc]
    for m in (2, 8):
        print(f"{m} children in a step: {min(timed(lambda m=m: step(archs[:m])) for _ in range(2)) / one:.2f} times one")  # type: ignore[misc]
    meta, ratios = abstract(size), []
    for arch in archs[:CHILDREN]:
        ratios.append(meta.kept(arch) / kept(lambda arch=arch: ours._loss(arch)))  # type: ignore[misc]
    print(f"bytes kept for backward, counted over real: {min(ratios):.2f} to {max(ratios):.2f}")


# -------------------------------------------------------------------------------------- the traffic
def used(network: Supernet, children: int, draws: int = 4) -> float:
    """Share of all parameters that some of so many drawn children use, mean of draws."""
    rng, total = random.Random(0), sum(p.numel() for p in network.parameters())
    shares = []
    for _ in range(draws):
        union = {id(p): p.numel() for _ in range(children) for p in network.parameters_of(network.space.sample(rng))}
        shares.append(sum(union.values()) / total)
    return fmean(shares)


def traffic_model(name: str, network: Supernet) -> None:
    """The share of weights that a step of M children sends: each weight of a choice is used by a
    child with some chance p, so that 1 - (1 - p)^M of them are. `p` and what all children use are
    fitted at M = 1 and 4."""
    known = {m: used(network, m) for m in (1, 2, 4, 8, 16, 64)}
    best = min(((always, p) for always in np.linspace(0, known[1], 200) for p in np.linspace(0.01, 1, 100)),
               key=lambda pair: sum((share(*pair, m) - known[m]) ** 2 for m in (1, 4)))  # fmt: skip
    said = ", ".join(f"{m}: {value:.3f} (model {share(*best, m):.3f})" for m, value in known.items())
    total = sum(p.numel() for p in network.parameters())
    print(f"{name}, {total:,} parameters; share used by M children: {said}")


def share(always: float, p: float, m: int) -> float:
    return always + (1 - always) * float(1 - (1 - p) ** m)


def _rank(rank: int, port: int, sizes: Sequence[int], file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    taken = []
    for size in sizes:
        x = torch.ones(size // 4)
        times = []
        for _ in range(6):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(x)
            times.append(time.perf_counter() - start)
        taken.append(min(times))
    if rank == 0:
        np.save(file, np.array(taken))
    dist.destroy_process_group()


def all_reduce(sizes: Sequence[int]) -> None:
    """Seconds of an all-reduce of two processes on this machine (gloo), against bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "taken.npy")
        torch.multiprocessing.spawn(_rank, (port, sizes, file), nprocs=2)
        taken = np.load(file)
    x = np.column_stack([np.ones(len(sizes)), np.array(sizes, float)])
    (start, per_byte), _ = nnls(x / taken[:, None], np.ones(len(sizes)))
    error = max(abs(x @ [start, per_byte] / taken - 1))
    speed = 1e-9 / max(per_byte, 1e-15)
    print(f"all-reduce of 2 processes here: {1e3 * start:.2f} ms and {speed:.2f} GB/s; largest error {error:.0%}")


# ----------------------------------------------------------------------------------- extrapolated
def decoding() -> float:
    """Images that a core decodes per second: a JPEG of 500 x 375 pixels, quality 90, to 224."""
    from PIL import Image

    rough = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    image, file = Image.fromarray(rough).resize((500, 375), Image.Resampling.BICUBIC), io.BytesIO()
    image.save(file, "JPEG", quality=90)
    source, frame = Packed("image.jpg", file.getvalue()), Frame(224, 3)
    decoded(source, frame)
    rate = 1 / min(timed(lambda: [decoded(source, frame) for _ in range(10)]) / 10 for _ in range(5))
    print(f"decoding: {rate:.0f} images per second and core, of {len(file.getvalue()) / 1e3:.0f} kB")
    return rate


def extrapolated(rate: float, classes: int = 1000, size: int = 224) -> None:
    """ImageNet at 224 pixels: the micro space of five nodes behind a stem of stride 2."""
    paper = {
        "micro": on_meta(lambda: MicroNetwork(conv_micro(), MicroSettings(filters=20, cells=6), 3, 32, 10), 128),
        "macro": on_meta(lambda: MacroNetwork(conv_macro(), MacroSettings(filters=36), 3, 32, 10), 128),
    }
    known = {name: step.mean(step.counts) for name, step in paper.items()}
    each = {name: H200[name] / known[name][0] for name in known}
    for name, value in each.items():
        print(f"H200, {name}: {known[name][0]:.0f} kernels, {1e6 * value:.0f} us per kernel; bytes at the speed of a copy"
              f" {1e3 * known[name][1] / COPY:.1f} ms of {1e3 * H200[name]:.1f}")  # fmt: skip
    settings = MicroSettings(filters=24, cells=3, reductions=3, stem_stride=2)
    step = on_meta(lambda: MicroNetwork(conv_micro(), settings, 3, size, classes), BATCH, size, classes)
    kernels, bytes_, operations = step.mean(step.counts)
    parts = {"kernels": fmean(each.values()) * kernels, "bytes": bytes_ / COPY, "operations": operations / PRODUCTS}
    total, steps = sum(parts.values()), IMAGES // BATCH
    print(f"ImageNet, batch {BATCH}: {kernels:.0f} kernels, {bytes_ / 1e9:.0f} GB, {operations / 1e12:.2f} TFLOP"
          f" a child's step; ms: {', '.join(f'{name} {1e3 * value:.0f}' for name, value in parts.items())};"
          f" at most {1e3 * total:.0f}")  # fmt: skip
    memory, weights = float(step.mean(step.kept)), sum(p.numel() for p in step.network.parameters())
    print(f"memory of a GPU: {memory / 1e9:.1f} GB kept for backward (batch {int(BATCH * 120e9 / memory)} fits in 120 GB),"
          f" {12 * weights / 1e9:.2f} GB of weights, gradients and momentum ({weights:,} parameters)")  # fmt: skip
    sent = 4 * weights * used(step.network, GPUS, 2) * 2 * (GPUS - 1) / GPUS
    one = 4 * weights * used(step.network, 1) * 2
    print(f"traffic: {sent / 1e6:.0f} MB sent by each of {GPUS} GPUs a step, {1e3 * sent / LINK:.0f} ms at the assumed"
          f" {LINK / 1e9:.0f} GB/s ({one / 1e6:.0f} MB for the weights of one child)")  # fmt: skip
    print(f"data: {BATCH / total:.0f} images per second for each distinct minibatch, {BATCH / total / rate:.1f} cores;"
          f" {GPUS * BATCH / total / rate:.0f} cores where each GPU decodes its own copy")  # fmt: skip
    hours = PASSES * steps * (total + sent / LINK) / 3600
    print(f"search: {PASSES} passes of {steps:,} steps, {GPUS} children each: {hours:.0f} hours,"
          f" {GPUS * hours:,.0f} of a GPU; the number of GPUs does not shorten it")  # fmt: skip


def main() -> None:
    parser = options(__doc__, 2)
    parser.add_argument("--toy", action="store_true", help="tiny sizes that mean nothing: does it run?")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    time_model(args.rounds, TOYS if args.toy else (FITTED, HELD_OUT))
    children_and_memory(TOYS[0][1] if args.toy else FITTED[0])
    traffic_model(
        "the paper's micro network", MicroNetwork(conv_micro(), MicroSettings(filters=4 if args.toy else 20), 3, 32, 10)
    )
    all_reduce((10_000, 100_000) if args.toy else (10_000, 100_000, 1_000_000, 10_000_000, 40_000_000))
    rate = decoding()
    if not args.toy:
        extrapolated(rate)


if __name__ == "__main__":
    main()
