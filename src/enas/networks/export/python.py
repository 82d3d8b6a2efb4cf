"""This module writes a child as a readable Python file that does not need `enas`, with its weights
in a file beside it.

The file depends on torch, on safetensors to load its weights, and on numpy and Pillow to read
images. Where a child runs by torch's own kernels, and a cell by its plain computation, the file
computes the same numbers to the last digit, because it runs the same ops in the same order. It is
for inference: dropout, drop-path and the auxiliary head are left out.
"""

from __future__ import annotations

import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.export import images, recurrent
from enas.networks.export.about import About, Images, Text
from enas.networks.export.layout import comment, constant, docstring
from enas.networks.export.parts import NoSource, Written
from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.nasbench_macro import NasBenchMacroNetwork
from enas.networks.recurrent import RecurrentNetwork

WRITERS: Mapping[type[nn.Module], Callable[[Any], Written]] = {
    MicroNetwork: images.micro,
    MacroNetwork: images.macro,
    NasBench201Network: images.nasbench201,
    NasBenchMacroNetwork: images.nasbench_macro,
    RecurrentNetwork: recurrent.recurrent,
}
LOAD = '''
def load() -> Network:
    """Returns the network with the weights beside this file, ready for inference."""
    network = Network()
    network.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))
    return network.eval()
'''
IMAGE_MAIN = '''
def read(path: str) -> Tensor:
    """Returns an image file as the network reads it, (1, {channels}, SIZE, SIZE)."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("{mode}")
{resized}
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32)).view(SIZE, SIZE, -1)
    pixels = (pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return pixels.permute(2, 0, 1)[None]


@torch.no_grad()
def main(paths: list[str]) -> None:
    """Prints the most probable classes of images."""
    network = load()
    for path in paths:
        probabilities = network(read(path))[0].softmax(0)
        print(path)
        for i in probabilities.argsort(descending=True)[:5].tolist():
            print(f"  {{probabilities[i]:7.2%}}  {{CLASSES[i]}}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(f"usage: python {{sys.argv[0]}} IMAGE ...")
    try:
        main(sys.argv[1:])
    except OSError as error:  # a file that is missing or is no image
        sys.exit(str(error))
'''
TEXT_MAIN = '''
def vocabulary() -> list[str]:
    """Returns the words in the order of the logits."""
    with safe_open(Path(__file__).with_suffix(".safetensors"), "pt") as file:
        return json.loads(file.metadata()["vocabulary"])


{tokens}


@torch.no_grad()
def main(text: str) -> None:
    """Prints the perplexity of a text and the words that may come next."""
    network, words = load(), vocabulary()
    number = {{word: i for i, word in enumerate(words)}}
    unknown = number.get("<unk>")
    read = [number.get(token, unknown) for token in tokens(text)]
    if None in read:
        sys.exit(f"{{tokens(text)[read.index(None)]!r}} is not in the vocabulary")
    start = [number["<eos>"]] if "<eos>" in number else []
    if not read:
        sys.exit("the text has no words")
    x = torch.tensor(start + read)[:, None]
    logits, _ = network(x, network.initial_state(1))
    if len(x) > 1:
        loss = F.cross_entropy(logits[:-1, 0], x[1:, 0]).item()
        print(f"perplexity {{math.exp(loss):,.2f}} per token, of {{len(x) - 1}} tokens")
    probabilities = logits[-1, 0].softmax(0)
    print("next:")
    for i in probabilities.argsort(descending=True)[:5].tolist():
        print(f"  {{probabilities[i]:7.2%}}  {{words[i]}}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(f'usage: python {{sys.argv[0]}} "some text"')
    main(sys.argv[1])
'''
TOKENS = {
    "words": '''
def tokens(text: str) -> list[str]:
    """Returns the words of a text."""
    return text.replace("\\n", " <eos> ").split()
''',
    "marks": '''
def tokens(text: str) -> list[str]:
    """Returns words in lower case, numbers and single marks."""
    return re.findall(r"[^\\W\\d]+|\\d+|[^\\w\\s*|\\"]", text.lower())
''',
    "characters": '''
def tokens(text: str) -> list[str]:
    """Returns the characters of a text."""
    return ["<eos>" if character == "\\n" else character for character in text]
''',
}
WHOLE = "    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)"
MIDDLE = """    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)"""
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Module:
    """A `Module` holds the source of a Python file, and the tensors that stand beside it."""

    source: str
    tensors: Mapping[str, Tensor]

    def network(self) -> nn.Module:
        """Returns the network of the file in evaluation mode, with the tensors loaded."""
        module = types.ModuleType("exported")
        # The source was written by this package, so it is safe to run.
        exec(compile(self.source, "exported.py", "exec"), module.__dict__)
        network: nn.Module = module.Network()
        network.load_state_dict(dict(self.tensors))
        return network.eval()


def known(child: nn.Module) -> bool:
    """Returns whether the network of a child can be written as source."""
    return type(child) in WRITERS


@torch.no_grad()
def module_of(child: nn.Module, about: About, weights: bool = True) -> Module:
    """Returns the file of a child that has running statistics. `weights` says whether the file
    loads weights that are beside it. Raises a ValueError for a network or an op that has no
    source."""
    if not known(child):
        raise NoSource(
            "format python writes the networks of this package; yours is made of classes of your own: export it with"
            " --format onnx or --format torch"
        )
    written = WRITERS[type(child)](child)
    tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in written.tensors.items()}
    return Module(_file(written.source, about, weights), tensors)


def _file(classes: str, about: About, weights: bool) -> str:
    reads = about.reads
    body, constants, lines = [classes], [], []
    runs = weights and ((isinstance(reads, Images) and reads.classes) or (isinstance(reads, Text) and reads.vocabulary))
    if weights:
        body.append(LOAD.strip("\n"))
    if runs and isinstance(reads, Images):
        constants += [f"SIZE = {reads.size}", constant("MEAN", reads.mean), constant("STD", reads.std)]
        constants.append(constant("CLASSES", reads.classes))
        if reads.channels in MODES:
            fields = {"channels": reads.channels, "mode": MODES[reads.channels]}
            main = IMAGE_MAIN.format(resized=MIDDLE if reads.crop else WHOLE, **fields)
            body.append(main.strip("\n"))
            lines.append("    python FILE IMAGE ...    prints the most probable classes of images")
    if runs and isinstance(reads, Text):
        body.append(TEXT_MAIN.format(tokens=TOKENS[reads.tokens].strip("\n")).strip("\n"))
        lines.append('    python FILE "some text"   prints its perplexity and the words that may come next')
    code = "\n\n\n".join(body)
    stated = [f"    {key:12} {_stated(value)}" for key, value in about.provenance.items() if key != "choices"]
    paragraphs = [about.title, *(["\n".join(lines)] if lines else [])]
    paragraphs.append("For inference: dropout, drop-path and auxiliary heads are left out.")
    choices = about.provenance.get("choices")
    if stated:
        paragraphs.append("\n".join(["Where it comes from:", *_wrapped(stated)]))
    if isinstance(choices, Mapping):
        pad = max(map(len, choices), default=0)
        paragraphs.append(
            "\n".join(["Its choices:", *_wrapped([f"    {k:{pad}} {_stated(v)}" for k, v in choices.items()])])
        )
    parts = [docstring(paragraphs), _imports(code)]
    if about.drawing:
        parts.append(comment(about.drawing.strip("\n")))
    parts += ["\n".join(constants)] if constants else []
    return "\n\n".join(parts) + "\n\n\n" + code + "\n"


def _stated(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(_stated, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_stated(part)}" for key, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _wrapped(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, 88, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def _imports(code: str) -> str:
    """Returns the imports that the code needs, in a formatter's order."""
    standard = [name for name in ("json", "math", "re", "sys") if f"{name}." in code]
    first = [f"import {name}" for name in standard if _uses(code, name)]
    first += ["from pathlib import Path"] if "Path(" in code else []
    second = ["import numpy as np"] if "np." in code else []
    second += ["import torch"] if "torch." in code.replace("safetensors.torch", "") else []
    second += ["import torch.nn.functional as F"] if "F." in code else []
    pillow = [name for name in ("Image", "ImageOps") if f"{name}." in code]
    second += [f"from PIL import {', '.join(pillow)}"] if pillow else []
    second += ["from safetensors import safe_open"] if "safe_open(" in code else []
    second += ["from safetensors.torch import load_file"] if "load_file(" in code else []
    second += ["from torch import Tensor, nn"]
    return "\n".join([*first, *([""] if first else []), *second])


def _uses(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\.", code) is not None


# ------------------------------------------------------------------------- what other formats run
class Called(nn.Module):
    """A `Called` module wraps a child of this package that has no source, as a network with tensors
    in and out."""

    def __init__(self, child: nn.Module):
        super().__init__()
        self.child = child

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:
        if state is None:
            return self.child(x)
        outputs, after = self.child(x, None, tuple(state.unbind(0)))
        return outputs.logits_TBV, torch.stack(after)


def network_of(child: nn.Module) -> nn.Module:
    """Returns the network of a child's file, or the child itself where an op has no source."""
    try:
        return module_of(child, About("")).network()
    except NoSource:
        return Called(child)


# ----------------------------------------------------------------------------------------- checks
@contextmanager
def reference(child: nn.Module) -> Iterator[None]:
    """Makes a child compute by torch's own kernels, and cells by their plain computation, inside
    the `with` block."""
    settings = getattr(child, "settings", None)
    plain = isinstance(child, RecurrentNetwork)
    if isinstance(child, RecurrentNetwork):
        child.settings = replace(child.settings, computation="plain")
    try:
        with kernels.without(*kernels.SWITCHES), torch.no_grad():
            yield
    finally:
        if plain:
            child.settings = settings  # type: ignore[assignment]


def inputs_of(child: Any, streams: int = 2, steps: int = 3) -> tuple[Tensor, ...]:
    """Returns random inputs for the network of a child: images, or words and a state."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(child, RecurrentNetwork):
        words = torch.randint(child.vocabulary, (steps, streams), generator=generator)
        shape = (child.settings.layers, streams, child.settings.hidden)
        return words, torch.rand(shape, generator=generator) * 2 - 1
    return (torch.randn(streams, child.channels, child.image_size, child.image_size, generator=generator),)


def outputs_of(child: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns what the network of the file should return: logits, or logits and the state after the
    window."""
    child.eval()
    with reference(child):
        if isinstance(child, RecurrentNetwork):
            outputs, state = child(inputs[0], None, tuple(inputs[1].unbind(0)))
            return outputs.logits_TBV, torch.stack(state)
        return (child(inputs[0]),)
