"""This module counts the multiply-accumulates and the memory of a forward pass, by the address of
the weights that take part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from enas.networks import kernels

BYTES = 4  # bytes of a float32
INDEX_BYTES = 8  # bytes of the index that a max pool remembers for each of its outputs
REST = ""  # the address that takes everything that belongs to no other address


@contextmanager
def _addressed(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Yields a list whose last entry is the address of the module that is running."""
    running: list[str] = []
    handles = []
    for address, module in modules.items():
        handles.append(module.register_forward_pre_hook(lambda *_, address=address: running.append(address)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


class Attributed(TorchDispatchMode):
    """An `Attributed` block counts multiply-accumulates and the bytes that layers read, by the
    address of their weights.

    A weight that is put together from several (by `cat`, a view, a slice) belongs to all of them,
    in proportion to their numbers of elements. An operation without weights belongs to the address
    whose module is running.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.modules = {address: module for address, module in modules.items() if address != REST}
        self.counts: dict[str, np.ndarray] = {}
        # The tensors are kept, so that no other one gets the id of one of them.
        self.owned: dict[int, tuple[Tensor, Counter[str]]] = {
            id(tensor): (tensor, Counter({address: tensor.numel()}))
            for address, module in modules.items()
            for tensor in (*module.parameters(), *module.buffers())
        }

    def __enter__(self) -> Any:
        self._addressed = _addressed(self.modules)
        self._running = self._addressed.__enter__()
        self._without = kernels.without("pool")  # as convolutions, pools would count
        self._without.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        self._without.__exit__(None, None, None)
        self._addressed.__exit__(None, None, None)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in _flat(args) if isinstance(t, Tensor)]
        packet, name = func._overloadpacket, str(func._overloadpacket)
        if packet in flop_registry:
            first, second = args[-2:] if "mm" in name.rsplit(".", 1)[-1] else args[:2]
            x, owners = (first, self._owners(second)) if id(second) in self.owned else (second, self._owners(first))
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            self._add(owners, flops / 2, x.numel() * BYTES)
        elif "batch_norm" in name:
            self._add(self._owners(args[1]) if args[1] is not None else self._here(), 0, args[0].numel() * BYTES)
        elif "_pool" in name and "adaptive" not in name:
            indices = out[1].numel() * INDEX_BYTES if isinstance(out, tuple) else 0
            self._add(self._here(), 0, args[0].numel() * BYTES + indices)
        elif tensors and all(id(tensor) in self.owned for tensor in tensors):
            whole = sum((self.owned[id(tensor)][1] for tensor in tensors), Counter[str]())
            for tensor in _flat(out):
                if isinstance(tensor, Tensor):
                    self.owned[id(tensor)] = (tensor, whole)
        return out

    def _here(self) -> Counter[str]:
        return Counter({self._running[-1] if self._running else REST: 1})

    def _owners(self, weight: Tensor) -> Counter[str]:
        return self.owned[id(weight)][1] if id(weight) in self.owned else self._here()

    def _add(self, owners: Counter[str], macs: float, memory: float) -> None:
        for address, share in owners.items():
            count = self.counts.setdefault(address, np.zeros(2))
            count += np.array([macs, memory]) * share / owners.total()


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value
