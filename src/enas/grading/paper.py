"""This module holds what the paper reports (Pham et al. 2018, arXiv 1802.03268v2): every row of
Tables 1 and 2, and every experiment of section 3.3, with the command that runs it here. Our own
figures are read from run folders (reproduce.py).

Figures of the tables were checked against the prose where it repeats them: 55.8, 56.0 and 62.4
(3.1); 2.56, 4.23, 4.47, 3.87, 3.65, 3.54, 3.41, 2.89 and 2.65 (3.2). A figure that could not be
read with certainty is left out. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["others", "reference", "derived", "uniform", "disabled", "ensemble", "local"]


@dataclass(frozen=True)
class Experiment:
    """An `Experiment` is a row: what the paper says, and which figures of a run folder belong
    beside it."""

    name: str
    source: str  # where the paper says so
    data: str  # data set
    # test perplexity (ptb) or test error in percent (cifar10); for kind "local", its increase
    figure: float | None
    parameters: float | None = None  # millions
    most: bool = False  # the figure is the largest of several
    kind: Kind = "others"  # "others" is a method that this package does not implement
    space: str = ""  # space of the search; "" for a reference
    of: str = ""  # the reference model, or the study of kind "local"
    # settings that this row has beside the recipe `paper`
    changes: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""  # the experiment whose run the command goes on from
    command: str = ""

    @property
    def text(self) -> str:
        """Returns the figure as text, such as `55.8`, `3.54 %` or `up to +8`, or `-` where the
        paper gives none."""
        if self.figure is None:
            return "-"
        number = f"{self.figure:+g}" if self.kind == "local" else f"{self.figure:.{1 if self.data == 'ptb' else 2}f}"
        return f"{'up to ' if self.most else ''}{number}{' %' if self.data == 'cifar10' else ''}"


RUNS = {space: f"runs/{preset}-paper/seed0" for space, preset in (
    ("rnn_cell", "ptb-rnn"), ("conv_macro", "cifar10-macro"), ("conv_micro", "cifar10-micro")
)}  # fmt: skip


def _whole(space: str) -> str:
    run = RUNS[space]
    preset = run.split("/")[1].removesuffix("-paper")
    search = f"enas search {preset} --recipe paper --data data --out {run}"
    return f"{search} && enas derive {run} && enas retrain {run}"


def _reference(name: str, preset: str, more: str = "") -> str:
    return f"enas retrain --arch {name} --preset {preset} --recipe paper --data data{more}"


RNN, MACRO, MICRO = "ENAS, VD, WT, l2", "ENAS + macro search space", "ENAS + micro search space"
AFTER = {"rnn_cell": RNN, "conv_macro": MACRO, "conv_micro": MICRO}


def _table_1() -> list[Experiment]:
    others = [
        ("LSTM (Zaremba et al., 2014), vanilla dropout", 66, 78.4),
        ("LSTM (Gal & Ghahramani, 2016), VD", 66, 75.2),
        ("LSTM (Inan et al., 2017), VD, WT", 51, 68.5),
        ("LSTM (Melis et al., 2017), hyper-parameters search", 24, 59.5),
        ("LSTM (Yang et al., 2018), VD, WT, l2, AWD, MoC", 22, 57.6),
        ("LSTM (Merity et al., 2017), VD, WT, l2, AWD", 24, 57.3),
        ("LSTM (Yang et al., 2018), VD, WT, l2, AWD, MoS", 22, 56.0),
        ("RHN (Zilly et al., 2017), VD, WT", 24, 66.0),
        ("NAS (Zoph & Le, 2017), VD, WT", 54, 62.4),
    ]
    ours: dict[int, dict[str, Any]] = {
        3: {"kind": "reference", "of": "lstm", "command": _reference("lstm", "ptb-rnn", " --parameters 51000000")},
        8: {"kind": "reference", "of": "rhn", "command": _reference("rhn", "ptb-rnn")},
    }
    rows = [
        Experiment(name, f"Table 1, row {row}", "ptb", figure, parameters, **ours.get(row, {}))
        for row, (name, parameters, figure) in enumerate(others, 1)
    ]
    command = _whole("rnn_cell")
    enas = Experiment(RNN, "Table 1, row 10", "ptb", 55.8, 24, kind="derived", space="rnn_cell", command=command)
    return [*rows, enas]


def _table_2() -> list[Experiment]:
    cutout = {"changes": {"retrain.task.cutout": 16}}
    macro, micro = ({"kind": "derived", "space": space} for space in ("conv_macro", "conv_micro"))
    densenet = {"kind": "reference", "of": "densenet_bc"}
    rows: list[tuple[str, float | None, float, dict[str, Any]]] = [
        ("DenseNet-BC (Huang et al., 2016)", 25.6, 3.46,
         {**densenet, "command": _reference("densenet_bc", "cifar10-micro")}),
        ("DenseNet + Shake-Shake (Gastaldi, 2016)", 26.2, 2.86, {}),
        # the prose of 3.2 has Shake-Shake in it as well
        ("DenseNet + CutOut (DeVries & Taylor, 2017)", 26.2, 2.56,
         {**densenet, **cutout,
          "command": _reference("densenet_bc", "cifar10-micro", " --parameters 26200000 --cutout 16")}),
        ("Budgeted Super Nets (Veniat & Denoyer, 2017)", None, 9.21, {}),
        ("ConvFabrics (Saxena & Verbeek, 2016)", 21.2, 7.43, {}),
        ("Macro NAS + Q-Learning (Baker et al., 2017a)", 11.2, 6.92, {}),
        ("Net Transformation (Cai et al., 2018)", 19.7, 5.70, {}),
        ("FractalNet (Larsson et al., 2017)", 38.6, 4.60, {}),
        ("SMASH (Brock et al., 2018)", 16.0, 4.03, {}),
        ("NAS (Zoph & Le, 2017)", 7.1, 4.47, {}),
        ("NAS + more filters (Zoph & Le, 2017)", 37.4, 3.65, {}),
        (MACRO, 21.3, 4.23, {**macro, "command": _whole("conv_macro")}),
        (f"{MACRO} + more channels", 38.0, 3.87,
         # 512 in the highest layer
         {**macro, "changes": {"retrain.network.filters": 128}, "after": MACRO,
          "command": f"enas retrain {RUNS['conv_macro']} --highest-filters 512"}),
        ("Hierarchical NAS (Liu et al., 2018)", 61.3, 3.63, {}),
        ("Micro NAS + Q-Learning (Zhong et al., 2018)", None, 3.60, {}),
        ("Progressive NAS (Liu et al., 2017)", 3.2, 3.63, {}),
        ("NASNet-A (Zoph et al., 2018)", 3.3, 3.41, {}),
        ("NASNet-A + CutOut (Zoph et al., 2018)", 3.3, 2.65, {}),
        (MICRO, 4.6, 3.54, {**micro, "command": _whole("conv_micro")}),
        (f"{MICRO} + CutOut", 4.6, 2.89,
         {**micro, **cutout, "after": MICRO, "command": f"enas retrain {RUNS['conv_micro']} --cutout 16"}),
    ]  # fmt: skip
    return [
        Experiment(name, f"Table 2, row {row}", "cifar10", figure, parameters, **more)
        for row, (name, parameters, figure, more) in enumerate(rows, 1)
    ]


GUIDED, DISABLED, LOCAL = "guided random search", "disabled controller", "local optimum"
FLAG = {"disabled": " --disabled 250", "ensemble": " --disabled 250", "local": " --local 8"}
SECTION_33: list[tuple[str, str, float, Kind, str, str]] = [
    (f"{GUIDED}, recurrent cell", "3.3", 81.2, "uniform", "rnn_cell", ""),
    (f"{GUIDED}, macro", "3.3", 5.86, "uniform", "conv_macro", ""),
    (f"{GUIDED}, micro", "3.3", 6.77, "uniform", "conv_micro", ""),
    (f"{DISABLED}: the trained shared weights", "3.3", 8.92, "disabled", "conv_macro", ""),
    (f"{DISABLED}: ensemble of 250 configurations", "3.3", 5.49, "ensemble", "conv_macro", ""),
    (f"{LOCAL}: some activations to identity or sigmoid", "3.1", 8, "local", "rnn_cell", "identity_sigmoid"),
    (f"{LOCAL}: some ReLU to tanh or back", "3.1", 3, "local", "rnn_cell", "relu_tanh"),
    (f"{LOCAL}, macro: plain for separable convolutions, as many parameters", "3.2", 1.7, "local", "conv_macro",
     "plain_convolutions"),
    (f"{LOCAL}, micro: several connections changed at random", "3.2", 2.1, "local", "conv_micro", "connections"),
]  # fmt: skip


def _section_33() -> list[Experiment]:
    return [
        Experiment(
            name,
            f"section {section}",
            "ptb" if space == "rnn_cell" else "cifar10",
            figure,
            most=kind == "local" and space == "rnn_cell",  # "up to"
            kind=kind,
            space=space,
            of=of,
            after=AFTER[space],
            command=f"enas compare {RUNS[space]}{FLAG.get(kind, '')}",
        )
        for name, section, figure, kind, space, of in SECTION_33
    ]


EXPERIMENTS: dict[str, list[Experiment]] = {
    "Table 1: test perplexity on the Penn Treebank": _table_1(),
    "Table 2: test error on CIFAR-10": _table_2(),
    "Section 3.3 (and 3.1, 3.2): is it the search?": _section_33(),
}
