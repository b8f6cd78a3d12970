"""The soak finds what grows, slows down or is left behind, and only that."""

from __future__ import annotations

import json
import mmap
import threading
from pathlib import Path

import numpy as np
import pytest
from posed_hand import FakeTracker

from handmesh import console
from handmesh.benchmark import soak
from handmesh.benchmark.soak import Sample, SoakOptions, made_report, run_soak
from handmesh.render.overlay import warm_up
from handmesh.types import Frame
from handmesh.video.sinks import VideoRecorder


@pytest.fixture
def clip(tmp_path) -> str:
    recorder = VideoRecorder(tmp_path / "clip.mp4", 30)
    for k in range(8):
        recorder.write(Frame(str(k), k / 30, np.zeros(0)), np.full((48, 64, 3), 40, np.uint8))
    recorder.close()
    return str(tmp_path / "clip.mp4")


def options(clip: str, seconds: float, **others: object) -> SoakOptions:
    return SoakOptions(minutes=seconds / 60, source=(clip,), **{"every_s": 0.1, "record": False, **others})


def samples(count: int = 100, **growing: float) -> list[Sample]:
    """Samples that do not change, but for what grows from 0 to its value over the time."""
    first = Sample(0.0, 0, 10.0, 12.0, 200.0, 8, 20)
    grown = [{name: value * k / (count - 1) for name, value in growing.items()} for k in range(count)]
    return [
        first._replace(time_s=k, **{name: getattr(first, name) + value for name, value in more.items()})
        for k, more in enumerate(grown)
    ]


def test_a_short_soak_runs_and_leaves_nothing(clip, tmp_path):
    warm_up()  # what is compiled at first would take most of the time
    report = run_soak(options(clip, 2.5, record=True), FakeTracker)
    assert report.judged and not report.interrupted and report.frames > 8 and not report.threads_left
    assert report.warm_up_s == pytest.approx(2.5 / 3) and report.median_ms > 0
    assert len(report.samples) >= 6 and report.samples[-1].frames <= report.frames
    report.write(tmp_path / "deep" / "soak.json")
    written = json.loads((tmp_path / "deep" / "soak.json").read_text())
    assert written["frames"] == report.frames and written["samples"][0]["threads"] >= 1
    assert report.lines()[-1] in ("PASSED", "FAILED: " + "; ".join(report.failures))


def test_times_go_on_from_play_to_play_and_hold_the_rate(clip):
    times_s: list[float] = []

    class Timed(FakeTracker):
        def track(self, frame_rgb, time_s=None, camera=None):
            times_s.append(time_s)
            return super().track(frame_rgb, time_s, camera)

    report = run_soak(options(clip, 1.0, fps=20), Timed)
    assert (np.diff(times_s) > 0).all() and 1 < report.frames <= 21


@pytest.mark.parametrize(
    ("growing", "failure"),
    [
        ({}, None),
        ({"resident_mb": 8.0, "threads": 2, "open_files": 2, "median_ms": 0.5}, None),
        ({"resident_mb": -50.0, "median_ms": -3.0}, None),
        ({"resident_mb": 15.0}, "memory grew by 1"),
        ({"median_ms": 3.0}, "frames took"),
        ({"threads": 9}, "more threads"),
        ({"open_files": 9}, "more open files"),
    ],
)
def test_limits(growing, failure):
    report = made_report(samples(**growing), 1000, 10.0, False, [])
    assert report.judged and report.passed == (failure is None)
    assert [failure in line for line in report.failures] == [True] * (failure is not None)
    assert report.lines()[-1].startswith("PASSED" if report.passed else f"FAILED: {report.failures[0]}")


def test_the_warm_up_does_not_count():
    early = [sample._replace(resident_mb=50.0, median_ms=90.0) for sample in samples(10)]
    later = [sample._replace(time_s=sample.time_s + 10) for sample in samples(60)]
    report = made_report(early + later, 1000, 10.0, False, [])
    assert report.passed and report.growth_mb == 0 and report.slowdown == 0
    short = made_report(early, 100, 10.0, True, [])
    assert not short.judged and not short.failures and short.lines()[-1] == "too short to judge"


def test_a_thread_that_is_left_fails(clip, monkeypatch):
    monkeypatch.setattr(soak, "ENDING_S", 0.05)
    end = threading.Event()

    class Leaking(FakeTracker):
        def track(self, *args, **kwargs):
            if not self.calls:
                threading.Thread(target=end.wait, name="leak").start()
            return super().track(*args, **kwargs)

    report = run_soak(options(clip, 0.2), Leaking)
    end.set()
    assert report.threads_left == ["leak"] and report.failures == ["threads left behind: leak"]


def test_ctrl_c_reports_on_the_time_so_far(clip):
    class Interrupted(FakeTracker):
        def track(self, *args, **kwargs):
            if len(self.calls) == 30:
                raise KeyboardInterrupt
            return super().track(*args, **kwargs)

    report = run_soak(options(clip, 60, every_s=0.0, record=True), Interrupted)
    assert report.interrupted and report.frames == 30 and "(stopped)" in report.lines()[0]


def test_resources_are_told_and_have_a_fallback(monkeypatch):
    now = soak.resources()
    assert 10 < now.resident_mb < 1e5 and now.threads >= threading.active_count()
    monkeypatch.setattr(soak, "PROC", Path("nowhere"))
    elsewhere = soak.resources()
    assert elsewhere.threads == threading.active_count()
    assert np.isnan(elsewhere.resident_mb) or elsewhere.resident_mb > 10


def test_memory_that_is_held_shows(monkeypatch):
    before = soak.resources().resident_mb
    with mmap.mmap(-1, 30_000_000) as held:  # fresh from the system, whatever the tests before have freed
        held.write(bytes(range(1, 251)) * 120_000)
        assert soak.resources().resident_mb - before > 25


def test_a_source_that_is_not_there_is_one_line(capsys):
    gone = SoakOptions(source=("nowhere.mp4",))
    assert console.guarded(lambda: run_soak(gone, FakeTracker) and 0) == 1
    assert "nowhere.mp4" in capsys.readouterr().err
