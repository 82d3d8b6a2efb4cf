"""This module reads a pickle as data, never as a program.

A pickle is a program for a small machine, and Python's own machine can be told to call anything
that can be imported. The files of CIFAR-10's python form are pickles. So this module has a machine
that knows only what such files need: texts, numbers, lists, dicts, tuples, and numpy arrays of
bytes. It imports nothing and calls nothing. It knows numpy's names, and puts together the parts of
an array itself. Anything else in a file is refused.

It also takes time and memory only in proportion to the length of the file: the memo is a dict, keys
of dicts are texts (hashing nested tuples can take for ever), and arrays are built only when they
are asked for.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Name:
    """A `Name` stands for something that the file would have imported. Only its name is known."""

    name: str


RECONSTRUCT, NDARRAY, DTYPE, ENCODE = Name("reconstruct"), Name("ndarray"), Name("dtype"), Name("encode")
NAMES = {
    "numpy.core.multiarray _reconstruct": RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": RECONSTRUCT,  # since numpy 2
    "numpy ndarray": NDARRAY,
    "numpy dtype": DTYPE,
    "_codecs encode": ENCODE,  # how Python 3 writes bytes for Python 2
}


@dataclass
class Dtype:
    code: str


@dataclass
class Array:
    """An `Array` holds the parts of an array as in the file. `numpy()` checks them and puts them
    together."""

    state: object = None

    def numpy(self) -> np.ndarray:
        """Returns the array. Raises a ValueError where its type or its size is wrong."""
        match self.state:
            case (int(), tuple() as shape, Dtype() as dtype, int() as fortran, data):
                pass
            case _:
                raise ValueError("an array has a shape, a type and bytes; some of them are missing")
        if dtype.code != "u1" or not isinstance(data, str):
            raise ValueError(f"arrays hold bytes ('u1'); got {dtype.code[:20]!r}")
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(data):
            raise ValueError("an array holds as many bytes as its shape says; this one does not")
        return np.frombuffer(data.encode("latin-1"), np.uint8).reshape(shape, order="F" if fortran else "C")


def read_pickle(data: bytes) -> object:
    """Returns what a pickle of protocol 2 to 4 holds. Python 2's strings and bytes are returned as
    texts of the characters 0 to 255, and arrays as `Array`. Raises a ValueError where the pickle
    ends early, is no pickle, or asks for anything but data."""
    try:
        return _run(data)
    except (IndexError, KeyError, TypeError, OverflowError):  # such as an empty stack
        raise ValueError("its instructions make no sense") from None


def _run(data: bytes) -> object:
    stack: list[object] = []
    marks: list[int] = []
    memo: dict[int, object] = {}

    def since_mark() -> list[object]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    # genops raises a ValueError for a file that ends early and for an unknown instruction
    for instruction, argument, _ in pickletools.genops(data):
        arg: Any = argument
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "BININT" | "BININT1" | "BININT2" | "BINSTRING" | "SHORT_BINSTRING" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(arg)
            case "BINBYTES" | "SHORT_BINBYTES":
                stack.append(arg.decode("latin-1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(instruction.name[-1])
                items = [stack.pop() for _ in range(size)]
                stack.append(tuple(items[::-1]))
            case "APPEND":
                item = stack.pop()
                _append(stack[-1], [item])
            case "APPENDS":
                items = since_mark()
                _append(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            case "SETITEMS":
                items = since_mark()
                _set(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_name(arg))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                if not isinstance(module, str) or not isinstance(name, str):
                    raise TypeError
                stack.append(_name(f"{module} {name}"))
            case "REDUCE":
                args, function = stack.pop(), stack.pop()
                stack.append(_made(function, args))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Array):
                    stack[-1].state = state
                elif not isinstance(stack[-1], Dtype):  # the code of a byte says it all
                    raise ValueError("it fills something other than an array")
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"it has the instruction {other}, which plain data does not need")
    raise ValueError("it ends early")


def _name(name: str) -> Name:
    if name not in NAMES:
        raise ValueError(f"it names {'.'.join(name.split(' '))[:80]!r}, which plain data does not need")
    return NAMES[name]


def _made(function: object, args: object) -> object:
    """Returns what a call in the file would have made: an empty array, a type, or a text."""
    if function is RECONSTRUCT and isinstance(args, tuple) and args and args[0] is NDARRAY:
        return Array()
    if function is DTYPE and isinstance(args, tuple) and args and isinstance(args[0], str):
        return Dtype(args[0])
    if function is ENCODE and isinstance(args, tuple) and args[1:] == ("latin1",) and isinstance(args[0], str):
        return args[0]
    raise ValueError("it calls something other than numpy's array and type")


def _append(target: object, items: list[object]) -> None:
    if not isinstance(target, list):
        raise TypeError
    target.extend(items)


def _set(target: object, items: list[object]) -> None:
    """Sets keys and values, which alternate in `items`."""
    if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
        raise TypeError
    target.update(zip(items[::2], items[1::2], strict=True))
