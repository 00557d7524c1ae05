"""Anchors fitted to data: measured by the published fitness, better than the start, kept where they serve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.autoanchor import ENOUGH_RECALL, adapt_anchors, anchor_fitness, fit_anchors
from models.graph import load_graph
from models.spec import parse_spec

COCO = np.array([10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326], float).reshape(-1, 2)


def shapes(seed: int, count: int = 300, middle: float = 4.0) -> np.ndarray:
    """Return box sizes around exp(middle) pixels."""
    return np.exp(np.random.default_rng(seed).normal(middle, 0.7, (count, 2)))


def test_fitness_by_hand() -> None:
    wh = np.array([[10.0, 10.0], [40.0, 10.0], [100.0, 100.0]])
    recall, above, fitness = anchor_fitness(wh, np.array([[10.0, 10.0], [20.0, 20.0]]), 4.0)
    # Closeness to the two anchors: 1 and 1/2; 1/4 and 1/2; 1/10 and 1/5. A match lies above 1/4.
    assert (recall, above) == (pytest.approx(2 / 3), pytest.approx(3 / 3))
    assert fitness == pytest.approx((1 + 0.5 + 0) / 3)


def test_fitted_anchors_suit_the_data_better_and_are_sorted() -> None:
    wh = shapes(0, middle=5.5)
    fitted = fit_anchors(wh, 9, 4.0, np.random.default_rng(0))
    assert fitted.shape == (9, 2)
    assert (np.diff(fitted.prod(1)) >= 0).all()
    assert anchor_fitness(wh, fitted, 4.0)[2] > anchor_fitness(wh, COCO, 4.0)[2] + 0.1
    assert np.array_equal(fitted, fit_anchors(wh, 9, 4.0, np.random.default_rng(0)))


@settings(max_examples=10)
@given(count=st.integers(0, 12), seed=st.integers(0, 99))
def test_few_boxes_still_give_all_anchors(count: int, seed: int) -> None:
    fitted = fit_anchors(shapes(seed, count), 9, 4.0, np.random.default_rng(seed))
    assert fitted.shape == (9, 2) and np.isfinite(fitted).all() and (fitted >= 2).all()


def test_equal_boxes_still_give_all_anchors() -> None:
    fitted = fit_anchors(np.full((50, 2), 30.0), 6, 4.0, np.random.default_rng(0))
    assert fitted.shape == (6, 2)
    assert anchor_fitness(np.full((1, 2), 30.0), fitted, 4.0)[0] == 1


def test_boxes_below_two_pixels_do_not_pull_the_anchors() -> None:
    wh = np.concatenate((shapes(1), np.full((900, 2), 0.5)))
    fitted = fit_anchors(wh, 9, 4.0, np.random.default_rng(0))
    assert anchor_fitness(shapes(1), fitted, 4.0)[0] > 0.98


def test_anchors_that_serve_stay() -> None:
    wh = COCO[np.random.default_rng(0).integers(0, 9, 200)]
    assert anchor_fitness(wh * 0.9, COCO, 4.0)[0] >= ENOUGH_RECALL
    assert adapt_anchors(COCO.reshape(3, 3, 2), wh, 4.0, np.random.default_rng(0)) is None
    assert adapt_anchors(COCO.reshape(3, 3, 2), np.zeros((0, 2)), 4.0, np.random.default_rng(0)) is None


def test_anchors_that_do_not_serve_are_replaced_level_by_level() -> None:
    wh = shapes(2, middle=6.5)
    fitted = adapt_anchors(COCO.reshape(3, 3, 2), wh, 4.0, np.random.default_rng(0))
    assert fitted is not None and [len(level) for level in fitted] == [6, 6, 6]
    areas = np.array(fitted).reshape(-1, 2).prod(1)
    assert (np.diff(areas) >= -1).all()
    assert anchor_fitness(wh, np.array(fitted).reshape(-1, 2), 4.0)[0] > 0.98


@pytest.mark.parametrize("descending", [False, True])
def test_the_finest_level_gets_the_smallest_anchors_whatever_the_order(descending: bool, tiny_model) -> None:
    """A head may list its levels from coarse to fine, as the FPN variant does."""
    graph = load_graph(tiny_model)
    values = dict(graph.spec.values)
    if descending:
        values["head"] = [values["head"][0], [[3, 2], *values["head"][1][1:]]]
    head = type(graph)(parse_spec(values, "x.yaml")).heads["detect"]
    pixels = head.anchors.numpy() * np.array(head.strides).reshape(-1, 1, 1)
    areas = pixels.prod(2).mean(1)
    assert (areas[0] > areas[1]) == descending and head.strides == ([16, 8] if descending else [8, 16])
    changed = head.adapt_to_objects(shapes(3, middle=6.0), {"anchor_t": 4.0}, np.random.default_rng(0))
    levels = np.array(changed[1]).reshape(2, -1, 2).prod(2).mean(1)
    assert (levels[0] > levels[1]) == descending
