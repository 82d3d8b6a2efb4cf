"""A network as an ONNX file, by torch's own exporter, checked by onnxruntime where it is installed.

Any batch size goes; of text, windows of one step (T = 1), the state in and out.
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
    """Raises a ValueError where torch's exporter has not what it needs."""
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ValueError(f"format onnx needs the package {missing[0]}: pip install 'enas[onnx]'")


def packed(
    program: torch.export.ExportedProgram,
    about: About,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> bytes:
    """Returns the bytes of an ONNX file of opset `OPSET`, whose metadata carry what `about` says.
    ValueError where torch has no ONNX for an op."""
    import onnx

    names: dict[str, Any] = {"input_names": list(input_names), "output_names": list(output_names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of torch's own parts
        try:
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False, **names)
        except RuntimeError as error:
            raise ValueError(f"torch.onnx cannot write the network: {' '.join(str(error).split())[:300]}") from error
    assert made is not None
    model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # paths of this machine
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, about.metadata())
    onnx.checker.check_model(model)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    return buffer.getvalue()


def run(data: bytes, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """Returns what onnxruntime computes of a file; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feed = {place.name: value.numpy() for place, value in zip(session.get_inputs(), inputs, strict=True)}
    return tuple(torch.from_numpy(value) for value in session.run(None, feed))
