"""Grouping pictures into batches."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.transforms.letterbox import CENTERED, LetterboxRule
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor, group_equal
from utils.boxes import scale_to_native
from utils.stage_clock import StageClock


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 5))
def test_groups_keep_order_and_never_mix_keys(keys, most):
    items = list(enumerate(keys))
    groups = list(group_equal(((key, (i, key)) for i, key in items), most))
    assert [item for group in groups for item in group] == items
    assert all(1 <= len(group) <= most and len({key for _, key in group}) == 1 for group in groups)
    for group, after in pairwise(groups):
        assert len(group) == most or group[0][1] != after[0][1], "a group ends only when it must"


def test_a_full_group_does_not_wait_for_the_next_item():
    def endless():
        yield "k", 1
        yield "k", 2
        raise AssertionError("read too far")

    assert next(group_equal(endless(), 2)) == [1, 2]


class Marks:
    """An answer that finds the bright rectangle of every input; its results are its boxes."""

    stride = 32

    def __init__(self, letterbox: LetterboxRule) -> None:
        self.letterbox, self.heads, self.seen = letterbox, {"spot": SimpleNamespace(postprocess=self.postprocess)}, []

    def __call__(
        self, images: torch.Tensor, heads: Any, dtype: Any, sizes: Any = None
    ) -> dict[str, list[torch.Tensor]]:
        self.seen.append(images)
        found = []
        for image in images[:, 0] > 200:
            rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
            found.append(torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]).float())
        return {"spot": found}

    def postprocess(self, found: list[torch.Tensor], options: Any, placements: list[Any]) -> list[torch.Tensor]:
        return [scale_to_native(boxes, placement) for boxes, placement in zip(found, placements, strict=True)]


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (CENTERED, (64, 96)),
        (LetterboxRule("top-left", square=True), (96, 96)),
        (LetterboxRule("top-left", pad=0), (64, 96)),
        (LetterboxRule("center", square=True), (96, 96)),
    ],
)
def test_pictures_lie_as_the_model_wants_and_results_come_back(rule: LetterboxRule, shape: tuple[int, int]) -> None:
    image = np.full((120, 200, 3), 20, np.uint8)
    image[30:90, 50:170] = 250
    model = Marks(rule)
    clock = StageClock(STAGES)
    predictor = Predictor(model, {"spot": 90}, PostprocessOptions(), torch.device("cpu"), None, clock)
    assert predictor.input_shapes(image) == (shape,)
    assert predictor.shape_text(image) == f"{shape[0]}x{shape[1]}"
    [result] = predictor([image])
    torch.testing.assert_close(result["spot"], torch.tensor([[50.0, 30, 170, 90]]), rtol=0, atol=2.1)
    [seen] = model.seen
    assert seen.shape[-2:] == shape and seen[0, 0, -1, -1] == rule.pad
    assert seen[0, 0, 0, 0] == (20 if rule.anchor == "top-left" else rule.pad)
