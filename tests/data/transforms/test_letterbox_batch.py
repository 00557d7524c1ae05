"""Letterboxing into memory that is used again gives what a new batch of letterboxed pictures is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import stack_pictures
from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan, plan_for_stride
from data.transforms.letterbox_batch import LetterboxBatch

RULES = [
    CENTERED,
    LetterboxRule("top-left", square=True, pad=7),
    LetterboxRule(shrink="area"),
    LetterboxRule("top-left", shrink="antialias", fit="shortest"),
]
SIZES = [(40, 60), (60, 40), (64, 64), (9, 90), (30, 45)]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(RULES), st.lists(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3), min_size=1, max_size=4)
)
def test_every_batch_is_as_if_it_were_the_first(rule, batches):
    rng, block = np.random.default_rng(0), LetterboxBatch()
    for sizes in batches:
        images = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
        plans = [plan_for_stride(size, 64, 32, rule) for size in sizes]
        expected = stack_pictures(
            [apply_plan(*pair) for pair in zip(images, plans, strict=True)], [plan.out for plan in plans], 0
        )
        got = block.fill(images, plans)
        assert got.shape[:2] == (len(sizes), 3)
        np.testing.assert_array_equal(got.permute(0, 2, 3, 1).numpy(), expected)


def test_memory_is_used_again_for_batches_that_fit():
    block, image = LetterboxBatch(), np.full((40, 60, 3), 9, np.uint8)
    plan = plan_for_stride((40, 60), 64, 32)
    first = block.fill([image] * 3, [plan] * 3).data_ptr()
    assert block.fill([image], [plan]).data_ptr() == first
