"""ImageNet-C's corruptions, and how a network bears them on FreiHAND's evaluation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.freihand import configuration, data_of, open_set, view_of
from handmesh.evaluation.hands import parts_of, read_part, reader_of, reading_setting, short_name
from handmesh.evaluation.metrics import align, errors
from handmesh.evaluation.predictor import CropPredictor, ReadingOptions, View, open_predictor
from handmesh.evaluation.report import COLOURS, Headline, Image, Report, Section, Table, panels
from handmesh.evaluation.review import strip
from handmesh.machine import compiled

# The 15 corruptions of ImageNet-C at five severities each.
#
# Source of kinds and parameters: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to
# Common Corruptions and Perturbations (ICLR 2019), and the authors' released settings for images
# of 224 x 224 pixels, FreiHAND's own size. Two differ. Frost is drawn, not photographed.
# The elastic transform has no random affine, which would move the hand away from its labels: it is
# that of Michaelis et al., Benchmarking Robustness in Object Detection (2019), made for labels that
# are places. The PyPI packages that offer these do not run with NumPy 2 and today's scikit-image.

Pixels = np.ndarray
"""(H, W, 3) float RGB, which corruptions take in 0..1 and may leave: what lies beyond is clipped at last."""

_FROST_TINT = np.float32([0.93, 1.0, 1.06])
_FROST_LEVEL = (0.48, 0.82)
_BRANCH_RAD = math.radians(60)


def snow(
    image: Pixels, rng: np.random.Generator, mean: float, deviation: float, zoom: float, threshold: float,
    radius: int, sigma: float, kept: float,
) -> Pixels:  # fmt: skip
    """Flakes: enlarged noise above a threshold, blurred along the way they fall, over a whitened image."""
    flakes = magnified(rng.normal(mean, deviation, image.shape[:2]).astype(np.float32), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = cv2.filter2D(
        flakes, -1, motion_kernel(radius, sigma, rng.uniform(-135, -45)), borderType=cv2.BORDER_REPLICATE
    )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * image + (1 - kept) * np.maximum(image, 1.5 * grey + 0.5)
    return whitened + (flakes + flakes[::-1, ::-1])[..., None]


def fog(image: Pixels, rng: np.random.Generator, strength: float, decay: float) -> Pixels:
    """A cloudy height map added, the whole brought back to the image's own brightest value."""
    height, width = image.shape[:2]
    cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    brightest = image.max()
    return (image + strength * cloud) * brightest / (brightest + strength)


def frost(image: Pixels, rng: np.random.Generator, kept: float, fraction: float) -> Pixels:
    """A frosted window added to the dimmed image.

    ImageNet-C has photographs of frost for it. Here the frost is drawn: feathery crystals on a cloudy ground,
    about as bright and as contrasty as those photographs.
    """
    return kept * image + fraction * frosted_window(image.shape[0], image.shape[1], rng)


def frosted_window(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 in 0..1: frost, drawn."""
    size = 1 << (max(height, width) - 1).bit_length()
    ground = plasma(size, 1.7, rng)[:height, :width].astype(np.float32)
    crystals = np.zeros((height, width), np.float32)
    for _ in range(height * width // 250):
        _draw_fern(crystals, rng)
    crystals = cv2.GaussianBlur(crystals, (0, 0), 0.8)
    detail = crystals - crystals.mean() + 0.4 * (ground - ground.mean())
    detail += rng.normal(0, 0.03, (height, width)).astype(np.float32)
    return np.clip((rng.uniform(*_FROST_LEVEL) + 0.55 * detail)[..., None] * _FROST_TINT, 0, 1)


def _draw_fern(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A stem with branches at 60 degrees to both sides, in place: the way that ice grows on glass."""
    height, width = canvas.shape
    start, angle = rng.uniform((0, 0), (width, height)), rng.uniform(0, 2 * math.pi)
    length, value = rng.uniform(12, 60), float(rng.uniform(-0.5, 1.0))
    direction = np.array([math.cos(angle), math.sin(angle)])
    strokes = [(start, length * direction, value)]
    for along in np.arange(3, length, 4.0):
        for rotation in (-_BRANCH_RAD, _BRANCH_RAD):
            side = np.array([math.cos(angle + rotation), math.sin(angle + rotation)]) * 0.45 * (length - along)
            strokes.append((start + along * direction, side, 0.8 * value))
    for begin, way, brightness in strokes:
        ends = [np.rint(point).astype(int).tolist() for point in (begin, begin + way)]
        cv2.line(canvas, *ends, brightness, 1)


def plasma(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """(size, size) clouds in 0..1 by the diamond-square algorithm; size is a power of two.

    Each halving of the grid adds noise that is `decay` squared times weaker. Source: Fournier,
    Fussell and Carpenter, Computer rendering of stochastic models (1982).
    """
    heights, step, reach = np.zeros((size, size)), size, 1e4
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        right, below = np.roll(corners, -1, axis=1), np.roll(corners, -1, axis=0)
        noise = rng.uniform(-reach, reach, (3, *corners.shape))
        centres = (corners + right + below + np.roll(below, -1, axis=1)) / 4 + noise[0]
        heights[half::step, half::step] = centres
        heights[::step, half::step] = (centres + np.roll(centres, 1, axis=0) + corners + right) / 4 + noise[1]
        heights[half::step, ::step] = (centres + np.roll(centres, 1, axis=1) + corners + below) / 4 + noise[2]
        step, reach = half, reach / decay
    heights -= heights.min()
    return heights / heights.max()


def magnified(image: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of an image, (H, W) or (H, W, 3), `zoom` times as large, in the size that it had."""
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    affine = np.column_stack([zoom * np.eye(2), (1 - zoom) * middle])
    return cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def motion_kernel(radius: int, sigma: float, angle_deg: float) -> np.ndarray:
    """(K, K) the kernel of a motion blur, K = 4 `radius` + 3: half a Gaussian from the middle outwards, in pixels."""
    reach = 2 * radius + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.arange(reach)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    x = np.rint(steps * math.cos(math.radians(angle_deg))).astype(int)
    y = np.rint(steps * math.sin(math.radians(angle_deg))).astype(int)
    np.add.at(kernel, (reach + y, reach + x), weights / weights.sum())
    return kernel


SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """One kind, and its parameters at each severity."""

    group: str
    apply: Callable[..., Pixels]  # (image, rng, *parameters)
    levels: tuple[tuple[Any, ...], ...]


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """An (H, W, 3) uint8 RGB image, corrupted; the same arguments give the same image.

    name: one of CORRUPTIONS; severity: 1 to 5; seed: of the image, such as its number. Raises
    ValueError for a name or a severity that does not exist.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {name!r} of severity {severity}; there are {', '.join(CORRUPTIONS)}, 1 to 5")
    kind = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    changed = kind.apply(image.astype(np.float32) / 255, rng, *kind.levels[severity - 1])
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image: Pixels, rng: np.random.Generator, deviation: float) -> Pixels:
    """Sensor noise in dim light."""
    return image + rng.normal(0, deviation, image.shape)


def shot_noise(image: Pixels, rng: np.random.Generator, photons: float) -> Pixels:
    """The discreteness of light: white is so many photons."""
    return rng.poisson(image * photons) / photons


def impulse_noise(image: Pixels, rng: np.random.Generator, fraction: float) -> Pixels:
    """Salt and pepper, each colour by itself."""
    hit, salt = rng.random(image.shape) < fraction, rng.random(image.shape) < 0.5
    return np.where(hit, salt, image)


def defocus_blur(image: Pixels, rng: np.random.Generator, radius: int, soft: float) -> Pixels:
    """A lens out of focus: the mean over a disk with a softened rim."""
    reach = np.arange(-max(8, radius), max(8, radius) + 1)
    disk = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.float32)
    width = 3 if radius <= 8 else 5
    return cv2.filter2D(image, -1, cv2.GaussianBlur(disk / disk.sum(), (width, width), soft))


def glass_blur(image: Pixels, rng: np.random.Generator, sigma: float, reach: int, rounds: int) -> Pixels:
    """Frosted glass: each pixel takes the colour of one near it."""
    blurred = _blurred(image, sigma)
    offsets = rng.integers(-reach, reach, (rounds, *image.shape[:2], 2))
    take_from_near(blurred, offsets, reach)
    return _blurred(blurred, sigma)


@compiled()
def take_from_near(image: np.ndarray, offsets: np.ndarray, reach: int) -> None:
    """Give each pixel of an (H, W, 3) image the colour at its (K, H, W, 2) offset in x and y, K times over, in place.

    From the last pixel to the first, so that colours may travel, as the released images were made.
    """
    for k in range(offsets.shape[0]):
        for y in range(image.shape[0] - reach, reach, -1):
            for x in range(image.shape[1] - reach, reach, -1):
                dx, dy = offsets[k, y, x]
                for channel in range(3):
                    image[y, x, channel] = image[y + dy, x + dx, channel]


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    width = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (width, width), sigma, borderType=cv2.BORDER_REPLICATE)


def motion_blur(image: Pixels, rng: np.random.Generator, radius: int, sigma: float) -> Pixels:
    """A camera that moves in one direction."""
    kernel = motion_kernel(radius, sigma, rng.uniform(-45, 45))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def zoom_blur(image: Pixels, rng: np.random.Generator, end: float, step: float) -> Pixels:
    """A camera that moves towards the image's middle: the mean of the image and its enlargements."""
    zooms = np.arange(1, end, step)
    return (image + sum(magnified(image, zoom) for zoom in zooms)) / (len(zooms) + 1)


def brightness(image: Pixels, rng: np.random.Generator, more: float) -> Pixels:
    """More light: the value in HSV raised."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def contrast(image: Pixels, rng: np.random.Generator, kept: float) -> Pixels:
    """Colours drawn towards their means."""
    means = image.mean((0, 1))
    return (image - means) * kept + means


def elastic_transform(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Small regions stretched and squeezed by a smooth random field."""
    height, width = image.shape[:2]
    reach = 0.005 * height
    noise = rng.uniform(-reach, reach, (2, height, width)).astype(np.float32)
    sigma_x, sigma_y = 0.01 * width, 0.01 * height
    size = 2 * int(3 * sigma_x + 0.5) + 1, 2 * int(3 * sigma_y + 0.5) + 1
    dx, dy = (
        strength * cv2.GaussianBlur(n, size, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT) for n in noise
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def pixelate(image: Pixels, rng: np.random.Generator, fraction: float) -> Pixels:
    """An image enlarged from fewer pixels."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (int(width * fraction), int(height * fraction)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def jpeg_compression(image: Pixels, rng: np.random.Generator, quality: int) -> Pixels:
    """Lossy compression."""
    pixels = cv2.cvtColor(np.rint(image * 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).astype(np.float32) / 255


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": Corruption("noise", gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))),
    "shot noise": Corruption("noise", shot_noise, ((60,), (25,), (12,), (5,), (3,))),
    "impulse noise": Corruption("noise", impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))),
    "defocus blur": Corruption("blur", defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass blur": Corruption("blur", glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion blur": Corruption("blur", motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom blur": Corruption("blur", zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": Corruption("weather", snow, (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )),
    "frost": Corruption("weather", frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": Corruption("weather", fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": Corruption("weather", brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))),
    "contrast": Corruption("digital", contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))),
    "elastic transform": Corruption("digital", elastic_transform, ((12.5,), (16.25,), (21.25,), (25,), (30,))),
    "pixelate": Corruption("digital", pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))),
    "JPEG compression": Corruption("digital", jpeg_compression, ((25,), (18,), (15,), (10,), (7,))),
}  # fmt: skip
"""The 15 kinds in the paper's order."""


# How much worse a network gets under the corruptions, and how much of that a baseline suffers.

CLEAN = "clean"
ErrorKind = Literal["PA-MPJPE", "RA-MPJPE"]


@dataclass(frozen=True)
class RobustnessOptions(ReadingOptions):
    """Errors under the 15 corruptions of ImageNet-C at five severities, and the mean corruption error."""

    baseline: tuple[str, ...] = ()
    """Networks that the mean corruption error is relative to, each named as for --model."""
    error: ErrorKind = "PA-MPJPE"
    """The joint error that counts: after similarity alignment, or with the roots together."""
    output: Path = Path("outputs/robustness")
    """Folder for the report, metrics.json and the predictions."""


@dataclass(frozen=True, eq=False)
class Robustness:
    """The mean joint errors of one network, in millimetres."""

    model: str
    clean_mm: float
    corrupted_mm: dict[str, np.ndarray]  # (5,) at each severity, by the corruption's name

    @property
    def mean_mm(self) -> float:
        """The mean over all corruptions and severities."""
        return float(np.mean(list(self.corrupted_mm.values())))

    @property
    def by_severity_mm(self) -> np.ndarray:
        """(6,) means over the corruptions: of clean images, then of each severity."""
        return np.concatenate([[self.clean_mm], np.mean(list(self.corrupted_mm.values()), axis=0)])


def corruption_errors(network: Robustness, baseline: Robustness) -> dict[str, float]:
    """The corruption error of each kind, in per cent: the error summed over severities over the baseline's.

    Their mean is the mean corruption error, mCE, as Hendrycks and Dietterich (2019) define it; an
    error rate there is a joint error in millimetres here.
    """
    pairs = {name: (values.sum(), baseline.corrupted_mm[name].sum()) for name, values in network.corrupted_mm.items()}
    return {name: float(100 * own / other) for name, (own, other) in pairs.items()}


def mean_corruption_error(network: Robustness, baseline: Robustness) -> float:
    """The mean over the 15 kinds of `corruption_errors`, in per cent."""
    return float(np.mean(list(corruption_errors(network, baseline).values())))


def evaluate_robustness(options: RobustnessOptions) -> list[Robustness]:
    """Evaluate the model and the baselines; their errors, the model's first.

    Raises ValueError where the set has no labels, and for what cannot be opened.
    """
    freihand = open_set(options)
    freihand.require("xyz")
    models = list(dict.fromkeys((options.model, *options.baseline)))
    predictors = [open_predictor(model, options.hand_model, options.device, options.threads) for model in models]
    results = []
    for predictor, name in zip(predictors, _names([predictor.name for predictor in predictors]), strict=True):
        folder = options.output / "predictions" / f"{short_name(predictor.name)}-{predictor.file_sha256[:8]}"
        kept = configuration(freihand, predictor, options.predict_options, use_scale=False)
        cache, reader = ArrayCache(folder, kept, options.overwrite), reader_of(options, predictor)
        joints = predict_corrupted(freihand, reader, cache, options.limit, name)
        results.append(measure(name, joints, freihand.xyz[: joints[CLEAN].shape[1]], options.error))
    count = min(options.limit or len(freihand), len(freihand))
    setting = reading_setting(options, predictors[0], data_of(freihand, count))
    baselines = [results[models.index(model)] for model in options.baseline]  # a network may be its own
    report = _report(options, setting, results[0], baselines, freihand)
    report.publish(options.output, {"metrics.json": _as_json(options, setting, results[0], baselines)})
    return results


def _names(models: list[str]) -> list[str]:
    """The shortest names that tell the networks apart."""
    shorter = [list(map(short_name, models)), [Path(model).name for model in models]]
    return next((names for names in shorter if len(set(names)) == len(names)), models)


def predict_corrupted(
    freihand: FreihandSet, reader: CropPredictor, cache: ArrayCache, limit: int | None, what: str
) -> dict[str, np.ndarray]:
    """(S, N, 21, 3) joints in the camera's frame by the corruption's name, S severities; S is 1 for clean images.

    Zeros where the network's numbers are no hand. What the cache holds is not done again. what: to call the progress
    bar.
    """
    count = min(limit or len(freihand), len(freihand))
    joints: dict[str, np.ndarray] = {}

    def predicted(image_of: Callable[[int], np.ndarray]) -> np.ndarray:
        def view(i: int) -> View:
            return view_of(freihand, i, image_of(i))

        return np.concatenate([read_part(view, reader, part)["joints_m"] for part in parts_of(count)])

    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=count * (1 + len(CORRUPTIONS) * len(SEVERITIES)))
        for name in (CLEAN, *CORRUPTIONS):
            progress.update(task, description=f"{what}, {name}")
            file = name.replace(" ", "-").lower()
            kept = cache.get(file)
            if kept is None or kept["joints_m"].shape[1] < count:
                if name == CLEAN:
                    values = [predicted(freihand.image)]
                else:
                    values = [
                        predicted(lambda i, name=name, level=level: corrupt(freihand.image(i), name, level, seed=i))
                        for level in SEVERITIES
                    ]
                kept = {"joints_m": np.stack(values)}
                cache.put(file, **kept)
            joints[name] = kept["joints_m"][:, :count]
            progress.advance(task, count * len(joints[name]))
    return joints


def measure(model: str, joints: Mapping[str, np.ndarray], true_joints_m: np.ndarray, kind: ErrorKind) -> Robustness:
    """Score what `predict_corrupted` gave against (N, 21, 3) true joints."""

    def mean_mm(joints_m: np.ndarray) -> float:
        if kind == "PA-MPJPE":
            return 1000 * float(errors(align(joints_m, true_joints_m), true_joints_m).mean())
        root = slice(skeleton.ROOT, skeleton.ROOT + 1)
        return 1000 * float(errors(joints_m - joints_m[:, root], true_joints_m - true_joints_m[:, root]).mean())

    means = {name: np.array(list(map(mean_mm, each))) for name, each in joints.items()}
    return Robustness(model, float(means.pop(CLEAN)[0]), means)


# The report.

_METHOD = (
    "The 15 corruptions of ImageNet-C (Hendrycks and Dietterich, 2019) at five severities, on whole images, before "
    "the crop. mCE: for each corruption the error summed over severities, divided by the baseline's; then the mean of "
    "the 15. Frost is drawn here, not photographed; the elastic transform has no random affine, which would move the "
    "hand away from its labels."
)


def _as_json(
    options: RobustnessOptions, setting: Mapping[str, str], network: Robustness, baselines: Sequence[Robustness]
) -> dict[str, object]:
    against = {
        one.model: {
            "mCE, %": mean_corruption_error(network, one),
            "corruption errors, %": corruption_errors(network, one),
        }
        for one in baselines
    }
    networks = {
        one.model: {"clean_mm": one.clean_mm, "corrupted_mm": one.mean_mm, "by_severity_mm": one.corrupted_mm}
        for one in (network, *baselines)
    }
    content = {"setting": setting, "error": options.error, "model": network.model}
    return content | {"networks": networks, "against": against}


def _report(
    options: RobustnessOptions,
    setting: Mapping[str, str],
    network: Robustness,
    baselines: Sequence[Robustness],
    freihand: FreihandSet,
) -> Report:
    networks = list({one.model: one for one in (network, *baselines)}.values())
    against = {f"mean corruption error against {one.model}": mean_corruption_error(network, one) for one in baselines}
    overall, by_corruption = _tables(networks, network, baselines, options.error)
    curves = Image.of_figure("severities", _curves(networks, options.error))
    corruptions = Image.of_image("corruptions", corruption_sheet(freihand.image(0)), "clean, then severity 1 to 5")
    return Report(
        title="Robustness to common corruptions",
        subtitle=f"{network.model} on {freihand.root.resolve().name}, {options.error} in millimetres",
        setting=setting,
        sections=[
            Section("All networks", [overall]),
            Section("Error by corruption", [by_corruption]),
            Section("Error against severity", (), [curves]),
            Section("What the corruptions look like", (), [corruptions]),
        ],
        headline=[
            Headline("clean images", f"{network.clean_mm:.2f}", "mm"),
            Headline("corrupted", f"{network.mean_mm:.2f}", "mm"),
            *(Headline(name, f"{value:.1f}", "%") for name, value in against.items()),
        ],
        notes=[_METHOD],
    )


def _tables(
    networks: Sequence[Robustness], network: Robustness, baselines: Sequence[Robustness], kind: ErrorKind
) -> tuple[Table, Table]:
    """A row for each network; a row for each corruption of one: errors by severity, their mean, and those relative to
    each baseline."""
    columns = ["network", "clean, mm", "corrupted, mm", "corrupted / clean"]
    columns += [f"mCE against {baseline.model}, %" for baseline in baselines]
    rows = [
        [one.model, f"{one.clean_mm:.2f}", f"{one.mean_mm:.2f}", f"{one.mean_mm / one.clean_mm:.2f}"]
        + [f"{mean_corruption_error(one, baseline):.1f}" for baseline in baselines]
        for one in networks
    ]
    note = "" if baselines else "Name a --baseline for the mean corruption error, which is relative to one."
    overall = Table("", columns, rows, note=note, marked=[0])
    columns = ["corruption", *map(str, SEVERITIES), "mean", *(f"CE, % of {baseline.model}" for baseline in baselines)]
    relative = [corruption_errors(network, baseline) for baseline in baselines]
    rows = [
        [name, *(f"{value:.2f}" for value in (*values, values.mean())), *(f"{each[name]:.1f}" for each in relative)]
        for name, values in network.corrupted_mm.items()
    ]
    means = [f"{value:.2f}" for value in (*network.by_severity_mm[1:], network.mean_mm)]
    rows.append(["mean", *means, *(f"{np.mean(list(each.values())):.1f}" for each in relative)])
    title = f"{network.model}, {kind} in mm by severity; clean {network.clean_mm:.2f}"
    return overall, Table(title, columns, rows, marked=[len(rows) - 1], ends=[len(rows) - 2])


def _curves(networks: Sequence[Robustness], kind: ErrorKind) -> Figure:
    """Error against severity: the mean of all corruptions, then each of them, on one scale."""
    names = ("mean of all", *CORRUPTIONS)
    rows = -(-len(names) // 4)
    figure, axes = panels(rows, 4, (11, 2.5 * rows), sharex=True, sharey=True)
    for one, name in zip(axes.flat, names, strict=False):
        for network, colour in zip(networks, cycle(COLOURS), strict=False):
            own = network.by_severity_mm[1:] if name == "mean of all" else network.corrupted_mm[name]
            one.plot([0, *SEVERITIES], [network.clean_mm, *own], color=colour, marker=".", label=network.model)
        one.set_title(name, fontsize=9)
    axes[0, 0].set_ylim(0, 1.05 * max(float(np.max(list(one.corrupted_mm.values()))) for one in networks))
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("severity (0: clean)", fontsize=9)
    figure.supylabel(f"{kind}, mm", fontsize=9)
    return figure


def corruption_sheet(image: np.ndarray, size: int = 120) -> np.ndarray:
    """(H, 6 size, 3) uint8: an image (H, W, 3) as it is and at each severity, a captioned row for each corruption."""
    rows = []
    for name in CORRUPTIONS:
        images = [image, *(corrupt(image, name, severity, seed=0) for severity in SEVERITIES)]
        small = [cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in images]
        rows += [strip(name, len(images) * size), np.concatenate(small, axis=1)]
    return np.concatenate(rows)
