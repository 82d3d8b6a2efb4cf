"""This module registers the hand-designed models to compare with. It does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from enas.plugins import Entry


@dataclass(frozen=True)
class ReferenceEntry(Entry):
    """A `ReferenceEntry` registers a hand-designed model. `make` takes the dimensions of a task,
    the network settings of a recipe, and the largest number of parameters."""

    task: str = ""
    parameters: int = 0
    """Number of parameters of the published model."""
    about: str = ""


def _reference(where: str, task: str, parameters: int, about: str) -> ReferenceEntry:
    return ReferenceEntry(f"enas.networks.references.{where}", task=task, parameters=parameters, about=about)


REFERENCES: dict[str, ReferenceEntry] = {
    "lstm": _reference(
        "text:make_lstm",
        "language_model",
        24_000_000,
        "two LSTM layers, variational dropout, tied words (Inan et al. 2017)",
    ),
    "rhn": _reference(
        "text:make_rhn",
        "language_model",
        24_000_000,
        "recurrent highway network, 10 layers deep in a step (Zilly et al. 2017)",
    ),
    "resnet": _reference(
        "images:make_resnet",
        "image_classification",
        1_700_000,
        "ResNet of 20 layers, widened to the budget (He et al. 2016)",
    ),
    "densenet_bc": _reference(
        "images:make_densenet_bc",
        "image_classification",
        25_600_000,
        "DenseNet-BC, grown to the budget (Huang et al. 2017)",
    ),
}
