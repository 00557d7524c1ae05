"""The progress line: means of losses, and a word about those that have no say yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from models.losses.yolox import YOLOXCriterion
from utils.training.positives import warn_without_positives
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
    head = SimpleNamespace(loss_names=NAMES, loss_groups={})
    task = SimpleNamespace(name="detect", head=head, criterion=criterion, shown=NAMES)
    meter = LossMeter([task], torch.device("cpu"))
    meter.add({"detect": torch.tensor([1.0, 2.0, 3.0, 0.25])})
    meter.add({"detect": torch.tensor([1.0, 2.0, 5.0, 0.75])})
    assert meter.texts() == {"detect": f"box 1.0000 obj 2.0000 cls 4.0000 {column}"}
    assert meter.means()["detect"]["l1"] == 0.5


LAYERS = ("cls_0", "box_0", "cls_1", "box_1", "o2m_cls_0", "o2m_box_0", "area")
GROUPS = {"o2o": LAYERS[:4], "o2m": LAYERS[4:6]}


def grouped(groups: dict[str, tuple[str, ...]], resting: dict[str, int | None]) -> LossMeter:
    head = SimpleNamespace(loss_names=LAYERS, loss_groups=groups)
    criterion = SimpleNamespace(resting=resting)
    task = SimpleNamespace(name="detect", head=head, criterion=criterion, shown=LAYERS)
    return LossMeter([task], torch.device("cpu"))


@pytest.mark.parametrize(
    ("resting", "column"),
    [
        ({}, "o2m 11.0000"),
        ({"o2m_cls_0": 3}, "o2m 6.0000"),
        ({"o2m_cls_0": 5, "o2m_box_0": 3}, "o2m off until epoch 4"),
        ({"o2m_cls_0": None, "o2m_box_0": None}, "o2m off"),
    ],
)
def test_many_losses_are_sums_on_the_line_and_themselves_in_the_results(resting: dict, column: str) -> None:
    meter = grouped(GROUPS, resting)
    meter.add({"detect": torch.arange(7.0)})
    meter.add({"detect": torch.arange(7.0) + 1 + 1})
    assert meter.texts() == {"detect": f"o2o 10.0000 {column} area 7.0000"}
    assert meter.means()["detect"] == {name: index + 1.0 for index, name in enumerate(LAYERS)}


@pytest.mark.parametrize("groups", [{"o2o": ("cls_0", "nothing")}, {"a": ("cls_0",), "b": ("cls_0",)}])
def test_a_group_has_losses_of_its_head_and_no_other_group_has_them(groups: dict) -> None:
    with pytest.raises(ValueError, match="one of loss_names, in one group alone"):
        grouped(groups, {})


@pytest.mark.parametrize(("boxes", "said"), [((0.0, 0.0, 0.0), 1), ((0.0, 0.0, 0.5), 0)])
def test_a_run_without_a_match_in_any_layer_is_told(
    boxes: tuple[float, ...], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    task = SimpleNamespace(name="detect", finds_objects=True)
    means = {"detect": dict(zip(("box_0", "box_1", "o2m_box_0"), boxes, strict=True)) | {"cls_0": 1.0, "boxes": 2.0}}
    warn_without_positives([task], means, epoch=1)
    warn_without_positives([task], means, epoch=4)
    assert len(caplog.messages) == said
