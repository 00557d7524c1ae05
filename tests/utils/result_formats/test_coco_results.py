"""Results files of COCO: what pycocotools reads, complete or absent."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from data.keypoints import KeypointSpec
from models.predictions import PoseResult
from tests.utils.result_formats.found import FOLLOWED, OBJECTS, frame, still
from utils.errors import RunError
from utils.result_files import ResultFiles, Wanted

NAMES = {"cars": ["car", "dog"], "poses": ["person"]}
WANTED = Wanted(pictures=False, coco=True)
FILE = "cars_predictions.json"


def test_pycocotools_reads_boxes(tmp_path):
    with ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "000042.jpg", cars=OBJECTS))
        files.save(still(files, "street.jpg", cars=OBJECTS.only(OBJECTS.scores > 1)))
        files.save(still(files, "street.png", cars=OBJECTS))
        assert not (tmp_path / FILE).exists()
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 42}, {"id": "street_2"}],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": [],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        read = truth.loadRes(str(tmp_path / FILE))
    assert sorted(map(str, read.getImgIds())) == ["42", "street_2"]
    first = read.loadAnns(read.getAnnIds(imgIds=[42]))
    assert [entry["category_id"] for entry in first] == [0, 1, 0]
    assert first[1]["bbox"] == [0.5, 1.25, 11.5, 7.75] and first[1]["score"] == 0.75
    assert "track_id" not in first[0]


def test_frames_names_that_are_one_number_and_tracks(tmp_path):
    with ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "7.jpg", cars=OBJECTS))
        files.save(still(files, "007.jpg", cars=OBJECTS))
        files.save(frame(files.name_for(Path("clip.mp4")), 3, cars=FOLLOWED))
    rows = json.loads((tmp_path / FILE).read_text())
    assert [row["image_id"] for row in rows[::3]] == [7, "007", "clip_3"]
    assert [row.get("track_id") for row in rows[6:]] == [7, None, 12]


def test_poses_have_their_keypoints(tmp_path):
    spec = KeypointSpec(("a", "b"), (0, 1), (0.1, 0.1), ())
    points = torch.arange(18.0).reshape(3, 2, 3)
    poses = PoseResult(OBJECTS.boxes, OBJECTS.scores, OBJECTS.classes * 0, points, spec)
    with ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "a.jpg", poses=poses))
    rows = json.loads((tmp_path / "poses_predictions.json").read_text())
    np.testing.assert_array_equal([row["keypoints"] for row in rows], points.reshape(3, 6))


def test_nothing_found_is_an_empty_list(tmp_path):
    with ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "a.jpg", cars=OBJECTS.only(OBJECTS.scores > 1)))
    assert json.loads((tmp_path / FILE).read_text()) == []


@pytest.mark.parametrize(("error", "complete"), [(RunError("no"), False), (KeyboardInterrupt(), True)])
def test_a_run_that_fails_leaves_no_half_file_and_one_that_is_stopped_a_whole_one(tmp_path, error, complete):
    with (
        pytest.raises(type(error)),
        ResultFiles(tmp_path, NAMES, Wanted(pictures=False, coco=True, table=True)) as files,
    ):
        files.save(still(files, "a.jpg", cars=OBJECTS))
        raise error
    assert sorted(os.listdir(tmp_path)) == sorted(["objects.csv", *([FILE] if complete else [])])
    assert (tmp_path / "objects.csv").read_text().count("\n") == 4
    if complete:
        assert len(json.loads((tmp_path / FILE).read_text())) == 3


def test_a_disk_that_is_full_at_the_last_bracket_leaves_nothing(tmp_path):
    class Full:
        """A file that takes no byte more."""

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"), ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "a.jpg", cars=OBJECTS))
        files._formats[0]._files["cars"]._file = Full()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("utils.files.os.fsync", no_space)
    with pytest.raises(OSError, match="No space left") as caught, ResultFiles(tmp_path, NAMES, WANTED) as files:
        files.save(still(files, "a.jpg", cars=OBJECTS))
    assert caught.value.filename == str(tmp_path / FILE)
    assert os.listdir(tmp_path) == []
