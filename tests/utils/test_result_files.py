"""The files of a run: right content, and no two sources under one name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.formats.mask_png import read_mask
from models.predictions import DetectionResult, MaskResult
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.found_picture import FoundPicture

OBJECTS = DetectionResult(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([0.5]), torch.tensor([2]))
AREAS = MaskResult((torch.arange(12, dtype=torch.uint8) % 3).reshape(3, 4))
SMALL = np.zeros((3, 4, 3), np.uint8)
NAMES = {name: ["a", "b", "c"] for name in ("detect", "segment", "lanes")}


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_label_text_is_relative_to_the_picture(tmp_path):
    files = ResultFiles(tmp_path, NAMES, Wanted(labels=True, confidences=True))
    files.save(FoundPicture("x", "x.png", np.zeros((100, 200, 3), np.uint8), {"detect": OBJECTS, "segment": AREAS}))
    assert written(tmp_path) == ["labels/x.txt"]
    assert (tmp_path / "labels" / "x.txt").read_text() == "2 0.1 0.4 0.1 0.4 0.5\n"


def test_masks_are_indices(tmp_path):
    files = ResultFiles(tmp_path, NAMES, Wanted(masks=True))
    files.save(FoundPicture("x", "x.png", SMALL, {"detect": OBJECTS, "segment": AREAS}))
    assert written(tmp_path) == ["masks/x.png", "masks/x_colour.png"]
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "x.png"), AREAS.class_map.numpy())


def test_heads_of_one_kind_get_folders_of_their_own(tmp_path):
    files = ResultFiles(tmp_path, NAMES, Wanted(masks=True))
    files.save(FoundPicture("x", "x.png", SMALL, {"segment": AREAS, "lanes": AREAS}))
    assert written(tmp_path) == [
        f"masks_{head}/x{kind}.png" for head in ("lanes", "segment") for kind in ("", "_colour")
    ]


def test_names_stay_apart(tmp_path):
    files = ResultFiles(tmp_path, NAMES, Wanted())
    sources = ["p/a.jpg", "q/a.jpg", "q/A.png", "q/a_2.jpg", "v1.0.mp4", "w/v1.0.mp4"]
    taken = [files.name_for(Path(source)).name for source in sources]
    taken += [files.name_for_stream(name).name for name in ("a", "door.2")]
    assert taken[:3] == ["a.jpg", "a_2.jpg", "A_3.png"] and taken[-1] == "door.2.mp4"
    assert len({Path(name).stem.casefold() for name in taken}) == len(sources) + 2


def test_what_is_wanted():
    assert not Wanted(pictures=False).anything and Wanted(pictures=False, masks=True).anything
    assert Wanted(pictures=False, film_rate=5).drawn_stills and not Wanted(pictures=False, coco=True).drawn_stills


def test_every_kind_of_file_has_its_turn_when_another_fails(tmp_path):
    with (
        pytest.raises(OSError, match="disk"),
        ResultFiles(tmp_path, NAMES, Wanted(False, table=True, coco=True)) as files,
    ):
        files.save(FoundPicture("x", "x.png", SMALL, {"detect": OBJECTS}))
        files._formats[0].finish = files._formats[0].discard = _no_disk
    assert written(tmp_path) == ["detect_predictions.json", "objects.csv"]


def _no_disk() -> None:
    raise OSError("the disk is gone")
