"""Damaged files at every door: none may end in a traceback, a hang, a crash or more than a gigabyte.

    python tests/fuzz/fuzz_files.py --count 1000
    python tests/fuzz/fuzz_files.py --doors clip hand --count 5000 --seed 7

Each door's files are read in a process of their own, which is started anew after a crash or a hang. Files that
were taken wrongly are kept in --output, with what came of them in their names.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS.parent / "scripts"), str(TESTS.parent)]

from doors import DOORS, Door, damaged  # noqa: E402

MOST_MB = 1000  # beyond what the imports take
LIMIT_MB = 6000  # of addresses: an allocation beyond it fails
WORKER = "--worker"  # with a task: how this program calls itself
FINE = (ValueError, OSError, RuntimeError, ArithmeticError, ImportError)  # what commands turn into one line


@dataclass(frozen=True)
class Options:
    """Read damaged files at every door."""

    count: int = 1000
    """Files at each door."""
    doors: tuple[str, ...] = tuple(DOORS)
    """Some of the doors."""
    seed: int = 0
    output: Path = Path("outputs/fuzz")
    """Where files that were taken wrongly are kept."""
    patience_s: float = 20.0
    """A file that takes longer hangs."""


class Task(NamedTuple):
    """What a worker is told: files `start` to `count` of a door."""

    name: str
    start: int
    count: int
    seed: int


class BadFiles:
    """The damaged files of a door, each a function of seed and number."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.seed, self.folder = name, seed, folder
        self.seeds = DOORS[name].seeds(folder)
        self.good = [(path.suffix, path.read_bytes()) for path in self.seeds]

    def __getitem__(self, k: int) -> Path:
        rng = np.random.default_rng([self.seed, k, *self.name.encode()])
        suffix, good = self.good[rng.integers(len(self.good))]
        path = self.folder / f"{k}{suffix}"
        path.write_bytes(damaged(good, rng))
        return path


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(task: Task) -> None:
    """Read the files of a door, and say what came of each, a line of JSON each."""
    door = DOORS[task.name]
    with tempfile.TemporaryDirectory() as folder:
        files = BadFiles(task.name, task.seed, Path(folder))
        for good in files.seeds:
            door.read(good)  # it must be taken
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_MB * 2**20,) * 2)
        before = peak_mb()
        for k in range(task.start, task.count):
            path = files[k]
            tell({"k": k, "came": "begun"})
            came = read(door, path)
            if peak_mb() - before > MOST_MB:
                came = f"memory {peak_mb() - before:.0f} MB"
            tell({"k": k, "came": came})
            path.unlink()
            if came.startswith("memory"):
                return  # the peak stays: a new process is needed
    tell({"k": -1, "came": f"{peak_mb() - before:.0f}"})


def read(door: Door, path: Path) -> str:
    try:
        door.read(path)
    except FINE as error:
        return "refused" if len(str(error)) else f"silent {type(error).__name__}"
    except SystemExit:
        return "refused"
    except BaseException as error:
        return f"traceback {type(error).__module__}.{type(error).__name__}"
    return "taken"


def tell(entry: dict) -> None:
    os.write(OUT, (json.dumps(entry) + "\n").encode())


def watch(name: str, options: Options) -> tuple[Counter, float, list[tuple[int, str]]]:
    """Run a door's workers to the end: what came how often, the peak in MB, and what went wrong."""
    found, wrong, start, peak = Counter(), [], 0, 0.0
    while start < options.count:
        task = json.dumps(Task(name, start, options.count, options.seed))
        command = [sys.executable, __file__, WORKER, task]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=lambda w=worker, q=lines: [*map(q.put, w.stdout), q.put(b"")], daemon=True).start()
        begun, came = start - 1, "crash"
        patience = 120.0  # for its imports
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                worker.kill()
                came = "hang"
                break
            if not line:
                break
            entry = json.loads(line)
            patience = options.patience_s
            if entry["k"] < 0:
                peak = max(peak, float(entry["came"]))
            elif entry["came"] == "begun":
                begun = entry["k"]
            else:
                found[entry["came"].split()[0]] += 1
                if entry["came"] not in ("refused", "taken"):
                    wrong.append((entry["k"], entry["came"]))
                start = entry["k"] + 1
        if begun >= start:  # it was not heard of again
            found[came] += 1
            wrong.append((begun, came))
            start = begun + 1
        elif worker.wait() and start < options.count and begun < start:
            raise RuntimeError(f"{name}: the worker ends before file {start}: run it by hand: {command[1:]}")
    return found, peak, wrong


def keep(name: str, options: Options, wrong: list[tuple[int, str]]) -> None:
    """Write the files that were taken wrongly."""
    with tempfile.TemporaryDirectory() as folder:
        files = BadFiles(name, options.seed, Path(folder))
        for k, came in wrong:
            path = files[k]
            options.output.mkdir(parents=True, exist_ok=True)
            path.replace(options.output / f"{name}-{k}-{came.replace(' ', '_')}{path.suffix}")


def main(options: Options) -> int:
    """Print a line for each door; 1 if anything went wrong."""
    print(f"{'door':12} files  refused  taken  wrong  peak MB  seconds")
    failed = False
    for name in options.doors:
        before = time.monotonic()
        found, peak, wrong = watch(name, options)
        row = (sum(found.values()), found["refused"], found["taken"], len(wrong), peak, time.monotonic() - before)
        print("{:12} {:5d} {:8d} {:6d} {:6d} {:8.0f} {:8.0f}".format(name, *row), flush=True)
        for kind, number in Counter(came for _, came in wrong).most_common():
            print(f"  {number} x {kind}, first with file {next(k for k, came in wrong if came == kind)}", flush=True)
        keep(name, options, wrong)
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        OUT = os.dup(1)
        os.dup2(2, 1)  # what readers print is not ours
        work(Task(*json.loads(sys.argv[2])))
        raise SystemExit(0)
    raise SystemExit(main(tyro.cli(Options, description=__doc__)))
