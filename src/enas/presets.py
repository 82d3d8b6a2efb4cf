"""Presets: which space, network, task and data go together, and with which settings. No other file names combinations.

A preset has recipes: `paper` (what the text says; the released code's value where the text is silent), `released` (what the
authors' released code does), `modern` (what is thought or measured to work better; docs/decisions.md says which), `quick`
(minutes on two CPU cores). All settings of a recipe are plain dataclasses, printed by `enas presets show` and compared by
`enas presets diff`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from enas.backbones import REFERENCES
from enas.backbones.macro import MacroSettings
from enas.backbones.micro import MicroSettings
from enas.backbones.recurrent import RecurrentSettings
from enas.config import Config, DataSettings, Preset, RetrainConfig
from enas.controller import ControllerSettings
from enas.data.text import TextSettings
from enas.derive import DeriveSettings
from enas.search import SearchSettings
from enas.spaces.conv_macro import ConvMacroSettings
from enas.spaces.conv_micro import ConvMicroSettings
from enas.spaces.rnn_cell import CORRECTED_OPS, RnnCellSettings
from enas.strategies.reinforce import ReinforceSettings
from enas.tasks.image_classification import ImageClassificationSettings
from enas.tasks.language_model import LanguageModelSettings
from enas.training import OptimizerSettings

MicroConfig = Config[ConvMicroSettings, DataSettings, MicroSettings, ImageClassificationSettings]
MacroConfig = Config[ConvMacroSettings, DataSettings, MacroSettings, ImageClassificationSettings]
TextConfig = Config[RnnCellSettings, TextSettings, RecurrentSettings, LanguageModelSettings]


# ------------------------------------------------------------------------------------------------ cifar10-micro
def cifar10_micro_paper() -> MicroConfig:
    """Paper 2.2, 2.4, 3.2; where the text is silent, the released code's value."""
    optimizer = OptimizerSettings()
    network = MicroSettings(filters=20, cells=6, dropout=0.1)
    task = ImageClassificationSettings(batch_size=128, reward_batch=128)
    return Config(
        space=ConvMicroSettings(),
        network=network,
        data=DataSettings(),
        task=task,
        search=SearchSettings(optimizer=optimizer),
        reinforce=ReinforceSettings(),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=310,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, filters=36, dropout=0.2, merge_norm=False),
            task=task,
        ),
    )


def cifar10_micro_released() -> MicroConfig:
    """Scripts cifar10_micro_search.sh and cifar10_micro_final.sh of the released code, and the values in its sources."""
    search_optimizer = OptimizerSettings(min_learning_rate=0.0005, per_epoch=True, weight_decay=2e-4)
    task = ImageClassificationSettings(batch_size=160, reward_batch=160)
    return Config(
        space=ConvMicroSettings(),
        network=MicroSettings(filters=20, cells=2, dropout=0.1, aux_weight=0.4),
        data=DataSettings(),
        task=task,
        search=SearchSettings(epochs=150, controller_steps=30, architectures=10, optimizer=search_optimizer),
        reinforce=ReinforceSettings(
            controller=ControllerSettings(hidden=64, temperature=1.0, tanh_constant=1.1),
            learning_rate=0.0035,
            entropy_weight=1e-4,
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
    """Departures from `paper` that are thought to matter, none measured at this size yet (docs/decisions.md)."""
    optimizer = OptimizerSettings(schedule="cosine", min_learning_rate=0.0, weight_decay=3e-4, grad_clip=5.0)
    return Config(
        space=ConvMicroSettings(),
        network=MicroSettings(filters=20, cells=2, dropout=0.1, aux_weight=0.4),
        data=DataSettings(),
        task=ImageClassificationSettings(batch_size=128, reward="loss", reward_batch=256),
        search=SearchSettings(epochs=150, warmup_epochs=50, controller_steps=100, architectures=10, optimizer=optimizer),
        reinforce=ReinforceSettings(learning_rate=3.5e-3, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=200, score_on="validation", keep=20),
        retrain=RetrainConfig(
            epochs=600,
            train_on="train",
            optimizer=optimizer,
            network=MicroSettings(filters=36, cells=6, dropout=0.2, drop_path=0.2, aux_weight=0.4),
            task=ImageClassificationSettings(batch_size=96, cutout=16),
        ),
    )


def cifar10_micro_quick() -> MicroConfig:
    """B = 7, a small and shallow network: search, derivation and retraining within half an hour on two cores."""
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
        reinforce=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=50, score_on="validation", keep=5),
        retrain=RetrainConfig(
            epochs=6,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, filters=16),
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )


# ------------------------------------------------------------------------------------------------- digits-micro
def digits_micro_quick() -> MicroConfig:
    """400 of scikit-learn's 8x8 digits train, 400 validate, 997 test: small enough that a difference can show."""
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
        reinforce=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=50, score_on="validation", keep=10),
        retrain=RetrainConfig(
            epochs=20,
            train_on="train",
            optimizer=optimizer,
            network=network,
            task=dataclasses.replace(task, reward="accuracy"),
        ),
    )


# ------------------------------------------------------------------------------------------------ cifar10-macro
def cifar10_macro_paper() -> MacroConfig:
    """Paper 2.3, 3.2, appendix B; where the text is silent, the released code's value."""
    optimizer = OptimizerSettings()
    task = ImageClassificationSettings(batch_size=128, reward_batch=128)
    return Config(
        space=ConvMacroSettings(),
        network=MacroSettings(filters=36, dropout=0.1),
        data=DataSettings(),
        task=task,
        search=SearchSettings(optimizer=optimizer),
        reinforce=ReinforceSettings(),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=310,
            train_on="train",
            optimizer=optimizer,
            network=MacroSettings(filters=96, double_filters=True, dropout=0.5, merge_norm=False),
            task=task,
        ),
    )


def cifar10_macro_released() -> MacroConfig:
    """Scripts cifar10_macro_search.sh and cifar10_macro_final.sh of the released code, and the values in its sources. The
    released final network has 24 layers; a search of 12 is retrained with the 12 that it found."""
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
        reinforce=ReinforceSettings(
            controller=ControllerSettings(hidden=64, temperature=1.0, tanh_constant=1.5),
            learning_rate=0.001,
            entropy_weight=1e-4,
            terms="exact",
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
    """As `modern` of cifar10-micro: none of its departures is measured at this size yet (docs/decisions.md)."""
    like = cifar10_micro_modern()
    return Config(
        space=ConvMacroSettings(),
        network=MacroSettings(filters=36, dropout=0.1),
        data=like.data,
        task=like.task,
        search=like.search,
        reinforce=like.reinforce,
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
    """12 layers at small width, searched as `quick` of cifar10-micro."""
    like = cifar10_micro_quick()
    network = MacroSettings(filters=12, double_filters=True, stem_stride=2, dropout=0.0)
    return Config(
        space=ConvMacroSettings(),
        network=network,
        data=like.data,
        task=like.task,
        search=like.search,
        reinforce=like.reinforce,
        derive=like.derive,
        retrain=RetrainConfig(
            epochs=10,
            train_on="train",
            optimizer=like.retrain.optimizer,
            network=dataclasses.replace(network, filters=16),
            task=like.retrain.task,
        ),
    )


# ------------------------------------------------------------------------------------------------- digits-macro
def digits_macro_quick() -> MacroConfig:
    """Six layers on the digits of `digits-micro`."""
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
        reinforce=like.reinforce,
        derive=like.derive,
        retrain=RetrainConfig(
            epochs=20, train_on="train", optimizer=like.retrain.optimizer, network=network, task=like.retrain.task
        ),
    )


# ------------------------------------------------------------------------------------------------------ ptb-rnn
def ptb_rnn_paper() -> TextConfig:
    """Paper 2.1, 3.1, appendix A; where the text is silent, a released code's value."""
    optimizer = OptimizerSettings(
        learning_rate=20.0, min_learning_rate=0.0, schedule="decay", momentum=0.0, weight_decay=1e-7, grad_clip=0.25
    )
    network = RecurrentSettings(input_dropout=0.75, hidden_dropout=0.25, output_dropout=0.75)
    return Config(
        space=RnnCellSettings(),
        network=network,
        data=TextSettings(),
        task=LanguageModelSettings(),
        search=SearchSettings(epochs=150, optimizer=optimizer),
        reinforce=ReinforceSettings(entropy_weight=1e-4),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=150,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, hidden=787, batch_norm=False, init_range=0.04),  # 24 M parameters
            task=LanguageModelSettings(),
        ),
    )


def ptb_rnn_released() -> TextConfig:
    """The corrected release (google-research/enas_lm), not the first one, which its authors withdrew."""
    optimizer = OptimizerSettings(
        learning_rate=20.0, min_learning_rate=0.0, schedule="constant", momentum=0.0, weight_decay=8e-7, grad_clip=0.1
    )
    network = RecurrentSettings(
        hidden=200,
        batch_norm=False,
        word_dropout=0.1,
        embedding_dropout=0.2,
        input_dropout=0.75,
        hidden_dropout=0.25,
        output_dropout=0.75,
        init_range=0.04,
        softmax_bias=False,
    )
    return Config(
        space=RnnCellSettings(num_nodes=9, ops=CORRECTED_OPS, fixed_input=True, output="all", sharing="edge_op"),
        network=network,
        data=TextSettings(),
        task=LanguageModelSettings(batch_size=128, random_lengths=True, temporal_penalty=1.0, reward_batch=128),
        search=SearchSettings(epochs=600, controller_steps=25, architectures=10, optimizer=optimizer),
        reinforce=ReinforceSettings(
            controller=ControllerSettings(hidden=64, tanh_constant=2.25, init_range=0.01),
            learning_rate=5e-5,
            entropy_weight=1e-5,
            baseline_decay=0.999,
        ),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=3000,
            train_on="train",
            average="nt_asgd",
            average_interval=10,
            optimizer=dataclasses.replace(optimizer, weight_decay=1.6e-6, grad_clip=0.25),
            network=dataclasses.replace(
                network,
                hidden=800,
                word_dropout=0.125,
                embedding_dropout=0.175,
                input_dropout=0.725,
                hidden_dropout=0.225,
                init_range=0.05,
            ),
            task=LanguageModelSettings(random_lengths=True, activation_penalty=0.7),
        ),
    )


def ptb_rnn_modern() -> TextConfig:
    """Departures from `paper` that are thought to matter, none measured at this size yet (docs/decisions.md)."""
    like = ptb_rnn_paper()
    return dataclasses.replace(
        like,
        network=dataclasses.replace(like.network, hidden=400, word_dropout=0.1, input_dropout=0.4, output_dropout=0.4),
        task=LanguageModelSettings(random_lengths=True),
        search=dataclasses.replace(like.search, warmup_epochs=15, controller_steps=100, architectures=10),
        reinforce=dataclasses.replace(like.reinforce, learning_rate=3.5e-3, normalise=True),
        derive=DeriveSettings(samples=100, score_on="validation", keep=10),
        retrain=dataclasses.replace(
            like.retrain,
            epochs=1000,
            average="nt_asgd",
            optimizer=dataclasses.replace(like.retrain.optimizer, schedule="constant", weight_decay=1.2e-6),
            network=dataclasses.replace(like.retrain.network, word_dropout=0.1, input_dropout=0.65),
            task=LanguageModelSettings(random_lengths=True, activation_penalty=2.0, temporal_penalty=1.0),
        ),
    )


def ptb_rnn_quick() -> TextConfig:
    """Eight nodes, 128 units: a search on two cores within half an hour."""
    optimizer = OptimizerSettings(
        learning_rate=20.0, min_learning_rate=0.0, schedule="cosine", momentum=0.0, weight_decay=1e-7, grad_clip=0.25
    )
    network = RecurrentSettings(hidden=128, input_dropout=0.1, hidden_dropout=0.1, output_dropout=0.1, init_range=0.1)
    return Config(
        space=RnnCellSettings(num_nodes=8),
        network=network,
        data=TextSettings(),
        task=LanguageModelSettings(),
        search=SearchSettings(epochs=6, warmup_epochs=2, controller_steps=40, architectures=8, optimizer=optimizer),
        reinforce=ReinforceSettings(learning_rate=3.5e-3, entropy_weight=1e-4, normalise=True),
        derive=DeriveSettings(samples=50, score_on="validation", keep=5),
        retrain=RetrainConfig(
            epochs=6,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, batch_norm=False),
            task=LanguageModelSettings(),
        ),
    )


# ----------------------------------------------------------------------------------------------------- text-rnn
def text_rnn_quick() -> TextConfig:
    """The help texts that come with Python, 58,000 words: small enough that search, trainings and verdict take minutes."""
    like = ptb_rnn_quick()
    optimizer = dataclasses.replace(like.search.optimizer, learning_rate=10.0)
    network = RecurrentSettings(hidden=64, output_dropout=0.2, init_range=0.1)
    task = LanguageModelSettings(batch_size=20, reward_batch=20, eval_batch=20, test_batch=20)
    return Config(
        space=RnnCellSettings(num_nodes=6),
        network=network,
        data=TextSettings(dataset="topics"),
        task=task,
        search=SearchSettings(epochs=16, warmup_epochs=8, controller_steps=15, architectures=8, optimizer=optimizer),
        reinforce=like.reinforce,
        derive=DeriveSettings(samples=50, score_on="validation", keep=10),
        retrain=RetrainConfig(
            epochs=12,
            train_on="train",
            optimizer=optimizer,
            network=dataclasses.replace(network, batch_norm=False),
            task=task,
        ),
    )


PRESETS: dict[str, Preset] = {
    "digits-micro": Preset(
        "convolutional cells on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        "conv_micro",
        "image_classification",
        MicroConfig,
        {"quick": digits_micro_quick},
        threads=1,
    ),
    "cifar10-micro": Preset(
        "convolutional cells on CIFAR-10 (paper 2.4, Table 2)",
        "conv_micro",
        "image_classification",
        MicroConfig,
        {
            "paper": cifar10_micro_paper,
            "released": cifar10_micro_released,
            "modern": cifar10_micro_modern,
            "quick": cifar10_micro_quick,
        },
    ),
    "digits-macro": Preset(
        "whole networks on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        "conv_macro",
        "image_classification",
        MacroConfig,
        {"quick": digits_macro_quick},
        threads=1,
    ),
    "cifar10-macro": Preset(
        "whole networks on CIFAR-10 (paper 2.3, Table 2)",
        "conv_macro",
        "image_classification",
        MacroConfig,
        {
            "paper": cifar10_macro_paper,
            "released": cifar10_macro_released,
            "modern": cifar10_macro_modern,
            "quick": cifar10_macro_quick,
        },
    ),
    "text-rnn": Preset(
        "recurrent cells on the help texts that come with Python: minutes on a CPU, no download",
        "rnn_cell",
        "language_model",
        TextConfig,
        {"quick": text_rnn_quick},
        threads=1,
    ),
    "ptb-rnn": Preset(
        "recurrent cells on the Penn Treebank (paper 2.1, Table 1)",
        "rnn_cell",
        "language_model",
        TextConfig,
        {"paper": ptb_rnn_paper, "released": ptb_rnn_released, "modern": ptb_rnn_modern, "quick": ptb_rnn_quick},
    ),
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"a preset is one of {', '.join(PRESETS)}; got '{name}'")
    return PRESETS[name]


def preset_for(space: str | None) -> str:
    """The preset to train an architecture of this space by: the paper's data; ValueError where there is none."""
    papers = [(name, entry) for name, entry in PRESETS.items() if "paper" in entry.recipes]
    names = [name for name, entry in papers if space in (None, entry.space)]
    if not names:
        raise ValueError(f"no preset trains architectures of space '{space}': name one with --preset")
    return names[0]


def preset_for_reference(model: str) -> str:
    """The preset to train a hand-designed model by; ValueError where it is none."""
    if model not in REFERENCES:
        raise ValueError(f"a reference model is one of {', '.join(REFERENCES)}; got '{model}'")
    return next(n for n, entry in PRESETS.items() if entry.task == REFERENCES[model].task and "paper" in entry.recipes)


def config_of(name: str, recipe: str | None = None) -> Any:
    """The settings of a preset's recipe (its default one for None); ValueError for unknown names."""
    entry = preset(name)
    recipe = recipe or entry.default
    if recipe not in entry.recipes:
        raise ValueError(f"preset '{name}' has recipes {', '.join(entry.recipes)}; got '{recipe}'")
    return entry.recipes[recipe]()


def retrain_type(name: str) -> Any:
    """The concrete type of a preset's `retrain` settings, for the command line."""
    *_, network, task = get_args(preset(name).config)
    return RetrainConfig[network, task]  # type: ignore[valid-type]
