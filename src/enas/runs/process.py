"""The process that a run lives in: its threads, cores, signals, versions and machine."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from enas.state import Record


def versions() -> dict[str, str]:
    """Returns the versions that a run records."""
    import platform

    import enas

    return {"enas": enas.__version__, "python": platform.python_version(), "torch": torch.__version__}


def machine(device: str) -> Record:
    """Returns the machine that a run records: its processor, cores and GPU."""
    import platform

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    parts = {"cpu": cpu, "cores": os.cpu_count()}
    return {**parts, "gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else parts


def prepare(device: str, threads: int) -> None:
    """Sets the number of CPU threads before a procedure. On a GPU, products round to 19 bits
    (tf32), as torch's convolutions do by default; `NVIDIA_TF32_OVERRIDE=0` in the environment
    forbids it."""
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = True


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Signals:
    """Remembers Ctrl-C and SIGTERM until a step is done. A second Ctrl-C does not wait."""

    def __init__(self) -> None:
        self.why: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.why is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.why = "interrupted" if number == signal.SIGINT else "terminated"


def ignore_interrupts() -> None:
    """Lets a worker go on where Ctrl-C came: its parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def signals() -> Iterator[_Signals]:
    caught = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
