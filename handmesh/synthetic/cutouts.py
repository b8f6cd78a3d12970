"""`handmesh data cutouts` and `data people`: rendered cutouts that the detector's training pastes onto backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from handmesh.data.cutouts import Cutout, CutoutHand, write_cutouts
from handmesh.files import read_image
from handmesh.synthetic.config import Sources
from handmesh.synthetic.generator import Generator
from handmesh.synthetic.people import Studio, sample_bodies

PAINTED_SKINS = 24


@dataclass(frozen=True)
class HandCutoutOptions:
    """Render cutout images of single hands with forearms."""

    output: Path
    """Folder for the images and cutouts.json."""
    count: int = 4000
    """Number of images."""
    size: int = 224
    """Their width and height in pixels."""
    skins: Path | None = None
    """Folder of skin textures. Default: painted ones only."""
    environments: Path | None = None
    """Folder of .hdr panoramas to light with. Default: procedural light."""
    seed: int = 0
    """Equal seeds give equal images."""


def write_hands(options: HandCutoutOptions) -> None:
    """Render and write single hands."""
    generator = Generator(Sources(skins=options.skins, environments=options.environments, painted_skins=PAINTED_SKINS))

    def cutouts() -> Iterator[Cutout]:
        for index in track(range(options.count), "rendering hands"):
            rgba, joints_px, _ = generator.render_rgba(options.seed, index, options.size)
            yield Cutout(rgba, (CutoutHand("right", joints_px),))

    print(f"wrote {write_cutouts(options.output, cutouts())} images to {options.output}")


@dataclass(frozen=True)
class PeopleOptions:
    """Render cutout images of gesturing people with labelled hands."""

    output: Path
    """Folder for the images and cutouts.json."""
    skin: Path
    """A skin texture in MakeHuman's layout."""
    count: int = 1500
    """Number of images."""
    bodies: int = 60
    """Number of different people."""
    seed: int = 0
    """Equal seeds give equal images."""


def write_people(options: PeopleOptions) -> None:
    """Render and write people. Needs the packages `anny` and torch."""
    skin = read_image(options.skin)
    studio = Studio(*sample_bodies(options.bodies, np.random.default_rng([options.seed, 0])), skin)
    seeds = track(range(1, options.count + 1), "rendering people")
    cutouts = (studio.cutout(np.random.default_rng([options.seed, k])) for k in seeds)
    print(f"wrote {write_cutouts(options.output, cutouts)} images to {options.output}")
