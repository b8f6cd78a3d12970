"""What all commands share: messages, options from the command line, and one policy of errors and exit codes.

Only the standard library is imported here, so that `handmesh doctor` can speak where packages are missing.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, TypeVar

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


# Messages, as lines on stderr. They hold names that others chose: no name is markup, or moves the cursor.


@cache
def _console() -> Console:
    from rich.console import Console

    class Lines(Console):
        def on_broken_pipe(self) -> None:
            """Nobody reads the messages any more; the work goes on."""
            self.quiet = True
            _silence(sys.stderr)

    return Lines(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with what is no letter but an order to the terminal, or half a character, as its code.

    >>> visible("a\x1b[31mb\udcff.mp4")
    'a\\x1b[31mb\\udcff.mp4'
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str) -> None:
    """A line for the user."""
    _console().print(visible(text))


def warn(text: str) -> None:
    """A line on something that went wrong without ending the work."""
    _console().print(visible(f"warning: {text}"), style="yellow")


def complain(text: str) -> None:
    """The line with which the work ends."""
    line = visible(f"error: {text}")
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\x1b[31m{line}\x1b[0m" if coloured else line, file=sys.stderr)


def progress() -> Progress:
    """A progress bar, to be used in a `with` statement; lines said meanwhile appear above it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console, text = _console(), TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(_spinner()), text, BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def waiting(text: str) -> Status:
    """A spinner with a text, to be used in a `with` statement; nothing where there is no terminal."""
    return _console().status(text, spinner=_spinner())


def _spinner() -> str:
    """One that the terminal's letters can draw."""
    return "dots" if _console().encoding.startswith("utf") else "line"


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


# Ctrl-C as a flag that loops read, so that no exception breaks off a write, or leaves a lock taken for ever.


PATIENCE_S = 10.0
"""How long the first Ctrl-C is given; a later one ends the program at once, as a kill does."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_noted: list[tuple[int, float]] | None = None  # what came, and when; None where it raises KeyboardInterrupt at once


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, or being terminated, inside is noted, for `interrupted` to tell and `take_interrupt` to deal with.

    What nobody dealt with takes effect at the end, of the outermost where one stands within another. Other threads
    than the main one are never interrupted.
    """
    global _noted
    if _noted is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[tuple[int, float]] = []
    usual: dict[int, object] = {}
    try:
        _noted = noted
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell's background jobs have it
                usual[number] = signal.getsignal(number)
                signal.signal(number, _note)
        yield
    finally:
        for number, handler in usual.items():
            _restore(number, handler, noted)
        _noted = None
        if noted:
            signal.raise_signal(noted[0][0])


def interrupted() -> bool:
    """Whether Ctrl-C or a termination signal came inside `uninterrupted`; what takes long asks for it."""
    return bool(_noted)


def take_interrupt() -> bool:
    """The same; it counts as dealt with then."""
    came = interrupted()
    if _noted:
        _noted.clear()
    return came


def _note(number: int, _: object) -> None:
    now_s = time.monotonic()
    if _noted and now_s - _noted[0][1] > PATIENCE_S:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    if _noted is not None:
        _noted.append((number, now_s))


def _restore(number: int, handler: object, noted: list[tuple[int, float]]) -> None:
    """Set a signal's usual handler. One whose own is set already may come just now: it is noted as well."""
    while True:
        try:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            return
        except KeyboardInterrupt:
            noted.append((number, time.monotonic()))


# Errors and exit codes.


def guarded(work: Callable[[], object], extra: str = "") -> int:
    """Run `work`; the exit code by `EXIT_CODES`. A number that it returns is the code, anything else is success.

    ValueError, OSError, RuntimeError, ArithmeticError and ImportError become one line. Being terminated counts as
    Ctrl-C, so that files are closed. extra: the part of `handmesh[extra]` that brings the packages of `work`.
    """
    before = signal.signal(signal.SIGTERM, partial(_terminated, os.getpid()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that it does not know ends no work
    try:
        code = _completed(work)
        sys.stdout.flush()
        return code
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


def _completed(work: Callable[[], object]) -> int:
    try:
        code = work()
    except SystemExit as ended:  # --help, or a command line that was not understood
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
    return code if isinstance(code, int) else 0


def _terminated(owner: int, number: int, frame: object) -> None:
    if os.getpid() != owner:  # a forked worker: it has no files to close
        os._exit(128 + number)
    raise KeyboardInterrupt


def _reader_is_gone() -> bool:
    """Whether nobody reads stdout any more, as in `handmesh ... | head`; it is silenced then."""
    try:
        print(flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)
        return True
    return False


def _silence(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # where it is no file, there is nothing to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _line(error: BaseException, extra: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = install_command(extra) if extra else "`handmesh doctor` says how to install it"
        return f"this needs the package {error.name!r}: {remedy}"
    return " ".join(str(error).split()) or type(error).__name__


def install_command(extra: str) -> str:
    """How to install an extra, for the package or for the clone that runs."""
    in_clone = Path(__file__).parents[1].joinpath("pyproject.toml").exists()
    return f"pip install -e '.[{extra}]'" if in_clone else f"pip install 'handmesh[{extra}]'"
