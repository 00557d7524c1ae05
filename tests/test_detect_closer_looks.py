"""detect.py with --track, --tile and --explain: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.detect_runs import Call, files_below, read_labels
from tests.tiny_detector import AREAS_ALONE, make_picture, write_picture, write_weights


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Six frames of a picture that moves a little."""
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 64))
    wide = make_picture((64, 72))
    for shift in range(6):
        writer.write(np.ascontiguousarray(wide[:, shift : shift + 64, ::-1]))
    writer.release()
    return path


@pytest.mark.parametrize("method", [[], ["ocsort"]])
def test_followed_objects_have_one_number_in_every_file(
    run_detect: Call, tmp_path: Path, film: Path, method: list[str]
):
    pytest.importorskip("trackers")
    wanted = ["--save-txt", "--save-csv", "--save-json", "--save-labelme", "--track-colours"]
    code, out, _ = run_detect(film, "--track", *method, *wanted, "--heads", "detect")
    assert code == 0
    run = tmp_path / "runs" / "exp"
    rows = list(csv.DictReader((run / "objects.csv").open()))
    tracks = [int(row["track"] or -1) for row in rows]
    frames = [[track for track, row in zip(tracks, rows, strict=True) if row["frame"] == str(n)] for n in range(1, 7)]
    first, later = frames[0], frames[1:]
    assert set(first) == {-1}
    numbers = {number for of_frame in later for number in of_frame if number > 0}
    assert numbers and any(number in later[0] and number in later[-1] for number in numbers)
    assert f"{max(numbers)} followed" in out and "track" in out
    for frame, of_frame in enumerate(later, 2):
        assert read_labels(run / "labels" / f"film_{frame}.txt")[:, -1].astype(int).tolist() == of_frame
        shapes = json.loads((run / "labelme" / f"film_{frame}.json").read_text())["shapes"]
        assert [shape["group_id"] or -1 for shape in shapes] == of_frame
    told = json.loads((run / "detect_predictions.json").read_text())
    assert [entry.get("track_id", -1) for entry in told] == tracks
    # What is sure enough without a number is there with one, too.
    plain, _, _ = run_detect(film, "--save-csv", "--name", "plain", "--heads", "detect")
    assert plain == 0
    boxes = [{tuple(row.values())[:10] for row in rows}, set()]
    boxes[1] = {tuple(row.values())[:10] for row in csv.DictReader((run.parent / "plain" / "objects.csv").open())}
    assert boxes[1] and boxes[1] <= boxes[0]


def test_what_cannot_be_followed_is_refused(run_detect: Call, tmp_path: Path, film: Path):
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--track")
    assert code == 2 and "--track follows objects from frame to frame of videos and streams" in err
    code, _, err = run_detect(film, "--track-colours")
    assert code == 2 and "give both" in err
    pytest.importorskip("trackers")
    areas = write_weights(tmp_path / "areas" / "areas.safetensors", AREAS_ALONE)
    code, _, err = run_detect(film, "--track", model=areas)
    assert code == 2 and "--track needs a head for boxes" in err
    assert not (tmp_path / "runs").exists()


def test_a_large_picture_in_tiles(run_detect: Call, tmp_path: Path):
    picture = write_picture(tmp_path / "large.png", (200, 150))
    code, out, _ = run_detect(
        picture, "--tile", "64", "0.25", "--batch-size", "4", "--save-txt", "--save-mask", "--max-det", "90"
    )
    assert code == 0 and "64x64 and 12 tiles at 64x64" in out
    run = next((tmp_path / "runs").iterdir())
    assert cv2.imread(str(run / "masks" / "large.png"), cv2.IMREAD_UNCHANGED).shape == (200, 150)
    tiled = read_labels(run / "labels" / "large.txt")
    assert run_detect(picture, "--save-txt", "--nosave", "--max-det", "90", "--name", "whole")[0] == 0
    whole = read_labels(run.parent / "whole" / "labels" / "large.txt")
    # Tiles show three times as much detail as the whole picture at this size.
    assert np.median(tiled[:, 3]) < 0.6 * np.median(whole[:, 3])
    for values, words in ((("64",), "expected 2 arguments"), (("10", "0.2"), "at least 32 pixels")):
        code, _, err = run_detect(picture, "--tile", *values)
        assert code == 2 and words in err


def test_what_was_found_is_explained_beside_the_results(run_detect: Call, tmp_path: Path, film: Path):
    for number, size in enumerate([(60, 80), (60, 80), (40, 80)]):
        write_picture(tmp_path / "photos" / f"p{number}.png", size, seed=number)
    code, out, _ = run_detect(tmp_path / "photos", "--explain", "2", "--nosave", "--batch-size", "2", "--save-csv")
    assert code == 0
    run = next((tmp_path / "runs").iterdir())
    rows = csv.DictReader((run / "objects.csv").open())
    wanted = {f"explain_detect/{Path(row['picture']).stem}_{row['class']}_{row['name']}.jpg" for row in rows}
    files = [name for name in files_below(run) if name.startswith("explain")]
    assert {name for name in files if "_detect/" in name} == wanted
    assert any("explain_segment/" in name for name in files)
    assert f"explained {len(files)} classes of pictures by row 2" in out
    assert cv2.imread(str(run / next(iter(wanted)))).shape[1] == 80
    code, _, _ = run_detect(film, "--explain", "-3", "--heads", "detect", "--max-frames", "2", "--name", "film")
    assert code == 0
    stems = {name.split("_")[1] for name in files_below(run.parent / "film") if name.startswith("explain/")}
    assert stems == {"1", "2"}


def test_what_cannot_be_explained_is_refused(run_detect: Call, tmp_path: Path, tiny_weights: Path):
    picture = write_picture(tmp_path / "a.png")
    for more, words in (
        (("--explain", "backbone"), "has no row of that name"),
        (("--explain", "5"), "is a head, which has no map"),
        (("--explain", "3", "--heads", "segment"), "is not used by segment"),
        (("--explain", "2", "--tile", "64", "0"), "leave --tile out"),
        (("--explain", "2", "--augment"), "leave --augment out"),
        (("--explain", "2", "--weights", tiny_weights, tiny_weights), "leave several --weights out"),
    ):
        code, _, err = run_detect(picture, *more)
        assert code == 2 and words in err, more
    assert not (tmp_path / "runs").exists()
