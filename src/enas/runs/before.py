"""This module upgrades the config.json of a run that an earlier version wrote to the form of this
version. It does not import torch."""

from __future__ import annotations

from enas.runs.files import flat
from enas.state import Record, Values

IMAGES, TEXT = "image_classification", "language_model"
# The space, network and task of each preset, for runs that recorded only the preset's name.
PARTS = {
    **{f"{data}-micro": ("conv_micro", "micro", IMAGES) for data in ("digits", "cifar10")},
    **{f"{data}-macro": ("conv_macro", "macro", IMAGES) for data in ("digits", "cifar10")},
    "nasbench201": ("nasbench201", "nasbench201", IMAGES),
    "nasbench_macro": ("nasbench_macro", "nasbench_macro", IMAGES),
    **{f"{data}-rnn": ("rnn_cell", "recurrent", TEXT) for data in ("text", "ptb")},
}
# The value of a setting that describes the code from before the setting existed, where its default
# is another value.
DEFAULTS = {"batch_norm_eps": 1e-5}


def upgraded(config: Values) -> Values:
    """Returns a config.json with the names of its parts, and with the strategy's own settings as
    `settings.strategy`. Raises a ValueError where no earlier version had its preset.

    Earlier versions wrote the strategy's name there, and beside it settings of REINFORCE, whatever
    the strategy was.
    """
    if "names" in config:
        return config
    preset = config["preset"]
    if preset not in PARTS:
        raise ValueError(f"the run does not name its parts, and no earlier version had a preset '{preset}'")
    names = dict(zip(("space", "network", "task"), PARTS[preset], strict=True))
    settings, strategy = _strategy_apart(config["settings"])
    return {**config, "names": {**names, "strategy": strategy}, "settings": settings}


def flat_settings(config: Values) -> Record:
    """Returns the settings of a config.json by their dotted names, with the strategy's name as
    `strategy`."""
    if "names" in config:
        return {**flat(config["settings"]), "strategy": config["names"]["strategy"]}
    settings, strategy = _strategy_apart(config["settings"])
    return {**flat(settings), "strategy": strategy}


def _strategy_apart(written: Values) -> tuple[Record, str]:
    settings = dict(written)
    reinforce, name = settings.pop("reinforce", {}), settings.get("strategy", "reinforce")
    settings["strategy"] = reinforce if name == "reinforce" else {}
    return settings, name
