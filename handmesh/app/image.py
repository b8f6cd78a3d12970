"""`handmesh image`: images in, overlays and 3D files out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from handmesh import console
from handmesh.app.options import CameraOptions, DrawingOptions
from handmesh.app.player import Tracker
from handmesh.files import check_not_input, check_writable, free_path, read_shrunk, write_image
from handmesh.render.overlay import overlay
from handmesh.types import Hand
from handmesh.xr import mesh_files

DEFAULT_OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Options(DrawingOptions, CameraOptions):
    """The hands of images: overlays, and their meshes as 3D files."""

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    """The images."""
    output: Path | None = None
    """The overlay (.png, .jpg, .webp); of several images a folder. Default: outputs/NAME.png."""
    mesh: Path | None = None
    """The meshes (.glb, .obj, .ply, .stl, .usdz), in metres; of several images a folder, which gets .glb files.
    Default: beside the overlay."""


def run(options: Options, load: Callable[[Options], Tracker] = Options.load) -> int:
    """`handmesh image`: do what the options say with the tracker that `load` gives; the exit code.

    An image that cannot be read ends the work where it is the only one, and is skipped among others. Raises
    ValueError, OSError or RuntimeError, with one clear line, where nothing can be done.
    """
    jobs = list(_jobs(options))
    if not jobs:
        raise ValueError("no image: name at least one, as in `handmesh image hand.jpg`")
    _check_writable(jobs, [*options.images, *options.files])
    tracker, skipped = load(options), 0
    for job in jobs:
        try:
            _do(job, tracker, options)
        except (ValueError, OSError) as error:
            if len(jobs) == 1:
                raise
            console.warn(f"skipped: {error}")
            skipped += 1
    return console.FAILED if skipped == len(jobs) else 0


@dataclass(frozen=True)
class _Job:
    image: Path
    overlay: Path
    mesh: Path


def _jobs(options: Options) -> Iterator[_Job]:
    chosen: list[Path] = []  # under outputs/
    for image in options.images:
        name = image.stem if sum(other.stem == image.stem for other in options.images) == 1 else image.name
        chosen.append(free_path(DEFAULT_OUTPUTS / f"{name}.png", ".glb", taken=chosen))
        drawn = chosen[-1] if options.output is None else _within(options.output, f"{name}.png", options)
        mesh = drawn.with_suffix(".glb") if options.mesh is None else _within(options.mesh, f"{name}.glb", options)
        yield _Job(image, drawn, mesh)


def _within(asked: Path, name: str, options: Options) -> Path:
    """What was asked for: a file for one image, a folder for several."""
    return asked / name if len(options.images) > 1 else asked


def _check_writable(jobs: Sequence[_Job], inputs: Sequence[Path]) -> None:
    for job in jobs:
        if [other.overlay for other in jobs].count(job.overlay) > 1:
            raise ValueError(f"{job.overlay} would be written twice: images need different names")
        check_writable(job.overlay)
        mesh_files.check_writable(job.mesh)
    check_not_input([path for job in jobs for path in (job.overlay, job.mesh)], inputs)


def _do(job: _Job, tracker: Tracker, options: Options) -> None:
    image_rgb, _, note = read_shrunk(job.image)
    if note:
        console.warn(note)
    lens = options.lens(job.image)
    camera = lens.camera_for(image_rgb.shape[1], image_rgb.shape[0])
    image_rgb = lens.rectified(image_rgb)
    hands = tracker.detect(image_rgb, camera)
    write_image(job.overlay, overlay(image_rgb, hands, camera, options.style))
    console.say(lens.describe("given" if options.hand_size else "unknown"))
    for hand in hands:
        console.say(_describe(hand))
    console.say(f"wrote {job.overlay}")
    if not hands:
        console.say("no hand found, hence no mesh")
        return
    mesh_files.write_meshes(job.mesh, hands)
    console.say(f"wrote {job.mesh}")


def _describe(hand: Hand) -> str:
    return (
        f"{hand.side} hand, score {hand.score:.2f}, {hand.joints_m[:, 2].mean():.2f} m away, {hand.size_m:.3f} m long"
    )
