"""This module implements the disabled controller (paper 3.3). Shared weights are trained on
architectures of a controller that never learns. Then they are scored one architecture at a time,
and as an ensemble whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean, stdev

import torch

from enas.data.parts import Part
from enas.networks.supernet import Supernet
from enas.procedures.events import Member
from enas.spaces.architecture import Architecture
from enas.state import Record, State
from enas.tasks.metrics import Metric
from enas.tasks.task import Task


class Ensemble:
    """An `Ensemble` scores architectures with shared weights on a part of the data. `state` holds
    what is done so far."""

    def __init__(self, task: Task, net: Supernet, archs: Sequence[Architecture], part: Part = "test"):
        """Takes the architectures. Raises a ValueError for fewer than two, which have no standard
        deviation."""
        if len(archs) < 2:
            raise ValueError(f"an ensemble has at least 2 architectures; got {len(archs)}")
        self.task, self.net, self.archs, self.part = task, net, list(archs), part
        self.single: list[float] = []  # the task's metric of each architecture
        self.sum: torch.Tensor | None = None

    def run(self) -> Iterator[Member]:
        """Goes on from where the state is, to the end."""
        for arch in self.archs[len(self.single) :]:
            probabilities = self.task.probabilities(self.net, arch, self.part)
            self.single.append(self.task.judged(probabilities, self.part)[self.task.metric.name])
            self.sum = probabilities if self.sum is None else self.sum.to(probabilities.device) + probabilities
            yield Member(len(self.single), len(self.archs))

    def state(self) -> State:
        return State({} if self.sum is None else {"sum": self.sum}, {"single": self.single})

    def load(self, state: State) -> None:
        self.single, self.sum = list(state.values["single"]), state.tensors.get("sum")

    def result(self, metric: Metric) -> Record:
        """Returns the mean and standard deviation of single architectures, and the ensemble's
        figure, on the scale on which they are shown."""
        assert self.sum is not None
        whole = self.task.judged(self.sum / len(self.single), self.part)
        single = [metric.shown(value) for value in self.single]
        return {
            "metric": metric.name,
            "mean": mean(single),
            "spread": stdev(single),
            "ensemble": metric.shown(whole[metric.name]),
            "configurations": len(single),
        }
