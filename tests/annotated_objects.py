"""Annotated objects for tests of label formats: drawn by hypothesis, compared field by field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.polygons import extent

CLASSES = ["car", "traffic light", "Straße", "a & <b>"]
KEYPOINTS = ("nose", "tail")


@st.composite
def pictures(
    draw: st.DrawFn, keeps: frozenset[str], names: Sequence[str] = tuple(CLASSES), keypoints: int = 0, beyond: int = 0
) -> AnnotatedPicture:
    """Draw a picture whose objects have what a format keeps.

    Args:
        draw: of hypothesis.
        keeps: fields of ``Objects``.
        names: of classes.
        keypoints: K.
        beyond: how many pixels objects may reach over the edge.
    """
    height, width = size = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 5))
    low, high = np.full(2, -beyond), np.array([width, height]) + beyond
    whole = draw(st.booleans())

    def points(*shape: int) -> np.ndarray:
        places = rng.uniform(low, high, (*shape, 2))
        return np.round(places) if whole else places

    corners = np.sort(points(n, 2), axis=1)
    outlines = [[points(rng.integers(3, 7)) for _ in range(rng.integers(0, 3))] for _ in range(n)]
    outlines = outlines if "outlines" in keeps else [[] for _ in range(n)]
    boxes = np.array([extent(parts) if parts else corners[i].ravel() for i, parts in enumerate(outlines)])
    visible = rng.integers(0, 3, (n, keypoints, 1))
    objects = make_objects(
        names=[names[i] for i in rng.integers(0, len(names), n)],
        boxes=boxes.reshape(-1, 4),
        outlines=outlines,
        keypoints=np.concatenate([np.where(visible > 0, points(n, keypoints), 0), visible], axis=2),
        crowd=rng.random(n) < 0.3 if "crowd" in keeps else None,
        difficult=rng.random(n) < 0.3 if "difficult" in keeps else None,
    )
    return AnnotatedPicture(Path("images/street/a.jpg"), "street/a.jpg", size, objects)


def class_list(keypoints: int = 0, names: Sequence[str] = tuple(CLASSES)) -> ClassList:
    """Return a set's classes and the first of ``KEYPOINTS``."""
    return ClassList(list(names), KEYPOINTS[:keypoints])


def check_equal(found: Objects, expected: Objects, tolerance: float = 0.0) -> None:
    """Check that objects are the same, lengths to so many pixels."""
    assert found.names == expected.names and found.left_out == expected.left_out
    assert found.boxes.shape == expected.boxes.shape and found.keypoints.shape == expected.keypoints.shape
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, rtol=0, atol=tolerance)
    assert [len(parts) for parts in found.outlines] == [len(parts) for parts in expected.outlines]
    for ours, theirs in zip(found.outlines, expected.outlines, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found.crowd, expected.crowd)
    np.testing.assert_array_equal(found.difficult, expected.difficult)
    np.testing.assert_array_equal(found.areas, expected.areas)
