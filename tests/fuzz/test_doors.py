"""A few damaged files at every door; `python tests/fuzz/fuzz_files.py` tries thousands and watches time and memory."""

from __future__ import annotations

import pytest
from doors import DOORS
from fuzz_files import BadFiles, read

TORCH = {"hand", "weights", "preset", "predictions", "labels", "shard"}
FILES = 40


@pytest.mark.parametrize("name", DOORS)
def test_damaged_files_are_refused_in_words(name, tmp_path):
    if name in TORCH:
        pytest.importorskip("lightning_fabric", reason="what is read there is for training")
    files = BadFiles(name, 1, tmp_path)
    assert [read(DOORS[name], good) for good in files.seeds] == ["taken"] * len(files.seeds)
    came = [read(DOORS[name], files[k]) for k in range(FILES)]
    assert {k: each for k, each in enumerate(came) if each not in ("taken", "refused")} == {}
    assert "refused" in came
