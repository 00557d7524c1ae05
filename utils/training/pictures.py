"""Pictures that a run leaves in its folder: label statistics, training batches, curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data.keypoints import KeypointSpec
from data.samples import Batch
from utils.boxes import xyxy_to_xywh
from utils.plots.batches import picture_of_labels
from utils.plots.drawing import save_picture
from utils.plots.keypoint_labels import plot_keypoints
from utils.plots.labels import plot_labels
from utils.plots.results import plot_results
from utils.training.tasks import TrainTask

MOST_BATCHES = 3


def draw_labels(tasks: list[TrainTask], folder: Path) -> None:
    """Write ``labels_HEAD.png`` for every head that learns boxes, ``keypoints_HEAD.png`` for those of keypoints too."""
    for task in tasks:
        if "boxes" in task.head.targets and len(task.dataset.boxes):
            boxes = xyxy_to_xywh(task.dataset.boxes)
            plot_labels(task.dataset.classes, boxes, task.dataset.names, folder / f"labels_{task.name}.png")
            if (spec := task.dataset.keypoint_spec) is not None:
                plot_keypoints(task.dataset.keypoints, task.dataset.boxes, spec, folder / f"keypoints_{task.name}.png")


def draw_batches(
    batches: Mapping[str, list[Batch]],
    names: Mapping[str, list[str]],
    keypoints: Mapping[str, KeypointSpec],
    folder: Path,
) -> None:
    """Write ``train_batchN_HEAD.jpg`` for the first batches of every head.

    Args:
        batches: by head.
        names: of the classes, by head.
        keypoints: what the keypoints are of every head that has some.
        folder: of the run.
    """
    for head, listed in batches.items():
        for number, batch in enumerate(listed[:MOST_BATCHES]):
            save_picture(
                folder / f"train_batch{number}_{head}.jpg", picture_of_labels(batch, names[head], keypoints.get(head))
            )


def draw_results(folder: Path) -> None:
    """Write ``results.png`` from the run's ``results.csv``."""
    plot_results(folder / "results.csv")
