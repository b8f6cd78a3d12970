"""Held-out pictures chosen at random, each hand beside its mesh, for somebody to judge finger by finger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from handmesh.data.photos import Split, read_photos
from handmesh.evaluation.answers import Picture, with_detected_boxes
from handmesh.evaluation.files import write_json
from handmesh.evaluation.judgement import Shown, write_blank
from handmesh.evaluation.pictures import Case, Run, ask, from_photos
from handmesh.evaluation.report import folder_names, setting_of
from handmesh.evaluation.sheet import CAPTION, GROUND, Tile, look_at, strip, write_sheet
from handmesh.render import Style
from handmesh.runtime.backend import open_session
from handmesh.runtime.models import model_path
from handmesh.runtime.tracker import HandTracker

SIZE = 300
"""Pixels of a square's side."""

COLUMNS, ROWS = 3, 4

STYLE = Style(opacity=0.6, skeleton=True)
"""The finger shows through its mesh, and colours say which finger the mesh takes it for."""

JUDGEMENT = "judgement.csv"


@dataclass(frozen=True)
class OverlayOptions:
    """Which pictures, and whose meshes."""

    root: tuple[Path, ...]
    """Folders with a pseudo_labels.json; pictures are drawn from all of them together."""
    count: int = 60
    """How many pictures."""
    seed: int = 0
    """Another one gives other pictures."""
    split: Split = "val"
    """The held-out files (val), those for training, or all."""
    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    num_hands: int = 2
    """The most hands that the tracker may find in a picture."""
    threads: int | None = None
    """Cores that the network may use; all but one if not given."""
    output: Path = Path("outputs/overlays")
    """Folder for the pages, index.json and judgement.csv."""


def draw_overlays(options: OverlayOptions) -> list[Case]:
    """Choose, look, write pages and the sheet to fill in; gives the labelled hands, a picture's largest first."""
    chosen = choose(_pictures(options), options.count, options.seed)
    tracker = HandTracker.load(options.model, num_hands=options.num_hands, threads=options.threads)
    said = ask(with_detected_boxes(tracker), chosen, "looking").said
    cases = [case for one in said for case in sorted(Run([one]).cases, key=lambda case: -case.label.box().size_px)]
    shown = [_shown(k, case) for k, case in enumerate(cases)]
    write_blank(options.output / JUDGEMENT, shown)
    for page, start in enumerate(range(0, len(cases), COLUMNS * ROWS)):
        part = slice(start, start + COLUMNS * ROWS)
        write_sheet(options.output / _page_name(page), _page(cases[part], shown[part]))
    _write_index(options, chosen, shown)
    Console().print(f"{len(shown)} hands in {len(chosen)} pictures, written to {options.output}; fill in {JUDGEMENT}")
    return cases


def choose(pictures: Sequence[Picture], count: int, seed: int) -> list[Picture]:
    """`count` of the pictures, each as likely as any other, the same for the same seed; ValueError for too few."""
    if not 1 <= count <= len(pictures):
        raise ValueError(f"--count must be between 1 and {len(pictures)}, as many pictures with hands as there are")
    return [pictures[i] for i in np.random.default_rng(seed).permutation(len(pictures))[:count]]


def _pictures(options: OverlayOptions) -> list[Picture]:
    """All pictures with hands, named after their data set and file."""
    if not options.root:
        raise ValueError("no data sets: name at least one folder with a pseudo_labels.json")
    return [
        picture._replace(name=f"{name}/{picture.name}")
        for name, root in zip(folder_names(options.root), options.root, strict=True)
        for picture in from_photos(read_photos(root, options.split))
        if picture.hands
    ]


def _page_name(page: int) -> str:
    return f"page-{page + 1:02d}.png"


def _shown(number: int, case: Case) -> Shown:
    page = _page_name(number // (COLUMNS * ROWS))
    return Shown(number + 1, page, case.picture.name, case.label.side, case.answer.hand is not None)


def _page(cases: Sequence[Case], shown: Sequence[Shown]) -> np.ndarray:
    height, width = CAPTION + SIZE, 2 * SIZE
    page = np.full((ROWS * height, COLUMNS * width, 3), GROUND, np.uint8)
    for k, (case, one) in enumerate(zip(cases, shown, strict=True)):
        top, left = k // COLUMNS * height, k % COLUMNS * width
        page[top : top + height, left : left + width] = _pair(case, one)
    return page


def _pair(case: Case, shown: Shown) -> np.ndarray:
    """A caption over the hand as it is, and with the mesh."""
    views = look_at(Tile(case.picture, case.label.joints_px, case.answer.hand, ""), SIZE, STYLE)
    drawn = views.drawn if shown.found else np.full_like(views.drawn, GROUND)
    what = "" if shown.found else "NOT FOUND "
    caption = strip(f"{shown.number}  {what}{shown.side}  {shown.file}", 2 * SIZE, (255, 255, 255))
    return np.concatenate([caption, np.concatenate([views.plain, drawn], axis=1)])


def _write_index(options: OverlayOptions, chosen: Sequence[Picture], shown: Sequence[Shown]) -> None:
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = asdict(setting_of(model_path(options.model), session, options.threads))
    asked = {"seed": options.seed, "split": options.split, "pictures": [picture.name for picture in chosen]}
    write_json(options.output / "index.json", {"setting": setting, **asked, "hands": [one._asdict() for one in shown]})
