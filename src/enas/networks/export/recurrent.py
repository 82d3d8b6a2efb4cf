"""This module writes language models of recurrent cells as Python source: the plain computation of
one cell in evaluation mode, with a line for each product and node."""

from __future__ import annotations

from enas.networks.export.layout import collection, name
from enas.networks.export.parts import NoSource, Written
from enas.networks.recurrence.program import BOUND, Program
from enas.networks.recurrent import RecurrentNetwork

APPLIED = {"tanh": "torch.tanh({})", "relu": "torch.relu({})", "sigmoid": "torch.sigmoid({})", "identity": "{}"}
CELL = '''class Cell(nn.Module):
    """{about}"""

    def __init__(self):
        super().__init__()
{init}

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Maps a word and the state before, (B, {hidden}) each, to the state after."""
{forward}'''
NETWORK = '''class Network(nn.Module):
    """A language model: embedding, recurrent cell, softmax tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding({vocabulary}, {hidden})
        self.layers = nn.ModuleList([Cell() for _ in range({layers})]){bias}

    def initial_state(self, streams: int) -> Tensor:
        """Returns zeros, ({layers}, streams, {hidden})."""
        return self.words.weight.new_zeros({layers}, streams, {hidden})

    def forward(self, words: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Maps words (T, B) int64 and a state ({layers}, B, {hidden}) to the logits of the words
        that come next, (T, B, {vocabulary}), and the state after."""
        x, after = self.words(words), []
        for cell, h in zip(self.layers, state.unbind(0)):
            steps = []
            for x_t in x.unbind(0):
                h = cell(x_t, h)
                steps.append(h)
            x = torch.stack(steps)
            after.append(h)
        return F.linear(x, self.words.weight{and_bias}), torch.stack(after)'''


def recurrent(child: RecurrentNetwork) -> Written:
    """Returns the source of a language model. Raises `NoSource` for an activation of a user's
    own."""
    written, s = Written(), child.settings
    assert child.only is not None
    wired = child.only_cell(child.only)
    program = Program.of(wired, s.highway)
    names = [name(node.name) for node in wired.nodes]
    for op in program.ops:
        if op not in APPLIED:
            raise NoSource(f"format python has no source of the activation '{op}': export as onnx or torch")
    written.tensors["words.weight"] = child.at("words").weight
    if s.softmax_bias:
        written.tensors["bias"] = child.at("softmax").bias
    for layer in range(s.layers):
        for i, node in enumerate(wired.nodes):
            part = child.at(child.address(node.edges[0], layer))
            if i == 0:
                written.tensors[f"layers.{layer}.w_x"] = part.from_x
            written.tensors[f"layers.{layer}.w_{names[i]}"] = part.weight
        if s.batch_norm:
            norm = child.at(f"layers.{layer}.norm")
            tensors = {"scale": norm.weight, "shift": norm.bias, "mean": norm.running_mean, "var": norm.running_var}
            written.tensors |= {f"layers.{layer}.{key}": tensor for key, tensor in tensors.items()}
    H = s.hidden
    columns = 2 * H if s.highway else H
    init = [f"        self.{w} = nn.Parameter(torch.zeros({H}, {columns}))" for w in ("w_x", *(f"w_{n}" for n in names))]
    forward = []
    for i, (source, op) in enumerate(zip(program.sources, program.ops, strict=True)):
        read = names[source] if i else "h"
        product = f"{read} @ self.w_{names[i]}" + ("" if i else " + x @ self.w_x")
        if s.highway:
            forward += [f"        c, f = ({product}).chunk(2, 1)"]
            forward += [f"        {names[i]} = torch.lerp({read}, {APPLIED[op].format('f')}, c.sigmoid())"]
        else:
            value = APPLIED[op].format(product)
            forward += [f"        {names[i]} = {value}"]
    ends = [names[i] for i in program.outputs]
    out = f"torch.stack([{', '.join(ends)}]).mean(0)" if len(ends) > 1 else ends[0]
    if len(out) > 60:
        forward.append(collection(8, "ends = ", ends))
        out = "torch.stack(ends).mean(0)"
    if s.batch_norm:
        init += [
            f"        self.{key} = nn.Parameter(torch.{fill}({H}))" for key, fill in (("scale", "ones"), ("shift", "zeros"))
        ]
        init += [
            f'        self.register_buffer("{key}", torch.{fill}({H}))'
            for key, fill in (("mean", "zeros"), ("var", "ones"))
        ]
        forward += [f"        h = {out}", f"        h = (h - self.mean) * (self.var + {s.batch_norm_eps!r}).rsqrt()"]
        out = f"h.clamp(-{BOUND}, {BOUND}) * self.scale + self.shift"
    forward.append(f"        return {out}")
    about = "The cell (paper 2.1, Fig. 1)."
    if s.highway:
        about = "The cell: a node is c * f + (1 - c) * its source (paper, appendix A)."
    fields = {"hidden": H, "layers": s.layers, "vocabulary": child.vocabulary}
    written.classes.append(CELL.format(about=about, init="\n".join(init), forward="\n".join(forward), **fields))
    bias = f"\n        self.bias = nn.Parameter(torch.zeros({child.vocabulary}))" if s.softmax_bias else ""
    written.classes.append(NETWORK.format(bias=bias, and_bias=", self.bias" if s.softmax_bias else "", **fields))
    return written
