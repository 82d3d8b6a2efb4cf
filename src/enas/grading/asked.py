"""This module holds what `enas compare`, `enas oracle`, `enas table` and `enas judges` are asked
for, from the command line or from Python. It does not import torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from enas.ranges import Range, at_least, check_ranges

CELLS = 16  # number of random architectures that a verdict compares with, where nobody says another
Column = Annotated[str | None, arg(help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """These settings say which parts a comparison has. A verdict needs at least 2 seeds and 2
    random architectures."""

    cells: Annotated[int | None, arg(help_behavior_hint="")] = None
    """Number of random architectures to train (default: 16, or all others of a smaller space).
    With 16 or more, rankings mean something."""
    seeds: int = 4
    """Number of trainings of the derived architecture."""
    cell_seeds: int = 1
    """Number of trainings of each random architecture."""
    references: tuple[str, ...] = ()
    """Hand-designed models of the same size to train too: lstm, rhn; resnet, densenet_bc."""
    sharing: bool = False
    """Search again with random children (random search with weight sharing), and train its best."""
    rivals: bool = False
    """Train three rivals too, each found in as much processor time,
    and name the strongest in the verdict.
    They are the best of random architectures after short trainings,
    the one with the most parameters,
    and the one that short trainings find without shared weights."""
    disabled: int = 0
    """Test an ensemble of this many architectures of a controller that never learns (3.3: 250)."""
    local: int = 0
    """Train this many changed networks for each of the paper's local-optimum studies (3.1, 3.2)."""
    single: int = 0
    """Train this many of the networks that differ in a single answer (beyond the paper)."""
    all: bool = False
    """Stands for --rivals --sharing --disabled 250 --local 8 --single 16;
    numbers that are given stay."""

    def __post_init__(self) -> None:
        check_ranges(self, "", cells=at_least(2), seeds=at_least(2), cell_seeds=at_least(1))
        lowest = {"disabled": 2, "local": 1, "single": 2}
        check_ranges(self, "", **{n: Range(f"0 or at least {low}", low) for n, low in lowest.items() if getattr(self, n)})

    def completed(self, learns: bool, has_studies: bool, averages: bool = True) -> Wanted:
        """Returns the settings that `all` stands for: every experiment that makes sense for a
        run. Without `averages`, there is no ensemble of a disabled controller."""
        if not self.all:
            return self
        local, single = self.local or 8 * has_studies, self.single or 16
        disabled = self.disabled or 250 * averages
        return dataclasses.replace(self, rivals=True, sharing=learns, disabled=disabled, local=local, single=single)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """These settings say how strategies and searches are compared with a table."""

    queries: int = 300
    """Number of architectures that a strategy may ask for."""
    seeds: int = 100
    """Number of seeds of each strategy."""
    reward: Column = None
    """Column that is told as the reward.
    nasbench201: cifar10_valid_ep12, a short training, on validation images.
    nasbench_macro: test_acc_1, the first of its three runs, on test images."""
    score: Column = None
    """Column that counts.
    nasbench201: cifar10_test_ep200, the full training, on test images.
    nasbench_macro: mean_acc, the mean of its three runs, on test images."""
    cells: int = 200
    """Number of random architectures that a run's shared weights score."""

    def __post_init__(self) -> None:
        check_ranges(self, "", queries=at_least(1), seeds=at_least(2), cells=at_least(6))


@dataclass(frozen=True, kw_only=True)
class TableWanted:
    """These settings say how many architectures a table has, and how often each is trained."""

    cells: int = 100
    """Number of random architectures; a space with no more has all of its own."""
    seeds: int = 1
    """Number of trainings of each architecture."""
    best: int = 0
    """Number of the best that get --more-seeds trainings, by their test figures so far."""
    repeats: int = 10
    """Number of architectures, the first drawn, that get --more-seeds too.
    The noise is measured on them."""
    more_seeds: int = 3
    """Number of trainings of these architectures."""
    seed: int = 0
    """Seed of the draw, and, with their own seeds, of the trainings."""

    def __post_init__(self) -> None:
        counts = {"cells": at_least(1), "seeds": at_least(1), "best": at_least(0), "repeats": at_least(0)}
        check_ranges(self, "", **counts, more_seeds=at_least(1))


@dataclass(frozen=True, kw_only=True)
class JudgesWanted:
    """These settings say which judges are compared with a table, and on how many architectures."""

    cells: int = 100
    """Number of random architectures of the table that every judge is asked for."""
    passes: tuple[int, ...] = (10, 40)
    """Numbers of passes over the training data after which shared weights are asked."""
    batches: int = 4
    """Number of validation minibatches that shared weights are asked on."""
    steps: tuple[int, ...] = (160,)
    """Numbers of steps of short trainings."""
    teachers: tuple[int, ...] = (16, 32, 64)
    """Numbers of short trainings that teach a regression."""
    led: int = 20
    """Number of architectures besides, that a search by shared weights leads to:
    the shared weights of the most passes prefer them among 20 times as many of the table."""
    recipe: Annotated[str | None, arg(help_behavior_hint="")] = None
    """Recipe of the preset (default: its own)."""
    data: Annotated[str | None, arg(help_behavior_hint="")] = None
    """Folder of the data set."""
    seed: int = 0
    """Seed of the sample, the weights and the trainings."""

    def __post_init__(self) -> None:
        check_ranges(self, "", cells=at_least(12), batches=at_least(1), led=at_least(0))
        for name in ("passes", "steps", "teachers"):
            if any(n < 1 for n in getattr(self, name)):
                raise ValueError(f"--{name} are numbers of at least 1; got {' '.join(map(str, getattr(self, name)))}")
