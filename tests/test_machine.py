"""What packages are told on this machine: no telemetry, a cache that cannot fail, nothing that a fork breaks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handmesh.machine import PerProcess, import_onnxruntime, private_temporary_folder

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="accounts and forks as POSIX has them")


def run(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in the home of somebody new."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "NUMBA_CACHE_DIR")
    }
    paths = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home / "tmp")}
    (home / "tmp").mkdir(exist_ok=True)
    everything = {**kept, **paths, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=everything, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


TELEMETRY = """
import os
from pathlib import Path
from handmesh.tracking.tracker import HandTracker
HandTracker.load("fast", threads=1)
opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
print(sum("socket" in str(path) for path in opened), os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files as Linux has them")
def test_networks_are_opened_without_a_word_to_anybody(tmp_path):
    """ONNX Runtime would make a device id at once and send it later."""
    ran = run(TELEMETRY, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["0", "1"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == []


def test_who_wants_telemetry_keeps_it(monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


@pytest.mark.parametrize("package", ["onnxruntime", "numba"])
def test_packages_that_must_be_told_are_imported_in_one_place(package):
    places = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "handmesh").rglob("*.py"))
        for line in path.read_text().splitlines()
        if line.split()[:2] in (["import", package], ["from", package])
    ]
    assert set(places) == {"handmesh/machine.py"}


COMPILED = """
from handmesh.machine import compiled

@compiled(nogil=True)
def twice(x):
    return 2 * x

print(twice(21), twice.stats.cache_hits != {}, twice.stats.cache_path)
"""


def compile_in(home: Path, code: Path, **environment: str) -> list[str]:
    """What `COMPILED` prints: 42, whether that came out of a cache, and where this is."""
    ran = run(f"import runpy; runpy.run_path({str(code)!r})", home, **environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.fixture
def code(tmp_path) -> Path:
    path = tmp_path / "code" / "twice.py"
    path.parent.mkdir()
    path.write_text(COMPILED)
    return path


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x00" * 4000])
def test_what_is_damaged_in_a_cache_is_compiled_anew(code, tmp_path, suffix, damage):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    assert compile_in(tmp_path, code, **cache)[:2] == ["42", "False"]
    (damaged,) = (tmp_path / "kept").rglob(f"*{suffix}")
    damaged.write_bytes(damage)
    assert compile_in(tmp_path, code, **cache)[:2] == ["42", "False"]
    assert compile_in(tmp_path, code, **cache)[:2] == ["42", "True"]


def test_without_a_place_for_a_cache_a_temporary_one_is_taken(code, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where numba wants folders")
    (code.parent / "__pycache__").write_text("another")
    nowhere = {"HOME": str(blocked), "XDG_CACHE_HOME": str(blocked), "NUMBA_CACHE_DIR": str(blocked / "in")}
    first = compile_in(tmp_path, code, **nowhere)
    assert first[:2] == ["42", "False"] and Path(first[2]).is_relative_to(tmp_path / "tmp")
    assert compile_in(tmp_path, code, **nowhere) == ["42", "True", first[2]]


@posix
def test_a_temporary_folder_that_others_can_write_to_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = private_temporary_folder("mine")
    assert folder is not None and folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    assert private_temporary_folder("mine") is None
    (tmp_path / f"linked-{os.getuid()}").symlink_to(folder)
    assert private_temporary_folder("linked") is None


@posix
def test_a_forked_child_makes_its_own():
    made = PerProcess(os.getpid)
    assert made.get() == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if made.get() == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
