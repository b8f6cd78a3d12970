"""Pickles as Python 2 wrote them at protocol 2, byte strings and old module paths included.

Python 3 writes the same values with other opcodes, and cannot name a class that is not installed;
whoever wants a file like MANO's own writes the opcodes. Values: None, bool, int, float, bytes and str
(both as Python 2's `str`), tuple, list, dict, set, NumPy arrays, and the three classes below.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Global:
    """A class or function by its name, which need not exist."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """What a function gives for some arguments, with a state put into it where there is one."""

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class Instance:
    """An object of a new-style class with the state that its class pickles."""

    cls: Global
    state: Any


def dumps(value: Any) -> bytes:
    """The pickle of `value`. Raises TypeError for a type that is not listed above."""
    return b"\x80\x02" + _value(value) + b"."


def _value(value: Any) -> bytes:
    if value is None or value is True or value is False:
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise TypeError(f"no Python 2 pickle of a {type(value).__name__}")


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _string(value: bytes | str) -> bytes:
    raw = value.encode("latin1") if isinstance(value, str) else value
    return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw


def _tuple(values: tuple[Any, ...]) -> bytes:
    return b"(" + b"".join(map(_value, values)) + b"t"


def _list(values: list[Any]) -> bytes:
    return b"](" + b"".join(map(_value, values)) + b"e"


def _dict(values: dict[Any, Any]) -> bytes:
    return b"}(" + b"".join(_value(part) for pair in values.items() for part in pair) + b"u"


def _set(values: set[Any]) -> bytes:
    return _value(Call(Global("__builtin__", "set"), (sorted(values),)))


def _global(value: Global) -> bytes:
    return f"c{value.module}\n{value.name}\n".encode()


def _call(value: Call) -> bytes:
    call = _value(value.function) + _value(value.arguments) + b"R"
    return call if value.state is None else call + _value(value.state) + b"b"


def _instance(value: Instance) -> bytes:
    return _value(value.cls) + b")\x81" + _value(value.state) + b"b"


def _array(value: np.ndarray) -> bytes:
    """As NumPy 1 pickled: an empty array, filled by a state of shape, type, order and bytes."""
    value = value.astype(value.dtype.newbyteorder("<"))
    code = value.dtype.str[1:]
    dtype = Call(Global("numpy", "dtype"), (code, 0, 1), (3, "<", None, None, None, -1, -1, 0))
    by_columns = value.flags.f_contiguous and not value.flags.c_contiguous
    state = (1, value.shape, dtype, by_columns, value.tobytes("F" if by_columns else "C"))
    empty = (Global("numpy", "ndarray"), (0,), b"b")
    return _value(Call(Global("numpy.core.multiarray", "_reconstruct"), empty, state))


_WRITERS = {
    int: _integer,
    float: lambda value: b"G" + struct.pack(">d", value),
    (bytes, str): _string,
    tuple: _tuple,
    list: _list,
    dict: _dict,
    (set, frozenset): _set,
    np.ndarray: _array,
    Global: _global,
    Call: _call,
    Instance: _instance,
}
