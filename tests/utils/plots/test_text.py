"""Words on pictures: all letters, in the room there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.plots.text import LEAST_SIZE, fitted_text, text_mask


def test_letters_are_where_the_line_is():
    mask = text_mask("car 0.91", 20)
    assert mask.shape[0] == text_mask("j", 20).shape[0] == text_mask("", 20).shape[0]
    assert mask.max() == 255 and 0.05 < (mask > 127).mean() < 0.5
    columns = np.flatnonzero(mask.max(0))
    assert columns[0] <= 2 and columns[-1] >= mask.shape[1] - 3, "nothing is cut off and nothing hangs over"
    assert text_mask("carcar", 20).shape[1] == pytest.approx(2 * text_mask("car", 20).shape[1], abs=3)
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


@pytest.mark.parametrize("text", ["Straße", "машина", "αβγ", "čára"])
def test_names_in_other_alphabets_have_their_letters(text):
    unknown = text_mask("\ue000" * len(text), 20)
    assert (text_mask(text, 20) > 0).any()
    assert text_mask(text, 20).shape != unknown.shape or not np.array_equal(text_mask(text, 20), unknown)
    shapes = {text_mask(letter, 20).tobytes() for letter in set(text)}
    assert len(shapes) == len(set(text)), "they differ, so they are not one sign for what the font lacks"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.integers(LEAST_SIZE, 40), st.integers(1, 300))
def test_any_text_fits_or_is_as_short_and_small_as_it_gets(text, size, room):
    fitted, smaller = fitted_text(text, size, room)
    assert LEAST_SIZE <= smaller <= size
    assert text_mask(fitted, smaller).shape[1] <= room or (
        smaller == LEAST_SIZE and len(fitted.removesuffix("..")) <= 1
    )
    if text_mask(text, size).shape[1] <= room:
        assert (fitted, smaller) == (text, size)


def test_long_names_are_cut_visibly():
    fitted, size = fitted_text("a" * 10_000, 30, 100)
    assert fitted.endswith("..") and size == LEAST_SIZE and 5 < len(fitted) < 40
