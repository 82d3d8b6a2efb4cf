"""This module loads the published architectures that ship with the package, by name, and says where
each comes from."""

from __future__ import annotations

from importlib.resources import files

from enas.ranges import check_name
from enas.spaces.architecture import Architecture
from enas.spaces.registry import space_of

NAMED = {
    "enas_micro": "the micro cells of the authors' released code (melodyguan/enas)",
    "enas_macro": "the 24-layer network of the authors' released code (melodyguan/enas)",
    "enas_rnn": "the recurrent cell of the paper's Figure 6, as in the first released code (melodyguan/enas)",
    "enas_rnn_corrected": "the recurrent cell of the corrected release (google-research/enas_lm)",
    "darts_rnn": "the recurrent cell of DARTS, second order (Liu et al. 2019; in google-research/enas_lm)",
}


def named(name: str) -> Architecture:
    """Returns a shipped architecture, checked against its space; ValueError for an unknown name."""
    check_name("a named architecture", name, NAMED)
    arch = Architecture.from_json((files("enas") / "spaces" / "published" / f"{name}.json").read_text())
    return space_of(arch.space).check(arch)
