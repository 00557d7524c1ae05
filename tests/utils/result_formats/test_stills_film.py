"""All still images of a run as one video: of one size, in their order, there when it is complete."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tiny_detector import write_picture
from utils.errors import RunError, UsageError
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.stills_film import require_equal_sizes

GREYS = [20, 90, 160, 230]


def test_the_film_has_every_drawing_in_order_at_its_rate(tmp_path):
    with ResultFiles(tmp_path, {}, Wanted(pictures=False, film_rate=12.5)) as files:
        for number, grey in enumerate(GREYS):
            files.save_drawing(files.name_for(Path(f"{number}.png")), np.full((48, 64, 3), grey, np.uint8))
        assert not (tmp_path / "images.mp4").exists()
    assert os.listdir(tmp_path) == ["images.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "images.mp4"), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert frames[0].shape == (48, 64, 3)
    np.testing.assert_allclose([frame.mean() for frame in frames], GREYS, atol=4)


def test_pictures_and_film_at_once_and_a_source_of_the_films_name(tmp_path):
    with ResultFiles(tmp_path, {}, Wanted(film_rate=5)) as files:
        files.save_drawing(files.name_for(Path("images.png")), np.zeros((16, 16, 3), np.uint8))
    assert sorted(os.listdir(tmp_path)) == ["images.mp4", "images_2.png"]


def test_without_a_drawing_or_after_a_failure_there_is_no_film(tmp_path):
    with ResultFiles(tmp_path, {}, Wanted(pictures=False, film_rate=5)):
        pass
    with pytest.raises(RunError), ResultFiles(tmp_path, {}, Wanted(pictures=False, film_rate=5)) as files:
        files.save_drawing(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
        raise RunError("the run failed")
    assert os.listdir(tmp_path) == []


def test_sizes_are_compared_as_the_pictures_are_read(tmp_path):
    upright = write_picture(tmp_path / "a.jpg", (60, 80))
    turned = tmp_path / "b.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 80)).save(turned, exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    require_equal_sizes([tmp_path / "broken.png", upright, turned])
    other = write_picture(tmp_path / "c.png", (60, 84))
    with pytest.raises(UsageError, match=r"c\.png has 84 x 60 pixels, but .*a\.jpg has 80 x 60; .*one size"):
        require_equal_sizes([upright, turned, other])
    with pytest.raises(UsageError, match="has none"):
        require_equal_sizes([])
