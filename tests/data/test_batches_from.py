"""Batches come from the workers as they are, with and without room in shared memory."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")

from handmesh.data import loader  # noqa: E402
from handmesh.data.loader import Stage, StepBatches, batches_from  # noqa: E402


class Numbers(StepBatches):
    """Batches of tensors that say which step they are of."""

    def __getitem__(self, step):
        return {"step": torch.full((4, 1000), float(step)), "number": torch.tensor(step)}


@pytest.mark.parametrize("free", [2**40, 10_000], ids=["roomy", "full"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_also_where_shared_memory_is_small(monkeypatch, workers, free):
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = list(batches_from(Numbers([(1.0, None)], [Stage(7, 64, 4)], seed=0), 3, workers))
    assert [int(batch["number"]) for batch in found] == [3, 4, 5, 6]
    assert all(torch.equal(batch["step"], torch.full((4, 1000), float(batch["number"]))) for batch in found)
    assert {batch["step"].is_shared() for batch in found} == {workers > 0 and free > 10_000}


def test_what_lies_about_is_thrown_away_before_workers_begin():
    thrown = []

    class Loop:
        """Goes when garbage is collected, and not before."""

        def __init__(self):
            self.me = self

        def __del__(self):
            thrown.append(True)

    gc.disable()
    try:
        Loop()
        batches_from(Numbers([(1.0, None)], [Stage(7, 64, 4)], seed=0), 3, 1)
        assert thrown
    finally:
        gc.enable()
