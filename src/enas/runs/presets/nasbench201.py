"""This module holds the recipes of NAS-Bench-201 cells on CIFAR-10, half of whose 50,000 training
images validate (Dong & Yang 2020)."""

from __future__ import annotations

import dataclasses

from enas.data.settings import DataSettings
from enas.networks.settings import NasBench201NetworkSettings
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.runs.settings import Config, RetrainConfig
from enas.spaces.nasbench201 import NasBench201Settings
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.settings import ImageClassificationSettings

NasBench201Config = Config[
    NasBench201Settings, NasBench201NetworkSettings, DataSettings, ImageClassificationSettings, ReinforceSettings
]
HALVES = DataSettings(train=25_000, validation=25_000)


def nasbench201_paper() -> NasBench201Config:
    """This recipe is the one published with the benchmark: its training of a cell, and its ENAS
    search."""
    network = NasBench201NetworkSettings()
    return Config(
        space=NasBench201Settings(),
        network=network,
        data=HALVES,
        task=ImageClassificationSettings(batch_size=64, reward_batch=512),
        search=SearchSettings(
            epochs=250,
            controller_steps=50,
            architectures=20,
            optimizer=OptimizerSettings(schedule="cosine", learning_rate=0.025, weight_decay=5e-4),
        ),
        strategy=ReinforceSettings(
            controller=ControllerSettings(hidden=32, temperature=5.0, tanh_constant=2.5),
            learning_rate=1e-3,
            entropy_weight=1e-4,
        ),
        derive=DeriveSettings(samples=100, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=200,
            train_on="train+validation",
            optimizer=OptimizerSettings(schedule="cosine", learning_rate=0.1, min_learning_rate=0.0, weight_decay=5e-4),
            network=network,
            task=ImageClassificationSettings(batch_size=256),
        ),
    )


def nasbench201_modern() -> NasBench201Config:
    """This recipe ranked best against the truth (docs/log, 2026-11-29). It spends next to nothing
    on shared weights. Of random cells those with the most parameters are kept, and of these the
    ones that progressivity prefers. Short trainings from scratch at full depth decide among the
    last ones."""
    quick = nasbench201_quick()
    deep = dataclasses.replace(quick.network, cells=5)
    task = dataclasses.replace(quick.task, batch_size=64)
    return dataclasses.replace(
        quick,
        task=task,
        search=dataclasses.replace(quick.search, epochs=1, warmup_epochs=1),
        derive=DeriveSettings(
            samples=4000,
            draw="uniform",
            shortlist=4,
            shortlist_by=("parameters", "progressivity"),
            score_on="minibatch",
            uniform=0,
            finalists=4,
            finalist_steps=75,
        ),
        retrain=dataclasses.replace(quick.retrain, network=deep, task=task),
    )


def nasbench201_quick() -> NasBench201Config:
    """This recipe takes ten minutes on two cores. It has one cell per stage, 8 channels, and images
    of half the size."""
    optimizer = OptimizerSettings(
        schedule="cosine", learning_rate=0.1, min_learning_rate=0.0, weight_decay=3e-4, warmup_steps=100, grad_clip=5.0
    )
    network = NasBench201NetworkSettings(filters=8, cells=1, stem_stride=2)
    task = ImageClassificationSettings(batch_size=128, reward="loss", reward_batch=256)
    return Config(
        space=NasBench201Settings(),
        network=network,
        data=HALVES,
        task=task,
        search=SearchSettings(epochs=16, warmup_epochs=12, controller_steps=20, architectures=10, optimizer=optimizer),
        strategy=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=100, score_on="validation", keep=10),
        retrain=RetrainConfig(
            epochs=6,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, filters=16),
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )
