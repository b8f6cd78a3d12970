"""Fit the posed hand to labelled photographs: `python scripts/fit_photos.py PHOTOS --out data/fits.npz`.

PHOTOS is a folder with pseudo_labels.json. Training learns rotations and shapes from the accepted fits
(data.fits); those of the held-out split are written too, to be looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from handmesh.console import guarded
from handmesh.data.fit_photos import FitPhotosConfig


@dataclass(frozen=True)
class Options:
    """What to fit, and where to write."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Folder with pseudo_labels.json."""
    out: Path
    """The .npz file of fits."""
    model: str = "balanced"
    """The mesh network that proposes: a bundled one by name, or an .onnx file."""
    sheet: Path | None = None
    """A PNG of the best, the median and the worst fits drawn over their photographs."""
    limit: int | None = None
    """Only so many photographs of each split."""
    fit: tyro.conf.OmitArgPrefixes[FitPhotosConfig] = field(default_factory=FitPhotosConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, fit, print; 0 on success, 1 with one line on an error."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    return guarded(lambda: fit(options))


def fit(options: Options) -> int:
    """Fit and write what the options say."""
    from handmesh.evaluation.photo_fits import fit_folder

    fit_folder(options.photos, options.out, options.model, options.fit, options.sheet, options.limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
