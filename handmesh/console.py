"""Messages of the command line: plain lines on stderr, a progress bar, one line instead of a traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.status import Status

_console = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, as shells have it."""

_DEBUG = "HANDMESH_DEBUG"


def say(text: str) -> None:
    """A line for the user."""
    _console.print(text, markup=False)


def warn(text: str) -> None:
    """A line on something that went wrong without ending the work."""
    _console.print(f"warning: {text}", style="yellow", markup=False)


def complain(text: str) -> None:
    """The line with which the work ends."""
    _console.print(f"error: {text}", style="red", markup=False)


def progress() -> Progress:
    """A progress bar, to be used in a `with` statement; lines said meanwhile appear above it."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=_console, transient=True, disable=not _console.is_terminal)


def waiting(text: str) -> Status:
    """A spinner with a text, to be used in a `with` statement; nothing where there is no terminal."""
    return _console.status(text)


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`: its own, 1 after an error that users can understand, 130 after Ctrl-C.

    Being terminated counts as Ctrl-C, so that files are closed. The environment variable
    HANDMESH_DEBUG lets errors through with their tracebacks.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get(_DEBUG):
            raise
        complain(" ".join(str(error).split()) or type(error).__name__)
        return 1
