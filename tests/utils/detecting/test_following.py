"""Followed frames of several sources at once: each source counts by itself, whatever comes between its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.frame import Frame
from models.predictions import DetectionResult
from utils.detecting.following import TRACK, Follower
from utils.detecting.look import Look
from utils.stage_clock import StageClock
from utils.tracking.methods import BYTETRACK, Method

IMAGE = np.zeros((8, 8, 3), np.uint8)


def look(source: str, number: int, x: float, path: Path | None = None, time: float | None = None) -> Look:
    result = DetectionResult(torch.tensor([[x, 5.0, x + 40, 35]]), torch.tensor([0.9]), torch.tensor([0]))
    return Look(Frame(path, IMAGE, number, source, time), {"detect": result}, 3.0)


def test_every_live_source_is_followed_by_itself_at_its_own_times():
    pytest.importorskip("trackers")
    asked = []
    clock = StageClock((TRACK,))
    follower = Follower(Method(BYTETRACK, 0.25), lambda frame: asked.append(frame.source) or 20.0, clock)
    numbers: dict[str, list[int]] = {"door": [], "yard": []}
    for t in range(6):
        for source in ("door", "yard"):
            # The yard has nothing to show for two seconds.
            seconds = 100 + t / 20 + (2 if source == "yard" and t > 2 else 0)
            told = follower(look(source, t + 1, 10.0 + t, time=seconds))
            numbers[source].append(int(told.results["detect"].tracks[0]))
            assert told.frame.source == source and told.milliseconds > 3
    assert numbers == {"door": [-1, 1, 1, 1, 1, 1], "yard": [-1, 1, 1, -1, 2, 2]}
    assert asked == ["door", "yard"]
    assert (follower.words("door"), follower.words("yard"), follower.words("attic")) == (
        "1 followed",
        "2 followed",
        "0 followed",
    )
    assert clock.seconds[TRACK] > 0


def test_videos_of_one_name_in_two_folders_are_two_films(tmp_path: Path):
    pytest.importorskip("trackers")
    follower = Follower(Method(BYTETRACK, 0.25), lambda _: 25.0, StageClock((TRACK,)))
    for folder in ("a", "b"):
        path = tmp_path / folder / "film.mp4"
        tracks = [int(follower(look("", n, 10.0, path)).results["detect"].tracks[0]) for n in (1, 2)]
        assert tracks == [-1, 1]
        assert follower.words(str(path)) == "1 followed"
