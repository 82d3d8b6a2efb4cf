"""This module holds the command `enas presets`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from enas.cli.commands import command, parse
from enas.strategies.settings import odds, skip_rate

if TYPE_CHECKING:
    from enas.runs.settings import Names, Settings


@dataclass(frozen=True)
class PresetsFlags:
    """Show what can be searched, and with which settings.

    enas presets list
    enas presets show cifar10-micro paper
    enas presets diff cifar10-micro paper released
    """

    action: Positional[Literal["list", "show", "diff"]] = "list"
    """list: all presets; show: every setting of a recipe; diff: where two recipes differ."""
    preset: Positional[str | None] = None
    """Name of the preset; to show, also `module:function`, a problem of your own."""
    recipes: Positional[tuple[str, ...]] = ()
    """Recipes: one to show, two to compare."""


@command("presets", "list, show or compare the recipes")
def presets_command(args: list[str]) -> int:
    flags = parse(PresetsFlags, args, "presets")
    from enas.runs.presets import registry as presets
    from enas.runs.settings import described, difference

    if flags.action == "list":
        for name, entry in presets.PRESETS.items():
            print(f"{name:16} {entry.about}\n{'':16} recipes: {', '.join(entry.recipes)} (default: {entry.default})")
        return 0
    if flags.preset is None:
        raise ValueError(f"`enas presets {flags.action}` takes a preset: {', '.join(presets.PRESETS)}")
    if flags.action == "show":
        if len(flags.recipes) > 1:
            raise ValueError(f"`enas presets show` takes one recipe; got {len(flags.recipes)}")
        names, settings = _shown(flags.preset, *flags.recipes)
        for name, value, about in described(settings):
            print(f"{name:38} {_text(value):18} {about}".rstrip())
        print(_policy(names, settings))
        return 0
    if len(flags.recipes) != 2:
        raise ValueError(f"`enas presets diff` takes two recipes; got {len(flags.recipes)}")
    a, b = (presets.config_of(flags.preset, recipe) for recipe in flags.recipes)
    print(f"{'setting':36} {flags.recipes[0]:>16} {flags.recipes[1]:>16}")
    for name, left, right in difference(a, b):
        print(f"{name:36} {_text(left):>16} {_text(right):>16}")
    return 0


def _shown(preset: str, recipe: str | None = None) -> tuple[Names, Settings]:
    """Returns the names and the settings of a preset by its recipe, or those of a problem."""
    from enas.runs.presets import registry as presets

    if ":" not in preset or presets.is_preset(preset):
        return presets.preset(preset).names, presets.config_of(preset, recipe)
    from enas.runs.planning import problem_plan

    if recipe:
        raise ValueError(f"'{preset}' is a problem of your own and has no recipes; leave out '{recipe}'")
    plan = problem_plan(preset)
    return plan.names, plan.settings


def _policy(names: Names, settings: Settings) -> str:
    """Returns in a sentence or two what the weights of the controller's reward lead to."""
    from enas.spaces.decisions import SubsetChoice
    from enas.spaces.registry import make_space

    space = make_space(names.space, settings.space)
    times = odds(settings.strategy, space)
    shown = f"{times:,.0f}" if times < 1e12 else "over 1e12"
    gain = "one point of accuracy" if names.task == "image_classification" else "a reward higher by 0.01"
    says = f"\nunder the best policy {gain} makes an architecture {shown} times as likely (entropy weight)"
    if any(isinstance(decision, SubsetChoice) for decision in space.decisions):
        rate = skip_rate(settings.strategy, space)
        says += f"\nwhere rewards do not depend on them, skips settle at a rate of {rate:.3f} (entropy and skip weight)"
    return says


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
