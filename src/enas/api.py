"""The commands as functions: what the command line does, in the same words, for Python.

    from enas import api
    run = api.search("digits-micro", out="runs/mine", epochs=20)
    api.derive(run)
    api.retrain_best(run)
    print(api.compare(run, cells=8))

Each puts a procedure together from a preset, drives it, and keeps a run folder. `listen` is called with every event.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from enas import comparison, draw, drive, presets
from enas import derive as derive_procedure
from enas.architecture import Architecture, Reference
from enas.assemble import Setup, reference_entry, setup
from enas.backbones import BACKBONES
from enas.backbones.recurrent import RecurrentSettings, hidden_for
from enas.compare import Verdict
from enas.config import to_dict
from enas.data import DATASETS
from enas.drive import Done, Listener, after, resume, retrain, retrain_folder, silent
from enas.run import RunFolder, read_json, versions, write_json
from enas.spaces import settings_of, space_of
from enas.spaces.studies import STUDIES
from enas.zoo import NAMED, named

__all__ = [
    "Setup",
    "architecture_of",
    "best_of",
    "compare",
    "derive",
    "marks_of",
    "reference_for",
    "resume",
    "retrain",
    "retrain_best",
    "search",
    "setup",
    "sizes",
    "with_space",
]


def search(
    preset: str,
    recipe: str | None = None,
    *,
    settings: Any = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    max_seconds: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    listen: Listener = silent,
) -> Path:
    """Search a preset's space; the run folder. `settings`: from `presets.config_of`, changed as you like."""
    plan = setup(preset, recipe, settings, seed, data, device, threads)
    return drive.search(plan, out=out, epochs=epochs, max_seconds=max_seconds, listen=listen)


# --------------------------------------------------------------------------------------------------------- derive
def derive(run: str | Path, *, settings: Any = None, listen: Listener = silent) -> Path:
    """Rank architectures of a search by its shared weights; writes and returns `best.json`, with drawings beside it."""
    path = Path(run)
    folder = RunFolder.open(path)
    if folder.config["command"] != "search":
        raise ValueError(f"architectures are derived from a search; '{path}' is a {folder.config['command']}")
    plan = Setup.of(folder.config)
    settings = settings or plan.settings.derive
    procedure = plan.search()
    procedure.load(folder.read_checkpoint())
    network = plan.settings.retrain.network
    alone = derive_procedure.Alone(
        lambda arch: plan.network(network, procedure.task, arch), procedure.task, plan.settings.retrain.optimizer, plan.seed
    )
    scores = []
    for scored in derive_procedure.derive(
        settings, procedure.task, procedure.supernet, procedure.strategy, procedure.uniform, alone
    ):
        scores.append(scored)
        listen(scored)
    best = derive_procedure.ranked(scores, settings.keep)
    first = {s.arch: s.metrics["reward"] for s in scores if s.stage == "minibatch"}
    origin = {"run": path.name, "preset": plan.preset, "recipe": plan.recipe, "seed": plan.seed, "epochs": procedure.epoch}
    size = plan.network(plan.settings.retrain.network, procedure.task, best[0].arch)
    ranked = []
    for rank, scored in enumerate(best, 1):
        arch = scored.arch.with_provenance(**origin, rank=rank, enas=versions()["enas"])
        child = size if rank == 1 else plan.network(plan.settings.retrain.network, procedure.task, scored.arch)
        shared = {"minibatch_reward": first[scored.arch]}
        if scored.stage == "validation":
            shared |= {f"validation_{key}": value for key, value in scored.metrics.items()}
        elif scored.stage == "alone":
            shared |= {f"alone_{key}": value for key, value in scored.metrics.items()}
        parameters = child.num_parameters(aux=False)
        ranked.append({"rank": rank, "id": arch.id, "shared_weights": shared, "parameters": parameters, **arch.to_dict()})
    write_json(
        path / "best.json",
        {
            "note": "scores are of shared weights: they rank, they are not what a network reaches alone (`enas retrain`)",
            "searched_epochs": procedure.epoch,
            "search_finished": procedure.epoch >= plan.settings.search.epochs,
            "samples": len(first),
            "score_on": settings.score_on,
            "policy_against_uniform": derive_procedure.learned(scores, settings),
            "settings": to_dict(settings),
            "marks": size.marks(),
            "ranked": ranked,
        },
    )
    draw.save(plan.space, best[0].arch, path / "best.svg", size.marks())
    draw.save(plan.space, best[0].arch, path / "best.png", size.marks())
    listen(Done(path, ranked))
    return path / "best.json"


def best_of(run: str | Path) -> list[Architecture]:
    """The ranked architectures of a derived run."""
    path = Path(run) / "best.json"
    if not path.exists():
        RunFolder.open(Path(run))
        raise ValueError(f"'{run}' has no best.json yet: run `enas derive {run}` first")
    return [Architecture.from_dict(entry) for entry in read_json(path)["ranked"]]


# -------------------------------------------------------------------------------------------------------- retrain
def retrain_best(
    run: str | Path,
    *,
    top: int = 1,
    seed: int = 0,
    settings: Any = None,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> list[dict[str, Any]] | None:
    """Train the `top` best derived architectures alone, one after the other; results, the chosen one first.

    More than one are ordered by their validation figure: the choice never looks at the test set, which each reads once, at
    its end. Writes `retrained.json`. None where it was stopped. ValueError where there is nothing to choose by.
    """
    path = Path(run)
    best = best_of(path)
    plan = Setup.of(RunFolder.open(path).config)
    whole = plan.settings if settings is None else dataclasses.replace(plan.settings, retrain=settings)
    here = setup(
        plan.preset,
        plan.recipe,
        whole,
        plan.seed,
        data or plan.data,
        device or plan.device,
        plan.threads if threads is None else threads,
    )
    plan = dataclasses.replace(here, source=plan.source)
    if not 1 <= top <= len(best):
        raise ValueError(f"--top is between 1 and the {len(best)} architectures in best.json; got {top}")
    if top > 1 and plan.settings.retrain.train_on != "train":
        raise ValueError("--top above 1 chooses on validation data; retrain.train_on 'train+validation' leaves none")
    stop = after(max_seconds)
    rows: list[dict[str, Any]] = []
    for rank, arch in enumerate(best[:top], 1):
        folder = retrain_folder(path, arch, seed, plan)
        metrics = retrain(plan, arch, folder, seed=seed, stop=stop, listen=listen)
        if metrics is None:
            return None
        rows.append({"rank": rank, "id": arch.id, "folder": str(folder.relative_to(path)), **metrics})
    if top > 1:
        rows.sort(key=lambda row: plan.metric.cost(row[f"validation_{plan.metric.name}"]))
    write_json(
        path / "retrained.json", {"train_on": plan.settings.retrain.train_on, "chosen": rows[0]["id"], "trainings": rows}
    )
    return rows


def reference_for(plan: Setup, name: str, run: str | Path | None = None, parameters: int | None = None) -> Reference:
    """A hand-designed model to compare with: of `parameters` at most, or as many as the run's best architecture has, or as
    the published model had. ValueError where it is none, or is for another task."""
    entry = reference_entry(name, presets.preset(plan.preset).task)
    if parameters is None and run is not None:
        best_of(run)
        parameters = read_json(Path(run) / "best.json")["ranked"][0]["parameters"]
    if parameters is not None and parameters < 1:
        raise ValueError(f"--parameters is at least 1; got {parameters}")
    return Reference(name, parameters or entry.parameters)


# -------------------------------------------------------------------------------------------------------- compare
def compare(
    run: str | Path,
    *,
    settings: Any = None,
    workers: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
    **wanted: Any,
) -> Verdict | None:
    """What the search was worth, trained alone by one recipe: the derived architecture over `seeds` against `cells` uniform
    ones over `cell_seeds`, and as asked hand-designed `references`, random search with weight `sharing`, the `disabled`
    controller, `local` and `single` changes (`comparison.Wanted` says more). Writes `compare.json`. `settings`: another
    recipe than the run's own for all of them. None where it was stopped before the verdict: call it again, nothing is done
    twice. ValueError below 2 of a kind."""
    path = Path(run)
    asked = comparison.Wanted(**{**wanted, "references": tuple(wanted.get("references", ()))})
    best = best_of(path)[0]
    plan = Setup.of(RunFolder.open(path).config)
    if settings is not None:
        plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, retrain=settings))
    for name in asked.references:
        reference_for(plan, name, path)  # a wrong name is said before hours are spent
    if asked.local and plan.space.name not in STUDIES:
        raise ValueError(
            f"the paper has local-optimum studies of {', '.join(STUDIES)}; for '{plan.space.name}' there is single"
        )
    if asked.sharing and plan.settings.strategy == "random":
        raise ValueError(f"'{path}' is a search with uniform children itself: sharing would repeat it")
    return comparison.compare(
        comparison.Comparison(
            path, plan, best, lambda name: reference_for(plan, name, path), derive, asked, workers, max_seconds, listen
        )
    )


def with_space(plan: Setup, spec: Mapping[str, Any]) -> Setup:
    """The plan for an architecture's own space, such as more layers; ValueError where the preset is of another kind."""
    name = presets.preset(plan.preset).space
    if spec["name"] != name:
        raise ValueError(f"preset '{plan.preset}' trains architectures of space '{name}'; got one of '{spec['name']}'")
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, space=settings_of(spec)))


def sizes(arch: Architecture) -> dict[str, int]:
    """Parameters that the architecture has when it is trained alone, by recipe of the paper's data for its space; and the
    hidden units of a recurrent cell of the paper's 24 M. Nothing is allocated."""
    plan = setup(presets.preset_for(arch.space["name"]), data=".", device="cpu")
    out = {}
    for recipe in presets.preset(plan.preset).recipes:
        here = with_space(dataclasses.replace(plan, settings=presets.config_of(plan.preset, recipe)), arch.space)
        network = here.settings.retrain.network
        dimensions = DATASETS[here.settings.data.dataset].dimensions
        with torch.device("meta"):
            model = BACKBONES[here.space.backbone].make(here.space, network, **dimensions, only=arch)
        out[f"{plan.preset} {recipe}"] = model.num_parameters(aux=False)
        if recipe == "paper" and isinstance(network, RecurrentSettings):
            out["hidden units of 24 M parameters (paper 3.1)"] = hidden_for(
                24_000_000, here.space, arch, network, **dimensions
            )
    return out


def marks_of(what: str | Path, arch: Architecture) -> dict[str, str]:
    """Notes for a drawing: sizes of maps and filters in the run's network, or else in that of the recipe `paper`."""
    if Path(what).is_dir() and (Path(what) / "best.json").exists():
        found: dict[str, str] = read_json(Path(what) / "best.json").get("marks", {})
        return found
    name = presets.preset_for(arch.space["name"])
    plan = with_space(setup(name, "paper", data=".", device="cpu"), arch.space)
    dimensions = DATASETS[plan.settings.data.dataset].dimensions
    with torch.device("meta"):
        model = BACKBONES[plan.space.backbone].make(plan.space, plan.settings.retrain.network, **dimensions, only=arch)
    return model.marks()


def architecture_of(what: str | Path) -> Architecture:
    """From a run (its best), a JSON file, or the name of a shipped architecture; ValueError where it is none of them."""
    text = str(what)
    if text in NAMED:
        return named(text)
    path = Path(what)
    if path.is_dir():
        config = RunFolder.open(path).config
        return Architecture.from_dict(config["architecture"]) if "architecture" in config else best_of(path)[0]
    if path.is_file():
        try:
            arch = Architecture.from_json(path.read_text())
        except UnicodeDecodeError:
            raise ValueError(f"an architecture is read from a JSON file; '{path}' is not text") from None
        return space_of(arch.space).architecture(arch.choices, dict(arch.provenance))  # one value, however it was written
    raise ValueError(f"'{text}' is no run, no architecture file and none of the named ones ({', '.join(NAMED)})")
