"""The ranges of a search: possible ones, of keys that exist and are numbers."""

from __future__ import annotations

import pytest

from data.transforms.detection import DetectionTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from utils.recipe import CHOICES, DEFAULTS, WITHOUT_EFFECT, fill_recipe
from utils.recipe_ranges import HEAD_GAIN, RANGES


@pytest.mark.parametrize("name", RANGES)
def test_a_range_is_of_a_number_and_holds_its_default(name: str) -> None:
    found, default = RANGES[name], DEFAULTS[name]
    assert isinstance(default, float | int) and not isinstance(default, bool)
    assert found.low < found.high
    assert found.low <= default <= found.high
    assert not found.log or found.low > 0
    assert name not in WITHOUT_EFFECT
    assert found.needs in ("", "boxes", "masks", "keypoints")


@pytest.mark.parametrize("end", ["low", "high"])
def test_recipes_at_the_ends_of_all_ranges_are_taken(end: str) -> None:
    hyp = fill_recipe({name: getattr(found, end) for name, found in RANGES.items()}, end)
    DetectionTrainTransform(hyp, 64)
    SegmentationTrainTransform(hyp, 64, (64, 64))


def test_conditions_name_keys_and_words_that_exist() -> None:
    for found in (*RANGES.values(), HEAD_GAIN):
        if found.only_if is not None:
            key, words = found.only_if
            assert key in DEFAULTS
            assert set(words) <= set(CHOICES.get(key, words))
