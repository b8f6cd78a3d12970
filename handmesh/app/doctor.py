"""`handmesh doctor`: runs its checks one by one, each in a process of its own, and prints what they find."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import IO, Literal, NamedTuple

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


_MODULE = "handmesh.app.checks"

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
