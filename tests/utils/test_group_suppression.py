"""Suppression within groups: the batched calls against one call per view and class, and what two stages change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

import utils.group_suppression
from models.predictions import Detections, PostprocessOptions
from utils.boxes import xywh_to_xyxy
from utils.group_suppression import best_of_groups
from utils.nms import non_max_suppression


def random_boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres, sizes = torch.rand(count, 2, generator=generator) * 80, torch.rand(count, 2, generator=generator) * 60 + 2
    # Scores of a grid, so that some are equal.
    return xywh_to_xyxy(torch.cat([centres, sizes], 1)), (torch.rand(count, generator=generator) * 50).round() / 50


def group_by_group(
    boxes: Tensor, scores: Tensor, classes: Tensor, groups: Tensor, iou: float, most_before: int, most_after: int
) -> list[int]:
    stay = []
    for group in groups.unique().tolist():
        own = (groups == group).nonzero()[:, 0]
        own = own[scores[own].argsort(descending=True, stable=True)[:most_before]]
        kept = torch.cat(
            [own[classes[own] == c][nms(boxes[own[classes[own] == c]], scores[own[classes[own] == c]], iou)]
             for c in classes[own].unique()]
        ).sort().values  # fmt: skip
        kept = kept[scores[kept].argsort(descending=True, stable=True)]
        stay += kept[:most_after].tolist()
    return stay


@settings(max_examples=25)
@given(
    count=st.integers(0, 120),
    seed=st.integers(0, 10_000),
    iou=st.sampled_from([0.0, 0.3, 0.65, 1.0]),
    limits=st.sampled_from([(1000, 1000), (7, 1000), (1000, 3), (9, 2)]),
    at_once=st.sampled_from([1, 20, 4096]),
)
def test_equals_one_call_per_group_and_class(
    count: int, seed: int, iou: float, limits: tuple[int, int], at_once: int
) -> None:
    boxes, scores = random_boxes(count, seed)
    generator = torch.Generator().manual_seed(seed)
    classes, groups = (torch.randint(0, high, (count,), generator=generator) for high in (3, 5))
    # Group 2 stays empty, as a view that finds nothing.
    groups[groups == 2] = 4
    before = utils.group_suppression.AT_ONCE
    try:
        utils.group_suppression.AT_ONCE = at_once
        found = best_of_groups(boxes, scores, classes, groups, iou, *limits)
    finally:
        utils.group_suppression.AT_ONCE = before
    assert found.dtype == torch.int64
    assert found.tolist() == group_by_group(boxes, scores, classes, groups, iou, *limits)


def test_a_wild_box_of_one_group_leaves_the_others_alone() -> None:
    boxes, scores = random_boxes(60, 1)
    classes, groups = torch.arange(60) % 2, torch.arange(60) % 3
    expected = group_by_group(boxes, scores, classes, groups, 0.3, 100, 100)
    boxes = torch.cat([boxes, torch.tensor([[-3e38, 0.0, 3e38, 10.0]])])
    scores, classes = torch.cat([scores, torch.tensor([2.0])]), torch.cat([classes, torch.tensor([0])])
    found = best_of_groups(boxes, scores, classes, torch.cat([groups, torch.tensor([3])]), 0.3, 100, 100)
    assert found.tolist() == [*expected, 60]


def views_of(seed: int, images: int = 3, views: int = 4, each: int = 40) -> Detections:
    count = views * each
    generator = torch.Generator().manual_seed(seed)
    parts = [random_boxes(count, seed + i)[0] for i in range(images)]
    scores = torch.rand(images, count, 3, generator=generator)
    return Detections(torch.stack(parts), scores, torch.rand(images, count, generator=generator).sqrt()).of_view(0)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("multi_label", [False, True])
def test_views_choose_first_and_then_all_together(agnostic: bool, multi_label: bool) -> None:
    options = PostprocessOptions(conf=0.1, iou=0.4, max_det=15, multi_label=multi_label, agnostic=agnostic)
    everything = views_of(3)
    everything.views = torch.arange(4).repeat_interleave(40)
    everything.boxes[1, 40:80] += 1000
    found = non_max_suppression(everything, options)
    for i, (boxes, scores, classes) in enumerate(found):
        chosen = []
        for view in range(4):
            own = everything.views == view
            alone = Detections(everything.boxes[i : i + 1, own], everything.scores[i : i + 1, own])
            alone.objectness = everything.objectness[i : i + 1, own]
            chosen.append(non_max_suppression(alone, options)[0])
        all_boxes, all_scores, all_classes = (torch.cat(column) for column in zip(*chosen, strict=True))
        apart = torch.zeros_like(all_classes) if agnostic else all_classes
        kept = nms(all_boxes + apart[:, None] * 5000.0, all_scores, 0.4)[:15]
        torch.testing.assert_close(boxes, all_boxes[kept], rtol=0, atol=0)
        assert torch.equal(scores, all_scores[kept]) and torch.equal(classes, all_classes[kept])


def test_a_box_that_its_own_view_drops_does_not_come_back() -> None:
    """A covers B within one view and C of the other view covers A; together, B would rise again once A is gone."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 4, 10, 14], [0, -4, 10, 6]]])
    found = Detections(boxes, torch.tensor([[[0.8], [0.7], [0.9]]]))
    options = PostprocessOptions(conf=0.1, iou=0.4)
    assert len(non_max_suppression(found, options)[0][0]) == 2
    found.views = torch.tensor([0, 0, 1])
    (kept, scores, _) = non_max_suppression(found, options)[0]
    assert kept.tolist() == [[0, -4, 10, 6]] and scores.tolist() == pytest.approx([0.9])


def test_images_and_views_without_boxes_stay_empty() -> None:
    found = views_of(5, images=2)
    found.views = torch.arange(160) % 4
    found.scores[0] = 0
    empty, full = non_max_suppression(found, PostprocessOptions(conf=0.2))
    assert len(empty[0]) == 0 < len(full[0])
    found.scores[:] = 0
    assert all(len(boxes) == 0 for boxes, _, _ in non_max_suppression(found, PostprocessOptions(conf=0.2)))
