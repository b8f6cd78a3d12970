"""The command `handmesh`: one word chooses a tool; what is no tool gets an answer that helps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from handmesh import cli
from handmesh.cli import COMMANDS, Command, main

ROOT = Path(__file__).parents[1]


def test_the_list_of_commands_loads_nothing_heavy():
    code = (
        "import sys; from handmesh.cli import main; assert main(['--help']) == 0\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'numba', 'rich', 'tyro', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert all(f"  {name} " in run.stdout for name in COMMANDS)


def test_without_a_command_the_commands_are_listed(capsys, monkeypatch):
    assert main([]) == 0
    monkeypatch.setattr(sys, "argv", ["handmesh"])
    assert main() == 0
    listed = capsys.readouterr().out
    assert listed.count("usage: handmesh COMMAND") == 2


def test_python_m_is_the_same_command():
    run = subprocess.run([sys.executable, "-m", "handmesh", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.startswith("handmesh ")
    run = subprocess.run([sys.executable, "-m", "handmesh", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == cli.BAD_USAGE


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("docter", "did you mean doctor?"),
        ("Webcam", "did you mean webcam?"),
        ("benchmark", "did you mean bench?"),
        ("frobnicate", "known are webcam, image, stream, doctor, bench"),
        ("--source", "known are webcam"),
    ],
)
def test_an_unknown_command_is_answered_with_what_is_known(given, hint, capsys):
    assert main([given, "--json"]) == cli.BAD_USAGE
    said = capsys.readouterr()
    assert repr(given) in said.err and hint in said.err
    assert said.out == ""


def run_tool(monkeypatch, tool, args, extra=""):
    """Run a command whose module's `main` is `tool`."""
    monkeypatch.setattr(sys, "argv", ["handmesh"])
    monkeypatch.setitem(sys.modules, "a_tool", SimpleNamespace(main=tool))
    monkeypatch.setitem(COMMANDS, "tool", Command("a_tool", "for this test", extra))
    return main(["tool", *args])


def test_the_rest_of_the_line_and_the_exit_code_pass_through(monkeypatch):
    seen = []

    def tool(args):
        seen.extend([*args, sys.argv[0]])
        return 7

    assert run_tool(monkeypatch, tool, ["--source", "a b.mp4"]) == 7
    assert seen == ["--source", "a b.mp4", "handmesh tool"]


def test_a_missing_package_is_one_line_with_its_remedy(monkeypatch, capsys):
    def tool(args):
        raise ModuleNotFoundError("No module named 'websockets'", name="websockets")

    assert run_tool(monkeypatch, tool, [], extra="stream") == 1
    said = capsys.readouterr().err
    assert "'websockets'" in said and "[stream]" in said and said.count("\n") == 1
    assert run_tool(monkeypatch, tool, []) == 1
    assert "handmesh doctor" in capsys.readouterr().err


def test_a_missing_room_of_our_own_is_no_missing_package(monkeypatch):
    def tool(args):
        raise ModuleNotFoundError("No module named 'handmesh.lost'", name="handmesh.lost")

    with pytest.raises(ModuleNotFoundError, match=r"handmesh\.lost"):
        run_tool(monkeypatch, tool, [])


def test_ctrl_c_is_no_traceback(monkeypatch):
    def tool(args):
        raise KeyboardInterrupt

    assert run_tool(monkeypatch, tool, []) == cli.INTERRUPTED


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_tool_that_explains_itself(name, capsys):
    if name == "stream":
        pytest.importorskip("websockets", reason="websockets is part of the stream extra")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
