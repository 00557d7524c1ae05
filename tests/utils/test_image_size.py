"""Input sizes: rounded up to the stride, and refused where no model could take them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import UsageError
from utils.image_size import LARGEST_SIDE, long_limit, require_possible_sizes, round_up_to_stride


@given(size=st.integers(1, 20_000), stride=st.sampled_from([1, 8, 32, 64, 128]))
def test_the_next_multiple(size: int, stride: int) -> None:
    rounded = round_up_to_stride(size, stride)
    assert rounded % stride == 0 and size <= rounded < size + stride


@pytest.mark.parametrize(("short", "long"), [(512, 853), (608, 1013), (800, 1333), (1, 1), (16_000, 26_660)])
def test_the_limit_of_the_long_side(short: int, long: int) -> None:
    assert long_limit(short) == long == long_limit(short, 1.66625)


@given(short=st.integers(1, LARGEST_SIDE))
def test_the_limit_is_that_of_whole_numbers(short: int) -> None:
    assert long_limit(short) == short * 1333 // 800


def test_sizes_between_the_limits_and_none_pass() -> None:
    require_possible_sizes("--img-size", [1, 640, LARGEST_SIDE, None])


@pytest.mark.parametrize(("size", "least"), [(0, 1), (-5, 1), (31, 32), (LARGEST_SIDE + 1, 1), (10**9, 32)])
def test_other_sizes_are_one_sentence(size: int, least: int) -> None:
    with pytest.raises(UsageError, match=rf"^--img-size must be {least} to 16,384 pixels, but is {size:,}$"):
        require_possible_sizes("--img-size", [640, size], least)
