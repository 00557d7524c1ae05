"""Suppression that takes all classes for one."""

from __future__ import annotations

import pytest
import torch

from models.predictions import Detections, PostprocessOptions
from utils.nms import kept_candidates


def candidates(objectness: bool, distinct: bool = False) -> Detections:
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 60, 2, generator=draw) * 60
    boxes = torch.cat((corners, corners + 5 + 30 * torch.rand(2, 60, 2, generator=draw)), -1)
    scores = torch.rand(2, 60, 3, generator=draw)
    sure = torch.rand(2, 60, generator=draw) if objectness else None
    return Detections(boxes, scores, sure, distinct=distinct)


@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize("multi_label", [True, False])
def test_every_candidate_counts_once_and_all_suppress_each_other(objectness: bool, multi_label: bool) -> None:
    detections = candidates(objectness)
    options = PostprocessOptions(conf=0.2, iou=0.3, multi_label=multi_label, one_class=True)
    across = PostprocessOptions(conf=0.2, iou=0.3, agnostic=True)
    for one, expected in zip(kept_candidates(detections, options), kept_candidates(detections, across), strict=True):
        assert torch.equal(one.rows, expected.rows) and torch.equal(one.scores, expected.scores)
        assert (one.classes == 0).all() and len(set(expected.classes.tolist())) == 3


def test_a_query_that_may_be_of_several_classes_counts_once() -> None:
    options = PostprocessOptions(conf=0.0, multi_label=True, one_class=True)
    for kept in kept_candidates(candidates(objectness=False, distinct=True), options):
        assert sorted(kept.rows.tolist()) == list(range(60)) and (kept.classes == 0).all()
