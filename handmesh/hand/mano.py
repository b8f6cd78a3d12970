"""A user's own MANO file made ready for handmesh: the licensed pickle, read without running anything it says, to
an .npz.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.files import sha256_of, write_npz
from handmesh.types import Side

# MANO's pickles read without chumpy, and without running anything that they say.
#
# A pickle is a small program: it names classes and functions and calls them. This reader knows the few
# names that MANO's files hold (measured by others on the distributed files: NumPy arrays, a SciPy
# matrix, two chumpy classes and `set`, written by Python 2 at protocol 2) and those that the same
# objects get from other versions of Python, NumPy and SciPy. Each name stands for a class or function
# of this module that keeps numbers and does nothing else; no library is imported and no function of
# NumPy is called with the file's arguments. Any other name is refused.
#
# Nor does a small file cost much time or memory: steps are counted, nothing of the file is hashed but the words
# that name its entries, memory is taken for what the file really holds, and entries that nobody asked for are
# never looked at, so that a file may have more of them.


MAX_NESTING = 4
"""Chumpy objects may lie in one another; MANO's are two deep."""

LARGEST_PICKLE = 100_000_000  # bytes; MANO's has 4 million
MOST_STEPS = 200_000  # MANO's takes some hundred
LARGEST_DENSE = 10_000_000  # entries of a sparse matrix written out; MANO's has 12,448

_NUMBER = re.compile(r"[<>=|]?[biuf][1248]")


class RefusedPickleError(ValueError):
    """The pickle names something that no MANO file needs. Nothing of it was run."""


class DamagedPickleError(ValueError):
    """The pickle is cut short, or its parts do not fit together."""


def read_pickle(data: bytes, names: Collection[str] | None = None, most_steps: int = MOST_STEPS) -> dict[str, Any]:
    """What a MANO pickle holds: arrays for everything numeric, plain Python values for the rest.

    names: of the entries that are wanted; None: all. most_steps: for files that hold more than MANO's, such as a
    dictionary of dictionaries. Raises RefusedPickleError, which names what was refused, and DamagedPickleError.
    """
    try:
        content = _Reader(data, most_steps).load()
        if not isinstance(content, dict):
            raise DamagedPickleError(f"a dictionary was expected, a {type(content).__name__} came")
        return _plain_entries({key: content[key] for key in content if names is None or key in names}, {})
    except (RefusedPickleError, DamagedPickleError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DamagedPickleError(f"{type(error).__name__}: {str(error)[:100]}") from error


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
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if isinstance(state[1], str) and state[1] in ("<", ">"):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        if not isinstance(self.code, str) or not _NUMBER.fullmatch(self.code):
            kind = repr(self.code[:20]) if isinstance(self.code, str) else type(self.code).__name__
            raise DamagedPickleError(f"arrays of type {kind} are none of MANO's")
        order = self.code[0] if self.code[0] in "<>" else self.order
        return np.dtype(order + self.code.lstrip("<>=|"))


class _Array:
    """numpy.ndarray, whose numbers are made when they are asked for."""

    __slots__ = ("state",)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.state = state

    @property
    def values(self) -> np.ndarray:
        _, shape, dtype, by_columns, data = self.state
        if not isinstance(dtype, _Dtype) or not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
            raise DamagedPickleError("an array's type or shape is unreadable")
        if not isinstance(data, (str, bytes, bytearray)):
            raise DamagedPickleError("an array's numbers are no bytes")
        if len(data) != math.prod(shape) * dtype.dtype.itemsize:
            raise DamagedPickleError(f"an array of shape {shape} has {len(data)} bytes")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if by_columns else "C")


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
    if not any(cls is known for known in (_Ch, _Select, _Csc)):
        raise DamagedPickleError("it rebuilds something that is no object of MANO's")
    return cls()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """numpy._core.numeric._frombuffer: how protocol 5 writes arrays."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", data)
    return array


def _nothing(*_: object) -> None:
    """set: chumpy keeps some of its own, which hold no numbers; to make one would be to hash the file's values."""


def _scalar(dtype: _Dtype, data: str | bytes) -> float | int:
    """numpy.core.multiarray.scalar."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype.dtype, count=1)[0].item()


def _encode(text: str, *_: object) -> str:
    """_codecs.encode: how Python 3 writes bytes at protocol 2. They stay text, of which a file has many names."""
    return text


_BUILTINS = {"object": _Function(object), "set": _Function(_nothing), "frozenset": _Function(_nothing)}
_COPYREG = {"_reconstructor": _Function(_new_record)}
_MULTIARRAY = {"_reconstruct": _Function(_new_array), "scalar": _Function(_scalar)}
_NUMERIC = {"_frombuffer": _Function(_from_buffer)}
_SPARSE = {"csc_matrix": _Csc}
_MODULES: dict[str, dict[str, Any]] = {
    "chumpy.ch": {"Ch": _Ch},
    "chumpy.reordering": {"Select": _Select},
    "numpy": {"ndarray": _Function(_new_array), "dtype": _Function(_Dtype)},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": _NUMERIC,
    "numpy._core.numeric": _NUMERIC,
    "scipy.sparse.csc": _SPARSE,
    "scipy.sparse._csc": _SPARSE,
    "__builtin__": _BUILTINS,
    "builtins": _BUILTINS,
    "copy_reg": _COPYREG,
    "copyreg": _COPYREG,
    "_codecs": {"encode": _Function(_encode)},
}
"""Every name that is understood, as Python 2 and 3 spell it."""


class _Reader(pickle._Unpickler):
    """Python's own reader, not the quicker one in C, which takes as much memory as the file asks for."""

    def __init__(self, data: bytes, most_steps: int) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding="latin1")
        self._size, self._steps, self._most_steps = len(data), 0, most_steps

    def find_class(self, module: str, name: str) -> Any:
        if name not in _MODULES.get(module, {}):
            named = f"{module[:60]}.{name[:60]}"
            raise RefusedPickleError(f"it names {named}, which no MANO file needs; nothing was run")
        return _MODULES[module][name]

    def persistent_load(self, key: object) -> Any:
        raise RefusedPickleError("it refers to an object outside itself, which no MANO file does; nothing was run")

    def _count(self) -> None:
        self._steps += 1
        if self._steps > self._most_steps:
            raise DamagedPickleError(f"it takes more than {self._most_steps:,} steps to read")

    def _set(self, target: object, items: Sequence[object]) -> None:
        if not isinstance(target, dict) or not all(isinstance(key, (str, int)) for key in items[::2]):
            raise DamagedPickleError("something in it goes by another name than a word")
        target.update(zip((str(key) for key in items[::2]), items[1::2], strict=True))

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], (key, value))

    def _set_many(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def _make_dict(self) -> None:
        items, made = self.pop_mark(), {}
        self._set(made, items)
        self.stack.append(made)

    def _make_set(self) -> None:
        self.pop_mark()
        self.stack.append(None)

    def _make_bytes(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self._size:
            raise DamagedPickleError("it ends before its bytes do")
        self.stack.append(self.read(length))

    _OWN: ClassVar = {
        pickle.SETITEM: _set_one, pickle.SETITEMS: _set_many, pickle.DICT: _make_dict,
        pickle.EMPTY_SET: lambda self: self.stack.append(None), pickle.ADDITEMS: lambda self: self.pop_mark(),
        pickle.FROZENSET: _make_set, pickle.BYTEARRAY8: _make_bytes,
    }  # fmt: skip


def _counted(step: Callable[[_Reader], None]) -> Callable[[_Reader], None]:
    def counted(reader: _Reader) -> None:
        reader._count()
        step(reader)

    return counted


_Reader.dispatch = {
    code: _counted(step)
    for code, step in (pickle._Unpickler.dispatch | {code[0]: step for code, step in _Reader._OWN.items()}).items()
}


def _plain_entries(entries: dict[str, Any], seen: dict[int, Any]) -> dict[str, Any]:
    """Dictionaries made plain with all that they hold; each object of the file once, however often it stands there."""
    plain: dict[str, Any] = {}
    for key, value in entries.items():
        if id(value) not in seen:
            if isinstance(value, dict):
                seen[id(value)] = within = {}  # known before it is looked into: it may hold itself
                within.update(_plain_entries(value, seen))
            else:
                seen[id(value)] = _plain(value)
        plain[key] = seen[id(value)]
    return plain


def _plain(value: object, depth: int = 0) -> Any:
    """Arrays for the file's stand-ins; anything else as it is."""
    if depth > MAX_NESTING:
        raise DamagedPickleError("chumpy objects lie too deep in one another")
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, _Ch):
        return _plain(value.state["x"], depth + 1)
    if isinstance(value, _Select):
        source, entries = (_numbers(value.state[name], depth + 1) for name in ("a", "idxs"))
        chosen = source.ravel()[entries]
        return chosen.reshape(value.state.get("preferred_shape", chosen.shape))
    if isinstance(value, _Csc):
        return _dense(value.state, depth + 1)
    return value


def _numbers(value: object, depth: int) -> np.ndarray:
    found = _plain(value, depth)
    if not isinstance(found, np.ndarray):
        raise DamagedPickleError(f"a {type(found).__name__} stands where numbers are expected")
    return found


def _dense(state: dict[str, Any], depth: int) -> np.ndarray:
    """(rows, columns) of a column-compressed matrix; entries at the same place add up."""
    rows, columns = state["_shape"] if "_shape" in state else state["shape"]
    data, indices, starts = (_numbers(state[name], depth) for name in ("data", "indices", "indptr"))
    counts = np.diff(starts)
    if starts.shape != (columns + 1,) or starts[0] != 0 or starts[-1] != len(data) or (counts < 0).any():
        raise DamagedPickleError("a sparse matrix's columns do not add up")
    if not 0 <= rows * columns <= LARGEST_DENSE:
        raise DamagedPickleError(f"a sparse matrix has more than {LARGEST_DENSE:,} entries")
    dense = np.zeros((rows, columns))
    np.add.at(dense, (indices, np.repeat(np.arange(columns), counts)), data)
    return dense


# A user's own MANO file, made ready for handmesh: the licensed pickle to an .npz in the open hand's layout.
#
# MANO's files may not be redistributed; nothing here downloads them. `convert_mano` reads the pickle
# without chumpy (see `mano_pickle`), checks that it is what its name says, and writes plain arrays.


MANO_SITE = "https://mano.is.tue.mpg.de"

MANO_HELP = (
    f"To use MANO, register at {MANO_SITE} (free for research), download mano_v1_2.zip, unpack it outside this "
    "repository, run `handmesh data convert-mano mano_v1_2/models/MANO_RIGHT.pkl` and give the .npz that it "
    "writes as the hand model. Meanwhile the bundled open hand works: leave the hand model out."
)

FORMAT_VERSION = 1
"""Of the .npz that `convert_mano` writes."""

FIELDS: dict[str, tuple[int, ...]] = {
    "v_template": (778, 3),
    "shapedirs": (778, 3, 10),
    "posedirs": (778, 3, 135),
    "J_regressor": (16, 778),
    "weights": (778, 16),
    "kintree_table": (2, 16),
    "hands_components": (45, 45),
    "hands_mean": (45,),
    "f": (1538, 3),
}
"""What a hand model needs, with MANO's shapes."""

TEXTURE_FIELDS = ("uv", "ft")
"""Texture coordinates; MANO has none. A file that has them keeps them."""

_BODIES = {24: "SMPL, a body", 52: "SMPL+H, a body with hands", 55: "SMPL-X, a body with hands and face"}
_WRIST, _INDEX, _MIDDLE, _LITTLE = (skeleton.MANO_JOINTS.index(f) for f in ("wrist", "index1", "middle1", "little1"))
_SECOND_JOINTS = [skeleton.MANO_JOINTS.index(f"{finger}2") for finger in skeleton.FINGERS[1:]]
_CLEAR_BEND, _CLEAR_GROWTH = 0.1, 0.2


@dataclass(frozen=True)
class Conversion:
    """What `convert_mano` made."""

    path: Path
    side: Side
    sha256: str
    """Of the pickle."""
    shapes_mirrored: bool
    """Whether the x of the shape directions had the wrong sign, as in the distributed MANO_LEFT, and was turned."""


def missing_hand(path: Path) -> str:
    """What to tell somebody whose hand model is not at `path`."""
    return f"no hand model at {path}. {MANO_HELP}"


def convert_mano(path: Path, out: Path | None = None, right: Path | None = None) -> Conversion:
    """Write the MANO pickle at `path` as .npz to `out`, by default beside it.

    right: MANO_RIGHT.pkl, to compare a left hand's shape directions with; only where those alone do not
    tell whether their sign is wrong. Raises FileNotFoundError, or ValueError where the file is no MANO hand.
    """
    out = path.with_suffix(".npz") if out is None else out
    fields = read_mano_pickle(path)
    side = _side(fields, path)
    mirrored = side == "left" and _shapes_are_the_right_hands(fields, path, right)
    if mirrored:
        fields["shapedirs"] = fields["shapedirs"] * np.array([-1.0, 1, 1])[:, None]
    sha256 = sha256_of(path)
    origin = {"side": np.array(side), "source_sha256": np.array(sha256), "format_version": np.array(FORMAT_VERSION)}
    write_npz(out, compressed=True, **fields, **origin)
    return Conversion(out, side, sha256, mirrored)


def read_mano_pickle(path: Path) -> dict[str, np.ndarray]:
    """The arrays of MANO_RIGHT.pkl or MANO_LEFT.pkl by MANO's names, as `FIELDS` lists them, as they are.

    Texture coordinates are added where the file has some. Raises FileNotFoundError, and ValueError
    where the file is something else or damaged; nothing that the file says is run.
    """
    if not path.is_file():
        raise FileNotFoundError(missing_hand(path))
    if path.stat().st_size > LARGEST_PICKLE:
        raise ValueError(f"{path} is larger than any MANO file. Download it anew from {MANO_SITE}")
    data = path.read_bytes()
    _refuse_other_kinds(path, data)
    try:
        content = read_pickle(data, (*FIELDS, *TEXTURE_FIELDS))
    except RefusedPickleError as error:
        raise RefusedPickleError(f"{path} is not loaded: {error}. Download it anew from {MANO_SITE}") from error
    except DamagedPickleError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}). Download it anew from {MANO_SITE}") from error
    for name, value in content.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{path} is no MANO hand, or damaged: {name} is a {type(value).__name__}, not an array")
    check_mano_fields(content, path)
    return content


def _refuse_other_kinds(path: Path, data: bytes) -> None:
    """Raise ValueError for what people have under a pickle's name."""
    if not data:
        raise ValueError(f"{path} is empty: the download did not finish. Download it anew from {MANO_SITE}")
    if data[:2] == b"PK":
        raise ValueError(f"{path} is {_zip_kind(data)}")
    if data.lstrip()[:1] == b"<":
        raise ValueError(f"{path} is a web page, not the model: log in at {MANO_SITE} and download it there")


def _zip_kind(data: bytes) -> str:
    pickles = "unpack it and give the models/MANO_RIGHT.pkl from inside"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "v_template.npy" in archive.namelist():
                return "an .npz, converted already: give it as the hand model as it is"
    except Exception:  # a damaged archive can raise anything
        return f"a zip archive cut short: download it anew from {MANO_SITE}, then {pickles}"
    return f"a zip archive, as the site delivers it: {pickles}"


def check_mano_fields(fields: dict[str, np.ndarray], path: Path) -> None:
    """Raise ValueError, with the name of `path`, where `fields` are not a MANO hand's."""
    get_right = f"give MANO_RIGHT.pkl of mano_v1_2.zip from {MANO_SITE}"
    joints = fields["kintree_table"].shape[-1] if "kintree_table" in fields and fields["kintree_table"].ndim else None
    if joints in _BODIES:
        raise ValueError(f"{path} holds {_BODIES[joints]} ({joints} joints), not MANO's hand of 16: {get_right}")
    fault = _fault(fields, FIELDS)
    if fault:
        raise ValueError(f"{path} is no MANO hand, or damaged, or of another version: {fault}; {get_right}")


def _fault(fields: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What makes `fields` no hand of these shapes; empty where nothing does."""
    missing = [name for name in shapes if name not in fields]
    if missing:
        return f"it lacks {', '.join(missing)}"
    for name, shape in shapes.items():
        if fields[name].shape != shape or fields[name].dtype.kind not in "iuf":
            return f"{name} is {fields[name].shape} of {fields[name].dtype}, not {shape}"
        if not np.isfinite(fields[name]).all():
            return f"{name} has a value that is not finite"
    faults = {
        "faces of vertices that are not there": not 0
        <= fields["f"].min()
        <= fields["f"].max()
        < len(fields["weights"]),
        "weights that do not sum to 1": np.abs(fields["weights"].sum(1) - 1).max() > 1e-3,
        "a joint regressor that does not sum to 1": np.abs(fields["J_regressor"].sum(1) - 1).max() > 1e-3,
        "other parents than MANO's 16 joints": fields["kintree_table"][0, 1:].tolist() != list(skeleton.PARENTS[1:]),
        "a value that no hand has": any(np.abs(fields[name]).max() > _LARGEST[name] for name in _LARGEST),
    }
    return next((f"it has {fault}" for fault, found in faults.items() if found), "")


_LARGEST = {"v_template": 10.0, "shapedirs": 10.0, "posedirs": 10.0, "hands_mean": 10.0}
"""Metres and radians."""

LARGEST_FIELD = 64_000_000
"""Bytes of one array of a hand model."""


def read_hand(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `FIELDS` of a right hand in MANO's layout, an .npz of any number of vertices.

    Raises FileNotFoundError where there is none, ValueError where it is damaged, a left hand or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(missing_hand(path))
    if path.suffix == ".pkl":
        raise ValueError(f"{path} must be converted first: `handmesh data convert-mano {path}`")
    if path.suffix != ".npz":
        raise ValueError(f"{path} is not an .npz file; a hand model is one that `handmesh data convert-mano` wrote")
    fields = _read_npz(path, (*FIELDS, "format_version", "side"))
    shapes = dict(FIELDS)
    for name, sized in (("f", ("f",)), ("v_template", ("v_template", "shapedirs", "posedirs", "weights"))):
        count = len(fields[name]) if name in fields and fields[name].ndim else 0
        shapes |= {field: (count, *FIELDS[field][1:]) for field in sized if count}
    shapes["J_regressor"] = (16, shapes["v_template"][0])
    version = fields.get("format_version", np.array(1))
    if version.ndim == 0 and version.dtype.kind in "iu" and version > FORMAT_VERSION:
        raise ValueError(f"{path} was converted by a newer handmesh; convert MANO_RIGHT.pkl again with this one")
    fault = _fault(fields, shapes)
    if fault:
        raise ValueError(f"{path} is damaged, or no hand in MANO's layout: {fault}; convert MANO_RIGHT.pkl again")
    side = str(fields["side"]) if "side" in fields else hand_side(fields)
    if side == "left":
        raise ValueError(f"{path} is a left hand; handmesh mirrors left hands itself: convert MANO_RIGHT.pkl")
    return {name: fields[name].astype(fields[name].dtype.newbyteorder("=")) for name in FIELDS}


def read_texture(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(U, 2) float32 texture coordinates and (F, 3) int32 faces of them, of a hand's .npz; None where it has none.

    Raises ValueError where they are damaged.
    """
    fields = _read_npz(path, TEXTURE_FIELDS)
    if fields.keys() != set(TEXTURE_FIELDS):
        return None
    uv, faces = (fields[name] for name in TEXTURE_FIELDS)
    fits = uv.ndim == faces.ndim == 2 and (uv.shape[1], faces.shape[1]) == (2, 3) and uv.size and faces.size
    fits = fits and uv.dtype.kind == "f" and faces.dtype.kind in "iu" and np.isfinite(uv).all()
    if not fits or not 0 <= faces.min() <= faces.max() < len(uv):
        raise ValueError(f"{path} is damaged: its texture coordinates do not fit its faces; build or convert it again")
    return uv.astype(np.float32), faces.astype(np.int32)


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file has, none of them larger than it says or than `LARGEST_FIELD`."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in {f"{name}.npy" for name in names} & set(archive.namelist()):
                with archive.open(name) as member:
                    data = member.read(LARGEST_FIELD + 1)
                if len(data) > LARGEST_FIELD:
                    raise ValueError(f"{name} has more than {LARGEST_FIELD:,} bytes")
                found[name.removesuffix(".npy")] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged archive can raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path} is damaged or not an .npz archive ({reason}); convert or build it again") from error
    return found


def hand_side(fields: dict[str, np.ndarray]) -> Side | None:
    """Which hand a model in MANO's layout is; None where it does not tell.

    Fingers bend towards the palm. The mean pose says which way they bend, the joints at rest where the
    fingers and the thumb's side lie, and the three together have one handedness. (The files themselves
    say nothing of their side.) None where the mean pose is flat or the fingers disagree.
    """
    joints = fields["J_regressor"] @ fields["v_template"]
    palm = np.cross(joints[_INDEX] - joints[_LITTLE], joints[_MIDDLE] - joints[_WRIST])  # a right hand's
    bones = joints[[j + 1 for j in _SECOND_JOINTS]] - joints[_SECOND_JOINTS]
    mean = np.asarray(fields["hands_mean"], np.float64).reshape(15, 3)[[j - 1 for j in _SECOND_JOINTS]]
    bends = (Rotation.from_rotvec(mean).apply(bones) - bones) @ palm
    bends /= np.linalg.norm(bones, axis=1) * np.linalg.norm(palm) + 1e-12
    if (bends > _CLEAR_BEND).all():
        return "right"
    return "left" if (bends < -_CLEAR_BEND).all() else None


def _side(fields: dict[str, np.ndarray], path: Path) -> Side:
    side = hand_side(fields)
    if side is None:
        raise ValueError(
            f"{path}: cannot tell which hand it is, as its mean pose does not bend the fingers to one side; "
            f"give MANO_RIGHT.pkl of mano_v1_2.zip from {MANO_SITE} as it is"
        )
    return side


def growth_correlation(fields: dict[str, np.ndarray]) -> float:
    """How the hand's length and breadth vary together over the shape space, -1..1.

    Each shape direction stretches the hand along x (its fingers) and along its breadth by some fraction.
    Directions are in standard deviations, so that the sum of the products over them is the covariance
    over people, and that is positive for hands: long ones are broad. Shape directions whose x has the
    wrong sign make it negative.
    """
    template, shapes = (np.asarray(fields[name], np.float64) for name in ("v_template", "shapedirs"))
    centred, moved = template - template.mean(0), shapes - shapes.mean(0)
    across = np.linalg.svd(centred[:, 1:], full_matrices=False)[2][0]  # breadth: the widest way in the y-z plane
    along, breadth = centred[:, 0], centred[:, 1:] @ across
    longer = along @ moved[:, 0] / (along @ along)
    broader = breadth @ np.einsum("c,vck->vk", across, moved[:, 1:]) / (breadth @ breadth)
    return float(longer @ broader / (np.linalg.norm(longer) * np.linalg.norm(broader) + 1e-18))


def _shapes_are_the_right_hands(fields: dict[str, np.ndarray], path: Path, right: Path | None) -> bool:
    """Whether a left hand's shape directions have the x of a right hand's, a known fault of MANO_LEFT.

    Source: https://github.com/vchoutas/smplx/issues/48. By comparison where MANO_RIGHT is given, else
    by `growth_correlation`.
    """
    if right is not None:
        others = read_mano_pickle(right)
        if hand_side(others) != "right":
            raise ValueError(f"{right} is no right hand: give MANO_RIGHT.pkl to compare {path} with")
        return bool((fields["shapedirs"][:, 0] * others["shapedirs"][:, 0]).sum() > 0)
    growth = growth_correlation(fields)
    if abs(growth) < _CLEAR_GROWTH:
        raise ValueError(
            f"{path}: cannot tell whether its shape directions have the wrong sign in x (length and breadth "
            f"correlate by {growth:.2f}); give MANO_RIGHT.pkl too, with --right, to compare them"
        )
    return growth < 0


@dataclass(frozen=True)
class ConvertOptions:
    """Convert MANO_RIGHT.pkl, or MANO_LEFT.pkl, to .npz without chumpy. Nothing that the file says is run."""

    pickle: tyro.conf.Positional[Path]
    """The file as https://mano.is.tue.mpg.de delivers it."""
    output: Path | None = None
    """Where to write. Default: beside the pickle."""
    right: Path | None = None
    """MANO_RIGHT.pkl, to compare a left hand's shape directions with."""


def run(options: ConvertOptions) -> None:
    """`handmesh data convert-mano`: convert, and say what for."""
    made = convert_mano(options.pickle, options.output, options.right)
    print(f"{made.path}: MANO's {made.side} hand, from {options.pickle} (sha256 {made.sha256[:16]}...)")
    if made.shapes_mirrored:
        print("Its shape directions had the right hand's sign in x, a known fault of MANO_LEFT; it is mended.")
    if made.side == "left":
        print("handmesh itself needs the right hand: it mirrors left hands. Convert MANO_RIGHT.pkl for it.")
    else:
        print(f"Use it as `--hand-model {made.path}`, or `hand_model: {made.path}` in a configuration.")
