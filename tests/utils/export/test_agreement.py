"""Differences between a file and a model: measured relative to the output's largest value, never hidden by NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils.errors import ExportError
from utils.export.agreement import difference, failing_as, judge


def test_a_difference_is_relative_to_the_largest_value_of_the_model() -> None:
    found = difference(np.array([[0.0, -8.0, 2.0]]), np.array([[0.5, -8.0, 1.0]]), "noise")
    assert (found.absolute, found.relative, found.shape) == (1.0, 0.125, (1, 3))


def test_equal_zeros_do_not_differ() -> None:
    assert difference(np.zeros(3), np.zeros(3), "noise").relative == 0


def test_where_all_is_near_zero_the_difference_is_not_blown_up() -> None:
    found = difference(np.array([1e-5, 2e-6]), np.array([1.01e-5, 2e-6]), "noise")
    assert math.isclose(found.relative, 1e-7 / 0.01)
    assert difference(np.array([0.02, 0.0]), np.array([0.02, 0.01]), "noise").relative == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_never_pass(bad: float) -> None:
    for pair in (([1.0, bad], [1.0, bad]), ([1.0, bad], [1.0, 2.0]), ([1.0, 2.0], [1.0, bad])):
        found = difference(np.array(pair[0]), np.array(pair[1]), "noise")
        assert found.relative == math.inf
        with pytest.raises(ExportError, match="output 'a'"):
            judge({"a": found}, 1e-4)


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"shape \(3,\), the model's \(2,\)"):
        difference(np.zeros(2), np.zeros(3), "noise")


def test_the_worst_output_is_named() -> None:
    small = difference(np.array([100.0]), np.array([101.0]), "the picture")
    large = difference(np.array([1.0]), np.array([1.5]), "noise")
    with pytest.raises(ExportError, match=r"output 'b' .* by 0.5 of its largest value on noise, more than --tolerance"):
        judge({"a": small, "b": large}, 1e-4)
    judge({"a": small, "b": large}, 0.5)


def test_too_little_memory_is_no_fault_of_a_file() -> None:
    with pytest.raises(MemoryError), failing_as("ONNX Runtime"):
        raise MemoryError
