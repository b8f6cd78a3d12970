"""`handmesh doctor`: runs the checks one by one and prints what each finds."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from handmesh.apps.doctor.finding import Finding, examine


class Checkup(NamedTuple):
    """One check: its name in the report, where it lives, and how long it may take."""

    name: str
    function: str  # 'module:function'
    timeout_s: float = 30.0


_ROOM = "handmesh.apps.doctor"

CHECKS = (
    Checkup("python", f"{_ROOM}.system:python"),
    Checkup("packages", f"{_ROOM}.system:packages", 60.0),
    Checkup("processor", f"{_ROOM}.system:processor"),
    Checkup("memory", f"{_ROOM}.system:memory"),
    Checkup("models", f"{_ROOM}.networks:models", 120.0),
    Checkup("providers", f"{_ROOM}.networks:providers"),
    Checkup("openvino", f"{_ROOM}.networks:openvino", 60.0),
    Checkup("cameras", f"{_ROOM}.devices:cameras"),
    Checkup("display", f"{_ROOM}.devices:display", 45.0),
    Checkup("renderer", f"{_ROOM}.devices:renderer", 180.0),
    Checkup("opengl", f"{_ROOM}.devices:opengl", 60.0),
    Checkup("video", f"{_ROOM}.devices:video"),
    Checkup("disk", f"{_ROOM}.system:disk"),
)
"""All checks, in the order of the report."""

MAIN_JOB = "models"
"""The check that decides whether handmesh works here."""

_COLOURS = {"ok": "32", "note": "33", "missing": "31"}
_LONGEST_MARK = max(map(len, _COLOURS))

Report = Mapping[str, Sequence[Finding]]


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run all checks, and return the exit code.

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
            print("\n".join(_lines(check.name, report[check.name])), flush=True)
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


def _lines(name: str, findings: Iterable[Finding]) -> list[str]:
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
