"""This module records the work of a GPU once, as a graph, and replays it on other data.

A function of tensors is given buffers of its own, into which each call copies its inputs. On a CPU
the same function runs on the same buffers unrecorded, which is how it is tested there.
"""

from __future__ import annotations

import gc
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

MOST_RECORDED = 6  # recordings that are kept, each with its memory
SEEN_BEFORE_RECORDING = 2  # calls of a kind that first run unrecorded
PREPARE_ON_CPU = False  # tests set this to prepare on a CPU as before a recording


def copied(inputs: Any) -> Any:
    """Returns a copy of each tensor of a tree, in the same memory format."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)


@torch.no_grad()
def overwrite(old: Any, new: Any) -> None:
    """Copies each tensor of a tree into the matching tensor of another tree."""
    for before, after in zip(tree_flatten(old)[0], tree_flatten(new)[0], strict=True):
        if isinstance(before, Tensor):
            before.copy_(after)


class Recording:
    """A `Recording` holds a function, the buffers that it reads, and its result. Each call
    overwrites the result of the call before."""

    def __init__(self, function: Callable[[Any], Any], inputs: Any, changed: Sequence[Tensor] = ()):
        """Takes an example of the inputs, which is a tree of tensors, and the other tensors that
        the function writes to."""
        self.function, self.inputs, self.changed = function, copied(inputs), changed
        self._buffers = [x for x in tree_flatten(self.inputs)[0] if isinstance(x, Tensor)]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: Any = None

    def __call__(self, inputs: Any) -> Any:
        given = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        for buffer, x in zip(self._buffers, given, strict=True):
            buffer.copy_(x, non_blocking=True)
        if self.graph is not None:
            self.graph.replay()
        elif self.out is None:
            self.out = copied(self.function(self.inputs))
        else:
            overwrite(self.out, self.function(self.inputs))
        return self.out

    def prepare(self, devices: Sequence[torch.device] = ()) -> None:
        """Runs the function twice, so that libraries prepare, and undoes what that changed: tensors
        and random numbers."""
        before = [tensor.clone() for tensor in self.changed]
        with torch.random.fork_rng(list(devices)):
            for _ in range(2):
                self.function(self.inputs)
        with torch.no_grad():
            for tensor, value in zip(self.changed, before, strict=True):
                tensor.copy_(value)

    def record(self, device: torch.device) -> None:
        """Prepares and records the function, on a stream of its own as torch asks."""
        with torch.cuda.device(device):
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                self.prepare([device])
            torch.cuda.current_stream(device).wait_stream(side)
            gc.collect()  # what a collection frees while recording would break it
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self.out = self.function(self.inputs)
        self.graph = graph


class Recordings:
    """A `Recordings` object holds the recordings of one function, by the kind of its inputs:
    shapes, types, precision."""

    def __init__(self, function: Callable[[Any], Any], changed: Sequence[Tensor] = ()):
        """Takes the function, and in `changed` the tensors that it writes to besides its result."""
        self.function, self.changed = function, changed
        self._seen: Counter[Hashable] = Counter()
        self._refused: set[Hashable] = set()
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()

    def __call__(self, inputs: Any, kind: Hashable = None) -> Any:
        """Returns the function's result, which is to be used before the next call. `kind` is what
        the function depends on besides its inputs."""
        tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        device = next((x.device for x in tensors if x.is_cuda), torch.device("cpu"))
        key = (
            kind,
            tuple((x.shape, x.stride(), x.dtype, x.device) for x in tensors),
            torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type),
            torch.is_grad_enabled(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        )
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key](inputs)
        self._seen[key] += 1
        if device.type == "cuda" and (self._seen[key] <= SEEN_BEFORE_RECORDING or key in self._refused):
            return self.function(inputs)
        recording = Recording(self.function, inputs, self.changed)
        if device.type == "cuda":
            try:
                recording.record(device)
            except RuntimeError as error:  # a driver, or a user's function, cannot be recorded
                warnings.warn(f"not recorded, and so slower: {str(error).splitlines()[0][:200]}", stacklevel=2)
                self._refused.add(key)
                return self.function(inputs)
        elif PREPARE_ON_CPU:
            recording.prepare()
        self._kept[key] = recording
        if len(self._kept) > MOST_RECORDED:
            self._kept.popitem(last=False)
        return recording(inputs)
