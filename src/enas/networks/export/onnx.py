"""This module writes a network as an ONNX file by torch's own exporter, and runs such a file by
onnxruntime where that is installed.

The file takes any batch size. A language model takes windows of one step (T = 1), with the state as
an input and an output.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from enas.networks.export.about import About

OPSET = 18


def check_installed() -> None:
    """Raises a ValueError where a package that torch's exporter needs is missing."""
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ValueError(f"format onnx needs the package {missing[0]}: pip install 'enas[onnx]'")


def packed(
    program: torch.export.ExportedProgram,
    about: About,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> bytes:
    """Returns the bytes of an ONNX file of opset `OPSET`, whose metadata carry what `about` says.
    Raises a ValueError where torch has no ONNX for an op."""
    import onnx

    names: dict[str, Any] = {"input_names": list(input_names), "output_names": list(output_names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own parts
        try:
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False, **names)
        except RuntimeError as error:
            raise ValueError(f"torch.onnx cannot write the network: {' '.join(str(error).split())[:300]}") from error
    assert made is not None
    model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # these hold paths of this machine
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, about.metadata())
    onnx.checker.check_model(model)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    return buffer.getvalue()


def run(data: bytes, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """Returns what onnxruntime computes from a file, or None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feed = {place.name: value.numpy() for place, value in zip(session.get_inputs(), inputs, strict=True)}
    return tuple(torch.from_numpy(value) for value in session.run(None, feed))
