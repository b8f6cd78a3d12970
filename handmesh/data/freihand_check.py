"""Whether a FreiHAND folder is whole and its labels agree: findings, each with a remedy, and a sheet to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from handmesh import skeleton
from handmesh.data.freihand import (
    LABELS_ZIP,
    LISTS,
    NEEDED,
    PAGE,
    POSITION,
    SHAPE,
    VERSIONS,
    ZIP,
    FreihandError,
    FreihandSet,
    FreihandSplit,
    check_folder,
    image_path,
    load_list,
    mask_path,
    read_freihand,
    rotations_from_mano,
)
from handmesh.files import visible
from handmesh.geometry import project
from handmesh.hand.model import HandModel
from handmesh.render.overlay import draw_skeleton

# Do FreiHAND's labels make sense, and do they agree with each other and with the hand model?
#
# Limits are those of the real set with room to spare. There the MANO numbers miss `xyz` and `verts`
# by 0.6 mm on average and 6 mm at most; everything else agrees to rounding.


Verdict = Literal["ok", "note", "broken"]
Lists = dict[str, np.ndarray]

DEPTH_M = (0.1, 3.0)
BONE_M = (0.01, 0.1)
FIT_MEAN_M, FIT_MAX_M = 1.5e-3, 10e-3
"""How well MANO numbers must give the points."""
EXACT_M = 1e-4
"""How well two records of the same thing must agree."""
TIP_M = 0.5e-3
"""Where the mean error of one joint exceeds this, that joint is another point of the mesh."""
NEAR = 0.25
"""How far outside the image, in image sizes, a hand's root may lie."""

_CHUNK = 256
_MIXED = "the lists are not of one set: unpack them all again"


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_values(split: str, lists: Lists, size_px: tuple[int, int]) -> list[Finding]:
    """Ranges and agreements that need no hand model. size_px: width and height of the images."""
    findings = [_cameras(lists["K"], size_px)]
    if "xyz" in lists:
        findings += [_depths(lists["xyz"]), _projections(lists["xyz"], lists["K"], size_px)]
    if "xyz" in lists and "scale" in lists:
        findings.append(_bones(lists["xyz"], lists["scale"]))
    if "xyz" in lists and "verts" in lists:
        findings.append(_meshes(lists["xyz"], lists["verts"]))
    if "xyz" in lists and "mano" in lists:
        findings.append(_roots(lists["xyz"], lists["mano"], lists["K"]))
    return [finding._replace(what=f"{split} {finding.what}") for finding in findings]


def in_range(what: str, values: np.ndarray, limits: tuple[float, float], unit: str, remedy: str) -> Finding:
    """Whether (N,) `values`, one a row, lie within limits."""
    outside = (values < limits[0]) | (values > limits[1])
    found = f"{values.min():.3g} to {values.max():.3g} {unit}"
    if not outside.any():
        return Finding(what, "ok", found)
    where = f"{outside.sum():,} rows outside {limits[0]:g} to {limits[1]:g}, the first {outside.argmax()}"
    return Finding(what, "broken", f"{found}; {where}", remedy)


def _agree(what: str, errors_m: np.ndarray, mean_m: float, max_m: float, remedy: str) -> Finding:
    """errors_m: (N, ...) distances; the finding states and judges their mean and maximum."""
    worst = np.unravel_index(errors_m.argmax(), errors_m.shape)[0]
    found = f"mean {1000 * errors_m.mean():.3g} mm, max {1000 * errors_m.max():.3g} mm (row {worst})"
    good = errors_m.mean() <= mean_m and errors_m.max() <= max_m
    return Finding(what, "ok" if good else "broken", found, "" if good else remedy)


def _cameras(K: np.ndarray, size_px: tuple[int, int]) -> Finding:
    upper = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
    regular = np.allclose(K[:, ~upper], [0, 0, 0, 0, 1], atol=1e-4)
    centred = (np.abs(K[:, :2, 2] - np.array(size_px) / 2) < np.array(size_px) / 2).all()
    focal = K[:, [0, 1], [0, 1]]
    alike = (focal > 0).all() and (np.abs(focal[:, 0] / focal[:, 1] - 1) < 0.1).all()
    found = f"focal lengths {focal.min():.0f} to {focal.max():.0f} px"
    if regular and centred and alike:
        return Finding("cameras", "ok", found)
    reason = "not (fx 0 cx; 0 fy cy; 0 0 1) with fx near fy and the centre in the image"
    return Finding("cameras", "broken", f"{found}; {reason}", _MIXED)


def _depths(xyz: np.ndarray) -> Finding:
    remedy = "points must be metres in the camera's frame, x right, y down, z forward"
    return in_range("depth of joints", xyz[:, :, 2].min(1), DEPTH_M, "m", remedy)


def _projections(xyz: np.ndarray, K: np.ndarray, size_px: tuple[int, int]) -> Finding:
    seen = xyz @ K.transpose(0, 2, 1)
    pixels = seen[..., :2] / np.where(np.abs(seen[..., 2:]) < 1e-6, 1e-6, seen[..., 2:])
    beyond = np.abs((pixels + 0.5) / np.array(size_px) - 0.5).max(-1) - 0.5  # in image sizes; below 0: inside
    inside = f"{100 * (beyond < 0).mean():.1f} % of joints inside the image"
    away = beyond[:, skeleton.ROOT] > NEAR
    if not away.any():
        return Finding("projected joints", "ok", inside)
    where = f"{away.sum():,} hands far from it, the first in row {away.argmax()}"
    return Finding("projected joints", "broken", f"{inside}; {where}", f"K and xyz do not belong together: {_MIXED}")


def bone_lengths_m(xyz: np.ndarray) -> np.ndarray:
    """(N,) length of the middle finger's first bone, which `scale` records."""
    return np.linalg.norm(xyz[:, skeleton.ROOT] - xyz[:, skeleton.KEYPOINTS.index("middle2")], axis=1)


def _bones(xyz: np.ndarray, scale: np.ndarray) -> Finding:
    lengths = bone_lengths_m(xyz)
    size = in_range("middle finger's first bone", lengths, BONE_M, "m", "xyz must be metres")
    if size.verdict != "ok":
        return size
    return _agree("scale = |xyz9 - xyz10|", np.abs(lengths - scale), EXACT_M, 10 * EXACT_M, _MIXED)


def _meshes(xyz: np.ndarray, verts: np.ndarray) -> Finding:
    middles = np.concatenate([verts[k : k + _CHUNK].mean(1) for k in range(0, len(verts), _CHUNK)])
    return _agree("meshes lie at their joints", np.linalg.norm(middles - xyz.mean(1), axis=1), 0.06, 0.08, _MIXED)


def roots_m(mano: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(N, 3) where the MANO numbers place joint 9: [u - cx, v - cy, focal] / scale, focal the mean of fx and fy."""
    u_v, scale = mano[:, POSITION][:, :2], mano[:, POSITION][:, 2:]
    focal = K[:, [0, 1], [0, 1]].mean(1, keepdims=True)
    return np.concatenate([u_v - K[:, :2, 2], focal], axis=1) / scale


def _roots(xyz: np.ndarray, mano: np.ndarray, K: np.ndarray) -> Finding:
    errors_m = np.linalg.norm(roots_m(mano, K) - xyz[:, skeleton.ROOT], axis=1)
    return _agree("mano's root is joint 9", errors_m, FIT_MEAN_M, FIT_MAX_M, _MIXED)


def check_model(split: str, lists: Lists, hand: HandModel | None) -> list[Finding]:
    """The MANO numbers through the hand model against `xyz` and `verts`, and the joints against the vertices.

    hand: the model that the set was made with; without one, the bundled open hand if its mesh is like the set's.
    """
    if not lists.keys() >= {"xyz", "verts", "mano"}:
        return []
    what, count = f"{split} hand model", lists["verts"].shape[1]
    model = hand or HandModel.load()
    if model.num_vertices != count:
        found = f"not checked: the model has {model.num_vertices} vertices, the set's meshes have {count}"
        remedy = "give the model that the set was made with, --hand-model (MANO's right hand has 778)"
        return [Finding(what, "broken" if hand else "note", found, remedy)]
    wrong = "another hand model: is it MANO's right hand, of the version that the set was made with?"
    joints_m, vertices_m, regressed_m = model_errors(lists, model)
    return [
        _agree(f"{split} mano gives xyz", joints_m, FIT_MEAN_M, FIT_MAX_M, wrong),
        _agree(f"{split} mano gives verts", vertices_m, FIT_MEAN_M, FIT_MAX_M, wrong),
        _regressed(f"{split} joints of verts are xyz", regressed_m, wrong),
    ]


def _regressed(what: str, errors_m: np.ndarray, remedy: str) -> Finding:
    """errors_m: (N, 21). Fingertips are a choice of vertices; a wrong one moves that joint in every row."""
    means_m = errors_m.mean(0)
    moved = [skeleton.KEYPOINTS[k] for k in np.flatnonzero(means_m > TIP_M)]
    found = f"mean {1000 * errors_m.mean():.3g} mm, worst joint {1000 * means_m.max():.3g} mm"
    if not moved:
        return Finding(what, "ok", found)
    only_tips = all(name in skeleton.TIPS for name in moved)
    return Finding(what, "broken", f"{found}: {', '.join(moved)}", "other fingertip vertices" if only_tips else remedy)


def model_errors(lists: Lists, hand: HandModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances in metres: (N, 21) and (N, V) of the joints and vertices that `mano` gives, with its own root,
    from `xyz` and `verts`; (N, 21) of the joints that the model finds in `verts` from `xyz`."""
    errors = [_chunk_errors({name: lists[name][k : k + _CHUNK] for name in lists}, hand) for k in _starts(lists)]
    joints_m, vertices_m, regressed_m = (np.concatenate(column) for column in zip(*errors, strict=True))
    return joints_m, vertices_m, regressed_m


def _starts(lists: Lists) -> range:
    return range(0, len(lists["K"]), _CHUNK)


def _chunk_errors(rows: Lists, hand: HandModel) -> list[np.ndarray]:
    mano, xyz, verts = rows["mano"], rows["xyz"], rows["verts"]
    with torch.inference_mode():
        posed = hand(torch.from_numpy(rotations_from_mano(mano, hand)), torch.from_numpy(mano[:, SHAPE].copy()))
        regressed = (hand.keypoint_regressor @ torch.from_numpy(np.array(verts))).numpy()
    joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
    shift = (roots_m(mano, rows["K"]) - joints[:, skeleton.ROOT])[:, None]
    pairs = ((joints + shift, xyz), (vertices + shift, verts), (regressed, xyz))
    return [np.linalg.norm(one - other, axis=2) for one, other in pairs]


# Is a FreiHAND folder whole, and do its labels agree? Findings, each with what to do about it.


REAL_ROWS: dict[FreihandSplit, int] = {"training": 32_560, "evaluation": 3_960}
REAL_SIZE = (224, 224)
_JPEG_END = b"\xff\xd9"
_COLOURS = {"ok": "green", "note": "yellow", "broken": "red"}


def check_freihand(
    root: Path,
    splits: Sequence[FreihandSplit] = ("training", "evaluation"),
    hand: HandModel | None = None,
    decode: bool = False,
    progress: bool = True,
) -> list[Finding]:
    """Everything there is to say of the set in `root`.

    hand: the model that the set was made with, to compare its MANO numbers with its points; without
    one, the bundled open hand if its mesh is like the set's.
    decode: decode every image instead of looking at its header and end alone (2 minutes more for
    the real set). Raises FreihandError where `root` is no FreiHAND folder at all.
    """
    findings = []
    for split in splits:
        check_folder(root, split)
        lists, found = check_lists(root, split, progress)
        findings += found
        if "K" in lists:
            found, size_px = check_images(root, split, len(lists["K"]), decode, progress)
            findings += found
            findings += check_values(split, lists, size_px)
            findings += check_model(split, lists, hand)
    return findings


def findings_table(findings: Sequence[Finding]) -> Table:
    """The findings for the eye."""
    table = Table()
    table.add_column("what", max_width=28)
    for title in ("", "found", "what to do"):
        table.add_column(title)
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        table.add_row(finding.what, f"[{colour}]{finding.verdict}[/]", finding.found, finding.remedy)
    return table


def check_lists(root: Path, split: FreihandSplit, progress: bool = True) -> tuple[Lists, list[Finding]]:
    """The lists of a split that can be read and agree in length with `K`, and what is wrong with the others."""
    lists: Lists = {}
    findings = []
    for name in LISTS:
        path = root / f"{split}_{name}.json"
        try:
            lists[name] = load_list(path, name, progress)
        except FileNotFoundError:
            findings.append(_absent(path, needed=name in NEEDED[split]))
        except FreihandError as error:
            findings.append(Finding(path.name, "broken", str(error), f"unpack {ZIP} again"))
    rows = len(lists["K"]) if "K" in lists else 0
    for name in [name for name, values in lists.items() if len(values) != rows]:
        found = f"{len(lists.pop(name)):,} rows, {split}_K.json has {rows:,}"
        findings.append(Finding(f"{split}_{name}.json", "broken", found, f"unpack all lists again from one {ZIP}"))
    if rows:
        findings.append(_rows_finding(split, rows, list(lists)))
    return lists, findings


def _absent(path: Path, needed: bool) -> Finding:
    if needed:
        return Finding(path.name, "broken", "missing", f"unpack {ZIP} again")
    return Finding(path.name, "note", "missing: no metrics on this split", f"unpack {LABELS_ZIP} ({PAGE})")


def _rows_finding(split: FreihandSplit, rows: int, names: Sequence[str]) -> Finding:
    found = f"{rows:,} rows of {', '.join(names)}"
    if rows == REAL_ROWS[split]:
        return Finding(f"{split} lists", "ok", found)
    return Finding(f"{split} lists", "note", f"{found}; the real set has {REAL_ROWS[split]:,}", "right for a twin")


def check_images(
    root: Path, split: FreihandSplit, rows: int, decode: bool = False, progress: bool = True
) -> tuple[list[Finding], tuple[int, int]]:
    """What is wrong with the images and masks, and the (width, height) that most images have."""
    versions = VERSIONS if split == "training" else VERSIONS[:1]
    kinds = {"rgb": [image_path(root, split, row, version, rows) for version in versions for row in range(rows)]}
    if split == "training":
        kinds["mask"] = [mask_path(root, row) for row in range(rows)]
    findings, usual = [], REAL_SIZE
    for kind, paths in kinds.items():
        what = f"{split}/{kind}"
        states = [image_state(path, decode) for path in _with_bar(paths, what, progress)]
        sizes = Counter(state for state in states if not isinstance(state, str))
        usual = sizes.most_common(1)[0][0] if kind == "rgb" and sizes else usual
        findings += _judge_images(what, paths, states, usual)
        findings += _surplus(root / what, len(paths))
    return findings, usual


def _with_bar(paths: Sequence[Path], what: str, progress: bool) -> Iterable[Path]:
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    return track(paths, f"looking at {what}", transient=True, disable=hidden, console=console)


def image_state(path: Path, decode: bool = False) -> tuple[int, int] | str:
    """The (width, height) of a JPEG that seems whole, or what is wrong with it in a word."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=["JPEG"]) as image:
            if decode:
                image.load()
            file.seek(-len(_JPEG_END), 2)
            return image.size if file.read() == _JPEG_END else "truncated"
    except FileNotFoundError:
        return "missing"
    except (OSError, SyntaxError):  # what Pillow raises of damaged files
        return "damaged"


def _judge_images(
    what: str, paths: Sequence[Path], states: Sequence[tuple[int, int] | str], usual: tuple[int, int]
) -> list[Finding]:
    named = [state if isinstance(state, str) or state == usual else "of another size" for state in states]
    counts = Counter(state for state in named if isinstance(state, str))
    findings = []
    for state, count in counts.items():
        first = paths[named.index(state)].name
        remedy = f"unpack {ZIP} again; where that does not help, download it again"
        findings.append(Finding(what, "broken", f"{count:,} of {len(paths):,} {state}, the first {first}", remedy))
    if not findings:
        size = f"{usual[0]} x {usual[1]}"
        verdict, remedy = ("ok", "") if usual == REAL_SIZE else ("note", "the real set has 224 x 224")
        findings.append(Finding(what, verdict, f"{len(paths):,} whole, {size}", remedy))
    return findings


def _surplus(folder: Path, expected: int) -> list[Finding]:
    surplus = len(visible(folder.glob("*.jpg"))) - expected if folder.is_dir() else 0
    if surplus <= 0:
        return []
    found = f"{surplus:,} files more than the lists have rows for"
    return [Finding(f"{folder.parent.name}/{folder.name}", "broken", found, f"unpack {ZIP} into a folder of its own")]


# A sheet of FreiHAND images with their labels drawn over them, for the eye to judge.


TILE_PX = 336
_VERTEX, _OUTLINE, _TEXT = (0, 70, 255), (255, 255, 255), (255, 255, 255)


def write_sheet(freihand: FreihandSet, path: Path, columns: int = 4, rows: int = 4) -> None:
    """Write an image of `rows` x `columns` samples spread over the set.

    A column is a version, where there are four. Blue dots are the vertices, the white line is the
    mask's border, the coloured bones join the 21 points. Raises FreihandError for a set without
    `xyz`, ValueError for a `path` that ends like no image, OSError where it cannot be written.
    """
    freihand.require("xyz")
    count = min(rows, len(freihand.K))
    shown = np.linspace(0, len(freihand.K) - 1, count).round().astype(int)
    step = len(freihand.K) if len(freihand.versions) == columns else 1  # the same row, or its neighbours
    tiles = [[tile(freihand, (row + k * step) % len(freihand)) for k in range(columns)] for row in shown.tolist()]
    sheet = np.vstack([np.hstack(line) for line in tiles])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def tile(freihand: FreihandSet, i: int) -> np.ndarray:
    """(TILE_PX, TILE_PX, 3) uint8: image `i` with what is labelled in it."""
    row, camera = freihand.row(i), freihand.camera(i)
    zoom = np.array([TILE_PX / camera.width, TILE_PX / camera.height])

    def position(points_m: np.ndarray) -> np.ndarray:
        return (project(points_m, camera) + 0.5) * zoom - 0.5

    image = cv2.resize(freihand.image(i), (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
    if freihand.verts is not None:
        for x, y in position(freihand.verts[row]).round().astype(int).tolist():
            cv2.circle(image, (x, y), 0, _VERTEX)
    mask = freihand.mask(i)
    if mask is not None:
        large = cv2.resize(mask, (TILE_PX, TILE_PX), interpolation=cv2.INTER_LINEAR)
        outlines, _ = cv2.findContours((large > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, _OUTLINE, 1)
    draw_skeleton(image, position(freihand.xyz[row]))
    cv2.putText(image, freihand.image_path(i).stem, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
    return image


@dataclass(frozen=True)
class CheckOptions:
    """Check a FreiHAND folder: counts and files, ranges, and whether the labels agree.

    Prints a table of findings, each with what to do about it; the exit code is 1 where something is broken.
    """

    root: tyro.conf.Positional[Path]
    """The folder that holds training_K.json and training/rgb."""
    hand_model: Path | None = None
    """The set's hand as .npz (`handmesh data convert-mano`), for the labels to agree with."""
    split: FreihandSplit | None = None
    """The split to check. Default: both."""
    decode: bool = False
    """Decode every image: slower, finds more."""
    output: Path | None = None
    """Write a .png of some samples with their labels."""


def run(options: CheckOptions) -> int:
    """`handmesh data check-freihand`: check and print; 0 where nothing is broken."""
    splits = (options.split,) if options.split else get_args(FreihandSplit)
    hand = None if options.hand_model is None else HandModel.load(options.hand_model)
    findings = check_freihand(options.root, splits, hand, options.decode)
    Console().print(findings_table(findings))
    if options.output:
        write_sheet(read_freihand(options.root, splits[0]), options.output)
        print(f"wrote {options.output}")
    return verdict(findings)


def verdict(findings: Sequence[Finding]) -> int:
    """Print whether something is broken; the exit code, 1 where it is."""
    broken = sum(finding.verdict == "broken" for finding in findings)
    print(f"{broken} of {len(findings)} findings say that something is broken" if broken else "nothing is broken")
    return 1 if broken else 0
