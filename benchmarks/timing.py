"""Paired timing: alternatives take turns in one run, so that a busy or throttled machine slows all
alike; and the counts that go with it. Where alternatives are programs (`Program`), each is a
process of its own, so that none has the memory allocator, or anything else, as another set it up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping
from statistics import fmean, median, quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.networks import kernels

PEAK = 2048  # rows of the square matrices whose product is the peak
GIGA = 2e-9 * PEAK**3  # billions of operations in it


def paired(alternatives: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of each call of each alternative; in every round each runs once, the first of a round
    changes. A `Program` says itself what it took."""
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(-warm, rounds):
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            told = alternatives[name]()
            taken = told if isinstance(alternatives[name], Program) else time.perf_counter() - start
            if round_ >= 0:
                seconds[name].append(taken)
    return seconds


class Program:
    """A process that holds what `make(*args)` gives and calls its methods on demand:
    `program.prepare("train", arch)` asks for `make(*args).train(arch)`, a step; `program()` calls
    the step there and gives the seconds it took."""

    def __init__(self, threads: int, make: Callable[..., Any], *args: Any):
        # as the command line does: threads that wait sleep
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, threads, make, args), daemon=True)
        self._process.start()
        other.close()

    def prepare(self, method: str, *args: Any) -> Program:
        self._pipe.send((method, args))
        self._answer()
        return self

    def __call__(self) -> float:
        self._pipe.send(None)
        return float(self._answer())

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise SystemExit("a program under measurement ended; its own output says why") from None
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Any, threads: int, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    made, step = make(*args), None
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if request is not None:
            method, more = request
            step = getattr(made, method)(*more)
            pipe.send(None)
            continue
        assert step is not None
        start = time.perf_counter()
        step()
        pipe.send(time.perf_counter() - start)


class Product:
    """A product of large matrices: what `peak` is measured by."""

    def step(self) -> Callable[[], Any]:
        a, b = torch.randn(PEAK, PEAK), torch.randn(PEAK, PEAK)
        return lambda: a @ b


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median over rounds of above / below, and the quartiles of it."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {"ratio": round(median(ratios), 4), "ratio_q1": round(low, 4), "ratio_q3": round(high, 4)}


def forward_gflops(run: Callable[[], Any]) -> float:
    """Billions of operations (two a multiply-add) of what torch's counter counts in a call:
    products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 1e9


def share_of_peak(gflops: float, seconds: list[float], peak: list[float]) -> float:
    """Of the work `gflops`, in the same rounds; `peak`: seconds of a `Product`."""
    return round(median(gflops * p / GIGA / s for p, s in zip(peak, seconds, strict=True)), 4)


def peak_memory(run: Callable[..., None], *args: Any) -> int:
    """MB (1e6 bytes) that a process of its own came to hold at most while it called `run(*args)`,
    its start included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (run, args))


def _peak_memory(run: Callable[..., None], args: tuple[Any, ...]) -> int:
    torch.set_num_threads(1)
    run(*args)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


def emit(what: str, sizes: Mapping[str, Any], seconds: list[float], mean: bool = False, **more: Any) -> dict[str, Any]:
    """Prints one JSON line. `mean`: of alternatives that differ, such as drawn children, the mean
    counts."""
    key, middle = ("seconds_mean", fmean) if mean else ("seconds_median", median)
    record = {"what": what, "sizes": dict(sizes), key: float(f"{middle(seconds):.4g}"), **more}
    print(json.dumps(record), flush=True)
    return record


def options(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds in which every alternative runs once")
    return parser


def begin(args: argparse.Namespace) -> None:
    """As the command line does."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    kernels.keep_memory()
