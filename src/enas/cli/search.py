"""This module holds the command `enas search`."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import Maybe, asks_for_help, command, computed, limits_of, parse, peek, seconds, with_settings
from enas.procedures.settings import Precision

if TYPE_CHECKING:
    from enas.runs.plan import Plan


@dataclass(frozen=True)
class SearchFlags:
    preset: Positional[str]
    """Preset to search, by its name or `package.module:thing`;
    or `module:function`, which makes a problem of your own.
    `enas presets list` shows the presets: digits-micro needs no data, cifar10-micro a folder."""
    settings: Annotated[Any, arg(name="")]
    recipe: Maybe[str] = None
    """Recipe of the settings: paper, released, modern or quick.
    `enas presets show PRESET RECIPE` prints them."""
    strategy: Maybe[str] = None
    """Strategy that chooses architectures: reinforce (the LSTM controller), evolution or random.
    Or `package.module:thing`, a class of your own.
    Its settings are the flags that begin with --strategy."""
    space: Maybe[str] = None
    """Another space to search: conv_micro, ..., or `package.module:thing`, a function of your own.
    Its settings are the flags that begin with --space."""
    task: Maybe[str] = None
    """Another task: `package.module:thing`, a class of your own."""
    config: Maybe[Path] = None
    """Repeat the run of this config.json. Flags beside it change it."""
    data: Maybe[Path] = None
    """Folder of the data set."""
    out: Maybe[Path] = None
    """Run folder to make; without it, one in runs/ with the names of preset, recipe and seed."""
    seed: Maybe[int] = None
    """Seed of everything random. Equal seeds on one machine give equal runs. Without it, 0."""
    epochs: Maybe[int] = None
    """Number of passes over the training data, as --search.epochs.
    The warm-up keeps its share of them, unless --search.warmup-epochs is given."""
    max_params: Maybe[str] = None
    """Largest number of parameters of the network trained from scratch, such as 3M.
    All architectures that are asked, derived and compared obey this and the limits below."""
    max_macs: Maybe[str] = None
    """Largest number of multiply-accumulates per image or token, such as 600M."""
    max_memory: Maybe[str] = None
    """Most bytes of activations that a training step from scratch keeps, such as 2G.
    It is an estimate without weights and optimiser; docs/commands.md says its error."""
    max_latency: Maybe[str] = None
    """Longest forward pass, such as 8ms, as --latency-table predicts it."""
    latency_table: Maybe[Path] = None
    """File that `enas latency` wrote."""
    max_time: Maybe[str] = None
    """Stop in good order after this time, such as 20m. `enas resume` continues."""
    precision: Maybe[Precision] = None
    """Short for --search.compute.precision and --retrain.compute.precision."""
    accumulate: Maybe[int] = None
    """Short for --search.compute.accumulate and --retrain.compute.accumulate."""
    checkpoint_activations: bool = False
    """Short for --search.compute.checkpoint-activations, and the same of --retrain."""
    device: Maybe[str] = None
    """Device: cpu, cuda, cuda:1, mps, or auto: a GPU where there is one.
    Without it, CUDA where there is one; mps was not tried."""
    threads: Maybe[int] = None
    """Number of CPU threads; without it, as many as the preset says, or all cores.
    A run records it, because sums depend on it."""


@dataclass(frozen=True, kw_only=True)
class OneSearchFlags(SearchFlags):  # a sweep has no budget, since its seeds have the same epochs
    budget: Maybe[str] = None
    """Processor time for the search and the derivation together, about, such as 20m.
    At most a quarter of it trains shared weights, in fewer epochs where necessary.
    The rest trains architectures for a short time, which teaches what is good."""


@command("search", "search a space: shared weights and controller in turn")
def search(args: list[str]) -> int:
    """Search a space for an architecture.

    enas search digits-micro
    enas search digits-micro --strategy evolution --strategy.population 20
    enas search cifar10-micro --data ~/data --recipe paper --max-time 8h
    enas search cifar10-micro --data ~/data --network.filters 16 --search.children 2
    enas search digits-micro --budget 10m      (the whole way to the best architecture)
    enas search digits-micro --max-params 12k --max-macs 600k
    enas search --config runs/mine/config.json --seed 1 --out runs/again
    torchrun --nproc-per-node 2 -m enas search digits-micro --search.children 2
    """
    from enas.cli.display import Display, ranking
    from enas.reports.derive import derive
    from enas.runs.search import finished, search_plan, within

    flags, plan = searched(args, OneSearchFlags, search.__doc__, "search")
    if flags.budget is not None and flags.epochs is not None:
        raise ValueError("--budget says how many epochs there are; leave out --epochs")
    with Display(says_next=flags.budget is None) as display:
        plan = plan if flags.budget is None else within(plan, seconds(flags.budget) or 0.0)
        path = search_plan(plan, out=flags.out, max_seconds=seconds(flags.max_time), listen=display)
        if flags.budget is None or not finished(path):
            return display.status
        derive(path, listen=display)
    ranking(path)
    print(f"next: enas retrain {shlex.quote(str(path))}")
    return 0


def searched(args: list[str], kind: type[SearchFlags], about: str | None, name: str) -> tuple[Any, Plan]:
    """Returns the flags of a command that searches, and the plan that they ask for."""
    from enas.runs.search import planned, with_epochs
    from enas.runs.settings import types_of

    peeked = peek(args, ("--config", "--recipe", "--strategy", "--device", "--space", "--task"))
    preset = args[0] if args and not args[0].startswith("-") else None
    if asks_for_help(args) and peeked["--config"] is None:
        preset = preset or "digits-micro"  # the help shows the flags of one preset
    plan = planned(preset, *peeked.values())
    Flags = with_settings(kind, about, types_of(plan.settings), "")
    flags = parse(Flags, args, name, Flags(preset=plan.preset, settings=plan.settings))
    settings = dataclasses.replace(
        flags.settings,
        search=computed(flags.settings.search, flags),
        retrain=computed(flags.settings.retrain, flags),
    )
    plan = dataclasses.replace(plan, settings=settings, seed=plan.seed if flags.seed is None else flags.seed)
    if flags.epochs is not None:
        warmup = peek(args, ("--search.warmup-epochs", "--search.warmup_epochs"))
        plan = with_epochs(plan, flags.epochs, keeps_warmup=any(warmup.values()))
    plan = plan.on(flags.data, flags.device, flags.threads)
    plan = _limited(plan, flags)
    if flags.recipe is None and flags.config is None:
        print(f"recipe: {plan.recipe} (`enas presets show {plan.preset}` prints it)")
    return flags, plan


def _limited(plan: Plan, flags: Any) -> Plan:
    """Returns the plan with the limits that flags give in place of its own."""
    plan = dataclasses.replace(plan, limits=limits_of(flags, plan.limits))
    if flags.latency_table is not None:
        from enas.runs.cost import with_latencies

        plan = with_latencies(plan, flags.latency_table)
    return plan
