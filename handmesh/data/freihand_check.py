"""Is a FreiHAND folder whole, and do its labels agree? Findings, each with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from handmesh.data import freihand_values
from handmesh.data.freihand import (
    LABELS_ZIP,
    NEEDED,
    PAGE,
    VERSIONS,
    ZIP,
    FreihandError,
    FreihandSplit,
    check_folder,
    mask_path,
    picture_path,
)
from handmesh.data.freihand_lists import LISTS, load_list
from handmesh.data.freihand_values import Finding

if TYPE_CHECKING:
    from handmesh.hand_model import HandModel

REAL_ROWS: dict[FreihandSplit, int] = {"training": 32_560, "evaluation": 3_960}
REAL_SIZE = (224, 224)
_JPEG_END = b"\xff\xd9"
_COLOURS = {"ok": "green", "note": "yellow", "broken": "red"}

Lists = dict[str, np.ndarray]


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
    decode: decode every picture instead of looking at its header and end alone (2 minutes more for
    the real set). Raises FreihandError where `root` is no FreiHAND folder at all.
    """
    findings = []
    for split in splits:
        check_folder(root, split)
        lists, found = check_lists(root, split, progress)
        findings += found
        if "K" in lists:
            found, size_px = check_pictures(root, split, len(lists["K"]), decode, progress)
            findings += found
            findings += freihand_values.check_values(split, lists, size_px)
            findings += freihand_values.check_model(split, lists, hand)
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
    return Finding(path.name, "note", "missing: no figures on this split", f"unpack {LABELS_ZIP} ({PAGE})")


def _rows_finding(split: FreihandSplit, rows: int, names: Sequence[str]) -> Finding:
    found = f"{rows:,} rows of {', '.join(names)}"
    if rows == REAL_ROWS[split]:
        return Finding(f"{split} lists", "ok", found)
    return Finding(f"{split} lists", "note", f"{found}; the real set has {REAL_ROWS[split]:,}", "right for a twin")


def check_pictures(
    root: Path, split: FreihandSplit, rows: int, decode: bool = False, progress: bool = True
) -> tuple[list[Finding], tuple[int, int]]:
    """What is wrong with the pictures and masks, and the (width, height) that most pictures have."""
    versions = VERSIONS if split == "training" else VERSIONS[:1]
    kinds = {"rgb": [picture_path(root, split, row, version, rows) for version in versions for row in range(rows)]}
    if split == "training":
        kinds["mask"] = [mask_path(root, row) for row in range(rows)]
    findings, usual = [], REAL_SIZE
    for kind, paths in kinds.items():
        what = f"{split}/{kind}"
        states = [picture_state(path, decode) for path in _with_bar(paths, what, progress)]
        sizes = Counter(state for state in states if not isinstance(state, str))
        usual = sizes.most_common(1)[0][0] if kind == "rgb" and sizes else usual
        findings += _judge_pictures(what, paths, states, usual)
        findings += _surplus(root / what, len(paths))
    return findings, usual


def _with_bar(paths: Sequence[Path], what: str, progress: bool) -> Iterable[Path]:
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    return track(paths, f"looking at {what}", transient=True, disable=hidden, console=console)


def picture_state(path: Path, decode: bool = False) -> tuple[int, int] | str:
    """The (width, height) of a JPEG that seems whole, or what is wrong with it in a word."""
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            if decode:
                image.load()
            file.seek(-len(_JPEG_END), 2)
            return image.size if file.read() == _JPEG_END else "truncated"
    except FileNotFoundError:
        return "missing"
    except (OSError, SyntaxError):  # what Pillow raises of damaged files
        return "damaged"


def _judge_pictures(
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
    surplus = sum(1 for _ in folder.glob("*.jpg")) - expected if folder.is_dir() else 0
    if surplus <= 0:
        return []
    found = f"{surplus:,} files more than the lists have rows for"
    return [Finding(f"{folder.parent.name}/{folder.name}", "broken", found, f"unpack {ZIP} into a folder of its own")]
