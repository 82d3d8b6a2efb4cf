"""This module runs jobs on Ray. Ray queues them and finds a machine for each. A job whose process
or machine was lost is started again, and goes on from its last checkpoint.

Each machine of the cluster needs the same versions of enas and torch, and storage that it shares
with the others: run folders, data and the working folder have the same path on all of them. So
nothing is sent but the plan. Each machine reads the data from the shared storage, and keeps it in
its memory from then on. Without an address, jobs go to the cluster that `ray start` began on this
machine or that RAY_ADDRESS names, or else to a Ray that begins and ends with the command.

Ray is the extra `ray`, and is imported only where it is asked for. This module does not import
torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from enas.blame import blamed_if_theirs
from enas.procedures.events import Connected

RETRIES = 4  # how often a job whose process or machine was lost is started again
STORE = 80 * 1024**2  # bytes of Ray's object store, in which these jobs put nothing


@dataclass(frozen=True)
class Cluster:
    """A `Cluster` says where jobs go, and how much of a GPU each takes."""

    address: str = ""
    """The address `ray://host:port`; without it, the cluster of this machine is used."""
    gpus: float = 1.0
    """Share of a GPU that each job takes, for a plan that trains on GPUs."""

    def __post_init__(self) -> None:
        if not (0 < self.gpus <= 1 or self.gpus == int(self.gpus) > 0):
            raise ValueError(f"--gpus-per-job is a share above 0 and up to 1; got {self.gpus:g}")


def asked(jobs: int | str | Cluster | None, gpus: float | None = None) -> int | Cluster | None:
    """Returns what `--jobs` asks for. Raises a ValueError for anything else than a number, `ray`,
    or `ray://host:port`."""
    if isinstance(jobs, str) and re.fullmatch(r"ray(://[^/\s]+:\d+)?", jobs):
        return Cluster("" if jobs == "ray" else jobs, 1.0 if gpus is None else gpus)
    if gpus is not None:
        raise ValueError("--gpus-per-job is of jobs on a cluster: --jobs ray, or --jobs ray://host:10001")
    if isinstance(jobs, str) and re.fullmatch(r"[1-9]\d{0,3}", jobs):
        return int(jobs)
    if jobs is None or isinstance(jobs, Cluster) or (isinstance(jobs, int) and jobs > 0):
        return jobs
    raise ValueError(f"--jobs is a number from 1 on, `ray`, or an address such as `ray://host:10001`; got '{jobs}'")


class RayJobs:
    """A `RayJobs` engine runs the jobs of `enas.runs.jobs` on Ray. `threads` is the number of CPU
    cores per job."""

    def __init__(self, cluster: Cluster, threads: int, on_gpu: bool, listen: Callable[[object], None]):
        self.cluster, self.threads, self.listen = cluster, threads, listen
        self.gpus = cluster.gpus if on_gpu else 0.0
        self.references: list[Any] = []

    def __enter__(self) -> Self:
        self.ray = connected(self.cluster, self.threads, self.gpus, self.listen)
        options = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": RETRIES}
        self.remote = self.ray.remote(**options)(_work)
        return self

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        reference = self.remote.remote(os.getcwd(), work, arguments)
        self.references.append(reference)
        job: Future[Any] = Future()
        reference.future().add_done_callback(lambda ended: self._settle(job, ended))
        return job

    def _settle(self, job: Future[Any], ended: Future[Any]) -> None:
        """Passes on how a job ended: with None where it was cancelled, and with its error as it was
        raised there."""
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        error = ended.exception()
        if error is None:
            job.set_result(ended.result())
        elif isinstance(error, TaskCancelledError):
            job.set_result(None)
        elif isinstance(error, RayTaskError):
            job.set_exception(error.cause if isinstance(error.cause, Exception) else error)
        elif isinstance(error, RayError):
            first = (str(error).splitlines() or [""])[0][:200]
            job.set_exception(
                ValueError(
                    f"a job was lost on the cluster {1 + RETRIES} times ({type(error).__name__}: {first}); what was"
                    " saved is whole: the same command goes on"
                )
            )
        else:
            job.set_exception(error)

    def stop(self) -> None:
        """Keeps queued jobs from beginning. A job that is running gets a Ctrl-C, and ends in good
        order."""
        for reference in self.references:
            self.ray.cancel(reference)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            for reference in self.references:
                with contextlib.suppress(Exception):  # only the error that ended the command counts
                    self.ray.cancel(reference, force=True)
        self.references.clear()


def _work(folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Does a job in a process of Ray."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ValueError(
            f"machine '{socket.gethostname()}' of the cluster cannot enter '{folder}' ({error.strerror}): the working"
            " folder, run folders and data are on storage that all machines share"
        ) from None
    from enas.networks.kernels import keep_memory

    keep_memory()
    with blamed_if_theirs():
        return work(*arguments)


def connected(cluster: Cluster, threads: int, gpus: float, listen: Callable[[object], None]) -> Any:
    """Returns Ray, connected. It stays connected until the process ends. Raises a ValueError where
    Ray is not installed, or does not answer."""
    try:
        import ray
    except ImportError:
        raise ValueError("--jobs ray needs Ray, which is an extra: pip install 'enas[ray]'") from None
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGTERM)
        try:
            context = _init(ray, cluster.address, threads)
        except (ConnectionError, RuntimeError) as error:
            where = cluster.address or "this machine"
            raise ValueError(
                f"no Ray answers at {where}: {(str(error).splitlines() or [''])[0][:200]}; a cluster that asks for a token"
                " needs RAY_AUTH_MODE=token here, and its token"
            ) from None
        finally:
            if main:  # Ray would end the process at SIGTERM, but commands end in good order
                signal.signal(signal.SIGTERM, before)
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, all_gpus = (sum(m.get(name, 0.0) for m in machines) for name in ("CPU", "GPU"))
        listen(Connected(len(machines), int(cpus), int(all_gpus), getattr(context, "dashboard_url", None) or ""))
        if not any(m.get("CPU", 0) >= threads and m.get("GPU", 0) >= gpus for m in machines):
            warnings.warn(
                f"no machine of the cluster has the {threads} cores and {gpus:g} GPUs of a job: jobs wait for one",
                stacklevel=2,
            )
    return ray


def _init(ray: Any, address: str, threads: int) -> Any:
    how: dict[str, Any] = {"log_to_driver": False}
    if address:
        return ray.init(address, **how)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        return ray.init(num_cpus=max(cores, threads), object_store_memory=STORE, **how)
    except ValueError:  # there is a cluster, which has its own numbers
        return ray.init(**how)
