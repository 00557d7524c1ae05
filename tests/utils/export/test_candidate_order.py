"""Sets of candidates: another order is no difference, anything else still is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.export.agreement import difference
from utils.export.candidate_order import in_order_of


def answers(seed: int, images: int = 2, candidates: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "detect_boxes": random.uniform(0, 640, (images, candidates, 4)).astype(np.float32),
        "detect_scores": random.uniform(0, 1, (images, candidates, 3)).astype(np.float32),
        "detect_objectness": random.uniform(0, 1, (images, candidates)).astype(np.float32),
    }


@given(seed=st.integers(0, 99), images=st.integers(1, 3), candidates=st.integers(1, 8))
def test_any_order_of_the_candidates_of_an_image_is_undone(seed: int, images: int, candidates: int) -> None:
    expected = answers(seed, images, candidates)
    random = np.random.default_rng(seed + 1)
    orders = [random.permutation(candidates) for _ in range(images)]
    found = {name: np.stack([v[i][order] for i, order in enumerate(orders)]) for name, v in expected.items()}
    for name, values in in_order_of(expected, found).items():
        np.testing.assert_array_equal(values, expected[name])


def test_boxes_that_changed_places_without_their_scores_remain_a_difference() -> None:
    expected = answers(0)
    swapped = expected | {"detect_boxes": expected["detect_boxes"][:, ::-1]}
    seen = in_order_of(expected, swapped)
    worst = max(difference(expected[name], seen[name], "noise").relative for name in expected)
    assert worst > 0.1


def test_a_candidate_of_another_image_remains_a_difference() -> None:
    expected = answers(0)
    seen = in_order_of(expected, {name: values[::-1] for name, values in expected.items()})
    assert difference(expected["detect_boxes"], seen["detect_boxes"], "noise").relative > 0.1


def test_small_errors_survive_in_their_own_size() -> None:
    expected = answers(3)
    found = {name: (values * 1.001)[:, ::-1] for name, values in expected.items()}
    seen = in_order_of(expected, found)
    assert difference(expected["detect_boxes"], seen["detect_boxes"], "noise").relative == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("spoilt", ["shape", "nan"])
def test_what_cannot_be_ordered_is_left_to_the_comparison(spoilt: str) -> None:
    expected, found = answers(0), answers(0)
    if spoilt == "nan":
        found["detect_scores"][0, 0, 0] = np.nan
    else:
        found["detect_scores"] = found["detect_scores"][:, :-1]
    seen = in_order_of(expected, found)
    assert all(seen[name] is found[name] for name in found)
