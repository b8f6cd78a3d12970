"""The bench adds up: turns, stages and ratios with stand-ins, one small run of the real thing, a fake MediaPipe."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_mediapipe import SPIN_S, SPINS, VERSION, fake_python
from posed_hand import FakeTracker

from handmesh import console
from handmesh.benchmark import latency
from handmesh.benchmark.latency import (
    CLIP_SCENES,
    Case,
    CpuLoad,
    MediaPipeCandidate,
    Scene,
    Taken,
    Timed,
    Times,
    Timings,
    TrackerCandidate,
    interleave,
    timings_of,
)
from handmesh.cli import main
from handmesh.evaluation.beside import MediaPipe
from handmesh.files import write_json
from handmesh.types import SourceError

ONE, TWO = CLIP_SCENES
FRAME = np.zeros((48, 64, 3), np.uint8)


class Listed:
    """Notes what it is shown, and takes as long as it is told."""

    def __init__(self, name: str, log: list, ms: float = 2.0) -> None:
        self.name, self.log, self.ms = name, log, ms

    def see(self, image_rgb, time_s):
        self.log.append((self.name, round(30 * time_s), int(image_rgb[0, -1, 0])))
        return Timed({"network": self.ms - 1, "track": self.ms, "overlay": 3.0}, 1)

    def processor_s(self):
        return 4e-3 * len(self.log)

    def close(self):
        self.log.append((self.name, "closed"))


class Switch:
    """A CPU load that does nothing but note when it is on."""

    def __init__(self, log: list, cores: int = 1) -> None:
        self.log, self.cores = log, cores

    def round_(self, on):
        self.log.append(on)


def measure(candidates, frames, cpu_load, warm_up=10):
    """Quantiles of what is measured."""
    return {key: timings_of(timed) for key, timed in interleave(candidates, frames, cpu_load, warm_up).items()}


def taken(count):
    return (Taken(FRAME, {"capture": 5.0, "colour": 0.5}) for _ in range(count))


def test_candidates_take_turns_on_the_same_frames():
    log, spun = [], []
    cases = {Case(name, 1, TWO): Listed(name, log) for name in "ab"}
    measured = measure(cases, taken(30), Switch(spun, cores=0), warm_up=10)
    rotations = [log[i][0] for i in range(0, 60, 10)]
    assert rotations == ["a", "b"] * 3
    assert [number for name, number, _ in log if name == "b"] == list(range(30))
    assert set(measured) == {(case, False) for case in cases} and not any(spun)
    assert all(timings.frames == 20 and timings.hands_per_frame == 1 for timings in measured.values())


def test_stages_add_up_to_the_frame():
    case = Case("a", 1, TWO)
    timings = measure({case: Listed("a", [])}, taken(20), Switch([], 0))[case, False]
    medians = {stage: timings.median(stage) for stage in timings.stages_ms}
    assert medians == {
        "processor": pytest.approx(4.0),
        "capture": 5.0,
        "colour": 0.5,
        "network": 1.0,
        "track": 2.0,
        "overlay": 3.0,
        "track + overlay": 5.0,
        "frame": 10.5,
    }
    assert math.isnan(timings.median("encode"))


def test_the_CPU_load_is_on_in_every_other_round():
    spun, case = [], Case("a", 1, TWO)
    measured = measure({case: Listed("a", [])}, taken(40), Switch(spun))
    assert spun == [False, True, False, True]
    assert (measured[case, False].frames, measured[case, True].frames) == (10, 20)


@pytest.mark.parametrize(("frames", "cores"), [(0, 0), (10, 0), (10, 1), (20, 1)])
def test_too_few_frames_are_refused(frames, cores):
    with pytest.raises(ValueError, match="too few frames"):
        measure({Case("a", 1, TWO): Listed("a", [])}, taken(frames), Switch([], cores))


def test_quantiles():
    timings = timings_of([Timed({"track": float(ms)}, ms % 2) for ms in range(101)])
    assert timings.stages_ms["track"] == Times(50, 90, 99)
    assert timings.hands_per_frame == pytest.approx(50 / 101)
    assert timings_of([]).frames == 0 and math.isnan(timings_of([]).median())


def test_one_of_the_two_hands_is_covered():
    (first,) = latency.taken_frames(None, 1)
    kept = first.image_rgb.copy()
    covered = ONE.shown(first.image_rgb)
    assert covered.shape == (480, 640, 3)
    assert (covered[:, 320:] == latency.PLAIN).all() and (covered[:, :320] == kept[:, :320]).all()
    assert (first.image_rgb == kept).all() and TWO.shown(kept) is kept
    assert set(first.stages_ms) == {"capture", "colour"} and min(first.stages_ms.values()) > 0


def test_frames_of_another_size_are_resized_and_begin_again(tmp_path):
    from handmesh.types import Frame
    from handmesh.video.sinks import VideoRecorder

    recorder = VideoRecorder(tmp_path / "small.mp4")
    for i in range(3):
        recorder.write(Frame("", i / 30, FRAME), FRAME)
    recorder.close()
    frames = list(latency.taken_frames(str(tmp_path / "small.mp4"), 7))
    assert len(frames) == 7
    assert {frame.image_rgb.shape for frame in frames} == {(480, 640, 3)}
    assert "resize" in frames[0].stages_ms
    with pytest.raises(SourceError, match=r"nowhere\.mp4"):
        next(latency.taken_frames("nowhere.mp4", 1))


def test_each_setting_once():
    assert [(case.num_hands, case.scene.hands_in_view) for case in latency.cases_of("fast", None)] == [
        (1, 1),
        (2, 1),
        (2, 2),
    ]
    assert [(case.num_hands, case.scene.hands_in_view) for case in latency.cases_of("fast", "0")] == [
        (1, None),
        (2, None),
    ]


def timings(ms: float, processor: float = 1.0) -> Timings:
    stages = {"track": ms, "track + overlay": ms + 1, "processor": processor}
    return Timings(10, 1.0, {stage: Times(value, value, value) for stage, value in stages.items()})


MEASURED = {
    (Case("fast", 1, ONE), False): timings(4.0),
    (Case("fast", 2, TWO), False): timings(6.0, 3.0),
    (Case("fast", 1, ONE), True): timings(6.0),
    (Case("MediaPipe", 1, ONE), False): timings(8.0, 2.0),
    (Case("MediaPipe", 1, ONE), True): timings(40.0),
}


def test_ratios():
    beside = [(ratio.stage, ratio.value) for ratio in latency.against_mediapipe(MEASURED)]
    assert beside == [("track", 0.5), ("track + overlay", 5 / 8), ("processor", 0.5)]
    assert [(r.what, r.stage, r.value) for r in latency.two_against_one(MEASURED)] == [
        ("fast", "track", 1.5),
        ("fast", "processor", 3.0),
    ]
    assert [ratio.value for ratio in latency.busy_against_idle(MEASURED)] == [1.5, 5.0]


def test_json_is_valid_where_a_metric_is_missing(tmp_path):
    zero = {key: timings(0.0, 0.0) for key in MEASURED}
    pace = latency.Pace(29.9, Times(20, 30, 40), 0.6, [])
    content = latency.as_json({"machine": "this"}, zero, {Case("fast", 2, TWO): pace})
    write_json(tmp_path / "all.json", content)
    parsed = json.loads((tmp_path / "all.json").read_text())
    assert parsed["busy_against_idle"][0]["ratio"] is None
    assert parsed["realtime"][0]["age_ms"]["median"] == 20 and parsed["realtime"][0]["name"] == "fast"
    assert len(parsed["cases"]) == len(MEASURED)


def test_a_line_on_the_pace():
    line = latency.pace_line(Case("fast", 2, TWO), latency.Pace(29.9, Times(20, 30, 40), 0.6, [0.5, 0.31]), 2)
    assert "29.9 of 30 FPS" in line and "0.60 of 2 cores (30 % of each)" in line and "50 %, 31 %" in line


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux what a process has used")
def test_spinners_spin_when_they_are_told_to_and_end():
    with CpuLoad(1) as cpu_load:
        pid = cpu_load.spinners[0].pid
        idle = ticks(pid, 0.3)
        cpu_load.round_(True)
        busy = ticks(pid, 0.6)
        cpu_load.round_(False)
        rest = ticks(pid, 0.3)
    assert busy > 5 > max(idle, rest)  # hundredths of a second
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ValueError, match="-1"):
        CpuLoad(-1)


def ticks(pid: int, seconds: float) -> int:
    """Hundredths of a second of the processor that a process takes meanwhile."""

    def used():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 100 // os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(seconds)
    return used() - before


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux whether a process is there")
def test_spinners_do_not_outlive_a_program_that_is_killed():
    code = (
        "import os, signal; from handmesh.benchmark.latency import CpuLoad\n"
        "cpu_load = CpuLoad(1).__enter__(); cpu_load.round_(True)\n"
        "print(cpu_load.spinners[0].pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    position = Path(f"/proc/{int(run.stdout)}")
    until_s = time.perf_counter() + 10
    while position.exists() and " Z " not in (position / "stat").read_text() and time.perf_counter() < until_s:
        time.sleep(0.05)
    assert not position.exists() or " Z " in (position / "stat").read_text()


def test_mediapipe_runs_its_full_model_on_a_video(tmp_path):
    candidate = MediaPipeCandidate(MediaPipe(fake_python(tmp_path), 2, video=True))
    assert json.loads((tmp_path / "options").read_text())["static_image_mode"] is False
    assert candidate.see(FRAME, 0.0).hands == 0
    stages, hands = candidate.see(FRAME + 1, 1 / 30)
    assert hands == 2 and list(stages) == ["track"] and stages["track"] > 0
    before = candidate.processor_s()
    assert candidate.see(FRAME + np.uint8(SPINS), 2 / 30).stages_ms["track"] >= 1e3 * SPIN_S
    assert candidate.processor_s() - before >= SPIN_S, "its process's time, not ours"
    candidate.close()


def test_drawing_does_not_count_beside_mediapipe(monkeypatch):
    def slow(image_rgb, *_):
        end_s = time.thread_time() + 0.1
        while time.thread_time() < end_s:
            pass
        return image_rgb

    monkeypatch.setattr(latency, "overlay", slow)
    candidate = TrackerCandidate(QuickTracker())
    before_s, all_s = candidate.processor_s(), time.process_time()
    assert candidate.see(FRAME, 0.5).stages_ms["overlay"] >= 100
    assert time.process_time() - all_s >= 0.1 > 0.05 > candidate.processor_s() - before_s


class QuickTracker(FakeTracker):
    """The tracker of the other tests; notes that it is closed."""

    closed = False

    def close(self):
        self.closed = True


def test_our_candidate_draws_and_records():
    class Kept:
        frames, closed = 0, False

        def write(self, frame, image_rgb, hands):
            self.frames += 1
            assert image_rgb.any() and len(hands) == 1

        def close(self):
            self.closed = True

    output = Kept()
    tracker = QuickTracker()
    candidate = TrackerCandidate(tracker, output)
    stages, hands = candidate.see(FRAME, 0.5)
    assert hands == 1 and {"network", "track", "overlay", "encode"} <= set(stages) and "total" not in stages
    candidate.close()
    assert (output.frames, output.closed, tracker.closed) == (1, True, True)
    assert "encode" not in TrackerCandidate(QuickTracker()).see(FRAME, 0.5).stages_ms


def test_the_pace_of_a_camera():
    pace = latency.keep_pace(TrackerCandidate(QuickTracker()), None, ONE, 1.0)
    assert 5 < pace.fps < 33
    assert 0 < pace.age_ms.median <= pace.age_ms.p99
    assert 0 < pace.cores_used < 2.5
    assert all(0 <= fraction <= 1 for fraction in pace.cores_busy)


def test_a_slow_candidate_gets_the_newest_frame():
    class Slow:
        def see(self, image_rgb, time_s):
            time.sleep(0.1)

    pace = latency.keep_pace(Slow(), None, Scene("two", 2), 1.0)
    assert pace.fps < 11
    assert pace.age_ms.median < 200  # not the sum of all delays before


def run(tmp_path, **options) -> tuple[int, dict]:
    """The exit code and the JSON of a run with a tracker that always sees one hand."""
    kept = tmp_path / "bench.json"
    chosen = latency.Options(output=kept, **options)
    code = console.guarded(lambda: latency.run(chosen, lambda model, num_hands: QuickTracker()))
    return code, json.loads(kept.read_text()) if kept.exists() else {}


def test_a_whole_run_beside_mediapipe(tmp_path, capsys):
    python = fake_python(tmp_path / "mp")
    code, content = run(tmp_path, frames=30, model=("fast",), seconds=0.0, encode=True, busy=1, beside_python=python)
    said = capsys.readouterr()
    assert code == 0
    for words in (
        "machine: ",
        "threads",
        "batch 1",
        "Beside MediaPipe",
        "Two hands beside one",
        "1 core busy",
        "encode",
    ):
        assert words in said.out, words
    assert f"MediaPipe Hands {VERSION}" in said.err
    asked = [json.loads(line)["max_num_hands"] for line in (tmp_path / "mp/options").read_text().splitlines()]
    assert asked == [1, 2, 2]
    assert {case["name"] for case in content["cases"]} == {"fast", "MediaPipe"}
    assert len(content["cases"]) == 2 * 6 and len(content["against_mediapipe"]) == 3 * 3
    assert all(case["stages_ms"]["track"]["median"] > 0 for case in content["cases"])
    theirs = [case for case in content["cases"] if case["name"] == "MediaPipe"]
    assert [case["hands_per_frame"] for case in theirs[::2]] == asked


def test_a_whole_run_without_mediapipe(tmp_path, capsys):
    code, content = run(tmp_path, frames=20, model=("fast",), seconds=0.2, beside_python=tmp_path / "nowhere")
    said = capsys.readouterr()
    assert code == 0 and "without MediaPipe: " in said.err and "pip install mediapipe==0.10.21" in said.err
    assert not content["against_mediapipe"] and len(content["realtime"]) == 2
    assert said.out.count("of 30 FPS") == 2


def test_what_cannot_be_measured_is_one_line(tmp_path, capsys):
    assert run(tmp_path, source="nowhere.mp4", frames=20, mediapipe=False)[0] == 1
    assert run(tmp_path, frames=5, mediapipe=False)[0] == 1
    assert run(tmp_path, busy=-1)[0] == 1
    (tmp_path / "file").touch()
    assert main(["benchmark", "stages", "--output", str(tmp_path / "file" / "bench.json")]) == 1
    said = capsys.readouterr().err
    assert (
        "nowhere.mp4" in said
        and "too few frames" in said
        and "got -1" in said
        and "file" in said
        and "Traceback" not in said
    )


def test_a_small_run_of_the_real_tracker(tmp_path, capsys):
    kept = tmp_path / "real.json"
    options = ["--frames", "20", "--model", "fast", "--no-mediapipe", "--seconds", "0", "--output", str(kept)]
    assert main(["benchmark", "stages", *options]) == 0
    assert "fast: milliseconds" in capsys.readouterr().out
    found = {(case["num_hands"], case["scene"]): case for case in json.loads(kept.read_text())["cases"]}
    assert found[1, "one hand in view"]["hands_per_frame"] == found[2, "one hand in view"]["hands_per_frame"] == 1
    assert 1.8 <= found[2, "two hands in view"]["hands_per_frame"] <= 2
    assert {"crop", "network", "lift", "smooth"} <= set(found[1, "one hand in view"]["stages_ms"])
