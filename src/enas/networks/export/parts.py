"""This module holds the parts of exported networks as Python source, and turns the modules of a
child into them.

A part is the text of a class or a function. It stands in a file if the architecture uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.ops import AfterRelu, Conv, FactorizedReduction, InvertedResidual, SeparableConv, Shortcut

PARTS = {
    "avg_pool": '''
def avg_pool(x: Tensor, stride: int = 1) -> Tensor:
    """3x3; pixels of the border count for nothing."""
    return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
''',
    "max_pool": '''
def max_pool(x: Tensor, stride: int = 1) -> Tensor:
    """3x3."""
    return F.max_pool2d(x, 3, stride, 1)
''',
    "Conv": '''
class Conv(nn.Sequential):
    """ReLU, k x k convolution, batch norm."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1):
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
        )
''',
    "depthwise": '''
def depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    """k x k for each channel by itself."""
    padding = kernel // 2
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, groups=channels, bias=False
    )
''',
    "SeparableConv": '''
class SeparableConv(nn.Sequential):
    """(ReLU, depthwise k x k, 1x1, batch norm), `times` over; strided once."""

    def __init__(self, channels: int, kernel: int, times: int, stride: int = 1):
        layers: list[nn.Module] = []
        for time in range(times):
            layers += [
                nn.ReLU(),
                depthwise(channels, kernel, stride if time == 0 else 1),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ]
        super().__init__(*layers)
''',
    "FactorizedReduction": '''
class FactorizedReduction(nn.Module):
    """Halves the size: two 1x1 of stride 2, one a pixel further down and right."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels - channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(channels_in, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        even = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        odd = padded[:, :, 1::2, 1::2].contiguous(memory_format=torch.channels_last)
        return torch.cat([self.even(even), self.odd(odd)], 1)
''',
    "reduction": '''
def reduction(channels_in: int, channels: int) -> nn.Sequential:
    """ReLU, factorized reduction, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        FactorizedReduction(channels_in, channels),
        nn.BatchNorm2d(channels),
    )
''',
    "InvertedResidual": '''
class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise k x k, 1x1; added to an input as large."""

    def __init__(
        self, channels_in: int, channels: int, expansion: int, kernel: int, stride: int
    ):
        super().__init__()
        hidden = expansion * channels_in
        self.adds = stride == 1 and channels_in == channels
        self.expand = nn.Sequential(
            nn.Conv2d(channels_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        )
        self.depthwise = nn.Sequential(
            depthwise(hidden, kernel, stride), nn.BatchNorm2d(hidden)
        )
        self.project = nn.Sequential(
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))
        return x + y if self.adds else y
''',
    "Shortcut": '''
class Shortcut(nn.Module):
    """1x1 and batch norm; at stride 2, of every other pixel."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        x = x.contiguous(memory_format=torch.channels_last)
        return self.norm(self.conv(x))
''',
    "Residual": '''
class Residual(nn.Module):
    """(ReLU, 3x3, batch norm) twice, strided once, beside 2x2 average and 1x1."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.first = Conv(channels_in, channels, 3, stride=2)
        self.second = Conv(channels, channels, 3)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        return self.second(self.first(x)) + self.shortcut(half)
''',
}
NEEDS = {  # parts that a part is made of
    "SeparableConv": ("depthwise",),
    "reduction": ("FactorizedReduction",),
    "InvertedResidual": ("depthwise",),
    "Residual": ("Conv",),
}
ORDER = tuple(PARTS)


class NoSource(ValueError):
    """This error says that no Python source is known for a network, or for an op in it."""


@dataclass
class Written:
    """A `Written` object holds source that is being written, and the tensors that it will load."""

    parts: set[str] = field(default_factory=set)
    classes: list[str] = field(default_factory=list)
    """Classes of this architecture alone, each after those that it uses."""
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def use(self, part: str) -> str:
        """Takes note that the source uses a part, and returns the part's name."""
        self.parts |= {part, *NEEDS.get(part, ())}
        return part

    def keep(self, prefix: str, module: nn.Module) -> None:
        """Adds the tensors of a module under `prefix`."""
        self.tensors |= {f"{prefix}.{key}": tensor for key, tensor in module.state_dict().items()}

    def keep_op(self, prefix: str, module: nn.Module) -> None:
        """Adds the tensors of an op that `op_of` writes."""
        if type(module) is AfterRelu:
            self.keep_reduction(f"{prefix}.1", f"{prefix}.2", module[1])
        else:
            self.keep(prefix, module)

    def keep_reduction(self, prefix: str, norm: str, module: nn.Module) -> None:
        """Adds the tensors of a factorized reduction, and those of its norm under another
        prefix."""
        assert isinstance(module, FactorizedReduction)
        self.keep(f"{prefix}.even", module.even)
        self.keep(f"{prefix}.odd", module.odd)
        self.keep(norm, module.norm)

    @property
    def source(self) -> str:
        """Returns the whole source: the parts that are used, then the classes."""
        texts = [PARTS[part].strip("\n") for part in ORDER if part in self.parts]
        return "\n\n\n".join([*texts, *self.classes])


@dataclass(frozen=True)
class Op:
    """An `Op` is an op in source: `make` is the expression that makes its module ("" where it needs
    none), and `applied` the expression that applies it."""

    make: str
    applied: str  # a template with the input `{x}` and the module `{op}`

    def by(self, module: str, x: str) -> str:
        return self.applied.format(op=module, x=x)


def op_of(module: nn.Module, channels: str, written: Written, named: str) -> Op:
    """Returns an op in source. `channels` is the expression for the number of its channels. `named`
    is its name, for the error where its class is not known here."""
    if type(module) is nn.Identity:
        return Op("", "{x}")
    if isinstance(module, kernels.AvgPool | kernels.MaxPool):
        pool = written.use("avg_pool" if isinstance(module, kernels.AvgPool) else "max_pool")
        return Op("", f"{pool}({{x}})" if module.stride == 1 else f"{pool}({{x}}, stride={module.stride})")
    return Op(_made(module, channels, written, named), "{op}({x})")


def _made(module: nn.Module, channels: str, written: Written, named: str) -> str:
    kind = type(module)
    if kind is SeparableConv:
        first, times = _conv(module[1]), len(module) // 4  # type: ignore[index, arg-type]
        arguments = [channels, str(first.kernel_size[0]), f"times={times}", *_stride(first)]
    elif kind is Conv:
        conv = _conv(module[1])  # type: ignore[index]
        same = conv.in_channels == conv.out_channels
        wide = [channels, channels] if same else [str(conv.in_channels), str(conv.out_channels)]
        arguments = [*wide, str(conv.kernel_size[0]), *_stride(conv)]
    elif isinstance(module, InvertedResidual) and kind is InvertedResidual:
        first, middle, last = (_conv(part[0]) for part in (module.expand, module.depthwise, module.project))  # type: ignore[index]
        both, times = [str(first.in_channels), str(last.out_channels)], first.out_channels // first.in_channels
        arguments = [*both, f"expansion={times}", f"kernel={middle.kernel_size[0]}", f"stride={middle.stride[0]}"]
    elif isinstance(module, Shortcut) and kind is Shortcut:
        step = [f"stride={module.stride}"] if module.stride > 1 else []
        arguments = [str(module.conv.in_channels), str(module.conv.out_channels), *step]
    elif isinstance(module, AfterRelu) and kind is AfterRelu and type(module[1]) is FactorizedReduction:
        return f"{written.use('reduction')}({channels}, {channels})"
    else:
        raise NoSource(f"format python has no source of the op '{named}' ({kind.__name__}): export as onnx or torch")
    return f"{written.use(kind.__name__)}({', '.join(arguments)})"


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _stride(conv: nn.Conv2d) -> list[str]:
    return [f"stride={conv.stride[0]}"] if conv.stride[0] > 1 else []
