"""What paper and released code state, typed by hand, against every recipe `paper` and `released`,
and against every place of the source that names a section of the paper with a figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from documented import ROOT
from enas.runs.presets import registry as presets
from enas.runs.settings import described, difference, flat
from enas.strategies.settings import ReinforceSettings

# The figures that the text of each section of Pham et al. 2018 (arXiv 1802.03268v2) states.
PAPER: dict[str, set[float]] = {
    "2.1": {12, 4, 15, 10},  # N nodes, activations, 10^15 models
    # LSTM units; steps, batch, BPTT; images, batch; controller steps; M
    "2.2": {100, 400, 64, 35, 45_000, 128, 2000, 1},
    "2.3": {12, 6, 3, 5, 1.6, 29},
    "2.4": {7, 5, 2, 3, 4, 1.3, 11},
    "3.1": {24, 0.00035, 2.5, 5.0, 0.0001, 20.0, 0.96, 15, 150, 0.25, 1e-7, 55.8, 62.4, 56.0, 2.6, 10, 8, 1000, 6},
    "3.2": {
        50_000, 10_000, 40, 32, 0.05, 0.001, 10, 2, 310, 1e-4, 0.1, 0.00035, 2.5, 5.0, 0.4, 0.8, 6, 512,
        4.23, 3.87, 3.54, 2.89, 2.65, 3.41, 4.47, 3.65, 2.56, 7, 11.5, 1.7, 2.1, 21.3, 38.0, 4.6, 3,
        4,  # 40 pixels are 32 and 4 on either side
    },
    "3.3": {0.4, 81.2, 55.8, 5.86, 6.77, 4.23, 3.54, 0.5, 8.92, 5.49, 250},
    "appendix A": {0.1, 0.025, 0.04, 2, 3, 4, 5},
    "appendix B": {1},
}  # fmt: skip
WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PLACE = re.compile(r"(?<![\d.])([0-9]\.[0-9](?: and [0-9]\.[0-9])?|[Aa]ppendix [AB]): ([^;()\n]*)")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])|\b(?:" + "|".join(WORDS) + r")\b")


def places(text: str) -> list[tuple[str, float]]:
    """(section, figure) wherever a text says `2.2: 128`, `3.1 and 3.2: 5.0`, `appendix A: 0.025 in
    the search`."""
    found = []
    for sections, said in PLACE.findall(" ".join(text.split())):
        for section in sections.replace("Appendix", "appendix").split(" and "):
            of_the_paper = re.sub(r"(et al\.|&) \w*\s?\d{4}", "", said.partition("released")[0])
            for number in NUMBER.findall(of_the_paper):
                found.append((section, float(WORDS.get(number) or number.replace(",", ""))))
    return found


def texts() -> dict[str, str]:
    """Every bracket and sentence that names the paper, by file."""
    files = [*sorted((ROOT / "src").rglob("*.py")), ROOT / "docs" / "decisions.md"]
    found = {}
    for path in files:
        whole = " ".join(path.read_text().split())
        parts = re.findall(r"[^()\"]*\b(?:[Pp]aper|[Aa]ppendix)\b[^()\"]*", whole)
        found[str(path.relative_to(ROOT))] = "\n".join(parts)
    return found


@pytest.mark.slow
def test_every_figure_that_is_given_a_section_stands_there() -> None:
    checked = 0
    for file, text in texts().items():
        for line in text.splitlines():
            for section, number in places(line):
                checked += 1
                assert number in PAPER[section], f"{file}: {number:g} is not in {section}: '{line.strip()[:90]}'"
    assert checked > 30


def test_the_reader_of_places_reads() -> None:
    assert places("(paper 2.2: 128; released: 144)") == [("2.2", 128)]
    assert places("paper 3.1 and 3.2: 5.0; 2.3: six") == [("3.1", 5), ("3.2", 5), ("2.3", 6)]
    assert places("appendix A: 0.025 in the search, 0.04 from scratch") == [("appendix A", 0.025), ("appendix A", 0.04)]
    assert places("3.2: 1e-4") == [("3.2", 1e-4)]


# ------------------------------------------------------------------------- what recipes must hold
Stated = tuple[str, str, Any]  # where it stands; the setting; its value
CIFAR10_PAPER: list[Stated] = [
    *(
        (section, f"{phase}optimizer.{name}", value)
        for phase in ("search.", "retrain.")
        for section, name, value in (
            ("3.2", "learning_rate", 0.05), ("3.2", "min_learning_rate", 0.001), ("3.2", "restart_epochs", 10),
            ("3.2", "restart_factor", 2), ("3.2", "schedule", "cosine_restarts"), ("3.2", "weight_decay", 1e-4),
            ("not stated: no clipping", "grad_clip", 0.0), ("released", "momentum", 0.9), ("decided", "per_epoch", False),
        )
    ),
    ("3.2", "search.epochs", 310), ("3.2", "retrain.epochs", 310), ("2.2", "search.children", 1),
    ("2.2", "search.controller_steps", 2000), ("2.2", "task.batch_size", 128), ("2.2", "task.reward", "accuracy"),
    ("2.2", "data.validation", 5000), ("3.2", "task.pad", 4), ("3.2", "task.flip", True), ("3.2", "task.cutout", 0),
    ("2.2", "strategy.controller.hidden", 100), ("3.2", "strategy.controller.temperature", 5.0),
    ("3.2", "strategy.controller.tanh_constant", 2.5), ("3.2", "strategy.controller.init_range", 0.1),
    ("2.2", "strategy.controller.after_anchor", "previous"), ("3.2", "strategy.learning_rate", 0.00035),
    ("3.2", "strategy.entropy_weight", 0.1), ("3.2", "strategy.skip_weight", 0.8), ("3.2", "strategy.skip_rate", 0.4),
    ("decided", "strategy.entropy", "mean"), ("decided", "strategy.skip_penalty", "mean"),
    ("released", "strategy.baseline_decay", 0.99), ("2.2", "derive.score_on", "minibatch"),
    ("2.2", "retrain.task.batch_size", 128), ("3.2", "retrain.task.pad", 4), ("3.2", "retrain.task.flip", True),
    ("3.2", "retrain.task.cutout", 0), ("released", "task.reward_batch", 128), ("released", "derive.samples", 10),
    ("decided", "search.architectures", 1), ("decided", "strategy.terms", "sampled"),
    ("decided", "strategy.baseline_start", None), ("decided", "retrain.train_on", "train"),
    ("decided: the paper has softmax", "strategy.controller.input_head", "attention"),
    ("released", "network.reductions", 2), ("released", "retrain.network.reductions", 2),
    ("released", "network.dropout", 0.1),
]  # fmt: skip
RELEASED_CIFAR10: list[Stated] = [
    ("3.1", "strategy.adam_beta1", 0.0), ("3.1", "strategy.adam_eps", 1e-3), ("3.1", "strategy.baseline_start", 0.0),
    ("3.1", "strategy.baseline_decay", 0.99), ("3.1", "strategy.normalise", False), ("3.1", "strategy.entropy", "sum"),
    ("3.1", "strategy.controller.lstm_bias", False), ("3.1", "strategy.controller.init_range", 0.1),
    ("3.1", "search.optimizer.momentum", 0.9), ("3.1", "search.optimizer.per_epoch", True),
    ("3.1", "search.optimizer.grad_clip", 0.0), ("3.1", "search.optimizer.restart_epochs", 10),
    ("3.1", "search.optimizer.restart_factor", 2), ("3.1", "data.validation", 5000),
    ("3.1", "retrain.train_on", "train+validation"), ("3.2", "search.optimizer.learning_rate", 0.05),
    ("3.2", "strategy.controller.hidden", 64), ("3.2", "strategy.controller.temperature", 1.0),
    ("3.2", "strategy.entropy_weight", 1e-4), ("3.1", "search.optimizer.schedule", "cosine_restarts"),
    *(
        ("3.1", f"retrain.optimizer.{name}", value)
        for name, value in (
            ("learning_rate", 0.05), ("schedule", "cosine_restarts"), ("restart_epochs", 10), ("restart_factor", 2),
            ("per_epoch", True), ("momentum", 0.9), ("grad_clip", 0.0),
        )
    ),
    *(
        ("3.1", f"{phase}task.{name}", value)
        for phase in ("", "retrain.")
        for name, value in (("pad", 4), ("flip", True), ("cutout", 0))
    ),
    ("3.1", "task.reward", "accuracy"), ("3.2", "network.reductions", 2), ("3.2", "retrain.network.reductions", 2),
    ("3.2", "strategy.controller.input_head", "attention"), ("decided", "derive.samples", 10),
    ("decided", "derive.score_on", "minibatch"),
]  # fmt: skip
MICRO_OPS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
MACRO_OPS = ("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
STATED: dict[tuple[str, str], list[Stated]] = {
    ("cifar10-micro", "paper"): [
        *CIFAR10_PAPER, ("2.4", "space.num_nodes", 5), ("3.2", "network.cells", 6), ("3.2", "retrain.network.cells", 6),
        ("appendix B", "network.merge_norm", True), ("decided", "retrain.network.merge_norm", True),
        ("2.4", "space.ops", MICRO_OPS), ("released", "network.filters", 20), ("released", "retrain.network.filters", 36),
        ("released", "retrain.network.dropout", 0.2), ("released", "network.stem_multiplier", 3),
        ("released", "retrain.network.stem_multiplier", 3),
    ],
    ("cifar10-macro", "paper"): [
        *CIFAR10_PAPER, ("2.3", "space.num_layers", 12), ("2.3", "space.form", "paper"),
        ("appendix B", "network.merge", True),
        ("appendix B", "network.average_pooling", True), ("appendix B", "network.merge_norm", True),
        ("decided", "retrain.network.merge_norm", True), ("appendix B", "retrain.network.merge", True),
        ("appendix B", "retrain.network.average_pooling", True), ("2.3", "space.ops", MACRO_OPS),
        ("released", "network.filters", 36), ("released", "retrain.network.filters", 96),
        ("released", "network.double_filters", False), ("released", "retrain.network.double_filters", True),
        ("released", "retrain.network.dropout", 0.5),
    ],
    ("ptb-rnn", "paper"): [
        *(
            (section, f"{phase}{name}", value)
            for phase in ("search.", "retrain.")
            for section, name, value in (
                ("3.1", "optimizer.learning_rate", 20.0), ("3.1", "optimizer.decay", 0.96),
                ("3.1", "optimizer.decay_start", 15),
                ("3.1", "optimizer.schedule", "decay"), ("3.1", "optimizer.grad_clip", 0.25),
                ("3.1", "optimizer.weight_decay", 1e-7), ("3.1", "optimizer.momentum", 0.0), ("3.1", "epochs", 150),
                ("3.1: decayed without end", "optimizer.min_learning_rate", 0.0),
                ("3.1: after every epoch", "optimizer.per_epoch", False),
            )
        ),
        ("2.1", "space.num_nodes", 12), ("2.1", "space.output", "loose_ends"), ("2.2", "task.batch_size", 64),
        ("2.2", "task.bptt", 35), ("2.2", "search.children", 1), ("2.2", "search.controller_steps", 2000),
        ("3.1", "network.highway", True), ("appendix A", "network.batch_norm", True),
        ("appendix A", "retrain.network.batch_norm", False), ("appendix A", "network.init_range", 0.025),
        ("appendix A", "retrain.network.init_range", 0.04), ("2.2", "strategy.controller.hidden", 100),
        ("3.1", "strategy.controller.temperature", 5.0), ("3.1", "strategy.controller.tanh_constant", 2.5),
        ("appendix A", "strategy.controller.init_range", 0.1), ("3.1", "strategy.learning_rate", 0.00035),
        ("3.1", "strategy.entropy_weight", 0.0001), ("2.2", "derive.score_on", "minibatch"),
        ("released", "strategy.baseline_decay", 0.99), ("2.2", "strategy.controller.after_anchor", "previous"),
        ("2.1", "space.ops", ("tanh", "relu", "identity", "sigmoid")), ("2.1", "space.fixed_input", False),
        ("appendix A", "space.sharing", "edge"), ("3.1", "retrain.network.highway", True),
        ("2.2", "retrain.task.batch_size", 64), ("2.2", "retrain.task.bptt", 35),
        ("released, the first", "network.hidden", 720), ("3.1: 24 M parameters", "retrain.network.hidden", 787),
        *(
            ("released", f"{phase}{name}_dropout", value)
            for phase in ("network.", "retrain.network.")
            for name, value in (("input", 0.75), ("hidden", 0.25), ("output", 0.75))
        ),
        ("decided", "network.softmax_bias", True), ("decided", "retrain.network.softmax_bias", True),
        ("released", "task.reward_scale", 80.0), ("decided", "task.reward_batch", 64),
        ("decided", "task.reward_window", 35), ("decided", "search.architectures", 1),
        ("decided", "strategy.entropy", "mean"), ("decided", "strategy.terms", "sampled"),
        ("decided", "strategy.baseline_start", None), ("released", "derive.samples", 10),
        ("decided: the paper has softmax", "strategy.controller.input_head", "attention"),
        ("3.1", "retrain.train_on", "train"),
    ],
    # Sections of the released code's description: 3.1 both, 3.2 macro, 3.3 micro, 3.5 the corrected
    # language model.
    ("cifar10-micro", "released"): [
        *RELEASED_CIFAR10, ("3.3", "space.prior", "released"), ("3.3", "network.filters", 20), ("3.3", "network.cells", 2),
        ("3.3", "task.batch_size", 160), ("3.3", "search.epochs", 150),
        ("3.3", "search.optimizer.min_learning_rate", 0.0005),
        ("3.3", "search.optimizer.weight_decay", 2e-4), ("3.3", "network.dropout", 0.1), ("3.3", "network.aux_weight", 0.4),
        ("3.3", "strategy.learning_rate", 0.0035), ("3.3", "strategy.controller.tanh_constant", 1.1),
        ("3.3", "strategy.controller.op_tanh_constant", 0.44), ("3.3", "strategy.controller.after_anchor", "empty"),
        ("3.3", "search.architectures", 10), ("3.3", "search.controller_steps", 30), ("3.3", "retrain.network.filters", 36),
        ("3.3", "retrain.network.cells", 5), ("3.3", "retrain.task.batch_size", 144), ("3.3", "retrain.epochs", 630),
        ("3.3", "retrain.optimizer.min_learning_rate", 0.0001), ("3.3", "retrain.optimizer.weight_decay", 4e-4),
        ("3.3", "retrain.network.dropout", 0.2), ("3.3", "retrain.network.drop_path", 0.4),
        ("3.3", "retrain.network.aux_weight", 0.4), ("3.3", "retrain.network.extra_calibration", True),
        ("3.3", "space.num_nodes", 5), ("3.3", "space.ops", MICRO_OPS), ("3.3", "network.stem_multiplier", 3),
        ("3.3", "retrain.network.stem_multiplier", 3), ("3.1", "task.reward_batch", 160),
        ("3.3", "network.merge_norm", True), ("3.3", "retrain.network.merge_norm", True),
        ("decided: 3.3 has the exact entropy in the reward", "strategy.terms", "sampled"),
    ],
    ("cifar10-macro", "released"): [
        *RELEASED_CIFAR10, ("3.2", "space.num_layers", 12), ("3.2", "space.form", "released"),
        ("3.2", "network.filters", 36),
        ("3.2", "network.double_filters", False), ("3.2", "task.batch_size", 128), ("3.2", "search.epochs", 310),
        ("3.2", "search.optimizer.min_learning_rate", 0.0005), ("3.2", "search.optimizer.weight_decay", 5e-4),
        ("3.2", "network.dropout", 0.1), ("3.2", "network.entry_conv", True), ("3.2", "strategy.learning_rate", 0.001),
        ("3.2", "strategy.controller.tanh_constant", 1.5), ("3.2", "strategy.controller.op_tanh_constant", None),
        ("3.2", "strategy.controller.after_anchor", "previous"), ("3.2", "search.architectures", 20),
        ("3.2", "search.controller_steps", 50), ("3.2", "strategy.skip_rate", 0.4), ("3.2", "strategy.skip_weight", 0.8),
        ("3.2", "strategy.skip_penalty", "layer_mean"), ("3.2", "strategy.terms", "exact"),
        ("3.2", "retrain.network.filters", 96), ("3.2", "retrain.network.double_filters", True),
        ("3.2", "retrain.task.batch_size", 100), ("3.2", "retrain.epochs", 310),
        ("3.2", "retrain.optimizer.min_learning_rate", 0.001), ("3.2", "retrain.optimizer.weight_decay", 4e-4),
        ("3.2", "retrain.network.dropout", 0.5), ("3.2", "space.ops", MACRO_OPS), ("3.1", "task.reward_batch", 128),
        ("3.2", "retrain.network.entry_conv", True), ("3.2", "network.merge_norm", True),
        ("3.2", "retrain.network.merge_norm", True), ("decided: 3.2 sums in the search", "network.merge", True),
        ("3.2", "retrain.network.merge", True), ("3.2", "network.average_pooling", True),
        ("3.2", "retrain.network.average_pooling", True),
    ],
    ("ptb-rnn", "released"): [
        ("3.5", "space.num_nodes", 9), ("3.5", "space.ops", ("tanh", "relu", "sigmoid", "identity")),
        ("3.5", "space.fixed_input", True), ("3.5", "space.output", "all"), ("3.5", "space.near_prior", True),
        ("3.5", "network.hidden", 200), ("3.5", "task.batch_size", 128), ("3.5", "task.bptt", 35),
        ("3.5", "task.random_lengths", True), ("3.5", "search.epochs", 600),
        ("3.5", "search.optimizer.learning_rate", 20.0),
        ("3.5", "search.optimizer.schedule", "constant"), ("3.5", "search.optimizer.grad_clip", 0.1),
        ("3.5", "network.word_dropout", 0.1), ("3.5", "network.embedding_dropout", 0.2),
        ("3.5", "network.input_dropout", 0.75), ("3.5", "network.hidden_dropout", 0.25),
        ("3.5", "network.output_dropout", 0.75), ("3.5", "network.weight_dropout", 0.0),
        ("3.5", "search.optimizer.weight_decay", 8e-7), ("3.5", "task.temporal_penalty", 1.0),
        ("3.5", "network.init_range", 0.04), ("3.5", "network.batch_norm", False),
        ("3.5", "strategy.controller.hidden", 64), ("3.5", "strategy.controller.init_range", 0.01),
        ("3.5", "strategy.learning_rate", 5e-5), ("3.5", "strategy.controller.tanh_constant", 2.25),
        ("3.5", "strategy.controller.temperature", 5.0), ("3.5", "strategy.controller.near_feedback", True),
        ("3.5", "strategy.entropy_weight", 1e-5), ("3.5", "strategy.baseline_decay", 0.999),
        ("3.1", "strategy.baseline_start", 0.0), ("3.5", "search.architectures", 10),
        ("3.5", "search.controller_steps", 25),
        ("3.5", "task.reward_scale", 80.0), ("3.5", "retrain.network.hidden", 800), ("3.5", "retrain.task.batch_size", 64),
        ("3.5", "retrain.epochs", 3000), ("3.5", "retrain.optimizer.learning_rate", 20.0),
        ("3.5", "retrain.optimizer.grad_clip", 0.25), ("3.5", "retrain.network.word_dropout", 0.125),
        ("3.5", "retrain.network.embedding_dropout", 0.175), ("3.5", "retrain.network.input_dropout", 0.725),
        ("3.5", "retrain.network.hidden_dropout", 0.225), ("3.5", "retrain.network.output_dropout", 0.75),
        ("3.5: 8e-7 times the sum of squares", "retrain.optimizer.weight_decay", 1.6e-6),
        ("3.5", "retrain.task.activation_penalty", 0.7), ("3.5", "retrain.network.init_range", 0.05),
        ("3.5", "retrain.average", "nt_asgd"), ("3.5", "retrain.average_interval", 10), ("3.5", "space.sharing", "edge_op"),
        ("3.5", "network.highway", True), ("3.5", "retrain.network.highway", True),
        ("3.5", "retrain.network.batch_norm", False), ("3.5", "retrain.network.weight_dropout", 0.0),
        ("3.5", "network.softmax_bias", False), ("3.5", "retrain.network.softmax_bias", False),
        ("3.5", "task.activation_penalty", 0.0), ("3.5", "retrain.task.temporal_penalty", 0.0),
        ("3.5", "retrain.task.bptt", 35), ("decided", "retrain.task.random_lengths", True),
        ("3.5", "task.reward_batch", 128), ("3.5", "task.reward_window", 35),
        *(
            ("3.5", f"{phase}optimizer.{name}", value)
            for phase in ("search.", "retrain.")
            for name, value in (("schedule", "constant"), ("momentum", 0.0), ("min_learning_rate", 0.0))
        ),
        ("3.5", "strategy.controller.input_head", "attention"), ("3.1", "strategy.controller.lstm_bias", False),
        ("decided", "strategy.controller.after_anchor", "previous"), ("decided", "strategy.entropy", "sum"),
        ("decided", "strategy.terms", "sampled"), ("decided", "derive.samples", 10),
        ("decided", "derive.score_on", "minibatch"), ("decided", "retrain.train_on", "train"),
    ],
}  # fmt: skip

# What neither paper nor released code has stays off in their recipes, unless a row above says
# otherwise.
OFF: dict[str, Any] = {
    "space.prior": "none", "space.near_prior": False, "data.train": None, "data.max_vocabulary": None,
    "data.min_count": None, "optimizer.kind": "sgd", "search.children": 1, "search.warmup_epochs": 0,
    "optimizer.warmup_steps": 0, "network.stem_stride": 1, "network.drop_path": 0.0, "network.aux_weight": 0.0,
    "network.extra_calibration": False, "network.entry_conv": False, "network.head_norm": False, "network.layers": 1,
    "network.word_dropout": 0.0, "network.embedding_dropout": 0.0, "network.weight_dropout": 0.0,
    "task.label_smoothing": 0.0, "task.class_weights": "none", "task.random_lengths": False, "task.activation_penalty": 0.0,
    "task.temporal_penalty": 0.0, "strategy.controller.op_tanh_constant": None,
    "strategy.controller.near_feedback": False, "strategy.controller.lstm_bias": True, "strategy.adam_beta1": 0.9,
    "strategy.adam_eps": 1e-8, "strategy.normalise": False, "derive.statistics": "batch", "derive.draw": "policy",
    "derive.shortlist": 0, "derive.finalists": 0, "derive.trainings": 0, "derive.budget": 0.0,
    "derive.pareto": "none", "search.cost_terms": (), "average": "none",
}  # fmt: skip
# What has no counterpart there: how something is measured or shown, what guards a run, parts of a
# method that is off.
FREE = re.compile(
    r"data\.(dataset|image_size|fit|corrupt|memory|workers|tokens)|task\.(eval_\w+|test_batch)|search\.(probes|max_skipped)|rollback\w*|average_interval"
    r"|derive\.(keep|uniform|recalibration_steps|finalist_steps|rounds|judges|shortlist_by)|network\.(computation|batch_norm_eps)"
    r"|(search\.)?compute\.\w+"
)
UNUSED = {  # by schedule; and by space
    "cosine_restarts": r"optimizer\.decay\w*",
    "decay": r"optimizer\.restart_\w+",
    "constant": r"optimizer\.(restart_\w+|decay\w*|per_epoch)",
    "conv_macro": r"$.",
    "conv_micro": r"strategy\.skip_\w+",
    "rnn_cell": r"strategy\.skip_\w+",
}


@pytest.mark.parametrize(("preset", "recipe"), STATED)
def test_a_recipe_holds_what_its_source_states(preset: str, recipe: str) -> None:
    settings = dict(flat(presets.config_of(preset, recipe)))
    for where, name, value in STATED[preset, recipe]:
        assert settings[name] == value, f"{name} is {settings[name]}; {where} states {value}"


@pytest.mark.parametrize(("preset", "recipe"), STATED)
def test_no_setting_of_a_recipe_is_unaccounted_for(preset: str, recipe: str) -> None:
    """Each stands in the table, or is off, or has no counterpart in paper and released code."""
    settings = dict(flat(presets.config_of(preset, recipe)))
    for name in settings.keys() - {name for _, name, _ in STATED[preset, recipe]}:
        short = re.sub(r"^(retrain|search)\.(?=optimizer)|^retrain\.", "", name)
        if short in OFF:
            assert settings[name] == OFF[short], f"{name} is {settings[name]}; neither paper nor released code has it"
            continue
        scheduled = settings[name.rpartition(".")[0] + ".schedule"] if "optimizer." in name else ""
        unused = [UNUSED[key] for key in (scheduled, presets.preset(preset).names.space) if key]
        # a training from scratch asks for no reward
        scored = name.startswith("retrain.task.reward")
        known = scored or FREE.fullmatch(short) or any(re.fullmatch(pattern, short) for pattern in unused)
        assert known, f"{name} = {settings[name]}: say in the table which source states it"


# ----------------------------------------------------------- what the texts of settings say of it
CLAUSE = re.compile(r"(paper|appendix|released|corrected|\d\.\d)\b(?!')[^:;]*: (.*)")
SAID = re.compile(rf"(?<!corrected )({NUMBER.pattern})(?: in (?:(?:the|its) )?(search)| (alone|from scratch))?")
ELSEWHERE = {  # a figure of the source that its recipe does not hold, and why
    ("data.validation", 45_000): "paper: what it leaves of 50,000",
    ("task.cutout", 16): "released: a flag of the second result",
    ("network.batch_norm_eps", 1): "released: of the first release",
    ("space.num_nodes", 8): "released: of the published cell",
    ("space.prior", 10): "released: one word in our setting",
    ("space.prior", 0.25): "released: the same",
    ("network.hidden", 720): "released: of the first release; `paper` takes it",
}


def clauses(text: str) -> list[tuple[str, str, str]]:
    """(recipe, figure, phase) wherever a text says, in a sentence or in brackets, `Paper 2.2: 128;
    released code: 160 in the search, 144 from scratch.`"""
    found = []
    for said in [*re.findall(r"\(([^()]*)\)", text), *re.split(r"(?<=\.) ", re.sub(r" \([^()]*\)", "", text))]:
        for part in said.split("; "):
            if match := CLAUSE.match(re.sub("^the ", "", part[:1].lower() + part[1:]).rstrip(".")):
                recipe = "released" if match[1] in ("released", "corrected") else "paper"
                for number, search, scratch in SAID.findall(match[2]):
                    found.append((recipe, number, "search" if search else "retrain" if scratch else ""))
    return found


def test_figures_in_the_texts_of_settings_are_those_of_the_recipes() -> None:
    assert clauses("B (the paper 2.2: 64; corrected release: 128 in its search, 1e-4 alone; 3.1: two)") == [
        ("paper", "64", ""), ("released", "128", "search"), ("released", "1e-4", "retrain"), ("paper", "two", ""),
    ]  # fmt: skip
    assert clauses("B of 3 things. Paper 2.2: 64; released code: 128 in the search, 36 from scratch.") == [
        ("paper", "64", ""), ("released", "128", "search"), ("released", "36", "retrain"),
    ]  # fmt: skip
    # by text: a name; (recipe, phase, value) of its settings
    texts: dict[str, tuple[str, list[tuple[str, str, Any]]]] = {}
    for preset, recipe in STATED:
        for name, value, about in described(presets.config_of(preset, recipe)):
            phase = "retrain" if name.startswith("retrain.") else "search"
            texts.setdefault(about, (name, []))[1].append((recipe, phase, value))
    checked, wrong = [], []
    for about, (name, values) in texts.items():
        for recipe, number, phase in clauses(about):
            figure = float(WORDS.get(number) or number.replace(",", ""))
            held = [v for r, p, v in values if r == recipe and phase in ("", p)]
            held = [len(v) if isinstance(v, tuple) else v for v in held]
            checked.append((name, figure))
            if figure not in held and (name, figure) not in ELSEWHERE:
                wrong.append(f"{name}: recipe {recipe} holds {held}, not {number}: '{about}'")
    assert wrong == []
    assert ELSEWHERE.keys() <= set(checked), "an exception that nothing needs any more"
    assert len(checked) > 60


@pytest.mark.parametrize("preset", [preset for preset, recipe in STATED if recipe == "paper"])
def test_the_table_itself_stands_in_the_paper(preset: str) -> None:
    derived = {
        "space.num_nodes",
        "data.validation",
        "retrain.optimizer.momentum",
        "search.optimizer.momentum",
        "task.cutout",
        "retrain.task.cutout",
    }
    for where, name, value in STATED[preset, "paper"]:
        if where in PAPER and name not in derived and isinstance(value, int | float) and not isinstance(value, bool):
            assert value in PAPER[where], f"{name}: {value} is not in {where}"


def test_defaults_are_the_papers() -> None:
    """A user's own space takes the class's values: those of the paper, for images."""

    defaults = dict(flat(ReinforceSettings()))
    assert (defaults["learning_rate"], defaults["entropy_weight"], defaults["baseline_decay"]) == (0.00035, 0.1, 0.99)
    assert (defaults["skip_weight"], defaults["skip_rate"], defaults["controller.hidden"]) == (0.8, 0.4, 100)
    assert (defaults["controller.temperature"], defaults["controller.tanh_constant"]) == (5.0, 2.5)


def test_the_text_is_at_hand_where_the_table_was_typed() -> None:
    """Where the paper's text lies beside the repository, what the table says of its rates is looked
    up there."""
    path = Path(ROOT).parent / "shared" / "paper.txt"
    if not path.exists():
        pytest.skip("the paper's text is not here")
    text = path.read_text()
    for figure in ("0.00035", "20.0", "0.96", "0.25", "0.0001", "0.05", "0.001", "310", "45, 000", "0.025", "0.04", "2000"):
        assert figure in text, figure


def test_every_departure_of_modern_is_listed() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    (section,) = re.findall(r"^## Recipe `modern`.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    listed = set(re.findall(r"`([a-z_.]+\.[a-z_]+)`", section))
    differing = {
        name
        for preset, entry in presets.PRESETS.items()
        if {"modern", "paper"} <= entry.recipes.keys()
        for name, *_ in difference(presets.config_of(preset, "paper"), presets.config_of(preset, "modern"))
    }
    assert differing - listed == set()
    assert listed - differing == set(), "listed, and no departure any more"
