"""Two ranks of one thread each against one process of one thread, at M = 2: the time of an epoch of
a search, and what is sent.

    python -m benchmarks.ranks [--preset digits-micro] [--filters 48] [--rounds 5]

In a round one process and two ranks do an epoch each, in turn; the first of a round changes. Both
phases count, logs and checkpoints do not. `fixed`: both children of a step are the first random
one, so that ranks have the same work; `drawn`: random ones, of which the dearer is waited for.

Two cores must be free: `processor` says what a process worked, wall time what it took, so that a
busy machine shows. `ratio_processor` is the busier rank's processor time over that of the one
process: what wall time would be on a quiet machine where ranks wait for nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any


def epoch(procedure: Any, run: Any) -> dict[str, float]:
    """Goes on to the end of an epoch; seconds of wall and of this process, by phase."""
    from enas.procedures.events import EpochEnd

    phases = {"shared": 0.0, "controller": 0.0}
    sent, waited = procedure.ranks.sent, procedure.ranks.waited
    start, worked, steps = time.perf_counter(), time.process_time(), 0
    last = start
    for event in run:
        now = time.perf_counter()
        if isinstance(event, EpochEnd):
            break
        phases[event.phase] += now - last
        steps += event.phase == "shared"
        last = now
    figures = {"wall": time.perf_counter() - start, "processor": time.process_time() - worked}
    sent, waited = procedure.ranks.sent - sent, procedure.ranks.waited - waited
    return {**figures, **phases, "sent_per_step": sent / steps, "adding_up": waited}


def worker(rank: int, size: int, port: int, asked: dict[str, Any], orders: Connection) -> None:
    """Does an epoch whenever it is told to; which children, the order says."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from enas.procedures import ranks as module
    from enas.procedures.ranks import joined
    from enas.runs.planning import make_plan

    class Timed(module.Ranks):
        waited = 0.0

        def add_up(self, parameters: Any) -> None:
            start = time.perf_counter()
            super().add_up(parameters)
            self.waited += time.perf_counter() - start

    plan = make_plan(asked["preset"], asked["recipe"], data=asked["data"], device="cpu", threads=1)
    for group, name in (("network", "filters"), ("network", "hidden"), ("data", "train"), ("search", "controller_steps")):
        if asked[name] is not None:
            changed = dataclasses.replace(getattr(plan.settings, group), **{name: asked[name]})
            plan = plan.with_settings(**{group: changed})
    settings = dataclasses.replace(plan.settings.search, epochs=10_000, warmup_epochs=0, children=2)
    with joined("cpu") as here:
        procedures = {}
        for name in ("fixed", "drawn"):
            procedure = plan.with_settings(search=settings).search(Timed(here.rank, here.size))
            if name == "fixed":
                (arch,) = procedure.uniform.ask(1)
                procedure._who_draws = lambda arch=arch: Fixed(arch)  # type: ignore[method-assign, misc]
            else:
                procedure._who_draws = lambda procedure=procedure: procedure.uniform  # type: ignore[method-assign, misc]
            procedures[name] = procedure, procedure.run()
        weights = sum(p.numel() * p.element_size() for p in procedure.supernet.parameters())
        orders.send({"weights": weights})
        while (name := orders.recv()) is not None:
            orders.send(epoch(*procedures[name]))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Fixed:
    """In the place of who draws children."""

    def __init__(self, arch: Any):
        self.arch = arch

    def ask(self, n: int) -> list[Any]:
        return [self.arch] * n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits-micro")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    for name, about in (
        ("filters", "of images"),
        ("hidden", "units, of text"),
        ("train", "images or tokens to train on"),
        ("controller_steps", "of an epoch"),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{about}; without it, the recipe's")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    groups: dict[int, list[Connection]] = {}
    processes = []
    for size in (1, 2):
        port = free_port()
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=worker, args=(rank, size, port, vars(args), theirs), daemon=True)
            process.start()
            processes.append(process)
            groups.setdefault(size, []).append(mine)
    (weights,) = {orders.recv()["weights"] for group in groups.values() for orders in group}

    def told(size: int, name: str) -> list[dict[str, float]]:
        for orders in groups[size]:
            orders.send(name)
        return [orders.recv() for orders in groups[size]]

    for name in ("fixed", "drawn"):
        rounds = []
        for round_ in range(-1, args.rounds):
            order = (1, 2) if round_ % 2 else (2, 1)
            figures = {size: told(size, name) for size in order}
            if round_ >= 0:  # the first is to warm up
                rounds.append((figures[1][0], figures[2]))

        def middle(key: str, rounds: Any = rounds) -> tuple[float, float, float]:
            """The medians of one process, of the larger of two ranks, and of their ratio in a
            round."""
            pairs = [(one[key], max(rank[key] for rank in two)) for one, two in rounds]
            return *map(median, zip(*pairs, strict=True)), median(b / a for a, b in pairs)

        asked = {key: value for key, value in vars(args).items() if value is not None and key != "data"}
        row: dict[str, Any] = {**asked, "children": name}
        for key in ("wall", "processor", "shared", "controller"):
            one, two, ratio = middle(key)
            row |= {f"{key}_one": round(one, 3), f"{key}_two": round(two, 3), f"ratio_{key}": round(ratio, 3)}
        row["ratio_wall_all"] = sorted(round(max(r["wall"] for r in two) / one["wall"], 3) for one, two in rounds)
        row["adding_up_share"] = round(median(min(r["adding_up"] for r in two) / two[0]["wall"] for _, two in rounds), 4)
        row["sent_per_step"] = round(median(two[0]["sent_per_step"] for _, two in rounds))
        row |= {"weights_bytes": weights, "sent_share": round(row["sent_per_step"] / weights, 4)}
        print(json.dumps(row), flush=True)
    for group in groups.values():
        for orders in group:
            orders.send(None)
    for process in processes:
        process.join(30)


if __name__ == "__main__":
    main()
