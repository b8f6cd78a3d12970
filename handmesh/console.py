"""What all commands share: messages, options from the command line, and one policy of errors and exit codes.

Only the standard library is imported here, so that `handmesh doctor` can speak where packages are missing.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.status import Status
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

Options = TypeVar("Options")

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130
EXIT_CODES = {
    0: "done",
    FAILED: "an error, which one line on stderr explains, or a check that found something wrong",
    BAD_USAGE: "the command line was not understood",
    INTERRUPTED: "stopped by Ctrl-C or a termination signal",
}
"""How every command ends."""

DEBUG = "HANDMESH_DEBUG"
"""The environment variable that lets errors through with their tracebacks."""

_USER_ERRORS = (ValueError, OSError, RuntimeError, ArithmeticError, ImportError)


# Messages, as lines on stderr.


@cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for the user."""
    _console().print(text, markup=False)


def warn(text: str) -> None:
    """A line on something that went wrong without ending the work."""
    _console().print(f"warning: {text}", style="yellow", markup=False)


def complain(text: str) -> None:
    """The line with which the work ends."""
    line = f"error: {text}"
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\x1b[31m{line}\x1b[0m" if coloured else line, file=sys.stderr)


def progress() -> Progress:
    """A progress bar, to be used in a `with` statement; lines said meanwhile appear above it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = _console()
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def waiting(text: str) -> Status:
    """A spinner with a text, to be used in a `with` statement; nothing where there is no terminal."""
    return _console().status(text)


# Options: dataclasses that tyro reads from the command line.


def parse(kind: type[Options], args: Sequence[str], prog: str, takes_none: bool = False) -> Options:
    """The options of `args`, the words after `prog`. Ends the program after --help, and with 2 after a mistake.

    What an option is without being given follows its description: `(default: 60)`. Where the value itself is None or
    empty, the description's last sentence may name what that stands for, `Default: 60.`; it is shown in the same way.
    takes_none: whether the word None is a value, as where options change a preset.
    """
    import tyro

    markers = () if takes_none else (tyro.conf.DisallowNone,)
    return tyro.cli(kind, args=list(args), prog=prog, config=markers, registry=_described_defaults())


def _described_defaults() -> ConstructorRegistry:
    from tyro.constructors import ConstructorRegistry

    registry, asking = ConstructorRegistry(), []

    @registry.struct_rule
    def with_hints(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asking:  # for tyro's own rule, below
            return None
        asking.append(info)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking.clear()
        return spec and replace(spec, fields=tuple(map(_with_hint, spec.fields)))

    return registry


def _with_hint(field: StructFieldSpec) -> StructFieldSpec:
    import tyro

    told = [part.help for part in getattr(field.type, "__metadata__", ()) if getattr(part, "help", None)]
    text = cache(partial(_text, told[-1] if told else field.helptext))  # when help is asked for, and not before
    field = replace(field, helptext=lambda: _split(text())[0])
    if not any(field.default is empty or field.default == empty for empty in (tyro.MISSING_NONPROP, None, (), [], {})):
        return field
    hint = tyro.conf.arg(help=_split(text())[0] if told else None, help_behavior_hint=lambda _: _split(text())[1])
    return replace(field, type=Annotated[field.type, hint])


def _text(text: str | Callable[[], str | None] | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text() if callable(text) else text) or "")


def _split(text: str) -> tuple[str, str]:
    """
    >>> _split("Cores to use. Default: all but one."), _split("A file to write.")
    (('Cores to use.', '(default: all but one)'), ('A file to write.', ''))
    """
    found = re.search(r"\s*\bDefault:\s+(.+?)\.?\s*$", text, re.DOTALL)
    return (text[: found.start()], f"(default: {found[1]})") if found else (text, "")


# Errors and exit codes.


def guarded(work: Callable[[], object], extra: str = "") -> int:
    """Run `work`; the exit code by `EXIT_CODES`. A number that it returns is the code, anything else is success.

    ValueError, OSError, RuntimeError, ArithmeticError and ImportError become one line. Being terminated counts as
    Ctrl-C, so that files are closed. extra: the part of `handmesh[extra]` that brings the packages of `work`.
    """
    before = signal.signal(signal.SIGTERM, partial(_terminated, os.getpid()))
    try:
        code = work()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit as ended:  # --help, or a command line that was not understood
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except _USER_ERRORS as error:
        own = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == __package__
        if own or os.environ.get(DEBUG):
            raise
        if not (isinstance(error, BrokenPipeError) and _reader_is_gone()):
            complain(_line(error, extra))
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(owner: int, number: int, frame: object) -> None:
    if os.getpid() != owner:  # a forked worker: it has no files to close
        os._exit(128 + number)
    raise KeyboardInterrupt


def _reader_is_gone() -> bool:
    """Whether nobody reads stdout any more, as in `handmesh ... | head`; it is silenced then."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _line(error: BaseException, extra: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = install_command(extra) if extra else "`handmesh doctor` says how to install it"
        return f"this needs the package {error.name!r}: {remedy}"
    return " ".join(str(error).split()) or type(error).__name__


def install_command(extra: str) -> str:
    """How to install an extra, for the package or for the clone that runs."""
    in_clone = Path(__file__).parents[1].joinpath("pyproject.toml").exists()
    return f"pip install -e '.[{extra}]'" if in_clone else f"pip install 'handmesh[{extra}]'"
