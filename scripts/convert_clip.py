"""Turn a recorded clip into another format: .npz and .json to each other, to an animated .glb, or to meshes.

    python scripts/convert_clip.py clip.npz --out clip.glb
    python scripts/convert_clip.py clip.npz --out frames.obj       # a folder `frames`, an .obj a frame
    python scripts/convert_clip.py clip.npz --out hand.glb --rigged
    python scripts/convert_clip.py clip.npz.part --out clip.npz    # a recording that was killed

`--rigged` writes the hand that was seen longest at rest, in its own shape and size, ready to be posed;
`--webxr` gives it the flat skeleton of WebXR's `generic-hand`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(args: Sequence[str] | None = None) -> int:
    """Read, write, and say where; the exit code. `args`: None for the command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="an .npz or .json file, or a .part folder")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, or a folder for a mesh a frame")
    parser.add_argument("--rigged", action="store_true", help="write one hand at rest, as a rigged .glb")
    parser.add_argument("--webxr", action="store_true", help="the same with a flat skeleton, as WebXR's hands have")
    options = parser.parse_args(args)
    from handmesh import console

    return console.guarded(lambda: convert(options))


def convert(options: argparse.Namespace) -> int:
    """Do what the options say."""
    from handmesh import console
    from handmesh.video.clips import read_clip, save_clip, save_rigged_hand

    clip = read_clip(options.clip, vertices=options.out.suffix.lower() not in (".glb", ".json"))
    if options.rigged or options.webxr:
        written = save_rigged_hand(clip, options.out, flat=options.webxr)
    else:
        written = save_clip(clip, options.out)
    console.say(f"wrote {written}: {len(clip.heads)} frames, {len(clip.tracks())} hands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
