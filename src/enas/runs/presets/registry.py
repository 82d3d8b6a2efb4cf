"""This module registers presets. A preset says which space, network, task and data go together,
with which settings.

A preset has recipes. `paper` is what the text says, with the released code's value where the text
does not say. `released` is what the authors' released code does. `modern` is what is thought or
measured to work better; docs/decisions.md says which. `quick` takes minutes on two CPU cores. `enas
presets show` prints the settings of a recipe, and `enas presets diff` compares two.
"""

from __future__ import annotations

from enas.networks.references.registry import REFERENCES
from enas.plugins import Registry, entry_of, load
from enas.ranges import check_name
from enas.runs.before import IMAGES, TEXT
from enas.runs.presets import macro, micro, nasbench201, nasbench_macro, text
from enas.runs.settings import Names, Preset, Settings


def _made(path: str) -> Preset:
    made = load(path)
    if not isinstance(made, Preset):
        raise ValueError(f"a preset is a value, `mine = Preset(...)`; '{path}' is {type(made).__name__}")
    return made


_BUILT_IN = {
    "digits-micro": Preset(
        "convolutional cells on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        Names("conv_micro", "micro", IMAGES),
        {"quick": micro.digits_micro_quick},
        threads=1,
    ),
    "scattered-micro": Preset(
        "convolutional cells on digits to be found among pieces of others: minutes on a CPU, no download",
        Names("conv_micro", "micro", IMAGES),
        {"quick": micro.scattered_micro_quick},
        threads=1,
    ),
    "cifar10-micro": Preset(
        "convolutional cells on CIFAR-10 (paper 2.4, Table 2)",
        Names("conv_micro", "micro", IMAGES),
        {
            "paper": micro.cifar10_micro_paper,
            "released": micro.cifar10_micro_released,
            "modern": micro.cifar10_micro_modern,
            "quick": micro.cifar10_micro_quick,
        },
    ),
    "digits-macro": Preset(
        "whole networks on scikit-learn's 8x8 digits: minutes on a CPU, no download",
        Names("conv_macro", "macro", IMAGES),
        {"quick": macro.digits_macro_quick},
        threads=1,
    ),
    "cifar10-macro": Preset(
        "whole networks on CIFAR-10 (paper 2.3, Table 2)",
        Names("conv_macro", "macro", IMAGES),
        {
            "paper": macro.cifar10_macro_paper,
            "released": macro.cifar10_macro_released,
            "modern": macro.cifar10_macro_modern,
            "quick": macro.cifar10_macro_quick,
        },
    ),
    "nasbench201": Preset(
        "the cells of NAS-Bench-201 on CIFAR-10: all 15,625 are known, so a search can be checked",
        Names("nasbench201", "nasbench201", IMAGES),
        {
            "paper": nasbench201.nasbench201_paper,
            "modern": nasbench201.nasbench201_modern,
            "quick": nasbench201.nasbench201_quick,
        },
        threads=1,
    ),
    "nasbench_macro": Preset(
        "the chains of NAS-Bench-Macro on CIFAR-10: all 6,561 are known, so a search can be checked",
        Names("nasbench_macro", "nasbench_macro", IMAGES),
        {
            "paper": nasbench_macro.nasbench_macro_paper,
            "modern": nasbench_macro.nasbench_macro_modern,
            "quick": nasbench_macro.nasbench_macro_quick,
        },
        threads=1,
    ),
    "text-rnn": Preset(
        "recurrent cells on the help texts that come with Python: minutes on a CPU, no download",
        Names("rnn_cell", "recurrent", TEXT),
        {"quick": text.text_rnn_quick},
        threads=1,
    ),
    "ptb-rnn": Preset(
        "recurrent cells on the Penn Treebank (paper 2.1, Table 1)",
        Names("rnn_cell", "recurrent", TEXT),
        {
            "paper": text.ptb_rnn_paper,
            "released": text.ptb_rnn_released,
            "modern": text.ptb_rnn_modern,
            "quick": text.ptb_rnn_quick,
        },
    ),
}
PRESETS = Registry("presets", "a preset", _made, _BUILT_IN)


def preset(name: str) -> Preset:
    """Returns a preset by its name or `package.module:thing`. Raises a ValueError for an unknown
    name."""
    return entry_of("a preset", name, PRESETS)


def is_preset(name: str) -> bool:
    """Returns whether a name is that of a preset. Any other `package.module:thing` makes a
    problem."""
    return isinstance(load(name), Preset) if ":" in name else name in PRESETS


def preset_for(space: object) -> str:
    """Returns the name of the preset with the paper's data for architectures of a space. Raises a
    ValueError where there is none."""
    papers = [(name, entry) for name, entry in PRESETS.items() if "paper" in entry.recipes]
    names = [name for name, entry in papers if space in (None, entry.names.space)]
    if not names:
        raise ValueError(f"no preset trains architectures of space '{space}': name one with --preset")
    return names[0]


def preset_for_reference(model: str) -> str:
    """Returns the name of the preset with the paper's data for a hand-designed model. Raises a
    ValueError for an unknown name."""
    check_name("a reference model", model, REFERENCES)
    return next(
        n for n, entry in PRESETS.items() if entry.names.task == REFERENCES[model].task and "paper" in entry.recipes
    )


def config_of(name: str, recipe: str | None = None) -> Settings:
    """Returns the settings of a preset's recipe, or of its default one. Raises a ValueError for an
    unknown name, and where a user's recipe has settings of the wrong kind."""
    entry = preset(name)
    recipe = recipe or entry.default
    check_name(f"a recipe of '{name}'", recipe, entry.recipes)
    settings = entry.recipes[recipe]()
    if ":" in name:
        expected = entry.names.settings()
        for group in ("space", "network", "data", "task"):
            has, takes = type(getattr(settings, group)), type(getattr(expected, group))
            if has is not takes:
                raise ValueError(
                    f"recipe '{recipe}' of preset '{name}' has settings {has.__name__}; its {group} takes {takes.__name__}"
                )
    return settings
