"""This module makes the plans of runs: for a preset by its recipe, and for a problem of one's
own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from enas.plugins import NoSettings
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.runs.plan import Plan
from enas.runs.presets import registry as presets
from enas.runs.process import cores, device_named
from enas.runs.settings import Config, Names, RetrainConfig, Settings, from_dict
from enas.spaces.own import OwnSpaceSettings
from enas.strategies.settings import ReinforceSettings
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings


def preset_plan(
    preset: str,
    recipe: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    device: str | None = None,
    strategy: str | None = None,
) -> Plan:
    """Returns the plan of a preset, before anything is checked on this machine.

    None picks a default: the preset's default recipe, the recipe's settings and strategy, and a GPU
    where there is one. The number of threads is the preset's. Where it has none, it is all cores,
    or one beside a GPU, because little work is left for the CPU then.
    """
    entry = presets.preset(preset)
    recipe = recipe or entry.default
    device = device_named(device)
    threads = entry.threads or (1 if device.startswith("cuda") else cores())
    settings = settings or presets.config_of(preset, recipe)
    return Plan(preset, recipe, entry.names, settings, seed, None, device, threads).with_strategy(
        strategy or entry.names.strategy
    )


def make_plan(
    preset: str,
    recipe: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    strategy: str | None = None,
) -> Plan:
    """Returns the plan of a preset, or of a problem by its `module:function`, ready for this
    machine. None picks a default as in `preset_plan`. Raises a ValueError where the data's folder
    is missing, or the device cannot be used."""
    plan = named_plan(preset, recipe, settings, seed, device, strategy)
    return plan.on(data, device, threads)


def named_plan(
    what: str,
    recipe: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    device: str | None = None,
    strategy: str | None = None,
) -> Plan:
    """Returns the plan of a preset, as `preset_plan` does, or of a problem. Raises a ValueError for
    a recipe of a problem."""
    if ":" not in what or presets.is_preset(what):
        return preset_plan(what, recipe, settings, seed, device, strategy)
    if recipe is not None:
        raise ValueError(f"'{what}' is a problem of your own and has no recipes; leave out '{recipe}'")
    plan = problem_plan(what, seed, device, strategy)
    return plan if settings is None else dataclasses.replace(plan, settings=settings)


def problem_plan(path: str, seed: int = 0, device: str | None = None, strategy: str | None = None) -> Plan:
    """Returns the plan of a problem, `module:function`, with settings that suit a small network.

    They are AdamW at 1e-3 on one cosine, batches of 64, and as many passes as make about 2,000
    training steps, 4 to 100. Half of the passes warm up. 15 % of `train` each are kept back for
    validation and test where the problem has none. Raises a ValueError where it is no problem, or
    its network holds no choice.
    """
    from enas.tasks.problem import BATCH_SIZE, problem_of

    problem = problem_of(path)
    train, data = problem.examples["train"], OwnDataSettings()
    adamw = OptimizerSettings("adamw", learning_rate=1e-3, min_learning_rate=0.0, schedule="cosine", weight_decay=0.01)
    optimizer = from_dict(adamw, problem.optimizer, "optimizer")
    batch_size = problem.batch_size or train.batch_size or BATCH_SIZE
    task = OwnTaskSettings(batch_size=batch_size, workers=train.workers, metric=problem.metric.name)
    kept = sum(
        share for part, share in (("validation", data.validation), ("test", data.test)) if part not in problem.examples
    )
    steps = max(1, round(len(train) * (1 - kept) / batch_size))
    epochs = min(100, max(4, round(2000 / steps)))
    settings: Settings = Config(
        space=OwnSpaceSettings(path),
        network=NoSettings(),
        data=data,
        task=task,
        search=SearchSettings(
            epochs=epochs,
            warmup_epochs=epochs // 2,
            controller_steps=max(1, round(300 / (epochs - epochs // 2))),
            architectures=8,
            optimizer=optimizer,
        ),
        strategy=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=40, draw="both", keep=10, uniform=0, finalists=8, finalist_steps=100),
        retrain=RetrainConfig(epochs=epochs, optimizer=optimizer, network=NoSettings(), task=task),
    )
    device = device_named(device)
    plan = Plan(path, "own", Names("own", "own", "own"), settings, seed, None, device, 1)
    plan.space  # noqa: B018 (a network without a choice raises an error at once)
    return plan.with_strategy(strategy or "reinforce")
