"""Pictures look alike when few of their 64 signs differ; comparing by bands finds exactly these."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.checks import alike
from data.checks.alike import alike_findings, first_look_alikes, signs_of
from data.checks.pictures import look_at_pictures

SIGNS = st.integers(0, 2**64 - 1)
FLIPS = st.sets(st.integers(0, 63), max_size=6)


def brute_force(known, asked, earlier):
    """The first known number of which at most three bits differ from each asked one, by comparing all."""
    return [
        next(
            (i for i, other in enumerate(known[:j] if earlier else known) if (number ^ other).bit_count() <= 3),
            -1,
        )
        for j, number in enumerate(asked)
    ]


@given(st.lists(st.tuples(st.integers(0, 2), FLIPS), max_size=12), st.lists(SIGNS, min_size=3, max_size=3))
def test_pairs_are_those_of_a_comparison_of_all(pictures, bases):
    numbers = [bases[base] ^ sum(1 << place for place in flips) for base, flips in pictures]
    signs = np.array(numbers, np.uint64)
    assert first_look_alikes(signs, signs, earlier=True).tolist() == brute_force(numbers, numbers, True)
    assert first_look_alikes(signs[:5], signs[5:]).tolist() == brute_force(numbers[:5], numbers[5:], False)


def test_pieces_give_what_one_comparison_gives(monkeypatch):
    signs = np.array([7, 6, 7 << 40, 7, 0, 1 << 50], np.uint64)
    whole = first_look_alikes(signs, signs, earlier=True).tolist()
    monkeypatch.setattr(alike, "_MOST_COMPARED", 2)
    assert first_look_alikes(signs, signs, earlier=True).tolist() == whole == [-1, 0, -1, 0, 0, 1]


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
    ids = {name: name for name in names}
    found = alike_findings({"test": [], "train": names[:3], "val": names[3:]}, ids, signs, "cars")
    assert [(finding.check, finding.where, finding.sentence) for finding in found] == [
        ("split-near-leak", "cars train and val", f"{names[3]}: looks like {names[0]}, which train has"),
        ("split-near-leak", "cars train and val", f"{names[4]}: looks like {names[1]}, which train has"),
    ]
