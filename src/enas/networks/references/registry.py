"""The registered hand-designed models to compare with."""

from __future__ import annotations

from functools import partial

from enas.networks.references.images import make_densenet_bc, make_resnet
from enas.networks.references.reference import ReferenceEntry
from enas.networks.references.text import make_language_model

_text = partial(ReferenceEntry, task="language_model", parameters=24_000_000)
REFERENCES: dict[str, ReferenceEntry] = {
    "lstm": _text(
        partial(make_language_model, "lstm"), about="two LSTM layers, variational dropout, tied words (Inan et al. 2017)"
    ),
    "rhn": _text(
        partial(make_language_model, "rhn"), about="recurrent highway network, 10 layers deep in a step (Zilly et al. 2017)"
    ),
    "resnet": ReferenceEntry(
        make_resnet, "image_classification", 1_700_000, "ResNet of 20 layers, widened to the budget (He et al. 2016)"
    ),
    "densenet_bc": ReferenceEntry(
        make_densenet_bc, "image_classification", 25_600_000, "DenseNet-BC, grown to the budget (Huang et al. 2017)"
    ),
}
