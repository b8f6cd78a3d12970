"""Sequences on film: pictures as a webcam gives them, with the truth beside each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from rich.progress import Progress

from handmesh.data.synthetic import film
from handmesh.data.synthetic.film import Role, Room
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.tracking.matching import Truth
from handmesh.evaluation.tracking.options import SEQUENCES, TrackingOptions
from handmesh.evaluation.tracking.sequences import sequence
from handmesh.runtime.media.sources import Frame
from handmesh.structs import Camera

FPS, WIDTH, HEIGHT = 30, 640, 480

_KEPT = {"what": "pictures of scripted hands, without noise"}


@dataclass(frozen=True, eq=False)
class Footage:
    """One take of a sequence."""

    name: str
    take: int
    camera: Camera
    truth: Truth
    seed: tuple[int, ...]  # of the noise
    pngs: list[np.ndarray]  # encoded pictures without noise

    @property
    def title(self) -> str:
        """Its name, and which take it is but for the first."""
        return f"{self.name} {self.take + 1}" if self.take else self.name

    def frames(self) -> Iterator[Frame]:
        """The pictures with the sensor's noise, the same each time."""
        for k, (time_s, png) in enumerate(zip(self.truth.times_s, self.pngs, strict=True)):
            clean = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
            yield Frame(f"{k:06d}", float(time_s), film.with_noise(clean, [*self.seed, k]))


def shoot(name: str, take: int, options: TrackingOptions, bar: Progress, limit: int | None = None) -> Footage:
    """Film a take of a sequence, or fetch it from the folder of frames that `options` name.

    limit: of frames; all of them without.
    """
    seed = (options.seed, list(SEQUENCES).index(name), take)
    rng = np.random.default_rng(seed)
    script, camera = sequence(name, rng), Camera.from_fov(WIDTH, HEIGHT)
    room = Room(int(rng.integers(2**31)), WIDTH, HEIGHT, rng.normal(0, 0.8, 10).clip(-2, 2))
    times_s = np.arange(round(script.seconds * FPS) if limit is None else limit) / FPS
    truth = _truth(room, script.roles, times_s, camera)
    pngs = _pictures(room, script.roles, truth, camera, name, options, bar)
    return Footage(name, take, camera, truth, seed, pngs)


def _truth(room: Room, roles: list[Role], times_s: np.ndarray, camera: Camera) -> Truth:
    frames = [room.hands(roles, float(time_s), camera) for time_s in times_s]
    columns = ("joints_m", "joints_px", "inside", "seen")
    values = (np.array([[getattr(hand, column) for hand in hands] for hands in frames]) for column in columns)
    return Truth(times_s, tuple(role.side for role in roles), *values)


def _pictures(
    room: Room, roles: list[Role], truth: Truth, camera: Camera, name: str, options: TrackingOptions, bar: Progress
) -> list[np.ndarray]:
    """Rendered, or read from the cache if these very hands were rendered before."""
    cache = None if options.frames is None else ArrayCache(options.frames, _KEPT)
    key = f"{name.replace(', ', '-').replace(' ', '-')}-{_digest(truth, options)}"
    kept = cache.get(key) if cache else None
    if kept is not None:
        return np.split(kept["pngs"], kept["ends"][:-1])
    task = bar.add_task(f"filming {name}", total=len(truth.times_s))
    pngs = []
    for time_s in truth.times_s:
        picture = room.shoot(roles, float(time_s), camera, options.exposure_ms / 1000)
        pngs.append(cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])
        bar.advance(task)
    bar.remove_task(task)
    if cache:
        cache.put(key, pngs=np.concatenate(pngs), ends=np.cumsum([len(png) for png in pngs]))
    return pngs


def _digest(truth: Truth, options: TrackingOptions) -> str:
    """Tells the pictures apart by all that they depend on: the hands' places and shapes, seed, shutter, version."""
    setting = json.dumps([film.VERSION, options.seed, options.exposure_ms])
    return hashlib.sha256(np.float32(truth.joints_m).tobytes() + setting.encode()).hexdigest()[:12]
