"""Streamed shards: what a step draws from depends on seed and step alone, and little lies on the disk."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")
pytest.importorskip("fsspec", reason="streams are part of the training extra")

from shard_site import serving  # noqa: E402
from test_shards import make_parts, write_shard  # noqa: E402

from handmesh.data import mixture, remote  # noqa: E402
from handmesh.data.loader import MixConfig, Stage, TrainingBatches, batches_from  # noqa: E402
from handmesh.data.remote import (  # noqa: E402
    FetchError,
    Stream,
    StreamConfig,
    expand_braces,
    list_shards,
)
from handmesh.data.samples import AugmentConfig  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.checkpoint import load_weights  # noqa: E402
from handmesh.training.config import MeshConfig, read_config  # noqa: E402
from handmesh.training.engine import train  # noqa: E402
from handmesh.training.mesh import MeshTask  # noqa: E402

SHARDS, WINDOW, STEPS = 7, 2, 5
PATTERN = f"shard-{{00000..{SHARDS - 1:05d}}}.tar"
FIRST = "shard-00000.tar"
OPEN = partial(mixture.open_synthetic, hand=HandModel.load(), masks=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Seven shards of three samples."""
    folder = tmp_path_factory.mktemp("www")
    for shard in range(SHARDS):
        seeds = range(3 * shard, 3 * shard + 3)
        write_shard(folder / f"shard-{shard:05d}.tar", {f"{seed:08d}": make_parts(seed) for seed in seeds})
    return folder


@pytest.fixture
def site(folder, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.01, 0.02))
    with serving(folder) as site:
        yield site
        _settle()


def _config(cache: Path, **changes: object) -> StreamConfig:
    return StreamConfig(**{"cache": cache, "window": WINDOW, "steps": STEPS, **changes})


def _stream(site, cache: Path, pattern: str = PATTERN, seed: int = 1, **changes: object) -> Stream:
    return Stream([site.url(pattern)], _config(cache, **changes), OPEN, seed)


def _batches(source, rank: int = 0, world: int = 1) -> TrainingBatches:
    return TrainingBatches([(1.0, source)], [Stage(40, 32, 4)], AugmentConfig(), 1.5, 1, rank, world)


def _settle() -> None:
    """Wait for what is fetched ahead."""
    for thread in threading.enumerate():
        if thread.name == "fetch ahead":
            thread.join()


def _equal(ours, theirs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("https://h/s-{098..101}.tar?a=b", [f"https://h/s-{n}.tar?a=b" for n in ("098", "099", "100", "101")]),
        ("{8..10}", ["8", "9", "10"]),
        ("{0..2}", ["0", "1", "2"]),
        ("{train,more}/{0..1}.tar", ["train/0.tar", "train/1.tar", "more/0.tar", "more/1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_stand_for_names_as_in_webdataset(pattern, names):
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["s3://b/{}.tar", "s3://b/{9..3}.tar", "s3://b/{a..c}.tar"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(ValueError, match=r"braces hold a range such as 00000\.\.00099 .* in s3://b/"):
        list_shards([pattern])


def test_local_patterns_name_files(folder):
    names = [str(folder / f"shard-{n:05d}.tar") for n in range(SHARDS)]
    assert list_shards([f"{folder}/*.tar"]) == list_shards([f"file://{folder}/{PATTERN}"]) == names
    assert list_shards([f"{folder}/*1.tar", f"{folder}/{PATTERN}"]) == [names[1], names[0], *names[2:]]
    with pytest.raises(FileNotFoundError, match=r"nothing/\*\.tar"):
        list_shards([f"{folder}/nothing/*.tar"])


def test_each_epoch_uses_every_shard_once_in_an_order_of_its_own(site, tmp_path):
    stream = _stream(site, tmp_path)
    windows = [stream.shards_of(number) for number in range(SHARDS * 2)]
    assert {len(window) for window in windows} == {WINDOW}
    order = [shard for window in windows for shard in window]
    epochs = [order[k : k + SHARDS] for k in range(0, len(order), SHARDS)]
    assert len(epochs) == 4 and all(sorted(epoch) == sorted(stream.shards) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert _stream(site, tmp_path, seed=2).shards_of(0) != windows[0]


def test_a_window_draws_each_of_its_samples(site, tmp_path):
    stream = _stream(site, tmp_path)
    window = stream.at(STEPS)
    seeds = {int(shard.shards.seeds[i]) for shard in window.shards for i in range(3)}
    wanted = {3 * int(Path(shard).stem[-5:]) + k for shard in stream.shards_of(1) for k in range(3)}
    assert seeds == wanted and len(window) == 6
    rng = np.random.default_rng(0)
    drawn = {float(window.draw(rng).joints_m[0, 0]) for _ in range(200)}
    assert drawn == {float(window[i].joints_m[0, 0]) for i in range(6)} and len(drawn) == 6


def test_a_batch_depends_on_seed_and_step_alone(site, tmp_path):
    batches = _batches(_stream(site, tmp_path / "a"))
    seen = [batches[step] for step in range(4 * STEPS)]
    assert _equal(batches[7], seen[7]) and _equal(batches[0], seen[0])  # windows that were left long ago
    resumed = _batches(_stream(site, tmp_path / "b"))  # on another machine, in the midst of a window
    assert all(_equal(resumed[step], seen[step]) for step in range(8, 4 * STEPS))
    assert not _equal(_batches(_stream(site, tmp_path / "c", seed=3))[8], seen[8])


def test_two_processes_share_one_global_batch(site, tmp_path):
    whole = _batches(_stream(site, tmp_path / "a"))[6]
    halves = [_batches(_stream(site, tmp_path / "b"), rank, 2)[6] for rank in (0, 1)]
    for column, a, b in zip(whole, *halves, strict=True):
        assert torch.equal(column[0::2], a) and torch.equal(column[1::2], b)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_change_nothing(workers, site, tmp_path):
    plain = _batches(_stream(site, tmp_path / "a"))
    loaded = list(batches_from(_batches(_stream(site, tmp_path / "b")), 3, workers))
    assert len(loaded) == 37
    assert all(_equal(batch, plain[step]) for step, batch in enumerate(loaded, 3))


def test_three_windows_at_most_are_on_disk_and_nothing_foreign_is_touched(site, tmp_path):
    foreign = [tmp_path / name for name in ("notes.txt", FIRST, "shard-00001-0123456789ab.tar")]
    for path in foreign:
        path.write_text("mine")
    stream = _stream(site, tmp_path)
    for number in range(9):
        stream.at(number * STEPS)
        _settle()
        near = [stream.shards_of(n) for n in range(max(0, number - 1), number + 2)]
        ours = {path for path in tmp_path.glob("*.tar") if path not in foreign}
        assert len(ours) == len({shard for window in near for shard in window}) <= 3 * WINDOW
        assert {path.name for path in tmp_path.glob("*.npz")} == {f"{path.stem}.labels.npz" for path in ours}
    assert all(path.read_text() == "mine" for path in foreign)


def test_a_window_as_large_as_the_list_is_fetched_once(site, tmp_path):
    stream = _stream(site, tmp_path, window=50)
    for number in range(3):
        assert len(stream.at(number * STEPS)) == 3 * SHARDS
        _settle()
    assert set(site.asked.values()) == {1}


def test_the_next_window_is_fetched_ahead(site, tmp_path):
    stream = _stream(site, tmp_path)
    stream.at(0)
    _settle()
    site.refusals.update({f"shard-{n:05d}.tar": 1000 for n in range(SHARDS)})
    with pytest.warns(UserWarning, match="fetching ahead failed"):
        assert len(stream.at(STEPS)) == 6
        _settle()
    with pytest.raises(FetchError):
        stream.at(2 * STEPS)


def test_a_worker_that_lags_reads_on_when_its_files_are_gone(site, tmp_path):
    stream = _stream(site, tmp_path)
    window = stream.at(0)
    before = window[0].image
    _settle()
    _stream(site, tmp_path).at(2 * STEPS)
    assert not any(stream.fetched.path(shard).exists() for shard in stream.shards_of(0))
    np.testing.assert_array_equal(window[0].image, before)
    assert window[5].image.shape == (32, 32, 3)  # was never read before


def test_processes_of_a_node_fetch_each_shard_once(site, tmp_path):
    context = multiprocessing.get_context("fork")
    crew = [context.Process(target=_stay, args=(_stream(site, tmp_path, window=4),)) for _ in range(3)]
    for process in crew:
        process.start()
    for process in crew:
        process.join(60)
    assert [process.exitcode for process in crew] == [0, 0, 0]
    assert len(site.asked) == SHARDS and set(site.asked.values()) == {1}


def _stay(stream: Stream) -> None:
    assert len(stream.at(0)) == 12
    _settle()


def test_a_failed_transfer_is_tried_again(site, tmp_path):
    site.refusals[FIRST] = 2
    assert len(_stream(site, tmp_path, FIRST).at(0)) == 3
    assert site.asked[FIRST] == 3


def test_a_shard_that_cannot_be_had_is_named(site, tmp_path):
    site.refusals[FIRST] = 1000
    with pytest.raises(FetchError, match=rf"cannot fetch http://.*/{FIRST} in 4 attempts \(.*503.*check the address"):
        _stream(site, tmp_path, FIRST).at(0)
    assert site.asked[FIRST] == 4 and not list(tmp_path.glob("*.*"))


def test_a_shard_that_came_cut_short_is_fetched_again_once(site, tmp_path):
    site.cuts[FIRST] = 1
    assert len(_stream(site, tmp_path / "a", FIRST).at(0)) == 3
    assert site.asked[FIRST] == 2
    site.cuts[FIRST] = 1000
    with pytest.raises(FetchError, match=rf"{FIRST} is damaged, also when fetched again: .*truncated"):
        _stream(site, tmp_path / "b", FIRST).at(0)
    assert site.asked[FIRST] == 4 and not list((tmp_path / "b").glob("*.*"))


def test_a_shard_damaged_on_disk_is_fetched_again(site, tmp_path):
    stream = _stream(site, tmp_path, FIRST)
    stream.at(0)
    _settle()
    (file,) = tmp_path.glob("*.tar")
    file.write_bytes(file.read_bytes()[:1024])
    assert len(_stream(site, tmp_path, FIRST).at(0)) == 3


def test_an_interruption_leaves_no_half_file(site, tmp_path, monkeypatch):
    def interrupted(url: str, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(remote, "download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _stream(site, tmp_path, FIRST).at(0)
    assert not list(tmp_path.glob("*.*"))
    assert len(_stream(site, tmp_path, FIRST).at(0)) == 3


def test_a_process_killed_during_a_transfer_blocks_nobody(site, tmp_path):
    site.stalled.add(FIRST)
    victim = multiprocessing.get_context("fork").Process(target=_stream(site, tmp_path, FIRST).at, args=(0,))
    victim.start()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.kill()
    victim.join()
    assert [path.suffix for path in tmp_path.glob("*.*")] == [".part"]
    site.stalled.clear()
    assert len(_stream(site, tmp_path, FIRST).at(0)) == 3
    assert not list(tmp_path.glob("*.part"))


def test_local_shards_are_read_in_place(folder, tmp_path):
    before = sorted(folder.glob("*.tar"))
    stream = Stream([f"{folder}/{PATTERN}"], _config(tmp_path / "cache"), OPEN, 1)
    for number in range(6):
        assert len(stream.at(number * STEPS)) == 6
    assert sorted(folder.glob("*.tar")) == before and not (tmp_path / "cache").exists()


def test_a_protocol_that_nothing_reads_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"cannot fetch nope://b/0\.tar.*for s3:// install s3fs"):
        Stream(["nope://b/{0..3}.tar"], _config(tmp_path), OPEN, 0)


@pytest.mark.parametrize("name", ["window", "steps"])
def test_a_window_and_its_steps_are_at_least_one(name, tmp_path):
    with pytest.raises(ValueError, match=rf"data\.stream\.{name} must be at least 1, got 0"):
        _config(tmp_path, **{name: 0})


def test_survives_pickling_for_worker_processes(site, tmp_path):
    stream = _stream(site, tmp_path)
    before = stream.at(0)[1].image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stream)).at(0)[1].image, before)
    assert stream.at(0)[1].image is not None


def test_a_stream_takes_part_in_the_synthetic_share(folder, site, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    write_shard(local / FIRST, {f"{seed:08d}": make_parts(seed) for seed in range(3)})
    stream = _config(tmp_path / "cache", shards=(site.url(PATTERN),))
    both = mixture.sources_of(MixConfig(shards=(local,), stream=stream), HandModel.load(), 1.5)
    assert [fraction for fraction, _ in both] == pytest.approx([0.6 / 8, 0.6 * 7 / 8])
    ((fraction, source),) = mixture.sources_of(MixConfig(stream=stream), HandModel.load(), 1.5, masks=True, seed=4)
    assert fraction == pytest.approx(0.6) and source.seed == 4
    assert source.at(0)[0].mask is not None


def test_a_run_trains_from_a_stream_with_loader_workers(site, tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text(
        f"run: {{out: '{tmp_path}/run', schedule: [[5, 64, 2]], precision: 32-true, accelerator: cpu}}\n"
        f"data: {{stream: {{shards: ['{site.url(PATTERN)}'], cache: '{tmp_path}/cache', window: 2, steps: 2}},"
        " workers: 2}\n"
    )
    config = read_config(MeshConfig, preset)
    task = MeshTask(config)
    assert load_weights(train(task, config.run, config.optimiser)).metadata["steps"] == 5
    (stream,) = (mixed.source for mixed in task.sources)
    used = {Path(shard).name for number in range(3) for shard in stream.shards_of(number)}
    assert used <= site.asked.keys() and stream.seed == config.run.seed
