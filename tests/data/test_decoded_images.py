"""The sizes of a whole data set at once are those of its pictures one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.decoded_images import DecodedImages, DecodedSize

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
