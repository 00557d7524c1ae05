from __future__ import annotations

import pytest

from data.transforms.recipe import recipe_flip_pairs, recipe_number, recipe_numbers
from utils.errors import ModelError


def test_numbers_are_read_and_absent_keys_take_their_default():
    assert recipe_number({"mosaic": 1}, "mosaic", 0, 0, 1) == 1.0
    assert recipe_number({}, "mosaic", 0.25, 0, 1) == 0.25
    assert recipe_numbers({"j": [1, 0.5]}, "j", (0, 0), 0, 1) == (1.0, 0.5)


@pytest.mark.parametrize("value", ["1e-3", None, True, float("inf"), -0.1, 1.1, [0.5]])
def test_what_is_no_number_in_range_is_refused(value):
    with pytest.raises(ModelError, match=r"'mosaic'.*from 0 to 1"):
        recipe_number({"mosaic": value}, "mosaic", 0, 0, 1)


@pytest.mark.parametrize("value", [0.4, [0.4], [0.4, 2], [0.4, "a"], "ab"])
def test_what_is_no_list_of_numbers_is_refused(value):
    with pytest.raises(ModelError, match="2 numbers"):
        recipe_numbers({"j": value}, "j", (0, 0), 0, 1)


def test_flip_pairs():
    assert recipe_flip_pairs({}) == ()
    assert recipe_flip_pairs({"flip_pairs": [[1, 2], [3, 4]]}) == ((1, 2), (3, 4))


@pytest.mark.parametrize("value", [[1, 2], [[1, 2, 3]], [[1, -2]], [[1, "a"]], [[1, 2], [2, 3]], 5])
def test_wrong_flip_pairs_are_refused(value):
    with pytest.raises(ModelError, match="flip_pairs"):
        recipe_flip_pairs({"flip_pairs": value})
