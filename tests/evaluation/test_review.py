"""Overlays to be judged: the draw, the pages, and the count of a filled-in sheet."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_calibration import photo_folder
from test_pipeline import example_of, label_of, make_hand

from handmesh.evaluation.review import (
    ReviewOptions,
    Shown,
    choose,
    count_review,
    draw_overlays,
    read_review,
    review_metrics,
    write_blank,
)
from handmesh.tracking import tracker


def test_images_are_drawn_once_each_and_again_for_the_same_seed():
    examples = [example_of(label_of(make_hand()), name=str(k)) for k in range(50)]
    names = [[example.name for example in choose(examples, 20, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 20
    with pytest.raises(ValueError, match="between 1 and 50"):
        choose(examples, 51, 0)


class OneHandTracker:
    """Sees a hand in half of the images."""

    def detect(self, image, camera):
        return [make_hand()] if image[0, 0, 0] % 8 else []


def test_pages_are_drawn_and_the_sheet_waits_for_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(tracker.HandTracker, "load", lambda *_, **__: OneHandTracker())
    options = ReviewOptions((photo_folder(tmp_path / "photos", 1),), count=14, output=tmp_path / "out")
    cases = draw_overlays(options)
    first, second = (cv2.imread(str(tmp_path / f"out/page-0{k}.png")) for k in (1, 2))
    assert first.shape == second.shape == (4 * 316, 3 * 600, 3)
    plain, drawn = first[16:316, :300].astype(int), first[16:316, 300:600].astype(int)
    if cases[0].answer.found:
        assert np.ptp(plain) == 0 and (np.abs(drawn - plain[0, 0]).max(-1) > 20).any()
    assert (second[316:] == 24).all(), "two hands on the second page"
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert len(index["images"]) == len(index["hands"]) == 14 and index["hands"][0]["number"] == 1
    rows = (tmp_path / "out/review.csv").read_text().splitlines()[1:]
    missed = [not case.answer.found for case in cases]
    assert [row.endswith(",n,n,n,n,n,not found") for row in rows] == missed and 0 < sum(missed) < 14
    with pytest.raises(ValueError, match="hand 1: expected y or n" if not missed[0] else "expected y or n"):
        read_review(tmp_path / "out/review.csv")


def filled(path: Path, answers: list[tuple[str, str]]) -> Path:
    """A sheet of (file, five answers)."""
    rows = [f"{k + 1},page-01.png,{file},right,{','.join(some)},a note" for k, (file, some) in enumerate(answers)]
    path.write_text("\n".join(["number,page,file,side,thumb,index,middle,ring,little,note", *rows]) + "\n")
    return path


def test_a_review_is_counted_by_image_hand_and_finger(tmp_path, capsys):
    path = filled(tmp_path / "review.csv", [("a", "yyyyy"), ("a", "yyyny"), ("b", "YYYYY"), ("c", "nyyyy")])
    found = {metric.name: metric.value for metric in review_metrics(read_review(path))}
    assert found["images, all fingers of the largest hand"] == pytest.approx(200 / 3)
    assert found["images, all fingers of all hands"] == pytest.approx(100 / 3)
    assert found["hands, all fingers"] == 50
    assert found["thumb"] == found["ring"] == 75 and found["index"] == 100
    count_review(path)
    printed = capsys.readouterr().out
    assert "2 of 3 images, all fingers of the largest hand" in printed and "2 a: ring. a note" in printed


def test_a_filled_in_sheet_is_not_overwritten(tmp_path):
    shown = [Shown(1, "page-01.png", "a", "right", True)]
    path = filled(tmp_path / "review.csv", [("a", "yyyyy")])
    with pytest.raises(ValueError, match="has been filled in"):
        write_blank(path, shown)
    blank = tmp_path / "blank.csv"
    write_blank(blank, shown)
    write_blank(blank, shown)
    assert blank.read_text().splitlines()[1] == "1,page-01.png,a,right,,,,,,"
