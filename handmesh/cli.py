"""The command `handmesh`: its first words choose a command, which takes the rest of the line.

Nothing of a command is imported before it is chosen, so that `handmesh --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, get_type_hints

import handmesh
from handmesh.console import BAD_USAGE, EXIT_CODES, complain, guarded, parse


class Command(NamedTuple):
    """A command: the function that does it, what that is, and the extra that brings its packages.

    The function takes one argument: a dataclass of options, as its annotation says, or, if that is a
    `Sequence[str]`, the words themselves. `console.guarded` says what comes of what it returns or raises.
    """

    function: str  # 'module:function'
    purpose: str
    extra: str = ""


COMMANDS = {
    "webcam": Command("handmesh.app.webcam:run", "hand meshes over a camera, a video or images"),
    "image": Command("handmesh.app.image:run", "the hands of images as overlays and 3D files"),
    "stream": Command("handmesh.app.stream:run", "hands to browsers, game engines and instruments, live", "stream"),
    "calibrate-camera": Command("handmesh.app.calibrate_camera:run", "measure a camera with a printed chessboard"),
    "convert-clip": Command("handmesh.video.clips:convert_clip", "recorded hands to another format"),
    "doctor": Command("handmesh.app.doctor:main", "what this machine offers, and how to get what is missing"),
    "train": Command("handmesh.training.command:main", "train a network from a preset", "train"),
    "export": Command("handmesh.export.targets:run", "weights to ONNX, browsers, OpenVINO or Core ML", "train"),
    "evaluate freihand": Command(
        "handmesh.evaluation.freihand:evaluate_freihand", "FreiHAND's metrics, and a report to read", "train"
    ),
    "evaluate ho3d": Command(
        "handmesh.evaluation.sets:evaluate_ho3d", "HO-3D's metrics and its server's file, and a report", "train"
    ),
    "evaluate dexycb": Command(
        "handmesh.evaluation.sets:evaluate_dexycb", "DexYCB's metrics on its splits, and a report", "train"
    ),
    "evaluate hint": Command(
        "handmesh.evaluation.hint:evaluate_hint", "points found in HInt's photographs and frames (PCK)", "train"
    ),
    "evaluate score": Command(
        "handmesh.evaluation.freihand:score", "score a prediction file as FreiHAND's server does", "train"
    ),
    "evaluate robustness": Command(
        "handmesh.evaluation.robustness:evaluate_robustness", "errors under ImageNet-C's corruptions", "train"
    ),
    "evaluate synthetic": Command(
        "handmesh.evaluation.pipeline:evaluate_synthetic", "errors on synthetic shards, whose meshes are known", "train"
    ),
    "evaluate photos": Command(
        "handmesh.evaluation.pipeline:evaluate_photos",
        "errors on labelled photographs; one number to decide by",
        "train",
    ),
    "evaluate backgrounds": Command(
        "handmesh.evaluation.pipeline:evaluate_backgrounds", "hands seen in images without any", "train"
    ),
    "evaluate detector": Command(
        "handmesh.evaluation.detector:evaluate_detector", "what a detector finds, at several thresholds"
    ),
    "evaluate calibration": Command(
        "handmesh.evaluation.calibration:evaluate_calibration", "do scores and uncertainties come true", "train"
    ),
    "evaluate tracking": Command(
        "handmesh.evaluation.tracking:run_tracking",
        "jitter, lag and lost hands on generated sequences",
        "train",
    ),
    "evaluate gestures": Command(
        "handmesh.evaluation.gestures:evaluate_gestures", "gestures read of rendered hands, and false pinches", "train"
    ),
    "evaluate review": Command(
        "handmesh.evaluation.review:review", "random overlays for a person to judge, and the count of it", "train"
    ),
    "benchmark stages": Command(
        "handmesh.benchmark.latency:run", "how long each stage of a frame takes, beside MediaPipe"
    ),
    "benchmark sizes": Command(
        "handmesh.benchmark.sizes:compare_sizes", "mesh networks in turn: latency, size, memory"
    ),
    "benchmark backbones": Command("handmesh.benchmark.backbones:run", "latency of backbones by resolution", "train"),
    "benchmark loader": Command("handmesh.benchmark.loader:time_loader", "training images a second", "train"),
    "benchmark training": Command(
        "handmesh.benchmark.loader:time_training", "training steps of presets, in turn", "train"
    ),
    "benchmark stream": Command(
        "handmesh.benchmark.streaming:time_stream", "age of frames at many clients, and their cost", "stream"
    ),
    "benchmark soak": Command("handmesh.benchmark.soak:run", "memory, threads and pace over half an hour"),
    "data synthetic": Command("handmesh.synthetic.writer:run", "images of hands with exact labels", "train"),
    "data people": Command("handmesh.synthetic.people:write_people", "cutout images of gesturing people", "assets"),
    "data sprites": Command("handmesh.synthetic.people:write_hands", "cutout images of hands with forearms", "train"),
    "data cutouts": Command("handmesh.data.cutouts:run", "hands cut out of labelled photographs"),
    "data hard-negatives": Command(
        "handmesh.evaluation.hard_negatives:run", "what a detector takes for hands and is none", "train"
    ),
    "data fit-photos": Command("handmesh.evaluation.photo_fits:run", "fit the hand to labelled photographs", "train"),
    "data photo-shards": Command("handmesh.data.shards:run", "pack labelled photographs into shards"),
    "data check": Command(
        "handmesh.data.sets.check:run", "is a research data set whole; how many hands; a picture of some", "train"
    ),
    "data check-freihand": Command(
        "handmesh.data.freihand_check:run", "is a FreiHAND folder whole and consistent", "train"
    ),
    "data convert-mano": Command("handmesh.hand.mano:run", "a licensed MANO pickle to the .npz that handmesh reads"),
    "data cache-teacher": Command(
        "handmesh.data.mixture:cache_teacher", "a landmark network's features of crops", "train"
    ),
}
"""All commands by the words that choose them."""

GROUPS = {
    "evaluate": "measure networks and trackers",
    "benchmark": "measure what is fast on this machine",
    "data": "make, convert and check training data",
}
"""The first words of commands of two words."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that `args` (None: the command line's) name; the exit code."""
    words = list(sys.argv[1:] if args is None else args)
    group = words.pop(0) if words and words[0] in GROUPS else ""
    word, *rest = words or ["--help"]
    name = f"{group} {word}".strip()
    if name in COMMANDS:
        command = COMMANDS[name]
        return guarded(lambda: _call(command.function, rest, f"handmesh {name}"), command.extra)
    if word in ("-h", "--help", "help"):
        return guarded(lambda: print(usage(group)))
    if word in ("-V", "--version"):
        return guarded(lambda: print(f"handmesh {handmesh.__version__}"))
    complain(_unknown(name, group))
    return BAD_USAGE


def _call(path: str, words: Sequence[str], prog: str) -> object:
    module, _, name = path.partition(":")
    function = getattr(import_module(module), name)
    kind = next(iter(get_type_hints(function, include_extras=True).values()))
    return function(words if kind == Sequence[str] else parse(kind, words, prog))


def usage(group: str = "") -> str:
    """The commands of a group, or all with a line for each group, and how they end."""
    known = {name.removeprefix(group).strip(): c.purpose for name, c in COMMANDS.items() if name.startswith(group)}
    purposes = known if group else {name: text for name, text in known.items() if " " not in name} | GROUPS
    width = max(map(len, purposes))
    lines = [f"  {name:<{width}}  {text}" for name, text in purposes.items()]
    head = f"usage: {f'handmesh {group}'.strip()} COMMAND [OPTIONS]"
    about = GROUPS[group] if group else "3D hand meshes from an ordinary colour image."
    codes = [f"  {code:<{width}}  {meaning}" for code, meaning in EXIT_CODES.items()]
    more = ["`handmesh COMMAND --help` lists a command's options; `handmesh --version` says the version."]
    return "\n".join([head, "", about, "", "commands:", *lines, "", "exit codes:", *codes, "", *more])


def _unknown(name: str, group: str) -> str:
    from difflib import get_close_matches

    words = {full.removeprefix(group).split()[0] for full in COMMANDS if full.startswith(group)}
    likely = get_close_matches(name.lower(), [*COMMANDS, *GROUPS], n=1, cutoff=0.5)
    known = f"known are {', '.join(sorted(words))}"
    return f"unknown command {name!r}; {f'did you mean {likely[0]}?' if likely else known}"
