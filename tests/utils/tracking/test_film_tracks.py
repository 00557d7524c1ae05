"""Objects that are followed keep their numbers, and nothing else about them changes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.predictions import DetectionResult, MaskResult
from utils.command_lines.detecting import parse_options
from utils.command_lines.tracking import tracking_method
from utils.errors import UsageError
from utils.tracking.film_tracks import FilmTracks
from utils.tracking.methods import BYTETRACK, LOW_CONFIDENCE, METHODS, OCSORT, Method

SURE = 0.9


def found(*objects: tuple[float, float, float]) -> DetectionResult:
    """Return boxes of 40 x 30 pixels at (x, y) with a confidence each, the surest first as ever."""
    rows = torch.tensor(sorted(objects, key=lambda row: -row[2])).reshape(-1, 3)
    boxes = torch.cat((rows[:, :2], rows[:, :2] + torch.tensor([40.0, 30.0])), 1)
    return DetectionResult(boxes, rows[:, 2], torch.zeros(len(rows), dtype=torch.int64))


def by_place(result: DetectionResult) -> dict[int, int]:
    """Return the numbers of objects by the row of pixels that they move along."""
    return dict(zip(result.boxes[:, 1].int().tolist(), result.tracks.tolist(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_moving_objects_keep_their_numbers_also_when_one_is_hidden(name):
    pytest.importorskip("trackers")
    tracks = FilmTracks(Method(name, 0.25), 25)
    seen = []
    for t in range(14):
        objects = [(10.0 + 5 * t, 10.0, SURE), (300.0 - 6 * t, 15.0, 0.8)]
        hidden = t in (6, 7, 8)
        seen.append(by_place(tracks.follow({"detect": found(*objects[: 1 if hidden else 2])})["detect"]))
    assert seen[0] == {10: -1, 15: -1}, "nobody is followed who was seen once"
    assert sorted(seen[3].values()) == [1, 2]
    assert all(of_frame == seen[3] for of_frame in seen[3:6])
    assert seen[-1] == seen[3], "who comes back within a second is known again"
    assert {of_frame[10] for of_frame in seen[1:]} == {seen[3][10]}
    assert tracks.count == 2


def test_bytetrack_finds_a_hidden_object_by_what_is_hardly_there():
    pytest.importorskip("trackers")
    method = Method(BYTETRACK, 0.25)
    assert method.least_confidence == LOW_CONFIDENCE < Method(OCSORT, 0.25).least_confidence == 0.25
    assert Method(BYTETRACK, 0.05).least_confidence == 0.05
    tracks = FilmTracks(method, 25)
    for t in range(4):
        told = tracks.follow({"detect": found((10.0 + t, 10.0, SURE), (200.0, 99.0, 0.15))})["detect"]
        assert by_place(told).keys() == {10}, "what is hardly there is told only of who is followed"
    told = tracks.follow({"detect": found((14.0, 10.0, 0.15), (200.0, 99.0, 0.15))})["detect"]
    assert by_place(told) == {10: 1}
    assert told.scores.tolist() == pytest.approx([0.15])


def test_a_gap_of_more_than_a_second_and_a_clock_that_goes_back():
    pytest.importorskip("trackers")

    def numbers(times: list[float]) -> list[int]:
        tracks = FilmTracks(Method(BYTETRACK, 0.25), float("nan"))
        results = [tracks.follow({"detect": found((10.0, 10.0, SURE))}, time)["detect"] for time in times]
        return [int(result.tracks[0]) for result in results]

    assert numbers([5.0, 5.04, 5.08, 5.5]) == [-1, 1, 1, 1]
    assert numbers([5.0, 5.04, 9.0, 9.04]) == [-1, 1, -1, 2]
    assert numbers([5.0, 5.04, 3.0, 3.04]) == [-1, 1, 1, 1]


def test_heads_share_no_numbers_and_areas_stay_as_they_are():
    pytest.importorskip("trackers")
    tracks, other = FilmTracks(Method(BYTETRACK, 0.25), 25), FilmTracks(Method(BYTETRACK, 0.25), 25)
    areas = MaskResult(torch.zeros(4, 4, dtype=torch.uint8))
    for _ in range(3):
        results = {"areas": areas, "cars": found((0.0, 0.0, SURE), (99.0, 9.0, 0.8)), "signs": found((0.0, 0.0, SURE))}
        told = tracks.follow(results)
        alone = other.follow({"cars": found((0.0, 0.0, SURE))})
    assert told["areas"] is areas
    assert list(told) == list(results)
    numbers = told["cars"].tracks.tolist() + told["signs"].tracks.tolist()
    assert len(set(numbers)) == 3 and min(numbers) > 0
    assert alone["cars"].tracks.tolist() == [1], "every film counts by itself"


def test_a_long_film_leaves_nothing_behind():
    pytest.importorskip("trackers")
    tracks = FilmTracks(Method(OCSORT, 0.25), 5)
    for t in range(120):
        # Every fifth frame a new object, far from all others.
        tracks.follow({"detect": found((float(200 * (t // 5)), 10.0, SURE))})
    assert tracks.count == 24
    assert len(tracks._trackers["detect"].tracks) < 10


class Careless:
    """Stands in for a tracker: turns the order round, leaves every second object out, and numbers by class."""

    def __init__(self) -> None:
        self.given: Any = None
        self.times: list[float | None] = []

    def update(self, detections: Any, timestamp: float | None = None) -> Any:
        self.given = detections
        self.times.append(timestamp)
        kept = detections[np.arange(len(detections))[::-2]]
        kept.tracker_id = kept.class_id.copy()
        return kept


def test_numbers_find_their_objects_whatever_the_library_does(monkeypatch):
    careless = Careless()
    monkeypatch.setattr(Method, "build", lambda self, rate: careless)
    result = found(*((100.0 * i, 10.0, SURE - i / 100) for i in range(6)))
    result = replace(result, classes=torch.arange(6), masks=torch.arange(6)[:, None, None] > torch.zeros(6, 2, 2))
    # A box without height cannot be followed.
    result.boxes[2, 3] = result.boxes[2, 1]
    told = FilmTracks(Method(OCSORT, 0.25), 25).follow({"detect": result})["detect"]
    assert careless.given.class_id.tolist() == [0, 1, 3, 4, 5]
    assert told.tracks.tolist() == [1, -1, -1, 4, -1, 6]
    assert torch.equal(told.boxes, result.boxes) and torch.equal(told.masks, result.masks)


def test_time_goes_on_for_the_library_where_a_clock_is_set_back(monkeypatch):
    pytest.importorskip("supervision")
    careless = Careless()
    monkeypatch.setattr(Method, "build", lambda self, rate: careless)
    tracks = FilmTracks(Method(OCSORT, 0.25), 10)
    for seconds in (5.0, 5.5, 3.0, 5.6, 5.8):
        tracks.follow({"detect": found((10.0, 10.0, SURE))}, seconds)
    assert careless.times == pytest.approx([5.0, 5.5, 5.6, 5.7, 5.8])


def test_objects_are_chosen_with_all_that_belongs_to_them():
    result = replace(found((0.0, 0.0, 0.9), (9.0, 9.0, 0.8), (5.0, 5.0, 0.7)), tracks=torch.tensor([7, -1, 9]))
    some = result.only(torch.tensor([2, 0]))
    assert some.tracks.tolist() == [9, 7] and some.scores.tolist() == pytest.approx([0.7, 0.9])
    assert some.masks is None and len(some.boxes) == len(some.classes) == 2


def test_what_following_needs_is_said(monkeypatch, tmp_path):
    class Films:
        images: list[Any] = []

    assert tracking_method(parse_options(["--source", "a.mp4"]), Films()) is None
    with pytest.raises(UsageError, match="--track-colours colours the objects that --track follows; give both"):
        tracking_method(parse_options(["--source", "a.mp4", "--track-colours"]), Films())
    Films.images = [tmp_path / "a.jpg"]
    with pytest.raises(UsageError, match=r"--track follows .* but --source has still images \(.*a.jpg\); name the"):
        tracking_method(parse_options(["--source", "x", "--track"]), Films())
    Films.images = []
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UsageError, match=r"--track needs the package trackers, .*pip install --no-deps trackers"):
        tracking_method(parse_options(["--source", "a.mp4", "--track", "ocsort"]), Films())
