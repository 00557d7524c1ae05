"""The sizes of a whole data set at once are those of its pictures one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.decoded_images import DecodedImages, DecodedSize
from data.images import read_image

sides = st.integers(1, 5000)


@given(
    st.lists(st.tuples(sides, sides, st.sampled_from([".jpg", ".JPEG", ".png", ".tif"])), max_size=20),
    st.one_of(st.none(), st.integers(1, 2000)),
    st.one_of(st.none(), st.integers(1, 2000)),
)
def test_all_sizes_at_once(pictures: list[tuple[int, int, str]], long_side: int | None, largest: int | None) -> None:
    decoded = DecodedSize(long_side, largest)
    sizes = np.array([picture[:2] for picture in pictures], np.int32).reshape(-1, 2)
    files = [f"a.b/{i}{picture[2]}" for i, picture in enumerate(pictures)]
    shapes = DecodedImages(files, sizes, decoded).shapes()
    assert shapes.dtype == np.int64 and shapes.shape == (len(files), 3)
    wanted = [(*decoded.of(picture[:2], file), 3) for picture, file in zip(pictures, files, strict=True)]
    assert [tuple(shape) for shape in shapes.tolist()] == wanted


class Kept(dict):
    """A store in the memory of this process."""

    put = dict.__setitem__


@pytest.mark.parametrize(
    "decoded", [None, DecodedSize(), DecodedSize(120), DecodedSize(None, 90), DecodedSize(None, 60)]
)
@pytest.mark.parametrize(
    ("suffix", "least", "part"), [("jpg", 90, 4), ("jpg", 101, 2), ("jpg", 900, 1), ("png", 90, 1)]
)
def test_what_is_decoded_for_a_least_size_does_not_depend_on_what_is_kept(
    tmp_path: Path, decoded: DecodedSize | None, suffix: str, least: int, part: int
) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(file)
    images = DecodedImages([str(file)], np.array([(300, 400)]), decoded, Kept())
    for _ in range(2):
        image = images.at_least(0, least)
        assert image.shape == (300 // part, 400 // part, 3)
        np.testing.assert_array_equal(image, read_image(file, part))
