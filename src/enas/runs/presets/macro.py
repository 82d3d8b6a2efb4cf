"""This module holds the recipes of whole convolutional networks: `cifar10-macro`, `digits-macro`
(paper 2.3, 3.2)."""

from __future__ import annotations

import dataclasses

from enas.data.settings import DataSettings
from enas.networks.settings import MacroSettings
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.runs.presets.micro import cifar10_micro_modern, cifar10_micro_quick, digits_micro_quick
from enas.runs.settings import Config, RetrainConfig
from enas.spaces.conv_macro import ConvMacroSettings
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.settings import ImageClassificationSettings

MacroConfig = Config[ConvMacroSettings, MacroSettings, DataSettings, ImageClassificationSettings, ReinforceSettings]


# ---------------------------------------------------------------------------------- cifar10-macro
def cifar10_macro_paper() -> MacroConfig:
    """This recipe is the paper's (2.3, 3.2, appendix B). Where the text does not say, it has the
    released code's value."""
    optimizer = OptimizerSettings()
    task = ImageClassificationSettings(batch_size=128, reward_batch=128)
    return Config(
        space=ConvMacroSettings(),
        network=MacroSettings(filters=36, dropout=0.1),
        data=DataSettings(),
        task=task,
        search=SearchSettings(optimizer=optimizer),
        strategy=ReinforceSettings(controller=ControllerSettings(after_anchor="previous"), entropy="mean"),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=310,
            train_on="train",
            optimizer=optimizer,
            network=MacroSettings(filters=96, double_filters=True, dropout=0.5),
            task=task,
        ),
    )


def cifar10_macro_released() -> MacroConfig:
    """This recipe is that of the released code: its scripts cifar10_macro_search.sh and
    cifar10_macro_final.sh, and the values in its sources. The released final network has 24 layers;
    here it has the 12 of the search."""
    task = ImageClassificationSettings(batch_size=128, reward_batch=128)
    return Config(
        space=ConvMacroSettings(form="released"),
        network=MacroSettings(filters=36, dropout=0.1, entry_conv=True),
        data=DataSettings(),
        task=task,
        search=SearchSettings(
            epochs=310,
            controller_steps=50,
            architectures=20,
            optimizer=OptimizerSettings(min_learning_rate=0.0005, per_epoch=True, weight_decay=5e-4),
        ),
        strategy=ReinforceSettings(
            controller=ControllerSettings(
                hidden=64, temperature=1.0, tanh_constant=1.5, after_anchor="previous", lstm_bias=False
            ),
            learning_rate=0.001,
            adam_beta1=0.0,
            adam_eps=1e-3,
            entropy_weight=1e-4,
            skip_penalty="layer_mean",
            terms="exact",
            baseline_start=0.0,
        ),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=310,
            train_on="train+validation",
            optimizer=OptimizerSettings(per_epoch=True, weight_decay=4e-4),
            network=MacroSettings(filters=96, double_filters=True, dropout=0.5, entry_conv=True),
            task=dataclasses.replace(task, batch_size=100),
        ),
    )


def cifar10_macro_modern() -> MacroConfig:
    """This recipe departs from `paper` as `modern` of cifar10-micro does. None of it is measured at
    this size yet (docs/decisions.md)."""
    like = cifar10_micro_modern()
    return Config(
        space=ConvMacroSettings(),
        network=MacroSettings(filters=36, dropout=0.1),
        data=like.data,
        task=like.task,
        search=like.search,
        strategy=like.strategy,
        derive=like.derive,
        retrain=RetrainConfig(
            epochs=310,
            train_on="train",
            optimizer=like.retrain.optimizer,
            network=MacroSettings(filters=96, double_filters=True, dropout=0.3),
            task=ImageClassificationSettings(batch_size=128, cutout=16, label_smoothing=0.1),
        ),
    )


def cifar10_macro_quick() -> MacroConfig:
    """This recipe has 12 layers of small width, and the search of `quick` of cifar10-micro."""
    like = cifar10_micro_quick()
    network = MacroSettings(filters=12, double_filters=True, stem_stride=2, dropout=0.0)
    return Config(
        space=ConvMacroSettings(),
        network=network,
        data=like.data,
        task=like.task,
        search=like.search,
        strategy=like.strategy,
        derive=like.derive,
        retrain=RetrainConfig(
            epochs=10,
            train_on="train",
            optimizer=like.retrain.optimizer,
            network=dataclasses.replace(network, filters=16),
            task=like.retrain.task,
        ),
    )


# ----------------------------------------------------------------------------------- digits-macro
def digits_macro_quick() -> MacroConfig:
    """This recipe has six layers, and the data of `digits-micro`."""
    like = digits_micro_quick()
    network = MacroSettings(filters=8, dropout=0.0)
    return Config(
        space=ConvMacroSettings(num_layers=6),
        network=network,
        data=like.data,
        task=like.task,
        search=dataclasses.replace(
            like.search,
            optimizer=dataclasses.replace(like.search.optimizer, learning_rate=0.1),
            epochs=40,
            warmup_epochs=28,
        ),
        strategy=like.strategy,
        derive=DeriveSettings(samples=50, score_on="validation", keep=10),
        retrain=RetrainConfig(
            epochs=20, train_on="train", optimizer=like.retrain.optimizer, network=network, task=like.retrain.task
        ),
    )
