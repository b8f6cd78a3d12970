"""Draw docs/failures.jpg and write the table of docs/failures.md: what the bundled networks make of hard hands.

    python scripts/draw_failures.py

Every image is made here, of ingredients that training never saw; the first ones of the seed are shown, none chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tyro

from handmesh.assets import DEFAULT, model_path
from handmesh.crop import crop_affine, warp
from handmesh.data.photos import LabelledHand
from handmesh.evaluation.datasets import (
    Example,
    Prediction,
    Predictions,
    ask,
    camera_of,
    mean_error,
    recoloured,
    with_detected_boxes,
)
from handmesh.evaluation.review import CAPTION, strip, zoomed
from handmesh.files import sha256_of, write_image, write_text
from handmesh.geometry import apply_affine, project
from handmesh.hand.poses import default_sampler
from handmesh.render.overlay import overlay
from handmesh.synthetic.config import HardCase, SceneProbabilities, Sources
from handmesh.synthetic.generator import Generator
from handmesh.synthetic.renderer import draw_light
from handmesh.synthetic.scene import HandInstance, aim
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box

SIZE = 384  # pixels a side of an image
TILE, SHOWN, MARGIN = 150, 8, 2.0  # pixels of a tile, tiles in a row, a tile's side in sides of the hands' box
WHITE, MISSED, WRONG = (255, 255, 255), (230, 120, 110), (240, 200, 90)
LARGE_ERROR = 0.15  # of the longer side of the hand's box
OVER_M = 0.045  # from one hand to the other that is laid over it
BARE = SceneProbabilities(glove=0, torso=0, head=0, held=0, occluder=0, second_hand=0, cut_off=0)


class Kind(NamedTuple):
    """What makes a hand hard; the defaults make an easy one."""

    title: str
    hard_case: HardCase | None = None
    gesture: str | None = None  # any without one
    cover: tuple[float, float] = (0.3, 0.45)  # the hand's longer side, of the image's
    gloved: bool = False
    pair: bool = False  # the other hand is laid over the first
    recolouring: str | None = None


KINDS = (
    Kind("one bare hand"),
    Kind("one hand over the other", pair=True),
    Kind("gloves", gloved=True),
    Kind("24 to 40 pixels large", cover=(24 / SIZE, 40 / SIZE)),
    Kind("12 to 20 pixels large", cover=(12 / SIZE, 20 / SIZE)),
    Kind("fists that point at the camera", "fingers first", "fist"),
    Kind("seen edge-on", "edge-on"),
    Kind("one bare hand, in grey", recolouring="in grey"),
    Kind("one bare hand, with red and blue swapped", recolouring="with red and blue swapped"),
)


@dataclass(frozen=True)
class Options:
    """The sheet and the table of failures."""

    output: Path = Path("docs/failures.jpg")
    page: Path = Path("docs/failures.md")
    """Its table is replaced."""
    model: str = DEFAULT
    count: int = 24
    """Images of each kind."""
    seed: int = 7


class Row(NamedTuple):
    """What was said of the images of one kind."""

    kind: Kind
    said: Sequence[tuple[Example, Predictions]]

    def cells(self) -> list[str]:
        """Found, side, error and false hands, for the table."""
        answers = [answer for _, predictions in self.said for answer in predictions.of_labels]
        found = [answer for answer in answers if answer.found]
        errors = [
            mean_error(answer.hand, label)
            for example, predictions in self.said
            for label, answer in zip(example.hands, predictions.of_labels, strict=True)
            if answer.found
        ]
        extra = sum(len(predictions.extra or ()) for _, predictions in self.said)
        sides = f"{100 * np.mean([answer.side_correct for answer in found]):.0f} %" if found else "-"
        error = f"{np.median(errors):.3f}" if found else "-"
        return [f"{100 * len(found) / len(answers):.0f} % of {len(answers)}", sides, error, str(extra)]


def main(options: Options) -> None:
    """Make the images, ask the tracker, draw and write."""
    studio = Studio(options.seed)
    rows = []
    with HandTracker.load(options.model) as tracker:
        for kind in KINDS:
            examples = [studio.example(kind, k) for k in range(options.count)]
            rows.append(Row(kind, ask(with_detected_boxes(tracker), examples, kind.title).said))
            print(kind.title, *rows[-1].cells(), sep="; ")
    write_image(options.output, np.concatenate([drawn(row) for row in rows]), 72)
    made_with = f"`{options.model}`, SHA-256 {sha256_of(model_path(options.model))[:12]}, {options.count} images a kind"
    write_text(options.page, with_table(options.page.read_text(), table(rows), made_with))


class Studio:
    """Makes the images of every kind, a function of seed, kind and number."""

    def __init__(self, seed: int) -> None:
        self.seed, sources = seed, Sources(painted_skins=6, materials="test")
        self.bare, self.gloved = Generator(sources, BARE), Generator(sources, replace(BARE, glove=1.0))

    def example(self, kind: Kind, number: int) -> Example:
        """One image with its labels. Recoloured ones are of the same hands as those that are not."""
        of_scene = KINDS[0] if kind.recolouring else kind
        image, hands = self._shot(of_scene, np.random.default_rng([self.seed, KINDS.index(of_scene), number, 1]))
        example = Example(f"{kind.title} {number}", lambda: image, hands)
        return recoloured(example, kind.recolouring) if kind.recolouring else example

    def _shot(self, kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, list[LabelledHand]]:
        generator = self.gloved if kind.gloved else self.bare
        stage = generator.stage
        actor = generator.draw_actor(rng, kind.hard_case)
        if kind.gesture:
            actor.rotations[1:] = default_sampler().sample(rng, kind.gesture)
        actor, _, camera = aim(rng, stage.arm, actor, *stage.pose([actor]), SIZE, kind.cover)
        instances = [actor]
        if kind.pair:
            instances.append(self._laid_over(rng, actor, generator.draw_actor(rng, None)))
        posed = list(zip(instances, stage.pose(instances), strict=True))
        rgba = stage.render_scene(posed, camera, draw_light(rng, generator.environments)).rgba
        labels = []
        for instance, one in posed:
            joints = one.joints * (np.array([-1.0, 1, 1]) if instance.side == "left" else 1.0)
            labels.append(LabelledHand(instance.side, 1.0, np.float32(project(joints, camera)), np.float32(joints)))
        return generator.simulate_sensor(rgba, rng), labels

    def _laid_over(self, rng: np.random.Generator, first: HandInstance, other: HandInstance) -> HandInstance:
        """The same person's left hand, nearer to the camera than the first and turned as its mirror image.

        A left hand is given as the right one that is its mirror image at x = 0.
        """
        arm = self.bare.stage.arm
        rotations = other.rotations.copy()
        rotations[0] = first.rotations[0]
        other = other._replace(side="left", rotations=rotations, shape=first.shape, appearance=first.appearance)
        middle, own = (arm.skin(one.rotations[None], one.shape[None])[1][0].mean(0) for one in (first, other))
        position = (middle + first.translation + [*rng.normal(0, 0.015, 2), -OVER_M]) * [-1, 1, 1]
        return other._replace(translation=position - own)


def drawn(row: Row) -> np.ndarray:
    """(H, SHOWN * TILE, 3): a title, then the first images with what was found, what is wrong below each."""
    found, sides, error, _ = row.cells()
    title = f"{row.kind.title}: {found} found, side right {sides}, median 2D error {error} of the box"
    tiles = [tile(example, predictions) for example, predictions in row.said[:SHOWN]]
    tiles += [np.full_like(tiles[0], 255)] * (SHOWN - len(tiles))
    return np.concatenate([strip(title, SHOWN * TILE, WHITE), np.concatenate(tiles, axis=1)])


def tile(example: Example, predictions: Predictions) -> np.ndarray:
    """(TILE + CAPTION, TILE, 3)."""
    image = example.load()
    corners = np.concatenate([label.joints_px for label in example.hands])
    affine = crop_affine(Box.around(corners, MARGIN, rotation=False), TILE)
    shown = [answer.hand for answer in predictions.of_labels if answer.hand] + list(predictions.extra or ())
    hands = [replace(hand, joints_px=apply_affine(affine, hand.joints_px)) for hand in shown]
    view = overlay(warp(image, affine, TILE), hands, zoomed(camera_of(example, image), affine, TILE))
    without = "far off" if predictions.extra else "missed"
    verdicts = [verdict(*pair, without) for pair in zip(predictions.of_labels, example.hands, strict=True)]
    said = strip(", ".join(text for text, _ in verdicts), TILE, min((colour for _, colour in verdicts), key=sum))
    return cv2.rectangle(np.concatenate([view, said]), (0, 0), (TILE - 1, TILE + CAPTION - 1), (24, 24, 24))


def verdict(answer: Prediction, label: LabelledHand, without: str) -> tuple[str, tuple[int, int, int]]:
    """What is wrong with the answer about one hand, `without` where there is none, and the colour to say it in."""
    if not answer.found:
        return without, MISSED
    error = mean_error(answer.hand, label)
    if not answer.side_correct:
        return f"wrong side {error:.2f}", WRONG
    return f"{error:.2f}", WRONG if error > LARGE_ERROR else WHITE


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | found | side right, of those found | 2D error, median | hands drawn where none is |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(lines + [f"| {' | '.join([row.kind.title, *row.cells()])} |" for row in rows])


BEGIN, END = "<!-- written by scripts/draw_failures.py -->", "<!-- to here -->"


def with_table(page: str, rows: str, made_with: str) -> str:
    """The page with another table. Raises ValueError where it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r} to put the table between")
    return f"{before}{BEGIN}\n{rows}\n\nMeasured with {made_with}.\n{END}{after}"


if __name__ == "__main__":
    main(tyro.cli(Options))
