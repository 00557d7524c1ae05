"""The benchmark of detect.py: three ways that do the same work, on a film of a few frames."""

from __future__ import annotations

import json
import statistics
import sys

import pytest

from benchmarks import detect_video
from tests.tiny_detector import make_picture, write_weights
from utils.errors import UsageError
from utils.video import VideoWriter


def test_all_ways_find_the_same_objects(tmp_path, monkeypatch, capsys):
    weights = write_weights(tmp_path / "tiny.safetensors", spread=0.2)
    with VideoWriter(tmp_path / "film.mp4", 10) as writer:
        for seed in range(4):
            writer.write(make_picture((48, 64), seed))
    arguments = ["--weights", str(weights), "--source", str(tmp_path / "film.mp4"), "--img-size", "64"]
    arguments += ["--rounds", "2", "--frames", "3", "--json", str(tmp_path / "figures.json")]
    arguments += ["--markdown", str(tmp_path / "figures.md")]
    monkeypatch.setattr(sys, "argv", ["detect_video", *arguments])
    detect_video.main()
    [measured] = json.loads((tmp_path / "figures.json").read_text()).values()
    assert list(measured) == ["plain", "in turn", "detect.py"]
    found = {way: figures["objects"] for way, figures in measured.items()}
    assert found["detect.py"] == found["in turn"] and found["detect.py"][0] > 10
    assert found["plain"][0] == pytest.approx(found["detect.py"][0], rel=0.1)
    for figures in measured.values():
        assert len(figures["rates"]) == 2 and min(figures["rates"] + figures["processor"]) > 0
        assert all(min(times) > 0 for times in figures["stages"].values())
    text = (tmp_path / "figures.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    assert "`python -m benchmarks.detect_video --weights tiny.safetensors --source film.mp4 " in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [row[0] for row in rows] == ["ms per frame", "---", "plain", "in turn", "detect.py"]
    for row in rows[2:]:
        assert float(row[-1]) == pytest.approx(statistics.median(measured[row[0]]["rates"]), abs=0.06)
    rates = (measured[way]["rates"] for way in ("detect.py", "plain"))
    ratios = [ours / plain for ours, plain in zip(*rates, strict=True)]
    assert f"**detect.py is {statistics.median(ratios):.2f} times as fast as plain** (rounds {min(ratios):.2f}" in text


def test_what_bounds_it_is_told_in_times_of_the_plain_loop():
    stages = {stage: [1.0] for stage in detect_video.ALL_STAGES}
    measured = {
        "plain": detect_video.Rounds([10.0], [150.0], {**stages, "inference": [60.0]}, [1]),
        "detect.py": detect_video.Rounds([15.0], [100.0], stages, [1]),
    }
    words = detect_video.what_bounds(measured, 2)
    assert "100.0 ms of processor time" in words and "take 50.0 ms, 2.00 times as fast as plain" in words
    assert "75 % of that is reached" in words and "60 % of the time of plain" in words


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    arguments = ["--weights", "none", "--source", "none", "--markdown", str(tmp_path / "gone" / "figures.md")]
    monkeypatch.setattr(sys, "argv", ["detect_video", *arguments])
    with pytest.raises(UsageError, match="its folder does not exist"):
        detect_video.main()
