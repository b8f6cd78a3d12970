"""The doctor on simulated machines: it names what is missing, says what to do, and nothing can stop it."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from handmesh import assets, machine
from handmesh.app import doctor
from handmesh.app.doctor import Checkup, examine, findings_of
from handmesh.render import pyrender
from handmesh.video import camera

ROOM = "checks_for_tests"

CHECKS = """
import os, signal, subprocess, sys, time
from handmesh.app.doctor import ok, note, missing

def works():
    print("a library talks")
    os.system("echo so does another program")
    yield ok("it runs")
    yield note("seen in " + os.path.expanduser("~/here"), "look at " + os.path.expanduser("~/there"))

def lacks():
    yield missing("it is not there", "buy one")

def raises():
    yield ok("so far, so good")
    raise OSError("the driver\\nis odd")

def exits():
    print("a last word", file=sys.stderr)
    os._exit(3)

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open("child", "w").write(str(child.pid))
    time.sleep(60)

def crashes_late():
    import atexit
    atexit.register(os.abort)
    yield ok("done before")
"""


@pytest.fixture
def room(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with checks of all tempers."""
    (tmp_path / f"{ROOM}.py").write_text(CHECKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_check_runs_in_a_process_of_its_own(room):
    marks = [finding.mark for finding in examine(f"{ROOM}:works", 20)]
    assert marks == ["ok", "note"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("exits", "exit code 3, a last word"),
        ("crashes", "SIGSEGV"),
        ("not_there", "AttributeError"),
    ],
)
def test_a_check_that_dies_is_a_finding(room, function, said):
    if function == "crashes" and sys.platform == "win32":
        pytest.skip("signals are POSIX's")
    (finding,) = examine(f"{ROOM}:{function}", 20)
    assert finding.mark == "missing" and said in finding.what


def test_a_check_that_raises_keeps_what_it_found_before(room):
    found, error = examine(f"{ROOM}:raises", 20)
    assert found.what == "so far, so good"
    assert (error.mark, error.what) == ("missing", "could not be checked: OSError: the driver is odd")


def test_a_missing_package_refers_to_the_list_of_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for check in (doctor.models, doctor.providers):
        monkeypatch.delitem(sys.modules, "handmesh.tracking.tracker", raising=False)
        monkeypatch.delitem(sys.modules, "handmesh.tracking.backends", raising=False)
        (line,) = look(check)["missing"]
        assert line == "needs the package 'onnxruntime' -> install it: see 'packages'"


def test_a_check_that_crashes_on_its_way_out_has_answered(room):
    assert [finding.what for finding in examine(f"{ROOM}:crashes_late", 20)] == ["done before"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes are left")
def test_a_check_that_hangs_is_ended_with_all_it_started(room):
    begin_s = time.perf_counter()
    (finding,) = examine(f"{ROOM}:hangs", 3)
    assert finding.mark == "missing" and "3 s" in finding.what
    assert time.perf_counter() - begin_s < 15
    assert not is_running(int((room / "child").read_text()))


def is_running(pid: int) -> bool:
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


def diagnose(monkeypatch, capsys, *args, **checks):
    """The exit code and what is printed when `checks`, by their names in the report, are all there are."""
    monkeypatch.setattr(
        doctor, "CHECKS", [Checkup(name, f"{ROOM}:{function}", 20) for name, function in checks.items()]
    )
    code = doctor.main(list(args))
    return code, capsys.readouterr().out


def test_the_report_as_json_is_valid_and_private(room, monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/somebody")
    code, text = diagnose(monkeypatch, capsys, "--json", models="works", cameras="lacks", opengl="exits")
    report = json.loads(text)
    assert code == 0 and report["works"] is True
    assert list(report["checks"]) == ["models", "cameras", "opengl"]
    assert report["checks"]["cameras"] == [{"mark": "missing", "what": "it is not there", "remedy": "buy one"}]
    assert report["checks"]["models"][1] == {"mark": "note", "what": "seen in ~/here", "remedy": "look at ~/there"}
    assert "somebody" not in text


def test_the_report_has_a_mark_a_name_and_a_remedy(room, monkeypatch, capsys):
    code, text = diagnose(monkeypatch, capsys, models="works", cameras="lacks")
    lines = text.splitlines()
    assert code == 0
    assert lines[0] == "models     ok       it runs"
    assert "cameras    missing  it is not there" in lines
    assert "-> buy one" in lines[lines.index("cameras    missing  it is not there") + 1]
    assert lines[-1] == "handmesh works here (1 missing, 1 to note)"
    assert "talks" not in text and "\x1b" not in text


@pytest.mark.parametrize("temper", ["lacks", "exits", "not_there"])
def test_only_a_network_that_does_not_run_is_a_failure(room, monkeypatch, capsys, temper):
    code, text = diagnose(monkeypatch, capsys, models=temper, cameras="works")
    assert code == 1
    assert "does not work here" in text and "'models'" in text


def test_long_lines_keep_to_the_terminal(room, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    finding = doctor.Finding("missing", "word " * 40, "remedy " * 30)
    lines = doctor.report_lines("cameras", [finding])
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()).count("word") == 40


def test_this_machine_runs_the_networks(monkeypatch, capsys):
    kept = [check for check in doctor.CHECKS if check.name in ("python", "models", "disk")]
    monkeypatch.setattr(doctor, "CHECKS", kept)
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)["checks"]
    assert [finding["mark"] for finding in report["models"]] == ["ok"] * len(assets.bundled_models())
    assert all("2 hands followed" in finding["what"] for finding in report["models"])


def test_all_checks_are_there():
    for check in doctor.CHECKS:
        module, _, function = check.function.partition(":")
        assert callable(getattr(sys.modules[module], function)), check


def look(check):
    """The findings of a check by their marks."""
    findings = {"ok": [], "note": [], "missing": []}
    for mark, what, remedy in findings_of(check):
        findings[mark].append(f"{what} -> {remedy}")
    return findings


@pytest.fixture
def shelf(monkeypatch):
    """Installed distributions, as the packages check sees them: name to version, to be changed by the test."""
    there = {"handmesh": "9", "numpy": "2.0", "opencv-python": "5.0", "onnxruntime": "1.30", "websockets": "15"}
    needs = ["numpy>=1.26", "opencv-python>=4.11", "onnxruntime>=1.19", 'websockets>=14; extra == "stream"']

    def version(name):
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    def requires(name):
        version(name)
        return [*needs, 'openvino>=2025.0; extra == "openvino"']

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.metadata, "requires", requires)
    monkeypatch.setattr(doctor, "import_module", lambda name: None)
    return there


def test_packages_and_extras_are_listed(shelf):
    found = look(doctor.packages)
    assert any("numpy 2.0, opencv-python 5.0, onnxruntime 1.30" in line for line in found["ok"])
    assert any("[stream]" in line for line in found["ok"])
    (openvino,) = found["note"]
    assert "[openvino]" in openvino and "pip install" in openvino.partition("->")[2]
    assert not found["missing"]


def test_a_missing_and_an_old_package_have_their_remedies(shelf):
    del shelf["onnxruntime"]
    shelf["opencv-python"] = "4.9.0.80"
    missing = look(doctor.packages)["missing"]
    assert any("4.9.0.80 is too old -> pip install --upgrade 'opencv-python>=4.11'" in line for line in missing)
    assert any("not installed: onnxruntime -> pip install 'onnxruntime>=1.19'" in line for line in missing)


def test_another_distribution_of_the_same_module_serves(shelf):
    del shelf["opencv-python"]
    shelf["opencv-contrib-python"] = "4.11.0.86"
    found = look(doctor.packages)
    assert not found["missing"] and any("opencv-contrib-python 4.11.0.86" in line for line in found["ok"])
    shelf["opencv-python"] = "5.0"
    assert any("overwrite each other" in line for line in look(doctor.packages)["note"])


def test_a_package_that_cannot_be_imported(shelf, monkeypatch):
    def without_libgl(name):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "import_module", without_libgl)
    (line,) = look(doctor.packages)["missing"]
    assert "libGL.so.1" in line and "apt install libgl1" in line


def test_a_folder_that_is_not_installed(shelf):
    del shelf["handmesh"]
    (line,) = look(doctor.packages)["note"]
    assert "pip install -e ." in line


def test_few_cores_and_little_memory_are_noted(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 0.5)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [line.partition(" ->")[0] for line in look(doctor.processor)["note"]] == [
        "this process may use 0.5 of them",
        "one core has to share capture, networks and drawing",
    ]
    monkeypatch.setattr(machine, "memory_gb", lambda: (2.0, 0.4))
    assert "0.4 GB free" in look(doctor.memory)["note"][0]
    monkeypatch.setattr(machine, "memory_gb", lambda: None)
    assert look(doctor.memory)["note"]


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    free = machine.usable_cores()
    limit.write_text("25000 100000\n")
    assert machine.usable_cores() == 0.25
    limit.write_text("max 100000\n")
    assert machine.usable_cores() == free >= 1


def test_a_place_that_cannot_be_written_to(room, monkeypatch):
    assert "outputs/ can be written to" in look(doctor.disk)["ok"][0]

    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert "Permission denied" in look(doctor.disk)["missing"][0]
    assert not (room / "outputs").exists()


def test_missing_and_broken_models(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    assert len(look(doctor.models)["missing"]) == 2
    (tmp_path / "detector.onnx").write_bytes(b"no network")
    (tmp_path / "fast.onnx").write_bytes(b"no network")
    (line,) = look(doctor.models)["missing"]
    assert line.startswith("fast: ModelFileError") and "install handmesh again" in line


def test_a_network_that_finds_nothing_in_the_clip_is_broken(monkeypatch):
    class Blind:
        def track(self, frame_rgb, time_s):
            return []

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("handmesh.tracking.tracker.HandTracker.load", lambda name: Blind())
    found = look(doctor.models)
    assert not found["ok"] and all("finds no hand" in line for line in found["missing"])
    monkeypatch.setattr(doctor, "DEMO_CLIP", Path("nowhere.mp4"))
    assert all("empty frame" in line for line in look(doctor.models)["ok"])


def test_missing_providers(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(doctor, "has_nvidia", lambda: True)
    found = look(doctor.providers)
    assert "ONNX Runtime" in found["ok"][0] and "onnxruntime-gpu" in found["note"][0]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    found = look(doctor.providers)
    assert not found["note"] and "cannot run on the processor" in found["missing"][0]


def test_without_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    (line,) = look(doctor.openvino)["note"]
    assert "[openvino]" in line


def test_openvino_without_and_with_devices(monkeypatch):
    names = []
    core = SimpleNamespace(available_devices=names, get_property=lambda name, key: f"a {name} of {key}")
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core, __version__="2025.1-77"))
    assert "finds no device" in look(doctor.openvino)["missing"][0]
    names.append("NPU")
    assert "OpenVINO 2025.1: NPU" in look(doctor.openvino)["ok"][0]


def test_no_camera(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "DEV", tmp_path)
    monkeypatch.setattr(camera, "list_cameras", lambda: [])
    (line,) = look(doctor.cameras)["missing"]
    assert line.startswith("none found -> plug one in")


def test_cameras_that_may_and_may_not_be_opened(tmp_path, monkeypatch):
    (tmp_path / "video0").touch()
    monkeypatch.setattr(doctor, "DEV", tmp_path)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    info = camera.CameraInfo
    monkeypatch.setattr(camera, "list_cameras", lambda: [info(0, "shut", 0, 0, 0), info(2, "open", 640, 480, 30.0)])
    found = look(doctor.cameras)
    assert "2: open, 640x480 at 30 FPS; --source 2" in found["ok"][0]
    assert "video0" in found["missing"][0] and "usermod -aG video" in found["missing"][0]
    assert "0: shut cannot be opened" in found["missing"][1]


@pytest.fixture
def no_display(monkeypatch):
    """An X display that does not exist."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)

    def no_window(title):
        from handmesh.app.window import WindowError

        raise WindowError("no window here")

    monkeypatch.setattr("handmesh.app.window.Window", no_window)


def test_no_display(no_display, monkeypatch):
    (line,) = look(doctor.display)["missing"]
    assert "no window here" in line and "--output" in line
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    (line,) = look(doctor.display)["missing"]
    assert "ssh -X" in line and "10.0.0.1" not in line
    monkeypatch.setenv("DISPLAY", ":77")
    assert "DISPLAY=:77" in look(doctor.display)["missing"][0]
    monkeypatch.setattr(doctor, "toolkit", lambda: "NONE")
    assert "opencv-python-headless" in look(doctor.display)["missing"][0]


def test_a_display(no_display, monkeypatch):
    monkeypatch.setattr("handmesh.app.window.Window", lambda title: SimpleNamespace(close=lambda: None))
    assert look(doctor.display)["ok"]


def test_no_opengl_is_worth_a_note(monkeypatch):
    def refuse(*args):
        raise pyrender.RendererError("no OpenGL here: apt install libegl1")

    monkeypatch.setattr(pyrender, "render_pyrender", refuse)
    (line,) = look(doctor.opengl)["note"]
    assert "libegl1" in line and "pyrender" in line


def test_renderer_and_video_work_here():
    assert "z-buffer draws" in look(doctor.renderer)["ok"][0]
    assert "H.264" in look(doctor.video)["ok"][0]


def test_a_temporary_cache_is_worth_a_note(monkeypatch):
    from handmesh.render import rasterizer

    (folder,) = {value.stats.cache_path for value in vars(rasterizer).values() if hasattr(value, "stats")}
    assert not look(doctor.renderer)["note"]
    monkeypatch.setattr(machine, "private_temporary_folder", lambda name: Path(folder).parent)
    (line,) = look(doctor.renderer)["note"]
    assert "temporary folder" in line and "NUMBA_CACHE_DIR" in line


def test_a_cache_without_a_place(monkeypatch):
    def refuse():
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("handmesh.render.overlay.warm_up", refuse)
    (line,) = look(doctor.renderer)["missing"]
    assert "no locator" in line and "NUMBA_CACHE_DIR" in line
