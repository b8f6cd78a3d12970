"""Other programs that keep cores busy, at our word."""

from __future__ import annotations

import subprocess
import sys
import time
from types import TracebackType

_SPIN = """
import os, sys, threading, time
busy = False
def listen():
    global busy
    for line in sys.stdin:
        busy = line == "1\\n"
    os._exit(0)
threading.Thread(target=listen).start()
print(flush=True)
while True:
    if not busy:
        time.sleep(1e-3)
"""

_SETTLE_S = 0.05


class Burden:
    """Processes that spin while they are told to, each on one core. They end when this one does, however it ends."""

    def __init__(self, cores: int) -> None:
        """cores: how many to keep busy; ValueError for less than none."""
        if cores < 0:
            raise ValueError(f"expected 0 or more cores to keep busy, got {cores}")
        self.cores = cores
        self._spinners: list[subprocess.Popen] = []

    def __enter__(self) -> Burden:
        pipe = subprocess.PIPE
        for _ in range(self.cores):
            self._spinners.append(subprocess.Popen([sys.executable, "-c", _SPIN], stdin=pipe, stdout=pipe, text=True))
        for spinner in self._spinners:
            spinner.stdout.readline()  # it is there
        return self

    def turn(self, on: bool) -> None:
        """Make them spin or rest, and give the scheduler time to notice."""
        for spinner in self._spinners:
            spinner.stdin.write(f"{on:d}\n")
            spinner.stdin.flush()
        if self._spinners:
            time.sleep(_SETTLE_S)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for spinner in self._spinners:
            spinner.kill()
            spinner.communicate()
