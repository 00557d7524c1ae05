"""Objects as pictures of their own: the right pixels under names that say where they come from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.utils.result_formats.found import OBJECTS, cut, frame, still
from utils.result_files import ResultFiles, Wanted

NAMES = {"cars": ["car", "traffic/light"], "signs": ["car", "go"]}


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_crops_of_pictures_and_frames(tmp_path):
    with ResultFiles(tmp_path, NAMES, Wanted(pictures=False, crops=True)) as files:
        files.save(still(files, "x/a.png", cars=OBJECTS))
        files.save(still(files, "y/a.png", cars=OBJECTS))
        files.save(frame(files.name_for(Path("clip.mp4")), 12, cars=OBJECTS))
    cars = ["a.jpg", "a_2.jpg", "a_2_2.jpg", "a_2_2_2.jpg", "clip_12_1.jpg", "clip_12_2.jpg"]
    lights = ["a.jpg", "a_2.jpg", "clip_12_1.jpg"]
    assert written(tmp_path) == sorted(
        [*(f"crops/car/{name}" for name in cars), *(f"crops/traffic_light/{name}" for name in lights)]
    )
    first = cv2.cvtColor(cv2.imread(str(tmp_path / "crops/car/a.jpg")), cv2.COLOR_BGR2RGB)
    assert first.shape == (30, 20, 3)
    assert np.abs(first.astype(int) - cut([10, 20, 30, 50])).mean() < 12, "the same but for the losses of JPEG"


def test_heads_have_folders_of_their_own(tmp_path):
    with ResultFiles(tmp_path, NAMES, Wanted(pictures=False, crops=True)) as files:
        one = OBJECTS.only(OBJECTS.scores > 0.8)
        files.save(still(files, "a.png", cars=one, signs=one))
    assert written(tmp_path) == ["crops_cars/car/a.jpg", "crops_signs/car/a.jpg"]
