"""What earlier versions wrote into the config.json of a run, as this version writes it. No torch in
here."""

from __future__ import annotations

from enas.runs.files import flat
from enas.state import Record, Values

IMAGES, TEXT = "image_classification", "language_model"
# What was put together under the name of a preset, when a run recorded nothing else.
PARTS = {
    **{f"{data}-micro": ("conv_micro", "micro", IMAGES) for data in ("digits", "cifar10")},
    **{f"{data}-macro": ("conv_macro", "macro", IMAGES) for data in ("digits", "cifar10")},
    "nasbench201": ("nasbench201", "nasbench201", IMAGES),
    "nasbench_macro": ("nasbench_macro", "nasbench_macro", IMAGES),
    **{f"{data}-rnn": ("rnn_cell", "recurrent", TEXT) for data in ("text", "ptb")},
}
# What the code did before a setting existed, where the setting's default is something else.
DEFAULTS = {"batch_norm_eps": 1e-5}


def upgraded(config: Values) -> Values:
    """Returns a config.json with the names of its parts, and with the strategy's own settings as
    `settings.strategy`.

    Earlier versions wrote the strategy's name there, and settings of REINFORCE, whatever the
    strategy, beside it.
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
    """Returns the settings of a config.json by their dotted names, and the strategy's name as
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
