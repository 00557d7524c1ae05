"""Dealing test batches: every batch once, in order, with about the same work for everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data.shares import share_of_batches

BATCHES = st.lists(
    st.tuples(st.lists(st.integers(0, 99), min_size=1, max_size=8), st.sampled_from([(64, 96), (96, 32)]))
)


@given(BATCHES, st.integers(1, 9))
def test_all_shares_in_a_row_are_all_batches(batches: list, size: int) -> None:
    shares = [share_of_batches(batches, (rank, size)) for rank in range(size)]
    assert [batch for share in shares for batch in share] == batches


@given(BATCHES, st.integers(1, 9))
def test_no_share_is_larger_than_its_part_and_one_batch(batches: list, size: int) -> None:
    def pixels(listed: list) -> int:
        return sum(len(indices) * height * width for indices, (height, width) in listed)

    largest = max((pixels([batch]) for batch in batches), default=0)
    for rank in range(size):
        assert pixels(share_of_batches(batches, (rank, size))) <= pixels(batches) / size + largest
