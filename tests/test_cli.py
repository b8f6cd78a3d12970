"""The command `handmesh`: its first words choose a command; help, errors and exit codes are the same of all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from handmesh import cli, console
from handmesh.cli import COMMANDS, GROUPS, Command, main

ROOT = Path(__file__).parents[1]


def in_a_process(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def help_of(name: str, capsys: pytest.CaptureFixture) -> str:
    """The text of a command's --help as one line, without its frames."""
    if COMMANDS[name].extra in ("train", "assets"):
        pytest.importorskip("lightning_fabric", reason="part of the train extra")
    if COMMANDS[name].extra == "stream":
        pytest.importorskip("websockets", reason="part of the stream extra")
    assert main([*name.split(), "--help"]) == 0
    return " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_command_and_tells_real_defaults(name, capsys):
    text = help_of(name, capsys)
    assert f"usage: handmesh {name}" in text and "--help" in text
    for vague in ("None", "(default: )", "if not given", "--out ", "argparse"):
        assert vague not in text, f"{vague!r} in the help of {name}"
    sentences = re.sub(r"\(default: [^)]*\)", "", text)
    assert not re.search(r"\bdefaults?\b", sentences, re.IGNORECASE), "defaults are told in one way"


WITHOUT_FILES = {
    "stream", "doctor", "train", "evaluate detector", "benchmark sizes", "benchmark loader", "benchmark training",
    "benchmark stream",
}  # fmt: skip
"""Commands that only print, or whose preset names the place (--run.out)."""


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT_FILES))
def test_what_is_written_goes_to_output(name, capsys):
    assert "--output" in help_of(name, capsys)


TRACKER = ("--model", "--num-hands", "--min-score", "--backend", "--device", "--threads")


@pytest.mark.parametrize("name", ["webcam", "image", "stream", "benchmark soak"])
def test_the_tracker_takes_the_same_options_everywhere(name, capsys):
    text = help_of(name, capsys)
    assert all(option in text for option in TRACKER)
    assert "Cores that a network may use. (default: all but one)" in text


def test_a_preset_lists_what_can_be_changed(capsys, tmp_path):
    pytest.importorskip("lightning_fabric", reason="part of the train extra")
    preset = tmp_path / "preset.yaml"
    preset.write_text("task: mesh\nbox_scale: 1.75\n")
    assert main(["train", str(preset), "--help"]) == 0
    text = capsys.readouterr().out
    assert "--run.out" in text and "(default: None)" not in text and "(default: )" not in text
    assert main(["train"]) == console.BAD_USAGE
    assert main(["train", str(preset), "--box-scal", "2"]) == console.BAD_USAGE


def test_the_list_of_commands_loads_nothing_heavy():
    run = in_a_process(
        "import sys; from handmesh.cli import main; assert main(['--help']) == 0\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'numba', 'rich', 'tyro', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert run.returncode == 0, run.stderr
    assert all(f"  {name} " in run.stdout for name in [*GROUPS, *(name for name in COMMANDS if " " not in name)])
    assert all(f"  {code} " in run.stdout for code in console.EXIT_CODES)


def test_the_help_of_the_demo_loads_no_networks():
    run = in_a_process(
        "import sys; from handmesh.cli import main; assert main(['webcam', '--help']) == 0\n"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'timm', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert run.returncode == 0, run.stderr


def test_without_a_command_the_commands_are_listed(capsys, monkeypatch):
    assert main([]) == 0
    monkeypatch.setattr(sys, "argv", ["handmesh"])
    assert main() == 0
    assert capsys.readouterr().out.count("usage: handmesh COMMAND") == 2


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands(group, capsys):
    assert main([group]) == main([group, "--help"]) == 0
    listed = capsys.readouterr().out
    own = [name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")]
    assert own and all(listed.count(f"\n  {name} ") == 2 for name in own)


def test_python_m_is_the_same_command():
    run = subprocess.run([sys.executable, "-m", "handmesh", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.startswith("handmesh ")
    run = subprocess.run([sys.executable, "-m", "handmesh", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == console.BAD_USAGE


@pytest.mark.parametrize("script", ["demo/webcam.py", "scripts/train.py"])
def test_scripts_of_a_clone_are_the_same_commands(script):
    name = Path(script).stem
    if COMMANDS[name].extra:
        pytest.importorskip({"stream": "websockets", "train": "lightning_fabric"}[COMMANDS[name].extra])
    run = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=ROOT.parent, capture_output=True, text=True)
    assert run.returncode == 0 and f"usage: handmesh {name}" in run.stdout


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["docter"], "did you mean doctor?"),
        (["Webcam"], "did you mean webcam?"),
        (["bench"], "did you mean benchmark?"),
        (["evaluate", "photo"], "did you mean evaluate photos?"),
        (["frobnicate"], "known are benchmark, calibrate-camera"),
        (["--source"], "known are benchmark"),
        (["data", "zzzzzzzzzz"], "known are cache-teacher"),
    ],
)
def test_an_unknown_command_is_answered_with_what_is_known(given, hint, capsys):
    assert main([*given, "--json"]) == console.BAD_USAGE
    said = capsys.readouterr()
    assert repr(" ".join(given)) in said.err and hint in said.err
    assert said.out == ""


@dataclass(frozen=True)
class Options:
    """For these tests."""

    count: int
    """How many. Default: not told, since it is required."""
    speed: float | None = None
    """How fast,
    and where to. Default: 60, as it is usual."""
    words: tuple[str, ...] = ()
    """What to say."""


def run_command(monkeypatch, work, *words: str, extra: str = "", kind: type = Options) -> int:
    """Run a command whose function is `work`."""

    def function(options):
        return work(options)

    function.__annotations__ = {"options": kind}
    monkeypatch.setitem(sys.modules, "a_module", SimpleNamespace(work=function))
    monkeypatch.setitem(COMMANDS, "command", Command("a_module:work", "for this test", extra))
    return main(["command", *words])


def test_options_and_the_exit_code_pass_through(monkeypatch):
    seen = []
    assert run_command(monkeypatch, lambda options: seen.append(options) or 7, "--count", "3", "--words", "a", "b") == 7
    assert seen == [Options(3, None, ("a", "b"))]
    assert run_command(monkeypatch, lambda options: ["a report"], "--count", "3") == 0
    assert run_command(monkeypatch, seen.append, "--raw", "x y.mp4", kind=Sequence[str]) == 0
    assert seen[1] == ["--raw", "x y.mp4"]


def test_what_stands_for_none_is_shown_as_a_default(monkeypatch, capsys):
    assert run_command(monkeypatch, None, "--help") == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "--speed FLOAT How fast, and where to. (default: 60, as it is usual)" in text
    assert "--words [STR [STR ...]] What to say." in text
    assert "How many. (required)" in text


@pytest.mark.parametrize("words", [[], ["--count", "many"], ["--cuont", "3"], ["--count", "3", "--speed", "None"]])
def test_a_command_line_that_is_not_understood_ends_with_2(monkeypatch, capsys, words):
    assert run_command(monkeypatch, None, *words) == console.BAD_USAGE
    said = capsys.readouterr()
    assert "handmesh command --help" in said.err and not said.out


@pytest.mark.parametrize(
    "error",
    [
        ValueError("count is\n too large"),
        FileNotFoundError(2, "No such file", "x.mp4"),
        RuntimeError("no window"),
        FloatingPointError("the loss is not finite"),
        ImportError("libGL.so.1 is missing"),
    ],
)
def test_an_error_of_the_user_is_one_line(monkeypatch, capsys, error):
    def work(options):
        raise error

    assert run_command(monkeypatch, work, "--count", "1") == console.FAILED
    said = capsys.readouterr()
    assert said.err == f"error: {' '.join(str(error).split())}\n" and not said.out


def test_an_error_of_ours_and_all_with_the_debug_variable_keep_their_traceback(monkeypatch):
    def fail(error):
        def work(options):
            raise error

        return run_command(monkeypatch, work, "--count", "1")

    with pytest.raises(TypeError):
        fail(TypeError("a fault"))
    with pytest.raises(ModuleNotFoundError, match=r"handmesh\.lost"):
        fail(ModuleNotFoundError("No module named 'handmesh.lost'", name="handmesh.lost"))
    monkeypatch.setenv(console.DEBUG, "1")
    with pytest.raises(ValueError, match="too large"):
        fail(ValueError("too large"))


def test_a_missing_package_is_one_line_with_its_remedy(monkeypatch, capsys):
    def work(options):
        raise ModuleNotFoundError("No module named 'websockets'", name="websockets")

    assert run_command(monkeypatch, work, "--count", "1", extra="stream") == console.FAILED
    said = capsys.readouterr().err
    assert "'websockets'" in said and "pip install" in said and "[stream]" in said and said.count("\n") == 1
    assert run_command(monkeypatch, work, "--count", "1") == console.FAILED
    assert "handmesh doctor" in capsys.readouterr().err


EXTRAS = {
    "train": {"torch", "timm", "lightning_fabric", "yaml", "matplotlib", "onnx", "safetensors", "tensorboard"},
    "stream": {"websockets", "pythonosc"},
    "assets": {"anny", "torch"},
}


_CORE_ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from handmesh.cli import COMMANDS, main
for name, command in COMMANDS.items():
    code = main([*name.split(), "--help"])
    print(f"{{name}} ends with {{code}}, needs [{{command.extra}}]", file=sys.stderr)
"""


def test_commands_of_a_core_installation_start_or_name_their_extra():
    """One process, in which the packages of no extra can be imported."""
    run = in_a_process(_CORE_ALONE.format(packages=set().union(*EXTRAS.values())))
    assert run.returncode == 0, run.stderr
    error, ended = "", {}
    for line in run.stderr.splitlines():
        if found := re.fullmatch(r"(.+) ends with (\d), needs \[(\w*)\]", line):
            name, code, extra = found.groups()
            assert code == "0" or (extra and f"[{extra}]" in error), f"{name}: {error}"
            ended[name], error = code, ""
        else:
            assert not error, "one line"
            error = line
    assert ended.keys() == COMMANDS.keys() and {"0", "1"} == set(ended.values())


def test_ctrl_c_and_termination_are_no_tracebacks(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    def terminated(options):
        os.kill(os.getpid(), signal.SIGTERM)

    assert run_command(monkeypatch, interrupted, "--count", "1") == console.INTERRUPTED
    assert run_command(monkeypatch, terminated, "--count", "1") == console.INTERRUPTED
    assert capsys.readouterr().err == "stopped\nstopped\n"


def test_ctrl_c_is_noted_inside_and_raised_at_the_end_unless_dealt_with():
    usual = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), console.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        with console.uninterrupted():  # the inner one leaves it to the outer
            assert console.interrupted()
        assert console.interrupted()
    with console.uninterrupted():
        signal.raise_signal(signal.SIGTERM)
        assert console.take_interrupt() and not console.interrupted()
    assert not console.interrupted()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == usual


def test_what_ignores_ctrl_c_goes_on_ignoring_it():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with console.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert not console.interrupted()
    finally:
        signal.signal(signal.SIGINT, usual)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_late_second_ctrl_c_ends_what_does_not_end():
    run = in_a_process(
        "import signal, time; from handmesh import console; console.PATIENCE_S = 0.05\n"
        "with console.uninterrupted():\n"
        "    for _ in range(3): signal.raise_signal(signal.SIGINT)\n"
        "    print('at first it is only noted', flush=True); time.sleep(0.1)\n"
        "    signal.raise_signal(signal.SIGINT); print('not reached', flush=True)"
    )
    assert run.returncode == -signal.SIGINT and run.stdout == "at first it is only noted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other pipes")
def test_a_reader_that_leaves_is_no_error():
    run = subprocess.run(
        f"{sys.executable} -c \"from handmesh.console import guarded; import sys; "
        "sys.exit(guarded(lambda: [print('x' * 99) for _ in range(10**5)]))\" | head -1; exit ${PIPESTATUS[0]}",
        shell=True, executable="/bin/bash", cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == console.FAILED and not run.stderr and len(run.stdout) == 100


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other pipes")
def test_a_reader_of_help_or_messages_that_leaves_is_no_error():
    code = "import sys; from handmesh.console import guarded, say; sys.exit(guarded(lambda: [{work}] and 7))"
    helped = code.format(work="print('x' * 10**6), sys.exit(0)")
    told = code.format(work="*(say('x' * 99) for _ in range(10**4)), print('done')")
    for program, redirected in ((helped, ""), (told, "2>&1 >&3")):  # the work goes on where messages are not read
        line = f'({sys.executable} -c "{program}" {redirected} | head -c 1; echo "${{PIPESTATUS[0]}}") 3>&1'
        run = subprocess.run(line, shell=True, executable="/bin/bash", cwd=ROOT, capture_output=True, text=True)
        assert not run.stderr and run.stdout.replace("done\n", "") == ("x1\n" if program == helped else "x7\n")


NAME = "a[/b] :+1: [red]\x1b[31mä→\udcff.mp4"


@pytest.mark.parametrize(("encoding", "seen"), [("utf-8", "ä→"), ("ascii", r"\xe4\u2192"), ("latin-1", r"ä\u2192")])
def test_names_are_no_markup_and_no_orders_and_what_a_terminal_cannot_write_ends_nothing(encoding, seen):
    code = f"""
import sys
from handmesh import console
def work():
    name = {NAME!a}
    console.say(name), console.warn(name), print(console.visible(name))
    with console.progress() as bar:
        bar.disable = False
        bar.add_task(name, total=1)
        bar.refresh()
    raise ValueError(name)
sys.exit(console.guarded(work))
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env=environment, check=False)
    said, name = run.stderr.decode(encoding), rf"a[/b] :+1: [red]\x1b[31m{seen}\udcff.mp4"
    assert run.returncode == 1 and run.stdout.decode(encoding) == f"{name}\n"
    for line in (f"{name}\n", f"warning: {name}\n", f"error: {name}\n"):
        assert line in said, said


def test_help_is_readable_where_letters_are_few():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "handmesh", "convert-clip", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "--output PATH" in run.stdout and "\\u" not in run.stdout


def test_a_broken_pipe_elsewhere_is_told(capsys):
    def work():
        raise BrokenPipeError(32, "Broken pipe")

    assert console.guarded(work) == console.FAILED
    assert "Broken pipe" in capsys.readouterr().err


def test_every_command_names_a_function_with_options():
    assert len(cli.COMMANDS) > 30
    for name, command in COMMANDS.items():
        assert re.fullmatch(r"handmesh(\.\w+)+:\w+", command.function), name
        assert command.extra in ("", *EXTRAS) and len(command.purpose) < 80, name
