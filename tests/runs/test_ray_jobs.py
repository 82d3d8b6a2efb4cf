"""Jobs on Ray give what local processes give, also where a worker is killed or all are stopped; and
what is said where Ray is missing, or asked for in a way that is none.

All that need Ray share one, which starts once."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from enas.cli.main import main
from enas.procedures.events import Connected, Trained, TrainEpochEnd
from enas.runs.checkpoint import CHECKPOINT
from enas.runs.jobs import Engine, Processes, engine_of, run_all
from enas.runs.loop import silent
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.ray_jobs import Cluster, RayJobs, asked
from enas.runs.results import Best, Result, Retrained
from enas.runs.retrain import Job, retrain, retrain_many

THREADS, SEEDS, EPOCHS = 1, 3, 8


def plan_of(epochs: int) -> Plan:
    plan = make_plan("digits-micro", device="cpu", threads=THREADS)
    retrain = plan.settings.retrain
    return plan.with_settings(
        space=dataclasses.replace(plan.settings.space, num_nodes=2),
        retrain=dataclasses.replace(retrain, epochs=epochs, network=dataclasses.replace(retrain.network, filters=4)),
        data=dataclasses.replace(plan.settings.data, train=200, validation=100),
    )


def jobs_in(folder: Path, plan: Plan) -> list[Job]:
    arch = plan.space.sample(random.Random(0))
    return [Job(arch, folder / str(seed), seed) for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(EPOCHS)


@pytest.fixture(scope="module")
def alone(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trainings one after the other in this process, never stopped."""
    folder = tmp_path_factory.mktemp("alone")
    for job in jobs_in(folder, plan):
        assert retrain(plan, job.model, job.folder, seed=job.seed)
    return folder


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Two cores, no dashboard, a small store: a Ray that a command would find and use."""
    ray = pytest.importorskip("ray", reason="jobs on a cluster need the extra `ray`")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = signal.getsignal(signal.SIGTERM)
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    signal.signal(signal.SIGTERM, before)
    yield ray
    ray.shutdown()


def left_by(folder: Path) -> dict[str, Any]:
    """What trainings leave that has no clock in it: logs, results, and tensors to the bit."""
    left: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in ("metrics.jsonl", "result.json"):
            left[str(path.relative_to(folder))] = path.read_bytes()
        elif path.name == CHECKPOINT:
            tensors = load_file(path)
            left |= {f"{path.relative_to(folder)}:{key}": tensor.numpy().tobytes() for key, tensor in tensors.items()}
    assert len(left) > 100
    return left


def begins(folder: Path) -> list[int]:
    """The epochs that a training began at, where that reached the disk."""
    lines = map(json.loads, (folder / "timing.jsonl").read_text().splitlines())
    return [line["epoch"] for line in lines if line["event"] == "begin"]


@pytest.mark.slow
def test_a_killed_worker_changes_nothing_and_loses_what_came_after_a_checkpoint(
    ray: Any, plan: Plan, alone: Path, tmp_path: Path
) -> None:
    """The first of three trainings stands at a checkpoint after three epochs. A worker goes on with
    it, and is killed."""
    jobs, ended, killed = jobs_in(tmp_path, plan), list[object](), list[int]()

    def heard(event: object) -> None:
        ended.extend([event] if isinstance(event, TrainEpochEnd) else [])

    first = jobs[0]
    assert retrain(plan, first.model, first.folder, listen=heard, stop=lambda: "so" if len(ended) == 3 else None) is None

    def kill() -> None:
        lease = first.folder / ".lease"
        while not (lease.exists() and lease.stat().st_size):
            time.sleep(0.01)
        time.sleep(0.1)  # in the middle
        killed.append(json.loads(lease.read_bytes())["pid"])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    events = list[Any]()
    results, why = retrain_many(plan, jobs, jobs="ray", listen=events.append)
    killer.join()
    assert killed[0] != os.getpid()
    assert why is None
    assert results == [Result.find(alone / str(seed)) for seed in range(SEEDS)]
    assert left_by(tmp_path) == left_by(alone)
    assert begins(first.folder) == [0, 3], "what the killed worker wrote after the checkpoint never was"
    assert events[-1] == Trained(SEEDS * EPOCHS, SEEDS * EPOCHS, SEEDS, SEEDS)


@pytest.mark.slow
def test_a_stop_saves_what_is_at_work_and_the_same_command_goes_on(
    ray: Any, plan: Plan, alone: Path, tmp_path: Path
) -> None:
    """Three jobs on two cores: two are at work, one is queued."""
    jobs = jobs_in(tmp_path, plan)
    results, why = retrain_many(
        plan, jobs, jobs="ray", stop=lambda: "time is up" if any((job.folder / ".lease").exists() for job in jobs) else None
    )
    assert why == "time is up"
    assert results[2] is None
    assert not jobs[2].folder.exists()
    assert not any((job.folder / ".lease").exists() for job in jobs)
    results, why = retrain_many(plan, jobs, jobs="ray")
    assert why is None
    assert left_by(tmp_path) == left_by(alone)


TINY = (
    "--epochs 1 --search.warmup-epochs 0 --search.controller-steps 1 --search.architectures 2 --search.probes 0 --threads 1"
    " --data.train 40 --data.validation 40 --task.batch-size 20 --task.reward-batch 20 --network.filters 2"
    " --space.num-layers 3 --retrain.epochs 1 --retrain.task.batch-size 20 --retrain.network.filters 4 --device cpu"
    " --derive.samples 4 --derive.keep 2 --derive.uniform 2 --derive.trainings 6 --derive.rounds 2 --derive.finalists 2"
    " --derive.finalist-steps 2"
)


@pytest.mark.slow
def test_commands_give_on_ray_what_they_give_here(ray: Any, taught_shortly: None, tmp_path: Path) -> None:
    """Short trainings of a derivation and its finalists, the two best from scratch, and whole seeds
    of a sweep."""

    def enas(line: str) -> None:
        assert main(line.split()) == 0, line

    def results(run: Path) -> list[Any]:
        best = [(ranked.id, ranked.shared_weights) for ranked in Best.read(run).ranked]
        trained = [(training.id, training.result) for training in Retrained.read(run).trainings]
        return [best, trained, *(path.read_bytes() for path in sorted(run.rglob("metrics.jsonl")))]

    here, there = tmp_path / "here", tmp_path / "there"
    enas(f"search digits-macro --out {here} {TINY}")
    shutil.copytree(here, there)
    enas(f"derive {here} --jobs 1")
    enas(f"derive {there} --jobs ray")
    enas(f"retrain {here} --top 2")
    enas(f"retrain {there} --top 2 --jobs ray")
    assert results(there) == results(here)
    enas(f"derive {here} --trainings 0 --finalists 4")
    enas(f"derive {there} --trainings 0 --finalists 4 --jobs ray")
    assert results(there) == results(here), "finalists that go on round by round"
    enas(f"sweep digits-macro --seeds 0-1 --out {tmp_path / 'sweep'} --jobs ray --until search {TINY}")
    logs = [
        (folder / "metrics.jsonl").read_bytes() for folder in (here, *((tmp_path / "sweep" / f"seed{k}") for k in (0, 1)))
    ]
    assert logs[0] == logs[1] != logs[2]


def ends_at_first(folder: str) -> str | None:
    """Ends at a signal the first time, as where a machine is taken away; the second time it is
    done."""
    if not (mark := Path(folder) / "begun").exists():
        mark.touch()
        return None
    return "done"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "ray"])
def test_engines_keep_one_contract(where: str, ray: Any, tmp_path: Path) -> None:
    engine: Engine = Processes(2) if where == "local" else RayJobs(Cluster(), 1, False, silent)
    with engine:
        begun = [engine.start(pow, 2, n) for n in range(5)]
        _, waiting = wait(begun, timeout=60)
        assert not waiting
        assert [job.result() for job in begun] == [1, 2, 4, 8, 16]
        with pytest.raises(OSError, match="no space") as raised:
            engine.start(os.stat, str(tmp_path / "no space")).result()
        assert type(raised.value) is FileNotFoundError, "the error itself, as it was raised there"
        engine.stop()


@pytest.mark.parametrize(
    ("jobs", "gpus", "answer"),
    [
        (None, None, None),
        ("3", None, 3),
        (2, None, 2),
        ("ray", None, Cluster()),
        ("ray://head:10001", 0.25, Cluster("ray://head:10001", 0.25)),
        ("ray", 2.0, Cluster("", 2.0)),
    ],
)
def test_what_jobs_asks_for(jobs: Any, gpus: float | None, answer: object) -> None:
    assert asked(jobs, gpus) == answer


@pytest.mark.parametrize(
    ("jobs", "gpus", "why"),
    [
        ("0", None, "--jobs is a number from 1 on, `ray`, or an address"),
        (0, None, "--jobs is a number"),
        ("raya", None, "got 'raya'"),
        ("ray://", None, "got 'ray://'"),
        ("2", 0.5, "--gpus-per-job is of jobs on a cluster"),
        ("ray", 0.0, "a share above 0 and up to 1"),
        ("ray", 1.5, "got 1.5"),
    ],
)
def test_what_jobs_cannot_ask_for(jobs: Any, gpus: float | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        asked(jobs, gpus)


def test_without_ray_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    engine = engine_of(plan_of(1), "ray")
    with pytest.raises(ValueError, match=r"pip install 'enas\[ray\]'"), engine:
        pass


def test_a_gpu_is_asked_for_by_plans_that_use_one() -> None:
    shares = [RayJobs(Cluster("", 0.5), 1, on_gpu, silent).gpus for on_gpu in (False, True)]
    assert shares == [0.0, 0.5]


def test_a_cluster_is_said_with_its_dashboard(capsys: pytest.CaptureFixture[str]) -> None:
    from enas.cli.display import Display

    with Display() as display:
        display(Connected(3, 24, 2, "head:8265"))
        display(Connected(1, 2, 0, ""))
    assert capsys.readouterr().out.strip().splitlines() == [
        "jobs go to Ray: 3 machines, 24 cores, 2 GPUs; dashboard: http://head:8265",
        "jobs go to Ray: 1 machine, 2 cores",
    ]


class Ended:
    """An engine whose jobs have ended when they begin."""

    def __init__(self) -> None:
        self.stopped = 0

    def __enter__(self) -> Ended:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, work: Any, *arguments: Any) -> Any:
        from concurrent.futures import Future

        job: Future[Any] = Future()
        job.set_running_or_notify_cancel()
        job.set_result(work(*arguments))
        return job

    def stop(self) -> None:
        self.stopped += 1


def test_a_job_that_its_machine_stopped_begins_again(tmp_path: Path) -> None:
    engine, finished = Ended(), list[Any]()
    results, why = run_all(
        engine,
        ends_at_first,
        [(str(tmp_path),), (str(tmp_path),)],
        told=lambda results: None,
        stop=lambda: None,
        finished=lambda i, result: finished.append((i, result)),
    )
    assert (results, why, engine.stopped) == (["done", "done"], None, 0)
    assert sorted(finished) == [(0, "done"), (1, "done")]


def test_a_flag_that_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["table", "build", "digits-micro", "--out", str(tmp_path / "t.json"), "--jobs", "many"]) == 2
    assert "--jobs is a number from 1 on" in capsys.readouterr().err
