"""Tensors side by side: the same values in fewer steps."""

from __future__ import annotations

import pytest
import torch

from data.samples import Placement
from models.predictions import Detections, Poses, PostprocessOptions
from tests.tiny_poses import CRANE
from utils.detection_results import detection_results
from utils.flat_tensors import to_host
from utils.pose_results import pose_results


def test_what_comes_to_the_host_is_the_same_and_has_memory_of_its_own() -> None:
    before = [torch.rand(3, 4), torch.tensor([0, 2**24 - 1]), torch.zeros(0, 5, 3), torch.tensor(7)]
    after = to_host(before)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new) and old.dtype == new.dtype and old.shape == new.shape
        assert new.untyped_storage().nbytes() == new.numel() * new.element_size()


@pytest.mark.parametrize("kind", ["boxes", "poses"])
def test_results_of_a_batch_wait_for_the_device_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.tensor([0.0, 0, 9, 9]).expand(5, 7, 4)
    found, finish = Detections(boxes, torch.rand(5, 7, 2)), detection_results
    if kind == "poses":
        keypoints = torch.rand(5, 7, len(CRANE), 3)
        found, finish = Poses(boxes, found.scores, keypoints=keypoints, spec=CRANE), pose_results
    copies, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor) or cpu(tensor))
    results = finish(found, PostprocessOptions(conf=0.0), [Placement(10, 10)] * 5)
    assert len(results) == 5 and len(copies) == 1
