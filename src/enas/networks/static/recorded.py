"""Work of a GPU recorded once, as a graph, and replayed on other data.

A function of tensors is given buffers of its own, into which each call copies its inputs. On a CPU
the same function runs on the same buffers unrecorded, which is how it is tested there.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

MOST_RECORDED = 6  # recordings that are kept, each with its memory
SEEN_BEFORE_RECORDING = 2  # calls of a kind that first run unrecorded


def copied(inputs: Any) -> Any:
    """Returns a copy of each tensor of a tree, in the same memory format."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)


class Recording:
    """A function, the buffers that it reads, and what it returns. The result of a call is
    overwritten by the next one."""

    def __init__(self, function: Callable[[Any], Any], inputs: Any):
        """inputs: an example, a tree of tensors."""
        self.function, self.inputs = function, copied(inputs)
        self._buffers = [x for x in tree_flatten(self.inputs)[0] if isinstance(x, Tensor)]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: Any = None

    def __call__(self, inputs: Any) -> Any:
        given = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        for buffer, x in zip(self._buffers, given, strict=True):
            buffer.copy_(x, non_blocking=True)
        if self.graph is not None:
            self.graph.replay()
        else:
            self.out = self.function(self.inputs)
        return self.out

    def record(self, device: torch.device) -> None:
        """Records the function, after running it twice so that libraries prepare. Random numbers
        that follow are as if it had not run."""
        with torch.cuda.device(device), torch.random.fork_rng([device]):
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(2):
                    self.function(self.inputs)
            torch.cuda.current_stream(device).wait_stream(side)
            gc.collect()  # what a collection frees while recording would break it
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self.out = self.function(self.inputs)
        self.graph = graph


class Recordings:
    """The recordings of one function, by the kind of its inputs: shapes, types, precision."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()

    def __call__(self, inputs: Any, kind: Hashable = None) -> Any:
        """Returns the function's result, to be used before the next call. kind: what else it
        depends on."""
        tensors = [x for x in tree_flatten(inputs)[0] if isinstance(x, Tensor)]
        device = next((x.device for x in tensors if x.is_cuda), torch.device("cpu"))
        key = (
            kind,
            tuple((x.shape, x.stride(), x.dtype, x.device) for x in tensors),
            torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type),
            torch.is_grad_enabled(),
            torch.backends.cuda.matmul.allow_tf32,
        )
        recording = self._kept.get(key)
        if recording is None:
            recording = Recording(self.function, inputs)
            self._seen[key] = self._seen.get(key, 0) + 1
            if device.type == "cuda" and self._seen[key] > SEEN_BEFORE_RECORDING:
                recording.record(device)
            if device.type == "cpu" or recording.graph is not None:
                self._kept[key] = recording
                if len(self._kept) > MOST_RECORDED:
                    self._kept.popitem(last=False)
        self._kept.move_to_end(key) if key in self._kept else None
        return recording(inputs)
