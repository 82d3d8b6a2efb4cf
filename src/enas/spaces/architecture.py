"""This module holds `Architecture`: one answer to every active decision of a search space (design,
section 1).

It is a frozen, hashable value that reads and writes JSON. It holds names, never offsets, so it
survives a reordered op list and can be written by hand:

    {"version": 1, "space": {"name": "conv_micro", "num_nodes": 5},
     "choices": {"normal.n2.input0": "prev", "normal.n2.op0": "sep_conv_3x3", ...}}

`version` is the version of this form. Files that are older than it have none. `provenance` may say
where an architecture comes from. An architecture holds no weights and no reference to its space.
`SearchSpace.architecture` and `SearchSpace.check` hold it to the rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from enas.plugins import named_by_file
from enas.ranges import short
from enas.reading import from_json

VERSION = 1  # version of the form that `to_dict` writes
Answer = str | tuple[str, ...]  # one name, or for a subset the chosen names in order


@dataclass(frozen=True)
class Architecture:
    """An `Architecture` holds choices, and the name and settings of the space that they answer.

    Two architectures are equal when space and choices are equal, in whatever order they were
    written. `provenance` says where an architecture comes from (a paper, a run, a seed); it plays
    no part in equality.
    """

    space_items: tuple[tuple[str, object], ...]
    choice_items: tuple[tuple[str, Answer], ...]
    provenance: tuple[tuple[str, object], ...] = field(default=(), compare=False)

    @classmethod
    def of(
        cls, space: Mapping[str, object], choices: Mapping[str, Answer], provenance: Mapping[str, object] | None = None
    ) -> Architecture:
        """Makes an architecture from plain mappings without checking it against its space.
        `SearchSpace.architecture` checks."""
        return cls(
            space_items=tuple(sorted((key, _frozen(value)) for key, value in space.items())),
            choice_items=tuple(sorted((key, _answer(key, value)) for key, value in choices.items())),
            provenance=tuple((provenance or {}).items()),
        )

    @cached_property
    def space(self) -> Mapping[str, object]:
        """Returns the name and settings of the space, read-only, such as `{"name": "conv_micro",
        "num_nodes": 5}`."""
        return MappingProxyType(dict(self.space_items))

    @cached_property
    def choices(self) -> Mapping[str, Answer]:
        """Returns the answer to every decision, by the decision's name, read-only."""
        return MappingProxyType(dict(self.choice_items))

    @cached_property
    def id(self) -> str:
        """Returns ten hexadecimal digits for logs and file names. Equal architectures have equal
        ids."""
        text = json.dumps([self.space_items, self.choice_items], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @cached_property
    def _hash(self) -> int:
        return hash((self.space_items, self.choice_items))

    def __hash__(self) -> int:  # computed once: a search needs it at every step
        return self._hash

    def __getstate__(self) -> dict[str, object]:  # hashes of strings differ between processes
        return {key: value for key, value in self.__dict__.items() if key in self.__dataclass_fields__}

    def to_dict(self) -> dict[str, object]:
        """Returns plain lists, strings and numbers, ready for `json.dump`."""
        space, choices = dict(self.space_items), dict(self.choice_items)
        out: dict[str, object] = {"version": VERSION, "space": space, "choices": choices}
        if self.provenance:
            out["provenance"] = dict(self.provenance)
        return out

    def to_json(self, indent: int | None = 1) -> str:
        """Returns the architecture as JSON, which `from_json` reads."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: object) -> Architecture:
        """Reads what `to_dict` wrote, of this version or an earlier one. Raises a ValueError that
        says what is missing or wrong."""
        if isinstance(data, Mapping) and (version := data.get("version", VERSION)) not in range(VERSION + 1):
            raise ValueError(
                f"architectures of version {VERSION} and earlier are read; this one is of version {version!r}: a later enas"
                " wrote it"
            )
        if not isinstance(data, Mapping) or not isinstance(data.get("space"), Mapping) or "name" not in data["space"]:
            raise ValueError('an architecture is {"space": {"name": ...}, "choices": {...}}; the "space" part is missing')
        if not isinstance(data.get("choices"), Mapping):
            raise ValueError('an architecture is {"space": {"name": ...}, "choices": {...}}; "choices" is missing')
        if unknown := [key for key in data if key not in ("version", "space", "choices", "provenance")]:
            raise ValueError(f"an architecture has version, space, choices and provenance; got {str(unknown[0])[:60]!r}")
        provenance = data.get("provenance")
        if provenance is not None and not isinstance(provenance, Mapping):
            raise ValueError(f'"provenance" of an architecture is a mapping; got {short(provenance)}')
        return cls.of(data["space"], data["choices"], provenance)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Reads what `to_json` wrote. Raises a ValueError where the text is no JSON or no
        architecture."""
        try:
            data = from_json(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"an architecture is read from JSON, and this is not JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"an architecture cannot be read: {error}") from None
        named_by_file(data)
        return cls.from_dict(data)

    def with_provenance(self, **provenance: object) -> Architecture:
        """Returns the same architecture with another provenance."""
        return Architecture(self.space_items, self.choice_items, tuple(provenance.items()))


@dataclass(frozen=True)
class Reference:
    """A `Reference` names a registered hand-designed model that is trained in the place of an
    architecture, to compare with it. It has at most `parameters` parameters."""

    name: str
    parameters: int

    @property
    def id(self) -> str:
        """Returns the model's name in logs and file names."""
        return f"{self.name}-{self.parameters}"

    def to_dict(self) -> dict[str, object]:
        return {"reference": self.name, "parameters": self.parameters}


def model_from_dict(data: object) -> Architecture | Reference:
    """Reads an architecture or a reference that its `to_dict` wrote."""
    if isinstance(data, Mapping) and "reference" in data:
        return Reference(data["reference"], data["parameters"])
    return Architecture.from_dict(data)


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        raise ValueError(f"a setting of a space is a name, a number or a list of them; got {short(value)}")
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _answer(name: str, value: object) -> Answer:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise ValueError(f"the answer to decision '{name}' is a name or a list of names; got {short(value)}")
