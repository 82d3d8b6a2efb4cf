"""The goals of speed on a GPU, row by row, from a fresh clone with nothing installed but torch (2.4
or later) and numpy, in at most ten minutes:

    PYTHONPATH=src python -m benchmarks.gpu                          # on a GPU
    PYTHONPATH=src python -m benchmarks.gpu --device cpu --tiny      # does it run?

Every row is written to a file as soon as it is measured, the most valuable first; a row that is
there is skipped, so a second call goes on. Rows begin only while there are minutes left. The last
one, which needs CIFAR-10 and a table, may take several calls: the state of its search lies beside
the file of rows.

Data of all others is synthetic, of the real shapes. A training step is that of drawn children in
turn: forward, backward, update. A step of the controller is one architecture drawn, scored and
learned from. fp32 is exact single precision, tf32 lets products round, bf16 is autocast. Work is
what torch's counter counts in a forward of the plain network, times three for a training step;
traffic is what every kernel of a plain step reads and writes, taken one by one, so an upper bound.
Both are given as shares of what this card reaches in a large product of the same precision, and in
a large copy. Hours are for the whole search of the paper: its epochs, its steps of both phases; not
counted are data, logs and checkpoints.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import platform
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import supernet
from enas.data.augment import augmented, drawn
from enas.networks import kernels
from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.recurrence import recorded as recurrence
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.settings import MacroSettings, MicroSettings, RecurrentSettings
from enas.networks.static import parts
from enas.networks.static.recorded import Recording
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.recorded import ChildRecorder, Recorder
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.published import named
from enas.spaces.rnn_cell import rnn_cell
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ReinforceSettings

AGAIN = {"error", "skipped", "unfinished"}  # rows that say so are measured again
PRECISIONS = ("fp32", "tf32", "bf16")
Row = dict[str, Any]


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
    nodes: int = 5  # of micro cells
    size: int = 32  # of images


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
    "macro": Job(MacroSettings(filters=4), 4, 2, 3, 2, 7.0, 0.5, architectures=2, size=8),
    "micro": Job(MicroSettings(filters=4, cells=1), 4, 2, 3, 2, 11.5, 1.0, architectures=2, nodes=2, size=8),
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


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


def entropy(out: Tensor, y: Tensor) -> Tensor:
    """Returns the mean cross-entropy, of half precision in single."""
    return F.cross_entropy(out if out.dtype == torch.float64 else out.float(), y)


class Classify:
    """What a step needs of a task: the loss of classification, on the batch at hand."""

    recordable = True

    def loss(self, model: Any, arch: Any, batch: Any, progress: Any = 1.0, child: int = 0) -> Tensor:
        out = model(batch.x, arch, progress=progress)
        if not isinstance(out, tuple):
            return entropy(out, batch.y)
        main, aux = (entropy(part, batch.y) for part in out)
        return main + model.aux_weight * aux


class Bench:
    """A supernet with its batch, on a device, in a precision; its steps plain or recorded."""

    def __init__(self, name: str, job: Job, device: str, recorded_steps: bool, dtype: torch.dtype = torch.float32):
        torch.manual_seed(0)
        self.name, self.job, self.device = name, job, device
        if name == "recurrent":
            self.net: Supernet = RecurrentNetwork(rnn_cell(), job.network, job.vocabulary)
            self.x, self.y = (torch.randint(job.vocabulary, (job.steps, job.batch), device=device) for _ in range(2))
        else:
            make: Any = {"macro": (MacroNetwork, conv_macro), "micro": (MicroNetwork, conv_micro)}[name]
            network = replace(job.network, computation="static" if recorded_steps else "plain")
            space = make[1](ConvMicroSettings(num_nodes=job.nodes)) if name == "micro" else make[1]()
            self.net = make[0](space, network, 3, job.size, 10).to(dtype)
            x = torch.randn(job.batch, 3, job.size, job.size, device=device, dtype=dtype)
            self.x, self.y = x.contiguous(memory_format=torch.channels_last), torch.randint(10, (job.batch,), device=device)
        self.net.to(device)
        settings = OptimizerSettings(momentum=0.0 if self.text else 0.9)
        self.optimizer = make_optimizer(list(self.net.parameters()), settings)
        self.task: Any = None if self.text else Classify()
        self.recorder = Recorder.of(self.net, self.task, self.optimizer, settings) if self.task and recorded_steps else None
        self.strategy = Reinforce(self.net.space, ReinforceSettings())
        if device == "cuda" and recorded_steps:
            self.strategy.on(torch.device(device))
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
            if self.task is not None and self.net.training:
                return self.task.loss(self.net, arch, Batch(self.x, self.y))
            out = self.net(self.x, arch)
            return out[0].softmax.cross_entropy(self.y) if self.text else entropy(out, self.y)

    def train(self, arch: Architecture | None = None) -> None:
        arch = arch or self.next()
        if self.recorder is not None:
            with self.autocast():
                self.recorder.gradient(arch, Batch(self.x, self.y), 0.5, 1.0)
            self.recorder.update(self.net.parameters_of(arch), 0.01)
            return
        self.net.train()
        self.loss(arch).backward()
        self.update(arch)

    def update(self, arch: Architecture) -> None:
        update(self.optimizer, self.net.parameters_of(arch), 0.01, 0.25 if self.text else 0.0)

    def scores(self, archs: list[Architecture]) -> list[float]:
        """Returns the rewards of many, which come back at once."""
        self.net.eval()
        assert self.recorder is not None
        with self.autocast():
            losses = self.recorder.program.each(archs, self.x, entropy, self.y)
        return losses.neg().exp().tolist()

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
        recurrence.SEEN_BEFORE_RECORDING, usual = 1 << 60, recurrence.SEEN_BEFORE_RECORDING
        flops = 0.0
        for arch in self.archs:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                self.net.eval()
                self.loss(arch)
            flops += counter.get_total_flops() / len(self.archs)
        with Traffic() as traffic:
            for _ in self.archs:
                self.train()
        recurrence.SEEN_BEFORE_RECORDING = usual
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


# ------------------------------------------------------------------------------------------ rows
@dataclass(frozen=True)
class Settings:
    device: str
    tiny: bool
    seconds: float  # per figure, about
    deadline: float  # on the clock of time.perf_counter
    out: Path = Path("gpu.jsonl")

    @property
    def jobs(self) -> dict[str, Job]:
        return TOYS if self.tiny else JOBS

    def median(self, run: Callable[[], Any]) -> float:
        return seconds(run, self.device, 0.02 if self.tiny else self.seconds, 2 if self.tiny else 5)

    def left(self) -> float:
        return self.deadline - time.perf_counter()


def card(s: Settings) -> Row:
    """The card, and what it reaches at best."""
    name = torch.cuda.get_device_name() if s.device == "cuda" else platform.processor() or "CPU"
    triton = importlib.util.find_spec("triton") is not None
    return {
        "card": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton,
        **ceilings(s.device, s.tiny),
    }


def step(s: Settings, space: str, precision: str, recorded_steps: bool) -> Row:
    """Times training, scoring and controller steps of a space; hours of the paper's whole
    search."""
    job = s.jobs[space]
    bench = Bench(space, job, s.device, recorded_steps)
    bench.precision(precision)
    train, score = s.median(bench.train), s.median(lambda: bench.score(bench.next()))
    control = s.median(bench.control)
    hours = job.epochs * (job.train_steps * train + job.controller_steps * control) / 3600
    found = {"train_ms": 1e3 * train, "score_ms": 1e3 * score, "control_ms": 1e3 * control, "hours": hours}
    if bench.recorder is not None:
        ten = list(map(bench.net.space.sample, [random.Random(1)] * 10))
        found["score_ms_each_of_ten"] = 1e2 * s.median(lambda: bench.scores(ten))
    if s.device == "cuda":
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return {**found, "goal_hours": job.goal_hours, "paper_hours_1080ti": job.paper_hours}


def work(s: Settings, space: str) -> Row:
    """What a plain forward computes and a plain step moves: the shares of the ceilings that a step
    takes follow from it."""
    bench = Bench(space, s.jobs[space], s.device, False)
    flops, moved = bench.counts()
    return {"gflops_forward": flops / 1e9, "gb_step": moved / 1e9}


def agreement(s: Settings, space: str) -> Row:
    """Compares recorded and plain steps side by side in double precision, on architectures that
    were not seen when recording: the largest difference of a weight, as a share of the largest
    weight, and of a reward, alone and among others; and how much memory 2,000 replays add."""
    job = TOYS[space]
    small = replace(job, network=replace(job.network, dropout=0.0), architectures=8)
    a, b = (Bench(space, small, s.device, way, torch.float64) for way in (False, True))
    for _ in range(8):
        a.train()
        b.train()
    worst = max(float((p - q).detach().abs().max()) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True))
    largest = max(float(p.detach().abs().max()) for p in a.net.parameters())
    alone = [a.score(arch) for arch in a.archs]
    together = [b.scores(b.archs) for _ in range(4)][-1]
    rewards = max(abs(p - q) for p, q in zip(alone, together, strict=True))
    before = torch.cuda.memory_allocated() if s.device == "cuda" else 0
    for _ in range(4 if s.tiny else 2000):
        b.train()
    after = torch.cuda.memory_allocated() if s.device == "cuda" else 0
    return {"worst_difference": worst / largest, "worst_reward_difference": rewards, "bytes_added": after - before}


def children_at_once(s: Settings) -> Row:
    """Times the gradient of M children of a micro step: as M recordings, one after the other and on
    a stream each; and in one recording, one after the other and as branches. (As a batch dimension
    of one program they are not built.)"""
    bench = Bench("micro", s.jobs["micro"], s.device, True)
    bench.precision("tf32")
    assert bench.recorder is not None
    program = bench.recorder.program
    at = torch.tensor(0.0, device=s.device)
    streams = [torch.cuda.Stream() for _ in range(4)] if s.device == "cuda" else []

    def gradient(codes: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        child = program.layout.shared.vector.index_select(0, program.index(codes)).requires_grad_()
        loss = F.cross_entropy(program.computed(x, child, codes, at), y)  # type: ignore[arg-type]
        return torch.autograd.grad(loss, child)[0]

    def one(inputs: tuple[Tensor, tuple[Tensor, Tensor]]) -> Tensor:
        return gradient(*inputs)

    def in_turn(inputs: tuple[Tensor, tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [gradient(codes, inputs[1]) for codes in inputs[0]]

    def apart(work: Callable[[int], Any], count: int) -> list[Any]:
        """Runs each on a stream of its own, which begins with what was done before."""
        here, results = torch.cuda.current_stream(), []
        for i, stream in enumerate(streams[:count]):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                results.append(work(i))
        for stream in streams[:count]:
            here.wait_stream(stream)
        return results

    def branches(inputs: tuple[Tensor, tuple[Tensor, Tensor]]) -> list[Tensor]:
        return apart(lambda i: gradient(inputs[0][i], inputs[1]), len(inputs[0]))

    def made(function: Callable[[Any], Any], codes: Tensor) -> Recording:
        recording = Recording(function, (codes, (bench.x, bench.y)))
        if s.device == "cuda":
            recording.record(torch.device("cuda", torch.cuda.current_device()))
        return recording

    found: Row = {}
    codes = torch.stack([program.codes(bench.next()) for _ in range(4)]).to(s.device)
    alone = [made(one, each) for each in codes]

    def each_ms(run: Callable[[], Any], M: int) -> float:
        return 1e3 * s.median(run) / M

    for M in (1, 2, 4):
        some = alone[:M]
        found[f"in_turn_{M}_ms_each"] = each_ms(lambda some=some: [r(r.inputs) for r in some], M)  # type: ignore[misc]
        if s.device == "cuda":
            run = partial(apart, lambda i: alone[i](alone[i].inputs), M)
            found[f"streams_{M}_ms_each"] = each_ms(run, M)
    for M in (2, 4):
        ways = {"one_recording": in_turn} | ({"branches": branches} if s.device == "cuda" else {})
        for way, function in ways.items():
            recording = made(function, codes[:M])
            found[f"{way}_{M}_ms_each"] = each_ms(lambda r=recording: r(r.inputs), M)  # type: ignore[misc]
    return found


def kernels_alone(s: Settings) -> Row:
    """Times forward and backward of each Triton kernel and of torch's form, recorded, at the size
    of the first micro cells; of two edges one uses it."""
    size, C, B = (6, 3, 2) if s.tiny else (32, 20, 128)
    x = torch.randn(B, 2 * C, size, size, device=s.device).contiguous(memory_format=torch.channels_last)
    five, ones = torch.randn(2, C, 1, 5, 5, device=s.device), torch.ones(2, C, device=s.device)
    sizes, pools = (torch.tensor(some, device=s.device) for some in ([5, 0], [2, 0]))
    works: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "depthwise": lambda x, w: parts.relu_depthwise(x, w, sizes),
        "pool": lambda x, w: parts.pool(x, pools) + w.sum(),
        "norm": lambda x, w: parts.norm(x, w, w, sizes),
    }
    found: Row = {}
    for name, work in works.items():
        for way in ("triton", "torch"):

            def both(inputs: tuple[Tensor, Tensor], work: Any = work) -> Any:
                x, w = (value.detach().requires_grad_() for value in inputs)
                return torch.autograd.grad(work(x, w).sum(), (x, w))

            with kernels.without(*([] if way == "triton" else ["triton"])):
                recording = Recording(both, (x, five if name == "depthwise" else ones))
                if s.device == "cuda":
                    recording.record(torch.device("cuda", torch.cuda.current_device()))
                found[f"{name}_{way}_ms"] = 1e3 * s.median(lambda r=recording: r(r.inputs))  # type: ignore[misc]
    return found


def augmentation(s: Settings) -> Row:
    """Times crops and flips of a batch, issued kernel by kernel and recorded."""
    x = torch.randn(4 if s.tiny else 128, 3, 32, 32, device=s.device).contiguous(memory_format=torch.channels_last)
    draws = drawn(x, torch.Generator(s.device).manual_seed(0), 4, True, 16)
    recording = Recording(lambda inputs: augmented(*inputs, 4, True, 16), (x, draws))
    if s.device == "cuda":
        recording.record(torch.device("cuda", torch.cuda.current_device()))
    plain = s.median(lambda: augmented(x, draws, 4, True, 16))
    return {"plain_ms": 1e3 * plain, "recorded_ms": 1e3 * s.median(lambda: recording(recording.inputs))}


def kernels_off(s: Settings) -> Row:
    """The recorded micro step without the Triton kernels."""
    with kernels.without("triton"):
        bench = Bench("micro", s.jobs["micro"], s.device, True)
        bench.precision("tf32")
        return {"train_ms": 1e3 * s.median(bench.train)}


def recurrent_ways(s: Settings, precision: str = "tf32") -> Row:
    """Training steps of the recurrent network, ms, by how its cell runs."""
    bench = Bench("recurrent", s.jobs["recurrent"], s.device, False)
    bench.precision(precision)
    found: Row = {}
    net: Any = bench.net
    usual = net.settings
    for way in ("auto", "plain", "static"):
        net.settings = replace(usual, computation=way)
        recurrence.forget()
        found[way] = 1e3 * s.median(bench.train)
    recurrence.forget()
    return found


class FromScratch:
    """This is a released micro cell that trains from scratch, in channels_last, with its batch."""

    def __init__(self, s: Settings, own: MicroSettings, size: int, dtype: torch.dtype = torch.float32, half: bool = True):
        """Takes `half`: whether products are in bf16."""
        torch.manual_seed(0)
        own, settings = replace(own, computation="static"), OptimizerSettings()
        child = MicroNetwork(conv_micro(), own, 3, 32, 10, only=named("enas_micro"), statistics="running")
        self.model = child.to(s.device, dtype).train()
        self.optimizer = make_optimizer(list(self.model.parameters()), settings)
        x = torch.randn(size, 3, 32, 32, device=s.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        self.batch = Batch(x, torch.randint(10, (size,), device=s.device))
        task: Any = Classify()
        self.recorder, self.task = ChildRecorder.of(self.model, task, self.optimizer, settings), task
        self.half = partial(torch.autocast, s.device, torch.bfloat16, enabled=half)

    def plain(self, model: Any = None) -> float:
        """Makes a step, of a compiled model too."""
        with self.half():
            loss = self.task.loss(model or self.model, None, self.batch, 0.5)
        loss.backward()
        return update(self.optimizer, list(self.model.parameters()), 0.01, 0.0)

    def recorded(self) -> float:
        """Makes a step as `enas retrain` does."""
        assert self.recorder is not None
        with self.half():
            self.recorder.gradient(self.batch, 0.5, 1.0)
        return self.recorder.update(list(self.model.parameters()), 0.01)


TOY_CHILD = MicroSettings(filters=2, cells=1, dropout=0.0)


def retrain(s: Settings) -> Row:
    """Times a training from scratch in bf16 and channels_last: a step as plain torch, compiled with
    max-autotune, and recorded; and the epoch of 352 batches that the best makes."""
    own, size = (TOY_CHILD, 4) if s.tiny else (MicroSettings(filters=36, cells=5), 128)
    found: Row = {"plain_ms": 1e3 * s.median(FromScratch(s, own, size).plain)}
    scratch = FromScratch(s, own, size)
    scratch.recorded()  # the third one is recorded
    found["recorded_ms"] = 1e3 * s.median(scratch.recorded)
    if s.device == "cuda":
        scratch, began = FromScratch(s, own, size), time.perf_counter()
        compiled = torch.compile(scratch.model, mode="max-autotune")
        found["compiled_ms"] = 1e3 * s.median(lambda: scratch.plain(compiled))
        found["compile_seconds"] = time.perf_counter() - began
    found["epoch_seconds"] = 352 * min(v for k, v in found.items() if k.endswith("_ms")) / 1e3
    return found


def agreement_from_scratch(s: Settings) -> Row:
    """Compares recorded and plain steps of a training from scratch side by side in double
    precision: the largest difference of a weight or of a running statistic, as a share of the
    largest."""
    a, b = (FromScratch(s, TOY_CHILD, 8, torch.float64, half=False) for _ in range(2))
    for _ in range(8):
        a.plain()
        b.recorded()
    pairs = list(zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True))
    worst = max(float((p - q).abs().max()) for p, q in pairs)
    return {"worst_difference": worst / max(float(p.abs().max()) for p, _ in pairs)}


def short_search(s: Settings, precision: str) -> Row:
    """Trains the released micro supernet on ten classes that can be told apart, by random
    children: the mean accuracy of 40 others afterwards. bf16 should be within the deviation of
    fp32."""
    job = replace(TOYS["micro"], architectures=4)
    job = job if s.tiny else Job(MicroSettings(filters=20, cells=2), 128, 1, 1, 1, 0, 0, architectures=600)
    bench = Bench("micro", job, s.device, True)
    bench.precision(precision)
    templates = torch.randn(10, *bench.x.shape[1:], device=s.device)
    for _ in range(len(bench.archs)):
        bench.x.copy_(torch.randn_like(bench.x).add_(templates[bench.y], alpha=0.1))
        bench.train()
    bench.x.copy_(torch.randn_like(bench.x).add_(templates[bench.y], alpha=0.1))
    bench.net.eval()
    with torch.no_grad(), bench.autocast():
        hits = [float((bench.net(bench.x, arch).argmax(1) == bench.y).float().mean()) for arch in bench.archs[:40]]
    return {"accuracy": fmean(hits), "deviation": pstdev(hits)}


def released(s: Settings) -> Row:
    """Runs the released micro search, end to end on synthetic data of CIFAR-10's shape: 8 cells,
    150 passes of 352 steps, 30 controller steps of ten architectures after each. Stops when the
    time is up, and says how far it came."""
    own = MicroSettings(filters=20, cells=2, aux_weight=0.4)
    epochs, steps, control = (1, 2, 1) if s.tiny else (150, 352, 30)
    job = TOYS["micro"] if s.tiny else Job(own, 128, epochs, steps, control, 0, 0)
    bench = Bench("micro", job, s.device, True)
    bench.precision("tf32")
    began, passes = time.perf_counter(), 0
    while passes < epochs and (s.left() > 20 or not passes):
        for _ in range(steps):
            bench.train(bench.strategy.ask(1)[0])
        for _ in range(control):
            archs = bench.strategy.ask(10)
            bench.strategy.tell(archs, bench.scores(archs))
        passes += 1
    taken = time.perf_counter() - began
    return {"passes": passes, "of": epochs, "seconds": taken, "minutes_of_all": taken / passes * epochs / 60}


def ranked(s: Settings) -> Row:
    """Measures what shared weights are worth at full size, as far as the time goes
    (supernet.py)."""
    return supernet.ranked(s.device, s.tiny, s.left, s.out.with_suffix(".supernet.pt"))


def rows() -> dict[str, Callable[[Settings], Row]]:
    """Returns all rows by name, the most valuable first."""
    found: dict[str, Callable[[Settings], Row]] = {"card": card}
    found["micro tf32"] = partial(step, space="micro", precision="tf32", recorded_steps=True)
    found["macro tf32"] = partial(step, space="macro", precision="tf32", recorded_steps=True)
    found["agreement micro"] = partial(agreement, space="micro")
    found["recurrent tf32"] = partial(step, space="recurrent", precision="tf32", recorded_steps=False)
    found["micro tf32, plain"] = partial(step, space="micro", precision="tf32", recorded_steps=False)
    found["micro tf32, without Triton"] = kernels_off
    found["micro bf16"] = partial(step, space="micro", precision="bf16", recorded_steps=True)
    found["macro bf16"] = partial(step, space="macro", precision="bf16", recorded_steps=True)
    found["recurrent bf16"] = partial(step, space="recurrent", precision="bf16", recorded_steps=False)
    found["agreement macro"] = partial(agreement, space="macro")
    found["children at once"] = children_at_once
    found["kernels alone"] = kernels_alone
    found["augmentation"] = augmentation
    found["retrain"] = retrain
    found["agreement from scratch"] = agreement_from_scratch
    found["short search fp32"] = partial(short_search, precision="fp32")
    found["short search bf16"] = partial(short_search, precision="bf16")
    found["macro tf32, plain"] = partial(step, space="macro", precision="tf32", recorded_steps=False)
    found["micro fp32"] = partial(step, space="micro", precision="fp32", recorded_steps=True)
    found["recurrent ways"] = recurrent_ways
    found |= {f"work {space}": partial(work, space=space) for space in JOBS}
    found["released micro search"] = released
    found["NAS-Bench-201's supernet"] = ranked
    return found


def goals(found: dict[str, Row]) -> list[str]:
    """Returns the table of goals as lines, as far as its rows are measured."""
    lines = ["| | measured | plain | goal on an H100 |", "|---|---|---|---|"]

    def line(what: str, row: str, key: str, goal: str, plain: str = "") -> None:
        value, before = (found.get(name, {}).get(key) for name in (row, plain))
        shown = [f"{number:.3g}" if isinstance(number, float) else "-" for number in (value, before)]
        lines.append(f"| {what} | {shown[0]} | {shown[1]} | {goal} |")

    line("micro training step, ms", "micro tf32", "train_ms", "12", "micro tf32, plain")
    line("macro training step, ms", "macro tf32", "train_ms", "3", "macro tf32, plain")
    line("recurrent training step, ms", "recurrent tf32", "train_ms", "9")
    for space, goal in (("micro", "1"), ("macro", "0.5"), ("recurrent", "0.5")):
        line(f"{space}, whole search by `paper`, hours", f"{space} tf32", "hours", goal, f"{space} tf32, plain")
    line("released micro search, minutes", "released micro search", "minutes_of_all", "10")
    line("released cell from scratch, ms a step, recorded", "retrain", "recorded_ms", "below compiled")
    line("the same, compiled", "retrain", "compiled_ms", "-")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", "--toy", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure, about")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all rows together, at most")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="file of rows; what is in it is skipped")
    args = parser.parse_args()
    if args.device == "cpu" and not args.tiny:
        parser.error("without a GPU this is for --tiny sizes")
    settings = Settings(args.device, args.tiny, args.seconds, time.perf_counter() + 60 * args.minutes, args.out)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    found: dict[str, Row] = {row.pop("row"): row for row in map(json.loads, lines)}
    for name, measure in rows().items():
        if name in found and not found[name].keys() & AGAIN:
            continue
        if settings.left() < 10:
            print(f"{name}: not begun, the time is up", flush=True)
            continue
        began = time.perf_counter()
        try:
            found[name] = measure(settings)
        except Exception as error:  # what a card and a torch can do is what is asked here
            found[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        found[name]["took_seconds"] = round(time.perf_counter() - began, 1)
        with args.out.open("a") as file:
            file.write(json.dumps({"row": name, **found[name]}) + "\n")
        shown = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found[name].items()}
        print(f"{name}: {json.dumps(shown)}", flush=True)
        recurrence.forget()
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    print("\n" + "\n".join(goals(found)))


if __name__ == "__main__":
    main()
