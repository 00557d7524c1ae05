"""By which ids ``--save-json`` tells of images and classes."""

from __future__ import annotations

from collections.abc import Mapping

from data.coco_ids import category_ids, image_ids
from data.dataset import TaskDataset
from utils.metrics.coco_results import CocoIds


def coco_ids(datasets: Mapping[str, TaskDataset], split: str) -> dict[str, CocoIds]:
    """Return the ids for every head that finds objects: those of its annotation file, else those of the names.

    Args:
        datasets: by head name.
        split: train, val or test.

    Raises:
        DataError: two images would have one id, or the annotation file can no longer be read.
    """
    ids = {}
    for name, dataset in datasets.items():
        if dataset.task == "segment":
            continue
        images = image_ids(dataset.data, split)
        categories = category_ids(dataset.data, split)
        of_names = CocoIds.of_names(dataset.ids if images is None else (), len(dataset.names))
        ids[name] = CocoIds(
            images=of_names.images if images is None else images,
            categories=of_names.categories if categories is None else categories,
        )
    return ids
