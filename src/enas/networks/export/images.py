"""This module writes image networks as Python source: the child of one architecture, for each
backbone.

The source is straight-line code for this architecture alone. Weights that a reader has for several
loose ends, or a merge for several layers, become one convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enas.networks.export.layout import call, collection, name, total
from enas.networks.export.parts import Op, Written, op_of
from enas.networks.macro import OP, MacroNetwork
from enas.networks.micro import STEM, MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.nasbench_macro import NasBenchMacroNetwork
from enas.networks.settings import STAGES
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell

CHANNELS_LAST = "x.contiguous(memory_format=torch.channels_last)"
NETWORK = '''class Network(nn.Module):
    """{about}"""

    def __init__(self):
        super().__init__()
{init}
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (B, {channels}, {size}, {size}), normalised, to logits (B, {classes})."""
{forward}'''


def _only(child: MicroNetwork | MacroNetwork | NasBench201Network | NasBenchMacroNetwork) -> Architecture:
    assert child.only is not None
    return child.only


def _stem(child: MicroNetwork | MacroNetwork | NasBench201Network | NasBenchMacroNetwork, written: Written) -> str:
    written.keep("stem", child.at("stem"))
    stride = child.settings.stem_stride
    conv = f"nn.Conv2d({child.channels}, {child.stem_width}, 3, {stride}, 1, bias=False)"
    return call(8, "self.stem = nn.Sequential(", [conv, f"nn.BatchNorm2d({child.stem_width})"])


def _network(
    child: MicroNetwork | MacroNetwork | NasBench201Network | NasBenchMacroNetwork,
    written: Written,
    about: str,
    init: Sequence[str],
    forward: Sequence[str],
) -> None:
    sizes = {"channels": child.channels, "size": child.image_size, "classes": child.classes}
    written.classes.append(NETWORK.format(about=about, init="\n".join(init), forward="\n".join(forward), **sizes))


def _linear(written: Written, weight: Tensor, bias: Tensor) -> str:
    written.tensors |= {"classifier.weight": weight, "classifier.bias": bias}
    return f"        self.classifier = nn.Linear({weight.shape[1]}, {weight.shape[0]})"


# ------------------------------------------------------------------------------------ micro cells
CALIBRATION = '''
def calibration(channels_in: int, channels: int) -> nn.Sequential:
    """Brings what a cell reads to its channels."""
{parts}
'''
HALVING = '''
def halving_calibration(channels_in: int, channels: int) -> nn.Sequential:
    """The same for what is twice as large as the cell's other input."""
{parts}
'''
TITLES = {"normal": "NormalCell", "reduce": "ReductionCell"}


def micro(child: MicroNetwork) -> Written:
    """Returns the source of a child that is a stack of normal and reduction cells."""
    written, arch = Written(), _only(child)
    settings, wired = child.settings, child.space.wire(arch)
    live = child.live(arch, aux=False)
    norm = ["nn.BatchNorm2d(channels)"] if settings.merge_norm else []
    conv = "nn.Conv2d(channels_in, channels, 1, bias=False)"
    made: dict[str, str] = {}
    init, forward = [_stem(child, written)], [f"        x = {CHANNELS_LAST}", "        stem = F.relu(self.stem(x))"]
    outputs = {STEM: "stem"}
    for index in live:
        place, cell = child.positions[index], wired[child.positions[index].cell]
        title = TITLES.get(cell.name, f"{name(cell.name).title()}Cell")
        arguments, sources = [str(place.channels)], []
        for slot in cell.inputs:
            source = child._sources(index)[slot]
            sources.append(outputs[source])
            prefix, new = f"cells.{index}.calibrate.{slot}", f"cell{index}.calibrate_{name(slot)}"
            even = child._gathered(prefix, source, arch)
            wide = f"{even.shape[1]}, {place.channels}"
            again = settings.extra_calibration and slot == "prev"
            inner = f"{new}.0" if again else new
            if child._halves(index, source):
                written.use("FactorizedReduction")
                parts = call(4, "return nn.Sequential(", ["FactorizedReduction(channels_in, channels)", *norm])
                made["halving_calibration"] = HALVING.format(parts=parts)
                odd = child._gathered(prefix, source, arch, "odd")
                written.tensors |= {f"{inner}.0.even.weight": even, f"{inner}.0.odd.weight": odd}
                made_here = f"halving_calibration({wide})"
            else:
                made["calibration"] = CALIBRATION.format(parts=call(4, "return nn.Sequential(", [conv, *norm]))
                written.tensors[f"{inner}.0.weight"] = even
                made_here = f"calibration({wide})"
            if settings.merge_norm:
                written.keep(f"{inner}.1", child.at(f"{prefix}.norm"))
            if again:
                op = op_of(child.at(f"{prefix}.again"), str(place.channels), written, "calibration")
                written.keep(f"{new}.1", child.at(f"{prefix}.again"))
                made_here = f"nn.Sequential({made_here}, {op.make})"
            arguments.append(made_here)
        if title not in made:
            made[title] = _cell(child, index, cell, title, written)
        else:
            for node in cell.nodes:
                for edge in node.edges:
                    written.keep_op(_edge(f"cell{index}.", edge.node, edge.slot), child.at(child.address(edge, index)))
        init.append(call(8, f"self.cell{index} = {title}(", arguments))
        outputs[index] = f"x{index}"
        forward.append(f"        x{index} = self.cell{index}({', '.join(sources)})")
    last = len(child.positions) - 1
    forward.append(f"        pooled = {outputs[last]}.mean((2, 3))")
    ends = child._ends(last, arch)
    if settings.head_norm:
        for i, end in enumerate(ends):
            written.keep(f"head_norms.{i}", child.at(f"classifier_norm.{end}"))
        norms = f"nn.BatchNorm2d({child.positions[last].channels}) for _ in range({len(ends)})"
        init.append(f"        self.head_norms = nn.ModuleList([{norms}])")
        forward.append(f"        ends = zip(self.head_norms, pooled[:, :, None, None].chunk({len(ends)}, 1))")
        forward.append("        pooled = torch.cat([norm(end) for norm, end in ends], 1)[:, :, 0, 0]")
    init.append(_linear(written, child._gathered("classifier", last, arch), child.at("classifier.bias").bias))
    forward.append("        return self.classifier(pooled)")
    order = ["calibration", "halving_calibration"]
    written.classes += [made[key].strip("\n") for key in [*order, *(k for k in made if k not in order)] if key in made]
    _network(child, written, "Stem, cells, classifier (paper 2.4, Fig. 4).", init, forward)
    return written


def _edge(prefix: str, node: str, slot: int) -> str:
    return f"{prefix}{name(node)}_op{slot}"


def _cell(child: MicroNetwork, index: int, cell: WiredCell, title: str, written: Written) -> str:
    init, forward = [], []
    for slot in cell.inputs:
        init.append(f"        self.calibrate_{name(slot)} = {name(slot)}")
        forward.append(f"        {name(slot)} = self.calibrate_{name(slot)}({name(slot)})")
    for node in cell.nodes:
        terms = []
        for edge in node.edges:
            module = child.at(child.address(edge, index))
            op, here = op_of(module, "channels", written, edge.op), _edge("self.", edge.node, edge.slot)
            written.keep_op(_edge(f"cell{index}.", edge.node, edge.slot), module)
            if op.make:
                init.append(_assigned(here, op))
            terms.append(op.by(here, name(edge.input)))
        forward.append(total(8, name(node.name), terms))
    ends = [name(end) for end in cell.outputs]
    made_of = f"torch.cat([{', '.join(ends)}], 1)" if len(ends) > 1 else ends[0]
    if len(made_of) > 64:
        forward.append(collection(8, "ends = ", ends))
        made_of = "torch.cat(ends, 1)"
    forward.append(f"        return F.relu({made_of})")
    slots = [name(slot) for slot in cell.inputs]
    takes = call(4, "def __init__(", ["self", "channels: int", *(f"{slot}: nn.Module" for slot in slots)], "):")
    gives = call(4, "def forward(", ["self", *(f"{slot}: Tensor" for slot in slots)], ") -> Tensor:")
    return "\n".join(
        [
            f"class {title}(nn.Module):",
            f'    """The {TITLES_IN_WORDS.get(cell.name, cell.name)} cell; it is given what calibrates its inputs."""',
            "",
            takes,
            "        super().__init__()",
            *init,
            "",
            gives,
            *forward,
        ]
    )


TITLES_IN_WORDS = {"reduce": "reduction"}


def _assigned(target: str, op: Op) -> str:
    function, _, arguments = op.make.partition("(")
    return call(8, f"{target} = {function}(", arguments[:-1].split(", "))


# ------------------------------------------------------------------------------------ macro layers
MERGE = '''
class Merge(nn.Module):
    """{about}"""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)
{norm}
    def forward(self, *layers: Tensor) -> Tensor:
        return {value}
'''


def macro(child: MacroNetwork) -> Written:
    """Returns the source of a child that is a network of layers with skips."""
    written, arch = Written(), _only(child)
    settings, nodes = child.settings, child.only_cell(arch).nodes
    init: list[str] = []
    forward = [f"        x = {CHANNELS_LAST}"]
    known: dict[tuple[str, int], str] = {}
    if child.first in child.deepest(nodes):
        init.append(_stem(child, written))
        known[child.first, 0] = "stem"
        forward.append("        stem = self.stem(x)")

    def value(layer: str, level: int) -> str:
        if (layer, level) not in known:
            before = value(layer, level - 1)
            base = known[layer, child.level[layer]]
            part = f"{base}_half{level if level - child.level[layer] > 1 else ''}"
            module = child.at(f"reductions.{level - 1}.{layer}")
            wide = f"{child.width(level - 1)}, {child.width(level)}"
            written.keep_reduction(f"{part}.1", f"{part}.2", module[1])
            init.append(f"        self.{part} = {written.use('reduction')}({wide})")
            forward.append(f"        {part} = self.{part}({before})")
            known[layer, level] = part
        return known[layer, level]

    merges: set[bool] = set()

    def merge(here: str, node_name: str, sources: Sequence[str], inputs: list[str], width: int, before: bool) -> None:
        if not settings.merge:
            forward.append(f"        {here} = torch.stack([{', '.join(inputs)}]).sum(0)")
            return
        merges.add(before)
        weights = [child.at(f"merge.{node_name}.{source}").weight for source in sources]
        written.tensors[f"{here}_merge.conv.weight"] = torch.cat(weights, 1)
        if settings.merge_norm:
            written.keep(f"{here}_merge.norm", child.at(f"merge.{node_name}.norm"))
        init.append(f"        self.{here}_merge = Merge({sum(w.shape[1] for w in weights)}, {width})")
        forward.append(call(8, f"{here} = self.{here}_merge(", inputs))

    for node in nodes:
        level, here = child.level[node.name], name(node.name)
        width, (edge,) = child.width(level), node.edges
        module = child.at(child.address(edge))
        entry = settings.entry_conv
        op = op_of(module[3] if entry else module, str(width), written, edge.op)
        skips = [value(skip, level) for skip in node.skips]
        if node.merged:
            merge(here, node.name, node.skips, skips, width, True)
            x = here
        else:
            x = value(edge.input, level)
        if entry:
            written.use("Conv")
            written.tensors |= {
                f"{here}_entry.{key}": tensor
                for key, tensor in module.state_dict().items()
                if key.split(".")[0] in ("1", "2")
            }
            init.append(f"        self.{here}_entry = Conv({width}, {width}, 1)")
            x = f"self.{here}_entry({x})"
        if op.make:
            init.append(_assigned(f"self.{here}", op))
            written.keep_op(here, module[3] if entry else module)
        y = op.by(f"self.{here}", x)
        if node.skips and not node.merged:
            forward.append(f"        {here} = {y}")
            merge(here, node.name, (*node.skips, OP), [*skips, here], width, False)
        elif y != here:
            forward.append(f"        {here} = {y}")
        known[node.name, level] = here
    last = value(nodes[-1].name, len(child.cuts))
    pooled = "mean((2, 3))" if settings.average_pooling else "flatten(1)"
    classifier = child.at("classifier")
    init.append(_linear(written, classifier.weight, classifier.bias))
    forward.append(f"        return self.classifier(F.relu({last}).{pooled})")
    if merges:
        before = merges.pop()
        x = "torch.cat(layers, 1)" if before else "F.relu(torch.cat(layers, 1))"
        x = f"self.norm(self.conv({x}))" if settings.merge_norm else f"self.conv({x})"
        about = "The chosen layers, concatenated: 1x1, batch norm, ReLU (appendix B)."
        if not before:
            about = "The chosen layers and the layer's op, concatenated: ReLU, 1x1, batch norm."
        about = about if settings.merge_norm else about.replace(", batch norm", "")
        norm = "        self.norm = nn.BatchNorm2d(channels)\n" if settings.merge_norm else ""
        written.classes.append(MERGE.format(about=about, norm=norm, value=f"F.relu({x})" if before else x).strip("\n"))
    _network(child, written, "Stem, layers with skips, classifier (paper 2.3, Fig. 3).", init, forward)
    return written


# ---------------------------------------------------------------------------------- NAS-Bench-201
def nasbench201(child: NasBench201Network) -> Written:
    """Returns the source of a child with three stages of one cell."""
    written, arch = Written(), _only(child)
    cell, widths = child.only_cell(arch), [child.width(stage) for stage in range(STAGES)]
    init: list[str] = []
    forward: list[str] = []
    about = "Stem, three stages of cells, residual blocks between them, classifier."
    if not cell.outputs:
        about = "A cell without any path: only the classifier's constant is left."
        size = child.size(STAGES - 1)
        forward.append(f"        x = x.new_zeros(x.shape[0], {widths[-1]}, {size}, {size})")
    else:
        init.append(_stem(child, written))
        forward += [f"        x = {CHANNELS_LAST}", "        x = self.stem(x)"]
        made, lines, stateful = [], [], False
        for node in cell.nodes:
            terms = []
            for edge in node.edges:
                op = op_of(child.at(child.address(edge, 0)), "channels", written, edge.op)
                here = _edge("self.", edge.node, edge.slot)
                if op.make:
                    stateful = True
                    made.append(_assigned(here, op))
                terms.append(op.by(here, name(edge.input)))
            lines.append(total(8, name(node.name), terms))
        init_cell = ["    def __init__(self, channels: int):", "        super().__init__()", *made, ""] if stateful else []
        text = ["class Cell(nn.Module):", '    """The cell of every place."""', "", *init_cell]
        text += [
            f"    def forward(self, {name(child.input)}: Tensor) -> Tensor:",
            *lines,
            f"        return {name(cell.outputs[0])}",
        ]
        written.classes.append("\n".join(text))
        for stage, width in enumerate(widths):
            if stage:
                written.use("Residual")
                written.keep(f"residual{stage}", child.at(f"reductions.{stage}"))
                init.append(f"        self.residual{stage} = Residual({widths[stage - 1]}, {width})")
                forward.append(f"        x = self.residual{stage}(x)")
            positions = child._positions(stage)
            one = f"Cell({width})" if stateful else "Cell()"
            for place, position in enumerate(positions):
                for node in cell.nodes:
                    for edge in node.edges:
                        prefix = _edge(f"stage{stage}.{place}.", edge.node, edge.slot)
                        written.keep_op(prefix, child.at(child.address(edge, position)))
            init.append(f"        self.stage{stage} = nn.Sequential(*[{one} for _ in range({len(positions)})])")
            forward.append(f"        x = self.stage{stage}(x)")
    init.append(f"        self.norm = nn.BatchNorm2d({widths[-1]})")
    written.keep("norm", child.at("norm"))
    classifier = child.at("classifier")
    init.append(_linear(written, classifier.weight, classifier.bias))
    forward.append("        return self.classifier(F.relu(self.norm(x)).mean((2, 3)))")
    _network(child, written, about, init, forward)
    return written


# ------------------------------------------------------------------------------- NAS-Bench-Macro
def nasbench_macro(child: NasBenchMacroNetwork) -> Written:
    """Returns the source of a child that is a chain of layers."""
    written, arch = Written(), _only(child)
    init = [_stem(child, written)]
    forward = [f"        x = {CHANNELS_LAST}", "        x = F.relu(self.stem(x))"]
    for node in child.only_cell(arch).nodes:
        (edge,) = node.edges
        module, here = child.at(child.address(edge)), name(node.name)
        op = op_of(module, str(child.width(child.level[node.name])), written, edge.op)
        if op.make:
            init.append(_assigned(f"self.{here}", op))
            written.keep_op(here, module)
        if (y := op.by(f"self.{here}", "x")) != "x":
            forward.append(f"        x = {y}")
    head, classifier = child.at("head"), child.at("classifier")
    written.keep("head", head)
    convs = [f"nn.Conv2d({head[0].in_channels}, {head[0].out_channels}, 1, bias=False)"]
    init.append(call(8, "self.head = nn.Sequential(", [*convs, f"nn.BatchNorm2d({head[0].out_channels})"]))
    init.append(_linear(written, classifier.weight, classifier.bias))
    forward.append("        return self.classifier(F.relu(self.head(x)).mean((2, 3)))")
    _network(child, written, "Stem, a chain of layers, classifier.", init, forward)
    return written
