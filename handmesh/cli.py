"""The command `handmesh`: one word chooses a tool, which takes the rest of the line.

Nothing of a tool is imported before it is chosen, so that `handmesh --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

BAD_USAGE = 2
"""The exit code after a command that there is not, as argparse has it."""

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended, as shells have it."""


class Command(NamedTuple):
    """A tool: the module whose `main(args)` runs it, what it does, and the extra that it needs."""

    module: str
    purpose: str
    extra: str = ""


COMMANDS = {
    "webcam": Command("handmesh.app.webcam", "hand meshes over a camera, a video or pictures: the front door"),
    "image": Command("handmesh.app.image", "the hands of one picture as an overlay and a 3D file"),
    "stream": Command("handmesh.app.stream", "hands to browsers, engines and OSC, as they move", "stream"),
    "doctor": Command("handmesh.app.doctor", "what this machine offers, and what to do about what is missing"),
    "bench": Command("handmesh.benchmark.latency", "how long each stage takes here, beside MediaPipe's"),
}
"""The tools by the words that choose them."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the tool that `args` (None: the command line's) name; the exit code."""
    name, *rest = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"handmesh {_version()}")
        return 0
    if name not in COMMANDS:
        print(f"error: {_unknown(name)}", file=sys.stderr)
        return BAD_USAGE
    return _run(name, rest)


def usage() -> str:
    """All commands, a line each."""
    lines = [f"  {name:<8} {command.purpose}" for name, command in COMMANDS.items()]
    head = "usage: handmesh COMMAND [OPTIONS]\n\n3D hand meshes from an ordinary colour picture.\n\ncommands:"
    return "\n".join(
        [head, *lines, "", "`handmesh COMMAND --help` lists its options; `handmesh --version` the version."]
    )


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("handmesh")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    likely = get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {likely[0]}?" if likely else f"known are {', '.join(COMMANDS)}"
    return f"unknown command {name!r}; {hint}"


def _run(name: str, rest: Sequence[str]) -> int:
    command = COMMANDS[name]
    sys.argv[0] = f"handmesh {name}"  # what the tool's help calls it
    try:
        return import_module(command.module).main(rest)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("handmesh"):
            raise
        print(f"error: this needs the package {error.name!r}: {_remedy(command)}", file=sys.stderr)
        return 1


def _remedy(command: Command) -> str:
    if not command.extra:
        return "`handmesh doctor` says how to install it"
    from handmesh.app.checks import install_command

    return install_command(command.extra)
