"""This module handles the process that a run lives in: its threads, cores, signals, versions and
machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from enas.procedures.ranks import processes
from enas.state import Record, Values


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
    parts: Record = {"cpu": cpu, "cores": os.cpu_count()}
    parts |= {"ranks": processes()} if processes() > 1 else {}
    return {**parts, "gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else parts


def warn_of_differences(recorded: Values, device: str) -> None:
    """Warns in one line where a run goes on elsewhere than it began. Sums depend on the versions,
    the device and the processor, so its figures may differ in their last digits."""
    here = {**versions(), "processor": machine(device).get("cpu"), "device": device, "ranks": processes()}
    machine_there = recorded.get("machine", {})
    there = {**recorded.get("versions", {}), "processor": machine_there.get("cpu")}
    there |= {"device": recorded.get("device", device), "ranks": machine_there.get("ranks", 1)}
    both = [(name, was, here.get(name)) for name, was in there.items() if was]
    changed = [f"{name} {was} there, {now} here" for name, was, now in both if now not in (None, was)]
    if changed:
        warnings.warn(f"this run began elsewhere ({'; '.join(changed)}): bits may differ", stacklevel=2)


def begin_worker() -> None:
    """Makes this process a worker that its parent stops, and no signal. It ends at once when its
    parent ends, however that happens. That harms no run folder and frees its locks."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def prepare(device: str, threads: int, precision: str = "tf32") -> None:
    """Sets the number of CPU threads before a procedure. On a GPU, products of float32 are rounded
    to 19 bits (tf32), as in torch's convolutions by default, unless `precision` is fp32."""
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"


def cores() -> int:
    """Returns the number of CPU cores that this process may use. Where torchrun started several
    processes on this machine, it is this one's share."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def device_named(device: str | None) -> str:
    """Returns the device that a flag names. `auto` is a CUDA GPU, one of Apple's (MPS), or the CPU.
    Without a name Apple's is left out, because no search was tried on one."""
    if device not in (None, "auto"):
        return str(device)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if device == "auto" and torch.backends.mps.is_available() else "cpu"


def unusable(device: str) -> str | None:
    """Returns the reason why a device cannot be used here, or None where it can. Of several ranks
    on GPUs, each takes one of its own."""
    try:
        if processes() > 1 and device.startswith("cuda"):
            if device != "cuda":
                return f"it is one device, and {processes()} ranks take one each: name it without a number"
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # SLURM sends SIGUSR1 if asked to


class _Signals:
    """A `_Signals` object remembers Ctrl-C, SIGTERM and SIGUSR1 until a step is done. A second
    signal does not wait."""

    def __init__(self) -> None:
        self.why: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.why is not None:
            raise KeyboardInterrupt
        self.why = "interrupted" if number == signal.SIGINT else "terminated"


@contextmanager
def signals() -> Iterator[_Signals]:
    """Yields an object that remembers a signal to stop inside the `with` block."""
    caught = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, caught) for number in STOPS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
