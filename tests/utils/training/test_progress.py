"""The progress line: means of losses, and a word about those that have no say yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from models.losses.yolox import YOLOXCriterion
from utils.training.progress import LossMeter

NAMES = ("box", "obj", "cls", "l1")


@pytest.mark.parametrize(
    ("close_mosaic", "epoch", "column"),
    [
        (15, 0, "l1 off until epoch 286"),
        (15, 284, "l1 off until epoch 286"),
        (15, 285, "l1 0.5000"),
        (0, 299, "l1 off"),
        (300, 0, "l1 0.5000"),
    ],
)
def test_a_loss_of_the_last_epochs_says_when_it_comes(close_mosaic: int, epoch: int, column: str) -> None:
    criterion = YOLOXCriterion([8, 16], 3, {"close_mosaic": close_mosaic})
    criterion.start_epoch(epoch, 300)
    task = SimpleNamespace(name="detect", head=SimpleNamespace(loss_names=NAMES), criterion=criterion)
    meter = LossMeter([task], torch.device("cpu"))
    meter.add({"detect": torch.tensor([1.0, 2.0, 3.0, 0.25])})
    meter.add({"detect": torch.tensor([1.0, 2.0, 5.0, 0.75])})
    assert meter.texts() == {"detect": f"box 1.0000 obj 2.0000 cls 4.0000 {column}"}
    assert meter.means()["detect"]["l1"] == 0.5
