"""Pictures look alike when few of their 64 signs differ; comparing by bands finds exactly these."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.checks.alike import MOST_DIFFERENT, look_alikes, signs_of
from data.checks.pictures import look_at_pictures

SIGNS = st.integers(0, 2**64 - 1)
FLIPS = st.sets(st.integers(0, 63), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 2), FLIPS), max_size=12), st.lists(SIGNS, min_size=3, max_size=3))
def test_pairs_are_those_of_a_comparison_of_all(pictures, bases):
    numbers = [bases[base] ^ sum(1 << place for place in flips) for base, flips in pictures]
    wanted = [
        [i, j]
        for i in range(len(numbers))
        for j in range(i + 1, len(numbers))
        if (numbers[i] ^ numbers[j]).bit_count() <= MOST_DIFFERENT
    ]
    assert look_alikes(np.array(numbers, np.uint64)).tolist() == wanted


def test_resized_and_recompressed_pictures_look_alike_others_do_not(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (320, 240)) for _ in range(3)]
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "again.jpg", "small.png", "black.png", "dark.png")]
    pictures = [*scenes, scenes[0], cv2.resize(scenes[1], (160, 120)), np.zeros_like(scenes[0]), scenes[0] // 200]
    for file, picture in zip(files, pictures, strict=True):
        cv2.imwrite(str(file), picture)
    names = [str(file) for file in files]
    signs = signs_of(look_at_pictures(names))
    # A flat picture has no signs, and so looks like none.
    assert str(files[5]) not in signs
    known = [name for name in names if name in signs]
    pairs = look_alikes(np.array([signs[name] for name in known], np.uint64))
    found = {(known[i], known[j]) for i, j in pairs.tolist()}
    assert found == {(names[0], names[3]), (names[1], names[4])}
