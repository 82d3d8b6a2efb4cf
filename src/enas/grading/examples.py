"""This module reads the examples of a problem once, and says which one has no finite loss.

The loss is asked, and not the numbers alone: a network may take care of nan or infinity in its
inputs, and only the loss knows which targets are valid.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from enas.data.parts import Part
from enas.grading.laws import tensors
from enas.spaces.architecture import Architecture
from enas.tasks.own import Own

ORDER: tuple[Part, ...] = ("validation", "test", "train")  # the largest one last, as time may end


def read_once(task: Own, net: Any, arch: Architecture, until: float) -> tuple[int, str | None]:
    """Returns how many examples were read before the time `until` of `time.monotonic`, and in words
    the first one whose loss is not finite, or None where there is none. At least one batch is
    read."""
    net.eval()
    count = 0
    for part in ORDER:
        order = task.in_order(part)
        for number, bounds in enumerate(order.bounds):
            if count and time.monotonic() > until:
                return count, None
            key, places = order(number)
            try:
                batch = task.readers[part].read((key, places))
            except ValueError as error:  # it names the example
                return count, str(error)
            if (wrong := _wrong(task, net, arch, batch)) is not None:
                return count, _named(task, net, arch, part, number, wrong)
            count += bounds[1] - bounds[0]
    return count, None


def _wrong(task: Own, net: Any, arch: Architecture, batch: Any) -> str | None:
    """Returns in words why a batch has no finite loss, or None where it has one."""
    try:
        with torch.no_grad():
            loss = float(task.loss(net, arch, batch))
    except ValueError as error:
        return str(error)
    return None if math.isfinite(loss) else f"the loss is {loss}"


def _named(task: Own, net: Any, arch: Architecture, part: Part, number: int, wrong: str) -> str:
    """Returns what is wrong with a batch, with the example that it comes from. Where no example has
    the same alone, returns the first and the last one of the batch."""
    key, places = task.in_order(part)(number)
    named = [(examples.name, index) for examples, indices in task.parts[part] for index in indices]

    def twice(place: int) -> Any:  # some networks and losses take no batch of one example
        return task.readers[part].read((key, [place, place]))

    alike = [place for place in places if _wrong(task, net, arch, twice(place)) == wrong]
    if not alike:
        (name, first), (_, last) = named[places[0]], named[places[-1]]
        return f"examples {first} to {last} of {name}: {wrong}"
    place = next((place for place in alike if _held(twice(place))), alike[0])
    name, index = named[place]
    kept = f", kept back for {part}" if name == "train" != part else ""
    return f"example {index} of {name}{kept}{_held(twice(place))}: {wrong}"


def _held(batch: Any) -> str:
    """Returns in words which numbers of a batch are not finite, or "" where all of them are."""
    kinds = {"nan": torch.isnan, "infinity": torch.isinf}
    held = [kind for kind, holds in kinds.items() if any(bool(holds(x).any()) for x in tensors(batch))]
    return f", which holds {' and '.join(held)}" if held else ""
