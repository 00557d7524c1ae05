"""Run-length masks: the same counts and texts as pycocotools', and masks that come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as reference

from data.formats.coco_rle import mask_to_runs, runs_to_mask, runs_to_text, text_to_runs

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@given(MASKS)
def test_texts_are_those_of_pycocotools(mask: np.ndarray) -> None:
    runs = mask_to_runs(mask)
    assert np.array_equal(runs_to_mask(runs, mask.shape), mask)
    text = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert runs_to_text(runs) == text and np.array_equal(text_to_runs(text), runs)


@given(st.lists(st.integers(0, 2**38), max_size=8))
def test_any_counts_come_back(runs: list[int]) -> None:
    assert text_to_runs(runs_to_text(np.array(runs, np.int64))).tolist() == runs


@pytest.mark.parametrize("runs", [[5, -1], [2, 3], [2**62, 2**62, 2**62, 2**62, 4], []])
def test_runs_that_do_not_fill_the_picture_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fill 2x2 pixels"):
        runs_to_mask(np.array(runs, np.int64), (2, 2))
