"""This module holds the recipes of recurrent cells: `ptb-rnn`, `text-rnn` (paper 2.1, 3.1, appendix
A)."""

from __future__ import annotations

import dataclasses

from enas.data.settings import TextSettings
from enas.networks.settings import RecurrentSettings
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.runs.settings import Config, RetrainConfig
from enas.spaces.rnn_cell import CORRECTED_OPS, RnnCellSettings
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.settings import LanguageModelSettings

TextConfig = Config[RnnCellSettings, RecurrentSettings, TextSettings, LanguageModelSettings, ReinforceSettings]


# ---------------------------------------------------------------------------------------- ptb-rnn
def ptb_rnn_paper() -> TextConfig:
    """This recipe is the paper's (2.1, 3.1, appendix A). Where the text does not say, it has a
    released code's value."""
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
        strategy=ReinforceSettings(
            controller=ControllerSettings(after_anchor="previous"), entropy_weight=1e-4, entropy="mean"
        ),
        derive=DeriveSettings(samples=10, score_on="minibatch", keep=10),
        retrain=RetrainConfig(
            epochs=150,
            train_on="train",
            optimizer=optimizer,
            # this width has 24 M parameters
            network=dataclasses.replace(network, hidden=787, batch_norm=False, init_range=0.04),
            task=LanguageModelSettings(),
        ),
    )


def ptb_rnn_released() -> TextConfig:
    """This recipe is that of the corrected release (google-research/enas_lm). The authors withdrew
    the first one."""
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
        space=RnnCellSettings(
            num_nodes=9, ops=CORRECTED_OPS, fixed_input=True, output="all", sharing="edge_op", near_prior=True
        ),
        network=network,
        data=TextSettings(),
        task=LanguageModelSettings(batch_size=128, random_lengths=True, temporal_penalty=1.0, reward_batch=128),
        search=SearchSettings(epochs=600, controller_steps=25, architectures=10, optimizer=optimizer),
        strategy=ReinforceSettings(
            controller=ControllerSettings(
                hidden=64,
                tanh_constant=2.25,
                init_range=0.01,
                after_anchor="previous",
                near_feedback=True,
                lstm_bias=False,
            ),
            learning_rate=5e-5,
            entropy_weight=1e-5,
            baseline_start=0.0,
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
    """This recipe departs from `paper` where that is thought to matter. None of it is measured at
    this size yet."""
    like = ptb_rnn_paper()
    return dataclasses.replace(
        like,
        network=dataclasses.replace(
            like.network, hidden=400, batch_norm=False, word_dropout=0.1, input_dropout=0.4, output_dropout=0.4
        ),
        task=LanguageModelSettings(random_lengths=True),
        search=dataclasses.replace(like.search, warmup_epochs=15, children=2, controller_steps=100, architectures=10),
        strategy=ReinforceSettings(learning_rate=3.5e-3, entropy_weight=1e-4, normalise=True),
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
    """This recipe searches within half an hour on two cores, with eight nodes and 128 units. The
    network is the same in the search and from scratch, without batch norm (docs/log,
    2026-11-27)."""
    optimizer = OptimizerSettings(
        learning_rate=20.0,
        min_learning_rate=0.0,
        schedule="cosine",
        warmup_steps=50,
        momentum=0.0,
        weight_decay=1e-7,
        grad_clip=0.25,
    )
    network = RecurrentSettings(
        hidden=128, batch_norm=False, input_dropout=0.1, hidden_dropout=0.1, output_dropout=0.1, init_range=0.1
    )
    return Config(
        space=RnnCellSettings(num_nodes=8),
        network=network,
        data=TextSettings(),
        task=LanguageModelSettings(),
        search=SearchSettings(
            epochs=6, warmup_epochs=2, children=2, controller_steps=40, architectures=8, optimizer=optimizer
        ),
        strategy=ReinforceSettings(learning_rate=3.5e-3, entropy_weight=1e-4, normalise=True),
        derive=DeriveSettings(samples=50, score_on="validation", keep=5),
        retrain=RetrainConfig(
            epochs=4,
            train_on="train",
            optimizer=dataclasses.replace(optimizer, learning_rate=4.0, momentum=0.9),
            network=network,
            task=LanguageModelSettings(),
        ),
    )


# --------------------------------------------------------------------------------------- text-rnn
def text_rnn_quick() -> TextConfig:
    """This recipe learns from the help texts that come with Python. They have only 58,000 words, so
    search, trainings and verdict take minutes.

    The network is the same in the search and from scratch, without batch norm. With batch norm,
    shared weights rank at chance, and all cells are alike (docs/log, 2026-11-27). Short trainings
    from scratch teach which cells are good, and decide in the end, because cells differ far more in
    them than seeds do (2026-11-28).
    """
    like = ptb_rnn_quick()
    optimizer = dataclasses.replace(like.search.optimizer, learning_rate=2.0, momentum=0.9, warmup_steps=0)
    network = RecurrentSettings(hidden=64, batch_norm=False, output_dropout=0.2, init_range=0.1)
    task = LanguageModelSettings(batch_size=20, reward_batch=20, eval_batch=20, test_batch=20)
    return Config(
        space=RnnCellSettings(num_nodes=6),
        network=network,
        data=TextSettings(dataset="topics"),
        task=task,
        search=SearchSettings(
            epochs=8, warmup_epochs=4, children=2, controller_steps=15, architectures=8, optimizer=optimizer
        ),
        strategy=like.strategy,
        derive=DeriveSettings(samples=40, draw="both", uniform=0, trainings=20, rounds=4, finalists=0, finalist_steps=150),
        retrain=RetrainConfig(epochs=4, train_on="train", optimizer=optimizer, network=network, task=task),
    )
