"""Grouping pictures into batches."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from models.predictor import group_equal


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
