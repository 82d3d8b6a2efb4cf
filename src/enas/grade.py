"""A finished search held against a table of the truth: `enas oracle RUN --table FILE`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enas.architecture import Architecture
from enas.assemble import Setup
from enas.compare import uniform_architectures
from enas.drive import silent
from enas.ranking import rank
from enas.run import RunFolder, read_json
from enas.space import wire


def grade(
    run: str | Path, truth: Mapping[Architecture, float], cells: int, *, batches: int = 4, listen: Any = silent
) -> dict[str, Any]:
    """A search held against the truth (architecture to percent): where its derived architecture stands, and how the shared
    weights rank `cells` uniform architectures on `batches` validation minibatches, beside rankers that cost nothing.

    `listen` is called with a text after each architecture. ValueError for a run of another space."""
    path = Path(run)
    folder = RunFolder.open(path)
    plan = Setup.of(folder.config)
    if not truth or next(iter(truth)).space != plan.space.spec:
        raise ValueError(f"the table is of another space than '{path}', which searches {plan.space.name}")
    procedure = plan.search()
    procedure.load(folder.read_checkpoint())
    net = procedure.supernet
    task: Any = procedure.task
    kinds = ("accuracy", "loss")
    by_kind = {kind: copy.copy(task) for kind in kinds}
    for kind, other in by_kind.items():
        other.settings = dataclasses.replace(task.settings, reward=kind)
    archs = uniform_architectures(plan.space, cells, plan.seed)
    scores: dict[str, list[float]] = {f"shared weights, {kind}": [] for kind in kinds}
    for i, arch in enumerate(archs):
        for kind in kinds:
            rewards = [by_kind[kind].reward(net, arch, by_kind[kind].reward_batch(batch)) for batch in range(batches)]
            scores[f"shared weights, {kind}"].append(sum(rewards) / batches)
        listen(f"scoring architecture {i + 1} of {cells}")
    scores["number of parameters"] = [float(net.num_parameters(arch)) for arch in archs]
    scores["number of operations that are there"] = [
        float(sum(len(node.edges) for cell in wire(plan.space, arch).values() for node in cell.nodes)) for arch in archs
    ]
    true = [truth[arch] for arch in archs]
    derived = None
    if (path / "best.json").exists():
        arch = Architecture.from_dict(read_json(path / "best.json")["ranked"][0])
        better = sum(value > truth[arch] for value in truth.values())
        derived = {"id": arch.id, **arch.to_dict(), "score": truth[arch], "rank": better + 1,
                   "better_than": sum(value < truth[arch] for value in truth.values()) / len(truth)}  # fmt: skip
    return {
        "run": path.name,
        "epochs": procedure.epoch,
        "space_size": len(truth),
        "derived": derived,
        "uniform_mean": sum(true) / len(true),
        "rankings": [rank(name, values, true).to_dict() for name, values in scores.items()],
    }
