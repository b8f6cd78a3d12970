"""What a check of the doctor finds, and the process of its own in which each check runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Literal, NamedTuple

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
    paths = [str(Path(__file__).parents[3]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
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
