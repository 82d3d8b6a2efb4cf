"""This module holds the recipes of convolutional cells: `cifar10-micro`, `digits-micro`,
`scattered-micro` (paper 2.4, 3.2)."""

from __future__ import annotations

import dataclasses

from enas.data.settings import DataSettings
from enas.networks.settings import MicroSettings
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.runs.settings import Config, RetrainConfig
from enas.spaces.conv_micro import ConvMicroSettings
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.settings import ImageClassificationSettings

MicroConfig = Config[ConvMicroSettings, MicroSettings, DataSettings, ImageClassificationSettings, ReinforceSettings]


# ---------------------------------------------------------------------------------- cifar10-micro
def cifar10_micro_paper() -> MicroConfig:
    """This recipe is the paper's (2.2, 2.4, 3.2). Where the text does not say, it has the released
    code's value."""
    optimizer = OptimizerSettings()
    network = MicroSettings(filters=20, cells=6, dropout=0.1)
    task = ImageClassificationSettings(batch_size=128, reward_batch=128)
    return Config(
        space=ConvMicroSettings(),
        network=network,
        data=DataSettings(),
        task=task,
        search=SearchSettings(optimizer=optimizer),
        strategy=ReinforceSettings(controller=ControllerSettings(after_anchor="previous"), entropy="mean"),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=310,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, filters=36, dropout=0.2),
            task=task,
        ),
    )


def cifar10_micro_released() -> MicroConfig:
    """This recipe is that of the released code: its scripts cifar10_micro_search.sh and
    cifar10_micro_final.sh, and the values in its sources."""
    search_optimizer = OptimizerSettings(min_learning_rate=0.0005, per_epoch=True, weight_decay=2e-4)
    task = ImageClassificationSettings(batch_size=160, reward_batch=160)
    return Config(
        space=ConvMicroSettings(prior="released"),
        network=MicroSettings(filters=20, cells=2, dropout=0.1, aux_weight=0.4),
        data=DataSettings(),
        task=task,
        search=SearchSettings(epochs=150, controller_steps=30, architectures=10, optimizer=search_optimizer),
        strategy=ReinforceSettings(
            controller=ControllerSettings(
                hidden=64, temperature=1.0, tanh_constant=1.1, op_tanh_constant=0.44, lstm_bias=False
            ),
            learning_rate=0.0035,
            adam_beta1=0.0,
            adam_eps=1e-3,
            entropy_weight=1e-4,
            baseline_start=0.0,
        ),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=630,
            train_on="train+validation",
            optimizer=OptimizerSettings(min_learning_rate=0.0001, per_epoch=True, weight_decay=4e-4),
            network=MicroSettings(filters=36, cells=5, dropout=0.2, drop_path=0.4, aux_weight=0.4, extra_calibration=True),
            task=dataclasses.replace(task, batch_size=144),
        ),
    )


def cifar10_micro_modern() -> MicroConfig:
    """This recipe departs from `paper` where that is thought to matter. None of it is measured at
    this size yet."""
    optimizer = OptimizerSettings(schedule="cosine", min_learning_rate=0.0, weight_decay=3e-4, grad_clip=5.0)
    return Config(
        space=ConvMicroSettings(),
        network=MicroSettings(filters=20, cells=2, dropout=0.1, aux_weight=0.4),
        data=DataSettings(),
        task=ImageClassificationSettings(batch_size=128, reward="loss", reward_batch=256),
        search=SearchSettings(epochs=150, warmup_epochs=50, controller_steps=100, architectures=10, optimizer=optimizer),
        strategy=ReinforceSettings(learning_rate=3.5e-3, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=200, score_on="validation", keep=20),
        retrain=RetrainConfig(
            epochs=600,
            train_on="train",
            optimizer=optimizer,
            network=MicroSettings(filters=36, cells=6, dropout=0.2, drop_path=0.2, aux_weight=0.4),
            task=ImageClassificationSettings(batch_size=96, cutout=16, label_smoothing=0.1),
        ),
    )


def cifar10_micro_quick() -> MicroConfig:
    """This recipe takes half an hour on two cores for search, derivation and retraining. It has B =
    7 and a small, shallow network."""
    optimizer = OptimizerSettings(
        schedule="cosine", learning_rate=0.1, min_learning_rate=0.0, weight_decay=3e-4, warmup_steps=200, grad_clip=5.0
    )
    network = MicroSettings(filters=12, cells=1, stem_stride=2, dropout=0.0, head_norm=True)
    task = ImageClassificationSettings(batch_size=64, reward="loss", reward_batch=128)
    return Config(
        space=ConvMicroSettings(),
        network=network,
        data=DataSettings(),
        task=task,
        search=SearchSettings(epochs=4, warmup_epochs=2, controller_steps=30, architectures=10, optimizer=optimizer),
        strategy=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=50, score_on="validation", keep=5),
        retrain=RetrainConfig(
            epochs=6,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, filters=16),
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )


# ----------------------------------------------------------------------------------- digits-micro
def digits_micro_quick() -> MicroConfig:
    """This recipe trains on 400 of scikit-learn's 8x8 digits, validates on 400 and tests on 997:
    few enough that a difference shows. Shared weights favour pooling here, so short trainings from
    scratch decide between the policy's best and random architectures (docs/log)."""
    optimizer = OptimizerSettings(
        schedule="cosine", learning_rate=0.1, min_learning_rate=0.0, weight_decay=3e-4, grad_clip=5.0
    )
    network = MicroSettings(filters=8, cells=1, reductions=1, stem_multiplier=1, dropout=0.0, head_norm=True)
    task = ImageClassificationSettings(batch_size=50, pad=1, flip=False, reward="loss", reward_batch=100)
    return Config(
        space=ConvMicroSettings(),
        network=network,
        data=DataSettings(dataset="digits", train=400, validation=400),
        task=task,
        search=SearchSettings(
            epochs=48,
            warmup_epochs=36,
            children=2,
            controller_steps=6,
            architectures=8,
            optimizer=dataclasses.replace(optimizer, learning_rate=0.3),
        ),
        strategy=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=40, draw="both", keep=10, uniform=0, finalists=8, finalist_steps=64),
        retrain=RetrainConfig(
            epochs=20,
            train_on="train",
            optimizer=optimizer,
            network=network,
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )


# -------------------------------------------------------------------------------- scattered-micro
def scattered_micro_quick() -> MicroConfig:
    """This recipe searches cells of two nodes on scattered digits, where architecture matters: the
    standard deviation between cells is 2.6 times that between seeds (600 cells; docs/log,
    2026-11-29).

    It has no 5x5 convolution, because cells full of convolutions are alike. Its four passes from
    scratch use AdamW, because with SGD it is luck at which moment a cell begins to learn.
    """
    like = digits_micro_quick()
    optimizer = dataclasses.replace(
        like.retrain.optimizer, kind="adamw", learning_rate=0.01, weight_decay=0.0, warmup_steps=20
    )
    network = dataclasses.replace(like.network, filters=16)
    task = dataclasses.replace(like.task, pad=0)
    return dataclasses.replace(
        like,
        space=ConvMicroSettings(num_nodes=2, ops=("sep_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "identity")),
        network=network,
        data=DataSettings(dataset="scattered", train=2000, validation=500),
        task=task,
        search=dataclasses.replace(like.search, epochs=10, warmup_epochs=7, controller_steps=24),
        derive=DeriveSettings(samples=40, draw="both", uniform=0, trainings=24, rounds=4, finalists=4, finalist_steps=160),
        retrain=dataclasses.replace(
            like.retrain,
            epochs=4,
            optimizer=optimizer,
            network=network,
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )
