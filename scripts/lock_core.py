"""Write requirements-core.txt: all that the core install brings, pinned as in constraints.txt, with the files' hashes.

    python scripts/lock_core.py          # or: make lock

pip itself finds the files, on the index that it is set up for, and says their hashes; nothing is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux2010")
PLATFORMS = {
    "Linux, x86-64": tuple(f"{tag}_x86_64" for tag in (*MANYLINUX, "manylinux1")),
    "Linux, ARM": tuple(f"{tag}_aarch64" for tag in MANYLINUX),
    "macOS, ARM": ("macosx_14_0_arm64",),
    "Windows": ("win_amd64",),
}
HEAD = f"""\
# The core install with the hashes of its files, written by `make lock`. Versions are those of constraints.txt.
# For Python {PYTHONS[0]} to {PYTHONS[-1]} on %s.
# pip install --require-hashes -r requirements-core.txt && pip install --no-deps .
"""


@dataclass(frozen=True)
class Options:
    """Renew the lock of the core install."""

    output: Path = ROOT / "requirements-core.txt"
    platforms: tuple[Literal["Linux, x86-64", "Linux, ARM", "macOS, ARM", "Windows"], ...] = tuple(PLATFORMS)
    """Whose files may be installed by it."""


def main(options: Options) -> None:
    """Ask pip and write."""
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    here = report([*core, "--constraint", str(ROOT / "constraints.txt")])
    hashes = {pin: {file_hash} for pin, _, file_hash in here}
    built = [pin for pin, file, _ in here if file.endswith(".whl") and not file.endswith("-none-any.whl")]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.platforms:
            for python in PYTHONS:
                print(f"{name}, Python {python}", flush=True)
                target = ["--no-deps", "--only-binary", ":all:", "--target", folder, "--python-version", python]
                for pin, _, file_hash in report([*built, *target, *(f"--platform={tag}" for tag in PLATFORMS[name])]):
                    hashes[pin].add(file_hash)
    options.output.write_text(
        HEAD % "; ".join(options.platforms) + "".join(lines(pin, hashes[pin]) for pin in sorted(hashes))
    )
    print(f"wrote {options.output}: {len(hashes)} packages, {sum(map(len, hashes.values()))} files")


def report(arguments: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each `name==version` that pip would install, its file and SHA-256. Exits with pip's words where it cannot."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [_entry(item) for item in json.loads(done.stdout)["install"]]


def _entry(item: dict) -> tuple[str, str, str]:
    name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
    file = item["download_info"]
    return (
        f"{name}=={item['metadata']['version']}",
        file["url"].rsplit("/", 1)[1],
        file["archive_info"]["hashes"]["sha256"],
    )


def lines(pin: str, hashes: Iterable[str]) -> str:
    """A requirement as pip reads it with its hashes."""
    return " \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in sorted(hashes))]) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
