"""Layers that answer for queries as they begin, and boxes told from references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.set_answers import EDGE, box_layer, class_layer, logit, moved

FRACTIONS = st.floats(0, 1, width=32)


def test_class_layers_begin_sure_of_nothing() -> None:
    torch.manual_seed(0)
    layer = class_layer(16, 7)
    assert torch.allclose(layer.bias.sigmoid(), torch.full((7,), 0.01))
    assert layer.weight.std() > 0


@pytest.mark.parametrize("sides_known", [True, False])
def test_box_layers_move_nothing_at_first(sides_known: bool) -> None:
    torch.manual_seed(0)
    layer, content = box_layer(16, sides_known), torch.randn(2, 5, 16)
    references = torch.rand(2, 5, 4 if sides_known else 2) * 0.9 + 0.05
    boxes = moved(references, layer(content))
    assert torch.allclose(boxes[..., : references.shape[-1]], references, atol=1e-6)
    if not sides_known:
        assert torch.allclose(boxes[..., 2:], torch.full((2, 5, 2), 1 / (1 + math.exp(2))))


@settings(max_examples=30, deadline=None)
@given(st.lists(FRACTIONS, min_size=4, max_size=4), st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4))
def test_boxes_are_references_moved_by_logits(reference: list[float], change: list[float]) -> None:
    found = moved(torch.tensor(reference, dtype=torch.float64), torch.tensor(change, dtype=torch.float64))
    for start, step, box in zip(reference, change, found.tolist(), strict=True):
        kept = min(max(start, EDGE), 1 - EDGE)
        assert box == pytest.approx(1 / (1 + math.exp(-step) * (1 - kept) / kept), abs=1e-9)


def test_logits_and_gradients_at_the_edges_are_finite() -> None:
    ends = torch.tensor((0.0, 1.0, 0.5), requires_grad=True)
    found = logit(ends)
    found.sum().backward()
    assert found.tolist() == pytest.approx([-11.5129, 11.5129, 0.0], abs=1e-2)
    assert ends.grad.isfinite().all() and ends.grad[2] == pytest.approx(4.0)


def test_boxes_are_float32_whatever_the_layer_answers_in() -> None:
    references = torch.full((1, 2, 4), 0.3)
    for kind in (torch.bfloat16, torch.float16):
        assert moved(references, torch.zeros(1, 2, 4, dtype=kind)).dtype == torch.float32
    assert torch.allclose(moved(references, torch.zeros(1, 2, 4, dtype=torch.bfloat16)), references, atol=1e-7)
