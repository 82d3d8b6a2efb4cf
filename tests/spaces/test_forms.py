"""Architectures in the forms of others: every form reads what it wrote, the published ones say what
they say, and what has no equal is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enas.cli.main import main
from enas.runs.architectures import architecture_of
from enas.spaces import forms
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import nasbench201
from enas.spaces.nasbench_macro import nasbench_macro
from enas.spaces.published import NAMED, named
from enas.spaces.rnn_cell import CORRECTED, RnnCellSettings, rnn_cell
from enas.spaces.space import SearchSpace
from laws import one_line, samples

SPACES: dict[str, tuple[SearchSpace, tuple[str, ...]]] = {
    "conv_micro": (conv_micro(), ("fixed_arc", "genotype")),
    "conv_micro-small": (conv_micro(ConvMicroSettings(num_nodes=4)), ("genotype",)),
    "conv_macro": (conv_macro(ConvMacroSettings(form="released")), ("fixed_arc",)),
    "rnn_cell": (rnn_cell(), ("fixed_arc",)),
    "rnn_cell-corrected": (
        rnn_cell(RnnCellSettings(8, fixed_input=True, output="all", sharing="edge_op")),
        ("fixed_arc", "genotype"),
    ),
    "rnn_cell-darts": (rnn_cell(RnnCellSettings(8, fixed_input=True, sharing="edge_op")), ("genotype",)),
    "nasbench201": (nasbench201(), ("nasbench201",)),
    "nasbench_macro": (nasbench_macro(), ("nasbench_macro",)),
}
CASES = [(name, form) for name, (_, written) in SPACES.items() for form in (*written, "json")]

# As in the released scripts; the normal cell first.
MICRO = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1  1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
RECURRENT = "0 0 0 1 1 2 1 2 0 2 0 5 1 1 0 6 1 8 1 8 1 8 1"
CORRECTED_RECURRENT = "0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2"


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_form_reads_what_it_wrote(name: str, form: str) -> None:
    for arch in samples(SPACES[name][0], 20):
        text = forms.written(arch, form)
        assert forms.read(text) == arch
        assert forms.read(f" {text}\n") == arch


@pytest.mark.parametrize(
    ("text", "name"),
    [(MICRO, "enas_micro"), (RECURRENT, "enas_rnn"), (CORRECTED_RECURRENT, "enas_rnn_corrected")],
)
def test_published_numbers_are_the_named_architectures(text: str, name: str) -> None:
    assert architecture_of(text) == named(name)
    assert forms.written(named(name), "fixed_arc") == " ".join(text.split())


def test_every_named_architecture_has_its_numbers() -> None:
    for name in NAMED:
        assert forms.read(forms.written(named(name), "fixed_arc")) == named(name)


def test_other_strings_say_what_they_say() -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_1x1~2|"
    assert architecture_of(cell).choices["cell.n3.op2"] == "nor_conv_1x1"
    assert list(architecture_of("22212220").choices.values()) == ["mb6_k5"] * 3 + ["mb3_k3"] + ["mb6_k5"] * 3 + ["identity"]
    text = (
        "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('max_pool_3x3', 0), ('sep_conv_5x5', 1)],"
        " normal_concat=range(2, 4), reduce=(('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 2),"
        " ('sep_conv_3x3', 2)), reduce_concat=[3])"
    )
    arch = architecture_of(text)
    assert arch.space == {"name": "conv_micro", "num_nodes": 2}
    assert [arch.choices[f"normal.n2.{key}"] for key in ("input0", "op0", "input1", "op1")] == [
        *("prev", "sep_conv_3x3"),
        *("prev_prev", "identity"),
    ]
    assert arch.choices["reduce.n3.input0"] == "n2"
    recurrent = architecture_of("Genotype(recurrent=[('tanh', 0), ('relu', 0), ('sigmoid', 2)], concat=range(1, 4))")
    assert recurrent.space == {"name": "rnn_cell", "num_nodes": 3, **CORRECTED}
    ends = architecture_of("Genotype(recurrent=[('tanh', 0), ('relu', 0), ('sigmoid', 2)], concat=[1, 3])")
    assert ends.space == {"name": "rnn_cell", "num_nodes": 3, "fixed_input": True, "sharing": "edge_op"}


def genotype(normal: object = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)], concat: object = [2], **more: object) -> str:
    parts = {"normal": normal, "normal_concat": concat, "reduce": normal, "reduce_concat": concat, **more}
    return f"Genotype({', '.join(f'{key}={value}' for key, value in parts.items())})"


FOUR = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2), ("sep_conv_3x3", 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (genotype([("dil_conv_3x3", 0), ("sep_conv_3x3", 1)]), "no op 'dil_conv_3x3', which the normal cell uses"),
        (genotype([("none", 0), ("sep_conv_3x3", 1)]), "no op 'none'"),
        (genotype(FOUR, [2, 3]), "joins the nodes that no other reads, 3 in this normal cell; the genotype joins 2, 3"),
        (genotype([("sep_conv_3x3", 0), ("sep_conv_3x3", 2)]), "node 0 of the normal cell reads 0 to 1; got 2"),
        (genotype([("sep_conv_3x3", 0)]), "of two edges each"),
        (genotype(reduce=FOUR), "the same number of nodes"),
        (genotype([["sep_conv_3x3", 0, 1]]), "edges of a genotype are pairs"),
        (genotype(concat="{}"), "a list of nodes"),
        (genotype(more=1), "got normal, normal_concat, reduce, reduce_concat, more"),
        ("Genotype(recurrent=[('gelu', 0)], concat=[1])", "space rnn_cell has no op 'gelu'"),
        ("Genotype(recurrent=[('tanh', 1)], concat=[1])", "node 1 of a recurrent genotype reads 0 to 0; got 1"),
        ("Genotype(recurrent=[('tanh', 0), ('tanh', 1), ('relu', 1)], concat=[1, 2])", "the genotype averages 1, 2"),
        ("Genotype([('tanh', 0)], [1])", "a genotype names its parts"),
        ("Genotype(recurrent=__import__('os').getcwd(), concat=[1])", "a genotype is Genotype"),
        ("Genotype(recurrent=range(10 ** 9), concat=[1])", "a genotype is Genotype"),
        ("Genotype(recurrent=range(1000000000), concat=[1])", "a genotype is Genotype"),
        ("Genotype(**{})", "got None"),
        ("Genotype(", "a genotype is Genotype"),
        ("|nor_conv_3x3~0", "node 1 of a cell is |op~0|"),
        ("|conv_9x9~0|", "takes one of none, skip_connect"),
        ("99999999", "a chain is a digit per layer"),
        ("0 9 0 9", "these 4 numbers are no fixed_arc"),
        (MICRO.replace("4", "7"), "these 40 numbers are no fixed_arc: node 1 of the normal cell"),
        ("0 0 0", "3 numbers can be of conv_macro or rnn_cell: write which, as 'conv_macro: 0 0 0 ...'"),
        ("conv: 0 0 0", "the space of a fixed_arc is one of conv_micro"),
        ("conv_macro: 7", "layer 1 is an op from 0 to 5"),
        ("{", "is read from JSON"),
        ('{"choices": {}}', '"space" part is missing'),
        ("x" * 5000, "xxx...' is not a run, an architecture file"),
        ("1" * 300, "111...' is not a run, an architecture file"),
        ("a/" * 5000, "is not a run"),
        ("", "is not a run"),
    ],
)
def test_what_has_no_equal_is_refused_in_one_line(text: str, says: str) -> None:
    with one_line(ValueError, says):
        architecture_of(text)


def test_a_form_that_could_be_of_two_spaces_says_which() -> None:
    assert forms.from_fixed_arc("conv_macro: 0 3 0").space == {"name": "conv_macro", "num_layers": 2, "form": "released"}
    assert forms.from_fixed_arc("rnn_cell: 0 0 0").space == {"name": "rnn_cell", "num_nodes": 2}
    assert forms.from_fixed_arc("rnn_cell_corrected: 0 0").space["fixed_input"] is True
    assert forms.from_fixed_arc("conv_micro: 0 1 0 1 0 1 0 1").space == {"name": "conv_micro", "num_nodes": 1}


OTHER_OPS = conv_micro(ConvMicroSettings(num_nodes=1, ops=("mine:blur",)))


@pytest.mark.parametrize(
    ("space", "form", "says"),
    [
        (conv_macro(), "fixed_arc", "this is of 'paper'"),
        (OTHER_OPS, "fixed_arc", "has numbers for sep_conv_3x3, sep_conv_5x5, .*; got 'mine:blur'"),
        (rnn_cell(RnnCellSettings(3, fixed_input=True)), "fixed_arc", "cells as in the paper, or with"),
        (rnn_cell(), "genotype", "begins with a fixed tanh node"),
        (conv_macro(), "genotype", "is of space conv_micro and rnn_cell; got an architecture of 'conv_macro'"),
        (conv_macro(), "nasbench201", "the form 'nasbench201' is of space nasbench201; got"),
        (conv_macro(), "xml", "a form is one of nasbench201, nasbench_macro, fixed_arc, genotype, json; got 'xml'"),
    ],
)
def test_what_a_form_cannot_say(space: SearchSpace, form: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        forms.written(samples(space, 1)[0], form)


def test_the_command_line_takes_and_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", MICRO, "--as", "json"]) == 0
    printed = capsys.readouterr().out
    assert Architecture.from_dict(json.loads(printed)) == named("enas_micro")
    assert main(["show", printed]) == 0
    assert "n2" in capsys.readouterr().out
    for form in ("genotype", "fixed_arc"):
        (tmp_path / form).write_text(forms.written(named("enas_rnn_corrected"), form))
        assert main(["show", str(tmp_path / form), "--as", "fixed_arc"]) == 0
        assert capsys.readouterr().out.strip() == CORRECTED_RECURRENT
    assert main(["retrain", "x" * 300]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["derive", "x" * 300]) == 2
    error = capsys.readouterr().err
    assert "has none (`enas search` makes one)" in error
    assert error.count("\n") == 1
