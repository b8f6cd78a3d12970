"""The doctor's checks of Python, of packages, of the processor, of memory and of the disk. Standard library only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from handmesh.apps.doctor.finding import Finding, missing, note, ok, reason
from handmesh.runtime import machine

OUTPUTS = Path("outputs")
"""Where the demos write unless told otherwise."""

EXTRAS = {
    "train": "to train, evaluate and export networks",
    "openvino": "another runtime for the networks, faster on Intel's processors",
    "stream": "to send hands to browsers and engines",
}
"""What is installed with `handmesh[name]`, and what for."""

_TWINS = {
    "opencv-python": ("opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-silicon"),
}  # distributions that hold the same module
_MODULES = {"opencv-python": "cv2", "pillow": "PIL"}
_IMPORTED_ELSEWHERE = {"pyrender"}  # the OpenGL check prepares its import
_LITTLE_GB = 1.0


def python() -> Iterator[Finding]:
    """Python and the system."""
    yield ok(f"Python {platform.python_version()}, handmesh {_version('handmesh') or 'not installed'}")
    yield ok(platform.platform())


def packages() -> Iterator[Finding]:
    """What handmesh needs and what its extras need: there, new enough, and ready to be imported."""
    try:
        requirements = list(map(_parsed, metadata.requires("handmesh") or []))
    except metadata.PackageNotFoundError:
        yield note("handmesh is not installed, so that its packages are not known", "in the clone: pip install -e .")
        return
    core = [(name, least) for name, least, extra in requirements if not extra]
    versions = {name: _installed(name) for name, _ in core}
    yield ok(", ".join(f"{found} {version}" for found, version in versions.values() if version) or "none")
    lacking = [(name, least) for name, least in core if not versions[name][1]]
    if lacking:
        wanted = " ".join(f"'{name}>={least}'" for name, least in lacking)
        yield missing(f"not installed: {', '.join(name for name, _ in lacking)}", f"pip install {wanted}")
    for name, least in core:
        if versions[name][1]:
            yield from _troubles(name, least)
    for extra, purpose in EXTRAS.items():
        yield _extra(extra, purpose, [(name, least) for name, least, of in requirements if of == extra])


def _parsed(requirement: str) -> tuple[str, str, str]:
    """A requirement's name, least version and extra.

    >>> _parsed("onnxruntime>=1.19"), _parsed('fsspec[http]>=2024.2; extra == "train"')
    (('onnxruntime', '1.19', ''), ('fsspec', '2024.2', 'train'))
    """
    name = re.match(r"[\w.-]+", requirement)
    least = re.search(r">=\s*([\w.]+)", requirement.partition(";")[0])
    extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", requirement)
    return name[0] if name else requirement, least[1] if least else "", extra[1] if extra else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _installed(name: str) -> tuple[str, str]:
    """The distribution that serves as `name`, and its version; no version where there is none."""
    candidates = ((twin, _version(twin)) for twin in (name, *_TWINS.get(name, ())))
    return next((found for found in candidates if found[1]), (name, ""))


def _older(version: str, least: str) -> bool:
    """
    >>> _older("1.9.2", "1.19"), _older("5.0.0.93", "4.11")
    (True, False)
    """
    numbers = [[int(part) for part in re.findall(r"\d+", text)] for text in (version, least)]
    return numbers[0] < numbers[1]


def _troubles(name: str, least: str) -> Iterator[Finding]:
    """What is wrong with an installed package of the core."""
    found, version = _installed(name)
    if least and _older(version, least):
        yield missing(f"{found} {version} is too old", f"pip install --upgrade '{found}>={least}'")
    several = [twin for twin in (name, *_TWINS.get(name, ())) if _version(twin)]
    if len(several) > 1:
        yield note(f"{' and '.join(several)} overwrite each other", "uninstall them all, then install one of them")
    if name not in _IMPORTED_ELSEWHERE:
        yield from _import_trouble(name)


def _import_trouble(name: str) -> Iterator[Finding]:
    try:
        import_module(_MODULES.get(name, name))
    except Exception as error:  # a library that lacks another one raises what it likes
        remedy = f"pip install --force-reinstall {name}"
        if "libGL" in str(error) or "libgthread" in str(error):
            remedy = "Debian, Ubuntu: apt install libgl1 libglib2.0-0"
        yield missing(f"{name} is installed and cannot be imported ({reason(error)})", remedy)


def _extra(extra: str, purpose: str, needed: list[tuple[str, str]]) -> Finding:
    lacking = [name for name, least in needed if _older(_version(name) or "0", least or "0.0.1")]
    if not lacking:
        return ok(f"[{extra}] is there: {purpose}")
    return note(f"[{extra}], {purpose}, lacks {', '.join(lacking)}", install_command(extra))


def install_command(extra: str) -> str:
    """How to install one of `EXTRAS`, for the package or for the clone that runs."""
    root = Path(__file__).parents[3]
    return f"pip install -e '.[{extra}]'" if (root / "pyproject.toml").exists() else f"pip install 'handmesh[{extra}]'"


def processor() -> Iterator[Finding]:
    """The processor, and how much of it this process may use."""
    cores, usable = os.cpu_count() or 1, machine.usable_cores()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield ok(f"{machine.processor()}, {platform.machine()}, {cores} cores{load}")
    if usable < cores:
        yield note(
            f"this process may use {usable:g} of them", "taskset, the container's or the scheduler's limit says so"
        )
    if usable < 2:
        yield note("one core has to share capture, networks and drawing", "take --model fast")


def memory() -> Iterator[Finding]:
    """Memory, all and free."""
    known = machine.memory_gb()
    if known is None:
        yield note("this system does not say how much there is")
        return
    total, free = known
    what = f"{total:.1f} GB, {free:.1f} GB free"
    yield ok(what) if free >= _LITTLE_GB else note(what, "close other programs: a tracker takes about 0.3 GB")


def disk() -> Iterator[Finding]:
    """Whether results can be written, and how much."""
    folder = next(place for place in (OUTPUTS.absolute(), *OUTPUTS.absolute().parents) if place.exists())
    elsewhere = "work in a folder of yours, or give --output"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield missing(f"nothing can be written to {OUTPUTS}/ here: {error.strerror or error}", elsewhere)
        return
    free = shutil.disk_usage(folder).free * 1e-9
    what = f"{OUTPUTS}/ can be written to, {free:.1f} GB free"
    yield ok(what) if free >= _LITTLE_GB else note(what, f"little room for recordings: {elsewhere}")
