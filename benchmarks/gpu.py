"""The three spaces at the paper's sizes on a GPU: one table, one command, from a fresh clone with
nothing installed but torch (2.4 or later) and numpy:

    PYTHONPATH=src python -m benchmarks.gpu            # on a GPU, some three minutes
    PYTHONPATH=src python -m benchmarks.gpu --toy      # tiny sizes, on a CPU: does it run?

Synthetic data of the real shapes. A training step is that of drawn children in turn: forward,
backward, update. A step of the controller is one architecture drawn, scored and learned from. fp32
is exact single precision, tf32 lets products round, bf16 is autocast. Work is what torch's counter
counts in a forward, times three for a training step; traffic is what every kernel reads and writes,
taken one by one, so an upper bound. Both are given as shares of what this card reaches in a large
product of the same precision, and in a large copy. Hours are for the whole search of the paper: its
epochs, its steps of both phases; not counted are data, logs and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.recurrence import recorded, static
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.settings import MacroSettings, MicroSettings, RecurrentSettings
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import conv_macro
from enas.spaces.conv_micro import conv_micro
from enas.spaces.rnn_cell import rnn_cell
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ReinforceSettings

PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Job:
    """A space as the paper searches it. A test holds these equal to the recipes called `paper`."""

    network: Any
    batch: int
    epochs: int
    train_steps: int  # of an epoch
    controller_steps: int
    paper_hours: float  # on a GTX 1080Ti
    goal_hours: float
    steps: int = 0  # T of text
    vocabulary: int = 0
    architectures: int = 8  # that figures are means of


JOBS = {
    "recurrent": Job(
        RecurrentSettings(hidden=720, input_dropout=0.75, hidden_dropout=0.25, output_dropout=0.75),
        64, 150, 415, 2000, 10.0, 0.5, steps=35, vocabulary=10_000,
    ),
    "macro": Job(MacroSettings(filters=36, dropout=0.1), 128, 310, 352, 2000, 7.0, 0.5),
    "micro": Job(MicroSettings(filters=20, cells=6, dropout=0.1), 128, 310, 352, 2000, 11.5, 1.0),
}  # fmt: skip
TOYS = {
    "recurrent": Job(RecurrentSettings(hidden=16), 4, 2, 3, 2, 10.0, 0.5, steps=5, vocabulary=50, architectures=2),
    "macro": Job(MacroSettings(filters=4), 4, 2, 3, 2, 7.0, 0.5, architectures=2),
    "micro": Job(MicroSettings(filters=4, cells=1), 4, 2, 3, 2, 11.5, 1.0, architectures=2),
}


class Traffic(TorchDispatchMode):
    """Bytes that kernels read and write, views not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not (func.is_view or "empty" in str(func)):
            flat = [*args, *(kwargs or {}).values(), *(out if isinstance(out, tuple | list) else [out])]
            flat = [x for value in flat for x in (value if isinstance(value, tuple | list) else [value])]
            self.bytes += sum(x.numel() * x.element_size() for x in flat if isinstance(x, Tensor))
        return out


class Bench:
    """A supernet with its batch, on a device, in a precision."""

    def __init__(self, name: str, job: Job, device: str):
        torch.manual_seed(0)
        self.name, self.job, self.device = name, job, device
        if name == "recurrent":
            self.net: Supernet = RecurrentNetwork(rnn_cell(), job.network, job.vocabulary)
            self.x, self.y = (torch.randint(job.vocabulary, (job.steps, job.batch), device=device) for _ in range(2))
        else:
            make: Any = {"macro": (MacroNetwork, conv_macro), "micro": (MicroNetwork, conv_micro)}[name]
            self.net = make[0](make[1](), job.network, 3, 32, 10)
            x = torch.randn(job.batch, 3, 32, 32, device=device)
            self.x, self.y = x.contiguous(memory_format=torch.channels_last), torch.randint(10, (job.batch,), device=device)
        self.net.to(device)
        self.optimizer = make_optimizer(list(self.net.parameters()), OptimizerSettings(momentum=0.0 if self.text else 0.9))
        self.strategy = Reinforce(self.net.space, ReinforceSettings())
        rng = random.Random(0)
        self.archs = [self.net.space.sample(rng) for _ in range(job.architectures)]
        self.turn = 0
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def text(self) -> bool:
        return self.name == "recurrent"

    def precision(self, name: str) -> None:
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = name == "tf32"
        on = name == "bf16"
        self.autocast = (lambda: torch.autocast(self.device, torch.bfloat16)) if on else nullcontext

    def next(self) -> Architecture:
        self.turn += 1
        return self.archs[self.turn % len(self.archs)]

    def loss(self, arch: Architecture) -> Tensor:
        with self.autocast():
            out = self.net(self.x, arch)
            if self.text:
                return out[0].softmax.cross_entropy(self.y)
            return F.cross_entropy(out.float(), self.y)

    def train(self) -> None:
        arch = self.next()
        self.net.train()
        self.loss(arch).backward()
        self.update(arch)

    def update(self, arch: Architecture) -> None:
        update(self.optimizer, self.net.parameters_of(arch), 0.01, 0.25 if self.text else 0.0)

    @torch.no_grad()
    def score(self, arch: Architecture) -> float:
        self.net.eval()
        return float((-self.loss(arch)).exp())

    def control(self) -> None:
        archs = self.strategy.ask(1)
        reward = self.score(archs[0])
        with torch.enable_grad():
            self.strategy.tell(archs, [reward])

    def counts(self) -> tuple[float, float]:
        """Operations of a mean forward, and bytes of a mean training step; kernel by kernel, so
        nothing recorded."""
        recorded.SEEN_BEFORE_RECORDING, usual = 1 << 60, recorded.SEEN_BEFORE_RECORDING
        flops = 0.0
        for arch in self.archs:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                self.net.eval()
                self.loss(arch)
            flops += counter.get_total_flops() / len(self.archs)
        with Traffic() as traffic:
            for _ in self.archs:
                self.train()
        recorded.SEEN_BEFORE_RECORDING = usual
        return flops, traffic.bytes / len(self.archs)


def seconds(run: Callable[[], Any], device: str, most: float, least: int = 5) -> float:
    """Median over calls, after two to warm up, for about so many seconds."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        run()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < least or (time.perf_counter() - began < most and len(taken) < 500):
        wait()
        start = time.perf_counter()
        run()
        wait()
        taken.append(time.perf_counter() - start)
    return median(taken)


def ceilings(device: str, toy: bool) -> dict[str, float]:
    """Operations a second of a large product by precision, and bytes a second of a large copy, read
    and written."""
    n = 256 if toy else 8192
    out = {}
    for precision in PRECISIONS:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        out[precision] = 2 * n**3 / seconds(lambda a=a, b=b: a @ b, device, 0.5)  # type: ignore[misc]
    x = torch.empty(1 << (18 if toy else 28), device=device)
    y = torch.empty_like(x)
    out["memory"] = 2 * x.numel() * 4 / seconds(lambda: y.copy_(x), device, 0.5)
    return out


def recurrent_steps(bench: Bench, device: str, most: float, toy: bool, compiled: bool) -> dict[str, Any]:
    """Training steps of the recurrent network, by how its cell runs; the network's own way,
    `recorded`, is in the table."""
    net = bench.net
    assert isinstance(net, RecurrentNetwork)
    usual, step = net.settings, static.static_step
    found: dict[str, Any] = {}
    ways = ["plain", "static", "static, compiled", "recorded, not fused"]
    for way in ways:
        if "compiled" in way and not compiled:
            continue
        if toy and "compiled" in way:
            found[way] = "not run: toy sizes"
            continue
        try:
            net.settings = replace(usual, computation=way.split(",")[0])
            static.static_step = torch.compile(step) if "compiled" in way else step
            recorded.COMPILE = "not fused" not in way
            recorded.forget()
            found[way] = seconds(bench.train, device, most)
        except Exception as error:  # which of them a card and a torch can do is what is asked here
            found[way] = f"not run: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
        finally:
            net.settings, static.static_step, recorded.COMPILE = usual, step, True
            recorded.forget()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure, about")
    args = parser.parse_args()
    device, most = args.device, 0.05 if args.toy else args.seconds
    if device == "cpu" and not args.toy:
        parser.error("without a GPU this is for --toy sizes")
    card = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    limits = ceilings(device, args.toy)
    products = ", ".join(f"{name} {limits[name] / 1e12:.3g} TFLOP/s" for name in PRECISIONS)
    print(f"{card}, torch {torch.__version__}; products: {products}; copy {limits['memory'] / 1e9:.4g} GB/s\n")
    head = ("space", "precision", "train ms", "of peak", "of memory", "control ms", "score ms", "epochs an hour", "hours",
            "paper, 1080Ti", "goal")  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    lines: list[dict[str, Any]] = []
    for name, job in (TOYS if args.toy else JOBS).items():
        bench = Bench(name, job, device)
        for precision in PRECISIONS:
            bench.precision(precision)
            flops, train_bytes = bench.counts()
            train, control = seconds(bench.train, device, most), seconds(bench.control, device, most)
            score = seconds(lambda bench=bench: bench.score(bench.next()), device, most)  # type: ignore[misc]
            steps: dict[str, Any] = {}
            if name == "recurrent":
                recorded.forget()
                steps = recurrent_steps(bench, device, min(most, 1.0), args.toy, precision == "tf32")
            epoch = job.train_steps * train + job.controller_steps * control
            hours = job.epochs * epoch / 3600
            row = (name, precision, f"{1e3 * train:.3g}", f"{3 * flops / train / limits[precision]:.1%}",
                   f"{train_bytes / train / limits['memory']:.1%}", f"{1e3 * control:.3g}", f"{1e3 * score:.3g}",
                   f"{3600 / epoch:.3g}", f"{hours:.3g}", f"{job.paper_hours:g}", f"{job.goal_hours:g}")  # fmt: skip
            print("| " + " | ".join(row) + " |", flush=True)
            more = {k: round(1e3 * v, 3) if isinstance(v, float) else v for k, v in steps.items()}
            lines.append(dict(zip(head, row, strict=True)) | {"gflops_forward": flops / 1e9, "steps_ms": more})
    print("\nrecurrent training step, ms, by how the cell runs (the network's own: one recorded graph for all cells):")
    for line in lines:
        if line["steps_ms"]:
            print(f"  {line['precision']}: network's own {line['train ms']}, " + ", ".join(
                f"{k} {v}" for k, v in line["steps_ms"].items()))  # fmt: skip
    print("\n" + json.dumps({"card": card, "torch": torch.__version__, "ceilings": limits, "rows": lines}))


if __name__ == "__main__":
    main()
