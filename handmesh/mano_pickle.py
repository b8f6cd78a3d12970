"""MANO's pickles read without chumpy, and without running anything that they say.

A pickle is a small program: it names classes and functions and calls them. This reader knows the few
names that MANO's files hold (measured by others on the distributed files: NumPy arrays, a SciPy
matrix, two chumpy classes and `set`, written by Python 2 at protocol 2) and those that the same
objects get from other versions of Python, NumPy and SciPy. Each name stands for a class or function
of this module that keeps numbers and does nothing else; no library is imported and no function of
NumPy is called with the file's arguments. Any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_NESTING = 4
"""Chumpy objects may lie in one another; MANO's are two deep."""

_NUMBER = re.compile(r"[<>=|]?[biuf][1248]")


class RefusedPickleError(ValueError):
    """The pickle names something that no MANO file needs. Nothing of it was run."""


class DamagedPickleError(ValueError):
    """The pickle is cut short, or its parts do not fit together."""


def read_pickle(data: bytes) -> dict[str, Any]:
    """What a MANO pickle holds: arrays for everything numeric, plain Python values for the rest.

    Raises RefusedPickleError, which names what was refused, and DamagedPickleError.
    """
    try:
        content = _Reader(io.BytesIO(data), fix_imports=False, encoding="latin1").load()
        if not isinstance(content, dict):
            raise DamagedPickleError(f"a dictionary was expected, a {type(content).__name__} came")
        return {str(key): _plain(value) for key, value in content.items()}
    except (RefusedPickleError, DamagedPickleError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DamagedPickleError(f"{type(error).__name__}: {error}") from error


class _Record:
    """An object of the file as its state alone."""

    __slots__ = ("state",)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise DamagedPickleError(f"the state of a {type(self).__name__} is a {type(state).__name__}")
        self.state = state


class _Ch(_Record):
    """chumpy.ch.Ch: the array `x`."""

    __slots__ = ()


class _Select(_Record):
    """chumpy.reordering.Select: some entries of another array, `a.ravel()[idxs].reshape(preferred_shape)`."""

    __slots__ = ()


class _Csc(_Record):
    """scipy.sparse.csc_matrix: `data` in rows `indices`, each column's from `indptr[k]` to `indptr[k + 1]`."""

    __slots__ = ()


class _Dtype:
    """numpy.dtype: a plain number's."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise DamagedPickleError(f"arrays of type {code!r} are none of MANO's")
        self.code, self.order = code.lstrip("<>=|"), code[0] if code[0] in "<>" else "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """numpy.ndarray."""

    __slots__ = ("values",)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        if not isinstance(dtype, _Dtype) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise DamagedPickleError("an array's type or shape is unreadable")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        if len(raw) != math.prod(shape) * dtype.dtype.itemsize:
            raise DamagedPickleError(f"an array of shape {shape} has {len(raw)} bytes")
        self.values = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if by_columns else "C")


class _Function:
    """Something that the file may call; its state cannot be set, so that no file changes it for the next."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DamagedPickleError("a function has no state")


def _new_array(*_: object) -> _Array:
    """numpy.core.multiarray._reconstruct: an empty array whose state comes next."""
    return _Array()


def _new_record(cls: type, *_: object) -> _Record:
    """copy_reg._reconstructor, which protocols 0 and 1 use."""
    if cls not in (_Ch, _Select, _Csc):
        raise DamagedPickleError(f"{cls!r} cannot be rebuilt")
    return cls()


def _scalar(dtype: _Dtype, data: str | bytes) -> float | int:
    """numpy.core.multiarray.scalar."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype.dtype, count=1)[0].item()


def _encode(text: str, *_: object) -> bytes:
    """_codecs.encode: how Python 3 writes bytes at protocol 2."""
    return text.encode("latin1")


_BUILTINS = {"object": _Function(object), "set": _Function(set)}
_COPYREG = {"_reconstructor": _Function(_new_record)}
_MULTIARRAY = {"_reconstruct": _Function(_new_array), "scalar": _Function(_scalar)}
_SPARSE = {"csc_matrix": _Csc}
_MODULES: dict[str, dict[str, Any]] = {
    "chumpy.ch": {"Ch": _Ch},
    "chumpy.reordering": {"Select": _Select},
    "numpy": {"ndarray": _Function(_new_array), "dtype": _Function(_Dtype)},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "scipy.sparse.csc": _SPARSE,
    "scipy.sparse._csc": _SPARSE,
    "__builtin__": _BUILTINS,
    "builtins": _BUILTINS,
    "copy_reg": _COPYREG,
    "copyreg": _COPYREG,
    "_codecs": {"encode": _Function(_encode)},
}
"""Every name that is understood, as Python 2 and 3 spell it."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _MODULES.get(module, {}):
            raise RefusedPickleError(f"it names {module}.{name}, which no MANO file needs; nothing was run")
        return _MODULES[module][name]

    def persistent_load(self, key: object) -> Any:
        raise RefusedPickleError("it refers to an object outside itself, which no MANO file does; nothing was run")


def _plain(value: object, depth: int = 0) -> Any:
    """Arrays for the file's stand-ins; anything else as it is."""
    if depth > MAX_NESTING:
        raise DamagedPickleError("chumpy objects lie too deep in one another")
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, _Ch):
        return _plain(value.state["x"], depth + 1)
    if isinstance(value, _Select):
        source, entries = (_plain(value.state[name], depth + 1) for name in ("a", "idxs"))
        chosen = np.asarray(source).ravel()[np.asarray(entries)]
        return chosen.reshape(value.state.get("preferred_shape", chosen.shape))
    if isinstance(value, _Csc):
        return _dense({name: _plain(part, depth + 1) for name, part in value.state.items()})
    return value


def _dense(state: dict[str, Any]) -> np.ndarray:
    """(rows, columns) of a column-compressed matrix; entries at the same place add up."""
    rows, columns = state["_shape"] if "_shape" in state else state["shape"]
    starts = np.asarray(state["indptr"])
    if starts.shape != (columns + 1,) or starts[0] != 0 or starts[-1] != len(state["data"]):
        raise DamagedPickleError("a sparse matrix's columns do not add up")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (state["indices"], np.repeat(np.arange(columns), np.diff(starts))), state["data"])
    return dense
