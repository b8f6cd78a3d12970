"""A clip as JSON: a record a frame, a line each, with all parameters but the mesh. The schema is in docs/exports.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.runtime.media.clips.clip import FORMAT, HAND_ROW, VERSION, Clip, ClipError, FrameHead
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera

_DECIMALS = {"joints_m": 6, "joints_px": 2, "shape": 5, "joints_spread_m": 6, "joints_spread_px": 2}


def write_json(clip: Clip, path: Path) -> None:
    """Write the clip without its meshes, which pose and shape give back."""
    about = {"format": FORMAT, "version": VERSION, "source": clip.title, "fps": clip.fps}
    opening = json.dumps({**about, "num_vertices": clip.num_vertices})[:-1]
    bounds = np.searchsorted(clip.rows["frame"], np.arange(len(clip.heads) + 1))
    with open(path, "w") as file:
        file.write(f'{opening}, "frames": [')
        for k, head in enumerate(clip.heads):
            record = _frame_record(head, clip.rows[bounds[k] : bounds[k + 1]])
            file.write((",\n" if k else "\n") + json.dumps(record))
        file.write("\n]}\n")


def _frame_record(head: FrameHead, rows: np.ndarray) -> dict[str, object]:
    hands = [_hand_record(row) for row in rows]
    return {"file": head.name, "time_s": round(head.time_s, 6), "camera": asdict(head.camera), "hands": hands}


def _hand_record(row: np.void) -> dict[str, object]:
    scalars = {
        **{"id": int(row["id"]), "side": str(row["side"]), "score": round(float(row["score"]), 4)},
        **{"visible_s": round(float(row["visible_s"]), 4), "predicted": bool(row["predicted"])},
    }
    arrays = {name: _rounded(row[name], decimals) for name, decimals in _DECIMALS.items()}
    turns = Rotation.from_matrix(row["pose"].astype(np.float64)).as_quat(canonical=True)
    return {**scalars, "pose_xyzw": _rounded(turns, 6), **arrays}


def _rounded(values: np.ndarray, decimals: int) -> list | None:
    """The values as a list; None where they are unknown."""
    return None if np.isnan(values).any() else values.astype(np.float64).round(decimals).tolist()


def read_json(path: Path, model: SkinnedHand) -> Clip:
    """Read a clip back. Raises ClipError where the file is no recording."""
    try:
        whole = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ClipError(f"{path} is not JSON: {error}") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or whole.get("version", 0) > VERSION:
        raise ClipError(f"{path} is not a recorded clip of version {VERSION}, which has 'format': {FORMAT!r}")
    try:
        frames = whole["frames"]
        heads = [FrameHead(f["file"], f["time_s"], Camera(**f["camera"])) for f in frames]
        rows = [_read_hand(hand, k) for k, frame in enumerate(frames) for hand in frame["hands"]]
        table = np.concatenate(rows) if rows else np.empty(0, HAND_ROW)
        return Clip(whole["source"], whole["fps"], heads, table, model.faces, whole["num_vertices"], model=model)
    except (KeyError, TypeError, ValueError) as error:
        raise ClipError(f"{path} is not a recorded clip as docs/exports.md has it: {error!r}") from error


def _read_hand(record: dict, frame: int) -> np.ndarray:
    row = np.zeros(1, HAND_ROW)
    row["frame"] = frame
    row["pose"] = Rotation.from_quat(record["pose_xyzw"]).as_matrix()
    for name in HAND_ROW.names:
        if name not in ("frame", "pose"):
            row[name] = np.nan if record[name] is None else record[name]
    return row
