"""Presets: which space, network, task and data go together, and with which settings. No other package names combinations.

A preset has recipes: `paper` (what the text says; the released code's value where the text is silent), `released` (what the
authors' released code does), `modern` (what is thought or measured to work better; docs/decisions.md says which), `quick`
(minutes on two CPU cores). All settings of a recipe are plain dataclasses, printed by `enas presets show` and compared by
`enas presets diff`.
"""

from __future__ import annotations

from typing import Any, get_args

from enas.networks.references.registry import REFERENCES
from enas.runs.presets import macro, micro, nasbench201, nasbench_macro, text
from enas.runs.settings import Preset, RetrainConfig

PRESETS: dict[str, Preset] = {
    "digits-micro": Preset(
        "convolutional cells on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        "conv_micro",
        "image_classification",
        micro.MicroConfig,
        {"quick": micro.digits_micro_quick},
        threads=1,
    ),
    "cifar10-micro": Preset(
        "convolutional cells on CIFAR-10 (paper 2.4, Table 2)",
        "conv_micro",
        "image_classification",
        micro.MicroConfig,
        {
            "paper": micro.cifar10_micro_paper,
            "released": micro.cifar10_micro_released,
            "modern": micro.cifar10_micro_modern,
            "quick": micro.cifar10_micro_quick,
        },
    ),
    "digits-macro": Preset(
        "whole networks on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        "conv_macro",
        "image_classification",
        macro.MacroConfig,
        {"quick": macro.digits_macro_quick},
        threads=1,
    ),
    "cifar10-macro": Preset(
        "whole networks on CIFAR-10 (paper 2.3, Table 2)",
        "conv_macro",
        "image_classification",
        macro.MacroConfig,
        {
            "paper": macro.cifar10_macro_paper,
            "released": macro.cifar10_macro_released,
            "modern": macro.cifar10_macro_modern,
            "quick": macro.cifar10_macro_quick,
        },
    ),
    "nasbench201": Preset(
        "the cells of NAS-Bench-201 on CIFAR-10: all 15,625 are known, so a search can be checked",
        "nasbench201",
        "image_classification",
        nasbench201.NasBench201Config,
        {
            "paper": nasbench201.nasbench201_paper,
            "modern": nasbench201.nasbench201_modern,
            "quick": nasbench201.nasbench201_quick,
        },
        threads=1,
    ),
    "nasbench_macro": Preset(
        "the chains of NAS-Bench-Macro on CIFAR-10: all 6,561 are known, so a search can be checked",
        "nasbench_macro",
        "image_classification",
        nasbench_macro.NasBenchMacroConfig,
        {"paper": nasbench_macro.nasbench_macro_paper, "quick": nasbench_macro.nasbench_macro_quick},
        threads=1,
    ),
    "text-rnn": Preset(
        "recurrent cells on the help texts that come with Python: minutes on a CPU, no download",
        "rnn_cell",
        "language_model",
        text.TextConfig,
        {"quick": text.text_rnn_quick},
        threads=1,
    ),
    "ptb-rnn": Preset(
        "recurrent cells on the Penn Treebank (paper 2.1, Table 1)",
        "rnn_cell",
        "language_model",
        text.TextConfig,
        {
            "paper": text.ptb_rnn_paper,
            "released": text.ptb_rnn_released,
            "modern": text.ptb_rnn_modern,
            "quick": text.ptb_rnn_quick,
        },
    ),
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"a preset is one of {', '.join(PRESETS)}; got '{name}'")
    return PRESETS[name]


def preset_for(space: object) -> str:
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
