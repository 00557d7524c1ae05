"""The files that detect.py leaves besides pictures, as a user asks for them: they agree with one another."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.formats.cityscapes import LABEL_IDS
from data.formats.cityscapes import NAMES as CITYSCAPES
from data.formats.mask_png import read_mask
from tests import tiny_poses
from tests.detect_runs import SMALL, files_below, read_labels, video_facts, write_video
from tests.tiny_detector import BOTH, NAMES, TWO_DETECTORS, write_picture, write_weights

REPO = Path(__file__).resolve().parents[1]
EVERYTHING = ["--save-crop", "--save-csv", "--save-json", "--save-txt", "--save-conf"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_unicode_is_a_name_like_others(run_detect, tmp_path):
    write_picture(tmp_path / "in" / "a.png")
    picture = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9.png"))
    os.rename(tmp_path / "in" / "a.png", picture)
    code, _, err = run_detect(tmp_path / "in", "--heads", "detect", "--save-labelme", *EVERYTHING)
    folder = tmp_path / "runs" / "exp"
    assert (code, err) == (0, "")
    assert {picture.name, f"labels/{picture.stem}.txt", f"labelme/{picture.stem}.json"} <= set(files_below(folder))
    document = json.loads((folder / "labelme" / f"{picture.stem}.json").read_text(encoding="utf-8"))
    assert (folder / "labelme" / document["imagePath"]).resolve() == picture
    assert {row["picture"] for row in rows_of(folder / "objects.csv")} == {str(picture).replace("\udce9", "\\udce9")}
    assert json.loads((folder / "detect_predictions.json").read_text())[0]["image_id"] == picture.stem


def test_all_kinds_of_files_agree_as_a_user_runs_it(tmp_path, tiny_weights):
    sizes = {"a": (60, 80), "7": (50, 90)}
    pictures = {stem: write_picture(tmp_path / "in" / f"{stem}.png", size) for stem, size in sizes.items()}
    write_video(tmp_path / "in" / "clip.avi")
    command = [sys.executable, "detect.py", "--weights", tiny_weights, "--source", tmp_path / "in", *SMALL, *EVERYTHING]
    command += ["--project", tmp_path / "runs", "--nosave", "--heads", "detect", "--batch-size", "2"]
    done = subprocess.run(list(map(str, command)), cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "exp"
    rows, found = rows_of(folder / "objects.csv"), json.loads((folder / "detect_predictions.json").read_text())
    assert [row["picture"] for row in rows] == [str(pictures["7"])] * 5 + [str(pictures["a"])] * 5 + [
        str(tmp_path / "in" / "clip.avi")
    ] * len(rows[10:])
    assert [entry["image_id"] for entry in found] == [7] * 5 + ["a"] * 5 + [f"clip_{row['frame']}" for row in rows[10:]]
    assert {row["frame"] for row in rows[10:]} == {"1", "2", "3"}
    labels = np.concatenate(
        [read_labels(folder / "labels" / f"{stem}.txt") for stem in ("7", "a", "clip_1", "clip_2", "clip_3")]
    )
    heights_widths = np.array([sizes["7"]] * 5 + [sizes["a"]] * 5 + [(48, 64)] * len(rows[10:]))
    boxes = np.array([[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows])
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2 / heights_widths[:, 1], labels[:, 1], atol=2e-4)
    np.testing.assert_allclose((boxes[:, 3] - boxes[:, 1]) / heights_widths[:, 0], labels[:, 4], atol=3e-4)
    np.testing.assert_allclose([entry["bbox"][0] for entry in found], boxes[:, 0], atol=0.006)
    assert [entry["category_id"] for entry in found] == labels[:, 0].astype(int).tolist()
    assert [row["name"] for row in rows] == [NAMES["detect"][int(index)] for index in labels[:, 0]]
    crops = [name for name in files_below(folder) if name.startswith("crops/")]
    assert len(crops) == len(rows)
    for stem, picture in pictures.items():
        own = next(row for row in rows if row["picture"] == str(picture))
        crop = cv2.imread(str(folder / "crops" / own["name"] / f"{stem}.jpg"))
        x1, y1, x2, y2 = (float(own[key]) for key in ("x1", "y1", "x2", "y2"))
        assert abs(crop.shape[0] - (y2 - y1)) < 2.1 and abs(crop.shape[1] - (x2 - x1)) < 2.1


def test_several_heads_and_poses(run_detect, tmp_path):
    names = {"cars": NAMES["detect"], "signs": ["x", "y", "z"]}
    model = write_weights(tmp_path / "two" / "two.safetensors", TWO_DETECTORS, names)
    picture = write_picture(tmp_path / "a.png")
    code, _, err = run_detect(picture, "--save-json", "--save-csv", "--save-crop", "--nosave", model=model)
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    files = files_below(folder)
    assert {"cars_predictions.json", "signs_predictions.json", "objects.csv"} <= set(files)
    assert {name.split("/")[0] for name in files if "/" in name} == {"crops_cars", "crops_signs"}
    assert {row["head"] for row in rows_of(folder / "objects.csv")} == {"cars", "signs"}
    model = tiny_poses.write_weights(tmp_path / "poses.safetensors")
    code, _, err = run_detect(picture, "--save-json", "--nosave", "--name", "poses", model=model)
    assert code == 0, err
    [file] = (tmp_path / "runs" / "poses").iterdir()
    rows = json.loads(file.read_text())
    assert len(rows) == 5 and all(len(row["keypoints"]) == 3 * len(tiny_poses.CRANE.names) for row in rows)


def test_still_images_become_a_film(run_detect, tmp_path):
    for seed in range(4):
        write_picture(tmp_path / "in" / f"{seed}.png", (48, 64), seed)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    code, out, err = run_detect(tmp_path / "in", "--save-as-video", "--fps", "7.5", "--nosave", "--batch-size", "3")
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    assert files_below(folder) == ["images.mp4"]
    assert video_facts(folder / "images.mp4") == (4, pytest.approx(7.5), (48, 64))
    assert "1 of 5 inputs failed: broken.png" in out
    write_picture(tmp_path / "in" / "other.png", (48, 80))
    code, out, err = run_detect(tmp_path / "in", "--save-as-video", "--name", "unequal")
    assert code == 2 and err.count("\n") == 1 and "other.png has 80 x 48 pixels" in err
    assert not (tmp_path / "runs" / "unequal").exists()


def test_submissions_hold_label_ids(run_detect, tmp_path):
    model = BOTH.replace("SegMaskBase, [2, 1, 64]", "SegMaskBase, [19, 1, 64]")
    names = {"detect": NAMES["detect"], "segment": CITYSCAPES}
    cityscapes = write_weights(tmp_path / "model" / "city.safetensors", model, names)
    source = write_picture(tmp_path / "in" / "bonn_000001_000019_leftImg8bit.png", (50, 90))
    code, _, err = run_detect(source, "--submit", "--save-mask", "--nosave", model=cityscapes)
    folder = tmp_path / "runs" / "exp"
    assert code == 0, err
    [path] = (folder / "results").iterdir()
    assert path.name == "bonn_000001_000019_leftImg8bit_pred.png"
    classes = read_mask(folder / "masks" / f"{source.stem}.png")
    np.testing.assert_array_equal(read_mask(path), LABEL_IDS[classes])
    code, _, err = run_detect(source, "--submit", "--name", "other")
    assert code == 2 and err.count("\n") == 1 and "19 training classes of Cityscapes" in err and "road, sky" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--save-csv", "--heads", "segment"], "--save-csv needs a head for boxes"),
        (["--fps", "10"], "--save-as-video; give both"),
        (["--save-as-video", "--fps", "0"], "--fps must be 0.1 to 1000"),
        (["--save-as-video", "--fps", "nan"], "--fps must be 0.1 to 1000"),
        (["--submit", "--heads", "detect"], "--submit needs a head for masks"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run_detect, tmp_path, more, words):
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), *more)
    assert code == 2 and err.count("\n") == 1 and words in err
    assert not (tmp_path / "runs").exists()


def test_without_a_display_nothing_is_begun(run_detect, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    code, _, err = run_detect(write_picture(tmp_path / "a.png"), "--view-img")
    assert code == 1 and err.count("\n") == 1 and "--view-img: there is no display" in err
    assert not (tmp_path / "runs").exists()


def test_what_is_shown_is_what_is_written(run_detect, tmp_path, monkeypatch):
    shown: list[np.ndarray] = []
    held: list[int] = []

    class Watcher:
        """Somebody who watches two pictures and closes the window."""

        def __init__(self, title: str) -> None:
            self.is_open = True

        def show(self, picture: np.ndarray) -> bool:
            shown.append(picture)
            self.is_open = len(shown) < 2
            return self.is_open

        def hold(self) -> None:
            held.append(len(shown))

    monkeypatch.setattr("utils.detecting.setup.PictureWindow", Watcher)
    for seed in range(3):
        write_picture(tmp_path / "in" / f"{seed}.png", seed=seed)
    code, _, err = run_detect(tmp_path / "in", "--view-img")
    assert code == 0, err
    assert len(shown) == 2 and held == [2] and len(files_below(tmp_path / "runs" / "exp")) == 3
    for number, picture in enumerate(shown):
        written = cv2.imread(str(tmp_path / "runs" / "exp" / f"{number}.png"))[..., ::-1]
        np.testing.assert_array_equal(picture, written)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk to write to")
def test_a_full_disk_is_one_sentence(run_detect, tmp_path):
    (tmp_path / "runs" / "exp").mkdir(parents=True)
    (tmp_path / "runs" / "exp" / "objects.csv").symlink_to("/dev/full")
    source = write_picture(tmp_path / "in" / "a.png")
    code, _, err = run_detect(source, "--save-csv", "--save-json", "--nosave", "--exist-ok")
    assert code == 1 and err.count("\n") == 1 and "No space left" in err and "objects.csv" in err
    assert files_below(tmp_path / "runs" / "exp") in ([], ["objects.csv"]), "nothing is half written"
