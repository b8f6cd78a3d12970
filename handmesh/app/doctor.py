"""`handmesh doctor`: what a working installation needs, checked one by one, each in a process of its own."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from handmesh import machine
from handmesh.assets import DEMO_CLIP
from handmesh.console import install_command

if TYPE_CHECKING:
    import numpy as np

    from handmesh.tracking.tracker import HandTracker

import argparse
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Literal, NamedTuple

# The doctor's checks of Python, of packages, of the processor, of memory and of the disk. Standard library only.


OUTPUTS = Path("outputs")
"""Where the demos write unless told otherwise."""

EXTRAS = {
    "train": "to train, evaluate and export networks",
    "openvino": "another runtime for the networks, faster on Intel's processors",
    "stream": "to send hands to browsers and engines",
    "heif": "to read the HEIC images of phones",
    "usd": "to write hands as USDZ, for Apple's devices",
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
            yield from _warnings(name, least)
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


def _warnings(name: str, least: str) -> Iterator[Finding]:
    """What is wrong with an installed package of the core."""
    found, version = _installed(name)
    if least and _older(version, least):
        yield missing(f"{found} {version} is too old", f"pip install --upgrade '{found}>={least}'")
    several = [twin for twin in (name, *_TWINS.get(name, ())) if _version(twin)]
    if len(several) > 1:
        yield note(f"{' and '.join(several)} overwrite each other", "uninstall them all, then install one of them")
    if name not in _IMPORTED_ELSEWHERE:
        yield from _import_warning(name)


def _import_warning(name: str) -> Iterator[Finding]:
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
    folder = next(position for position in (OUTPUTS.absolute(), *OUTPUTS.absolute().parents) if position.exists())
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


# The doctor's checks of the networks and of what runs them. Imports wait until a check needs them.


_LOOKS, _SETTLED = 8, 2  # frames that are looked at, and those of them that are not timed
_REINSTALL = "install handmesh again: its files are incomplete"


def models() -> Iterator[Finding]:
    """Each bundled network, opened and run. This is the main job: where one is ok, handmesh works."""
    from handmesh.assets import bundled_models, detector_path, model_path
    from handmesh.tracking.tracker import HandTracker

    names = bundled_models()
    if not names:
        yield missing("no mesh network in the package", _REINSTALL)
    if not detector_path().is_file():
        yield missing("no hand detector in the package", _REINSTALL)
        return
    frame, told = _frame()
    for name in names:
        try:
            begin_s = time.perf_counter()
            with HandTracker.load(name) as tracker:
                opened_ms = 1e3 * (time.perf_counter() - begin_s)
                opened = f"{name}: {model_path(name).stat().st_size / 1e6:.1f} MB, opens in {opened_ms:.0f} ms"
                yield _tried(tracker, opened, frame, told)
        except Exception as error:  # what ONNX Runtime raises has no common base; the other networks still count
            yield missing(f"{name}: {reason(error)}", _REINSTALL)


def _frame() -> tuple[np.ndarray, bool]:
    """An image to look at, and whether there are hands in it."""
    import numpy as np

    try:
        from handmesh.video.sources import Video

        return next(iter(Video(DEMO_CLIP))).image_rgb, True
    except Exception:  # without a video reader, which has a check of its own, networks run as well
        return np.full((480, 640, 3), 128, np.uint8), False


def _tried(tracker: HandTracker, opened: str, frame: np.ndarray, has_hands: bool) -> Finding:
    times_ms, hands = [], []
    for i in range(_LOOKS):
        begin_s = time.perf_counter()
        hands = tracker.track(frame, i / 30)
        times_ms.append(1e3 * (time.perf_counter() - begin_s))
    if has_hands and not hands:
        return missing(f"{opened}, but finds no hand where there are two", f"try --device cpu; otherwise {_REINSTALL}")
    seen = f"{len(hands)} hands followed" if has_hands else "an empty frame searched"
    return ok(f"{opened}, {seen} in {statistics.median(times_ms[_SETTLED:]):.0f} ms a frame")


def providers() -> Iterator[Finding]:
    """ONNX Runtime and the devices that it can use."""
    onnxruntime = machine.import_onnxruntime()
    offered = onnxruntime.get_available_providers()
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in offered)
    yield ok(f"ONNX Runtime {onnxruntime.__version__}: {names}")
    if "CPUExecutionProvider" not in offered:
        yield missing("it cannot run on the processor", "pip install --force-reinstall onnxruntime")
    if has_nvidia() and "CUDAExecutionProvider" not in offered:
        yield note(
            "there is an NVIDIA GPU that it cannot use", "pip uninstall onnxruntime; pip install onnxruntime-gpu"
        )


def has_nvidia() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


def openvino() -> Iterator[Finding]:
    """OpenVINO, the other runtime, and its devices."""
    try:
        import openvino as runtime
    except ModuleNotFoundError:
        yield note("not installed; ONNX Runtime needs none", install_command("openvino"))
        return
    core = runtime.Core()
    devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]
    version = runtime.__version__.split("-")[0]
    if not devices:
        yield missing(f"OpenVINO {version} finds no device", "pip install --force-reinstall openvino")
        return
    yield ok(f"OpenVINO {version}: {', '.join(devices)}; --backend openvino")


# The doctor's checks of cameras, window, OpenGL, renderer and video. Imports wait until a check needs them.


DEV = Path("/dev")
_WITHOUT_CAMERA = "plug one in, or play a video: handmesh webcam --source clip.mp4"
_WITHOUT_WINDOW = "without a window, files are written: handmesh webcam --output out.mp4"


def cameras() -> Iterator[Finding]:
    """The cameras, and whether this user may open them."""
    from handmesh.video.camera import list_cameras

    closed = [str(node) for node in sorted(DEV.glob("video*")) if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        yield missing(f"no permission to open {', '.join(closed)}", "sudo usermod -aG video $USER, and log in again")
    found = list_cameras()
    for camera in found:
        name = f"{camera.index}: {camera.name}"
        if camera.width:
            yield ok(f"{name}, {camera.width}x{camera.height} at {camera.fps:.0f} FPS; --source {camera.index}")
        else:
            yield missing(f"{name} cannot be opened", "close the program that uses it, or see to its permissions")
    if not found:
        yield missing("none found", _WITHOUT_CAMERA)


def display() -> Iterator[Finding]:
    """Whether a window can be opened."""
    from handmesh.app.window import Window, WindowError

    names = ("DISPLAY", "WAYLAND_DISPLAY")
    where = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
    try:
        Window("handmesh doctor").close()
    except WindowError as error:
        if toolkit() == "NONE":
            remedy = "pip uninstall opencv-python-headless; pip install --force-reinstall opencv-python"
            yield missing("this OpenCV cannot open windows", remedy)
        elif where:
            yield missing(f"{error} ({where})", f"see whether another program can open one there; {_WITHOUT_WINDOW}")
        elif os.environ.get("SSH_CONNECTION"):
            yield missing(f"{error}: this is an SSH session", f"connect with `ssh -X`; {_WITHOUT_WINDOW}")
        else:
            yield missing(f"{error}", _WITHOUT_WINDOW)
        return
    yield ok(f"a window opens{f' ({where})' if where else ''}, drawn with {toolkit()}")


def toolkit() -> str:
    """What OpenCV draws windows with: QT5, GTK3, COCOA, WIN32UI ... or NONE."""
    import cv2

    lines = (line.partition(":") for line in cv2.getBuildInformation().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "GUI"), "NONE")


def opengl() -> Iterator[Finding]:
    """Whether pyrender draws. The z-buffer, which is the default, needs no OpenGL."""
    import numpy as np

    from handmesh.render.pyrender import RendererError, render_pyrender
    from handmesh.types import Camera

    triangle = np.array([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1]], np.float32)
    faces, white = np.array([[0, 2, 1]], np.int32), np.ones((3, 3), np.float32)
    try:
        rgba, _ = render_pyrender(triangle, faces, white, Camera.from_fov(64, 48))
    except RendererError as error:
        yield note(f"{error}", "only --renderer pyrender needs it")
        return
    platform = os.environ.get("PYOPENGL_PLATFORM", "the system's own")
    if not rgba[..., 3].any():
        yield note(f"pyrender draws nothing (platform {platform})", "only --renderer pyrender needs it")
        return
    yield ok(f"pyrender draws (platform {platform}, {_driver()})")


def _driver() -> str:
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    try:
        texts = [glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION)]
    except Exception as error:  # PyOpenGL raises what it likes; the triangle is drawn all the same
        return reason(error, 60)
    return ", OpenGL ".join(texts)


def renderer() -> Iterator[Finding]:
    """The compiled z-buffer, and whether its compilation is kept."""
    begin_s = time.perf_counter()
    try:
        from handmesh.render import overlay, rasterizer

        overlay.warm_up()
    except RuntimeError as error:  # numba finds no place for its cache
        yield missing(reason(error), "set NUMBA_CACHE_DIR to a folder that can be written to")
        return
    seconds = time.perf_counter() - begin_s
    stats = [value.stats for value in vars(rasterizer).values() if hasattr(value, "stats")]
    compiled = sum(sum(stat.cache_misses.values()) for stat in stats)
    what = f"the z-buffer draws; ready in {seconds:.1f} s" + (
        ", compiled just now" if compiled else ", out of its cache"
    )
    yield ok(what)
    folder, remedy = stats[0].cache_path, "set NUMBA_CACHE_DIR to a folder that keeps what is written to it"
    if folder is None or not os.access(folder, os.W_OK):
        yield note(f"there is no cache that can be written to ({folder}): each start compiles", remedy)
    elif machine.private_temporary_folder(machine.COMPILED) in (Path(folder), *Path(folder).parents):
        yield note(f"its cache is a temporary folder, as no other can be written to: {folder}", remedy)


def video() -> Iterator[Finding]:
    """Whether H.264 can be written and read."""
    import av
    import numpy as np

    from handmesh.types import Frame
    from handmesh.video.sinks import VideoRecorder
    from handmesh.video.sources import Video

    image = np.full((48, 64, 3), 90, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        recorder = VideoRecorder(Path(folder) / "doctor.mp4")
        try:
            for i in range(2):
                recorder.write(Frame(str(i), i / 30, image), image)
        finally:
            recorder.close()
        count = sum(1 for _ in Video(recorder.path))
    if count != 2:
        yield missing(f"PyAV {av.__version__} wrote 2 frames of H.264 and reads {count}", "pip install --upgrade av")
        return
    yield ok(f"PyAV {av.__version__} writes and reads H.264 (.mp4)")


# `handmesh doctor`: runs its checks one by one, each in a process of its own, and prints what they find.


# What a check of the doctor finds, and the process of its own in which each check runs.


Mark = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """One line of the report."""

    mark: Mark
    what: str
    remedy: str = ""  # what to do about it, where something can be done


Check = Callable[[], Iterator[Finding]]


def ok(what: str) -> Finding:
    """Something that works."""
    return Finding("ok", what)


def note(what: str, remedy: str = "") -> Finding:
    """Something that is good to know and stops nobody."""
    return Finding("note", what, remedy)


def missing(what: str, remedy: str = "") -> Finding:
    """Something that does not work here."""
    return Finding("missing", what, remedy)


def reason(error: BaseException, limit: int = 160) -> str:
    """An error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:limit]


def examine(check: str, timeout_s: float) -> list[Finding]:
    """The findings of a check, given as 'module:function', run in a process of its own.

    A check that raises, hangs for `timeout_s` or takes its process down is a finding itself, so that
    nothing it does can end or stop the doctor.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as noise:
        process = _start(check, answer, noise)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return [
                missing(f"did not answer within {timeout_s:g} s", "try again; it may be busy or waiting for a driver")
            ]
        finally:
            if process.poll() is None:  # Ctrl-C
                _end(process)
        findings = _read(answer)
        return findings if findings is not None else [missing(f"the check ended early: {_death(code, noise)}")]


def _start(check: str, answer: IO[bytes], noise: IO[bytes]) -> subprocess.Popen:
    code = f"from {__name__} import answer; answer({check!r})"
    # A clone that is not installed is found by where this file lies; files instead of pipes,
    # since a grandchild that outlives the check would keep a pipe open, and us waiting.
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=answer,
        stderr=noise,
        env=environment,
        start_new_session=True,
    )


def _end(process: subprocess.Popen) -> None:
    """Kill a check and what it started, without waiting for what a driver holds."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait(1.0)
    except (OSError, subprocess.TimeoutExpired):
        pass


def _read(answer: IO[bytes]) -> list[Finding] | None:
    answer.seek(0)
    try:
        return [Finding(*finding) for finding in json.load(answer)]
    except ValueError:
        return None


def _death(code: int, noise: IO[bytes]) -> str:
    noise.seek(0)
    lines = noise.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    try:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        how = f"signal {-code}"
    return f"{how}, {last[:160]}"


def answer(check: str) -> None:
    """Run a check in this process, whose standard output then holds nothing but its findings."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # libraries print there
    module, _, function = check.partition(":")
    text = json.dumps(findings_of(lambda: getattr(import_module(module), function)()))
    with open(stdout, "w") as file:
        file.write(text)
        file.flush()
        os._exit(0)  # a library that crashes on the way out takes nothing with it


def findings_of(check: Check) -> list[Finding]:
    """What a check finds up to its first error, and that error."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except ModuleNotFoundError as error:
        findings.append(missing(f"needs the package {error.name!r}", "install it: see 'packages'"))
    except Exception as error:  # whatever a library or a driver raises
        findings.append(missing(f"could not be checked: {reason(error)}"))
    return findings


# `handmesh doctor`: runs the checks one by one and prints what each finds.


class Checkup(NamedTuple):
    """One check: its name in the report, where it lives, and how long it may take."""

    name: str
    function: str  # 'module:function'
    timeout_s: float = 30.0


_MODULE = "handmesh.app.doctor"

CHECKS = (
    Checkup("python", f"{_MODULE}:python"),
    Checkup("packages", f"{_MODULE}:packages", 60.0),
    Checkup("processor", f"{_MODULE}:processor"),
    Checkup("memory", f"{_MODULE}:memory"),
    Checkup("models", f"{_MODULE}:models", 120.0),
    Checkup("providers", f"{_MODULE}:providers"),
    Checkup("openvino", f"{_MODULE}:openvino", 60.0),
    Checkup("cameras", f"{_MODULE}:cameras"),
    Checkup("display", f"{_MODULE}:display", 45.0),
    Checkup("renderer", f"{_MODULE}:renderer", 180.0),
    Checkup("opengl", f"{_MODULE}:opengl", 60.0),
    Checkup("video", f"{_MODULE}:video"),
    Checkup("disk", f"{_MODULE}:disk"),
)
"""All checks, in the order of the report."""

MAIN_JOB = "models"
"""The check that decides whether handmesh works here."""

_COLOURS = {"ok": "32", "note": "33", "missing": "31"}
_LONGEST_MARK = max(map(len, _COLOURS))

Report = Mapping[str, Sequence[Finding]]


def main(args: Sequence[str]) -> int:
    """`handmesh doctor`: parse `args`, run all checks, and return the exit code.

    0 where a bundled network opens and runs, 1 otherwise.
    """
    # argparse and print, not tyro and rich: the doctor must speak where packages are missing.
    parser = argparse.ArgumentParser(prog="handmesh doctor", description="What this machine offers, and what to do.")
    parser.add_argument("--json", action="store_true", help="print JSON, for a bug report")
    options = parser.parse_args(args)
    report: dict[str, Sequence[Finding]] = {}
    for check in CHECKS:
        report[check.name] = [_private(finding) for finding in examine(check.function, check.timeout_s)]
        if not options.json:
            print("\n".join(report_lines(check.name, report[check.name])), flush=True)
    print(as_json(report) if options.json else f"\n{verdict(report)}")
    return 0 if works(report) else 1


def works(report: Report) -> bool:
    """Whether a network of this machine opens and runs."""
    return any(finding.mark == "ok" for finding in report.get(MAIN_JOB, ()))


def verdict(report: Report) -> str:
    """The report in one line."""
    marks = [finding.mark for findings in report.values() for finding in findings]
    count = f"{marks.count('missing')} missing, {marks.count('note')} to note"
    if works(report):
        return f"handmesh works here ({count})"
    return f"handmesh does not work here ({count}): see {MAIN_JOB!r}"


def as_json(report: Report) -> str:
    """The report for a program, or for a bug report."""
    checks = {name: [finding._asdict() for finding in findings] for name, findings in report.items()}
    try:
        version = metadata.version("handmesh")
    except metadata.PackageNotFoundError:
        version = None
    return json.dumps({"handmesh": version, "works": works(report), "checks": checks}, indent=1)


def _private(finding: Finding) -> Finding:
    """Reports are pasted where others read them: the home folder, and the user's name in it, are nobody's business."""
    home = str(Path.home())
    if len(home) < 2:
        return finding
    return finding._replace(what=finding.what.replace(home, "~"), remedy=finding.remedy.replace(home, "~"))


def report_lines(name: str, findings: Iterable[Finding]) -> list[str]:
    """The findings of a check as they are printed, within the terminal's width."""
    lines, width = [], max(60, shutil.get_terminal_size().columns)
    for i, (mark, what, remedy) in enumerate(findings):
        head = f"{'' if i else name:<11}{mark:<{_LONGEST_MARK}}  "
        indent = " " * len(head)
        wrapped = textwrap.wrap(what, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
        wrapped[0] = wrapped[0].replace(mark, _coloured(mark), 1)
        lines += wrapped
        if remedy:
            arrow = f"{indent}-> "
            lines += textwrap.wrap(
                remedy, width, initial_indent=arrow, subsequent_indent=f"{indent}   ", break_on_hyphens=False
            )
    return lines


def _coloured(mark: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return mark
    return f"\x1b[{_COLOURS[mark]}m{mark}\x1b[0m"
