"""Which images a set has and where their labels lie; a split that cannot be opened becomes a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.annotations import AnnotatedPicture
from data.checks.coco_parts import open_coco_parts, without_bad_keypoints
from data.checks.finding import Finding
from data.coco_index import coco_images
from data.config import DataConfig
from data.formats.coco_json import CocoFile
from data.formats.registry import SPLIT_FORMATS
from data.permissions import permissions_named
from data.split_index import find_labels, list_images_of
from data.task_data import TaskData
from utils.errors import DataError


@dataclass(frozen=True)
class ListedPart:
    """What one source of a split lists; a split that is not mixed has one.

    Attributes:
        data: the task as the source has it.
        split: train, val or test.
        images: n files.
        labels: the label file or mask of each, None where a mask was not found; with one file for all, that file.
        searched: where the first label file or mask was looked for.
        coco: the annotation file of a COCO set.
        pictures: what another format lists in one file for all.
    """

    data: TaskData
    split: str
    images: list[str]
    labels: list[str | None]
    searched: Path
    coco: CocoFile | None = None
    pictures: Sequence[AnnotatedPicture] | None = None

    @property
    def has_own_labels(self) -> bool:
        """Whether every image has a label file or mask of its own."""
        return self.coco is None and self.pictures is None


@dataclass(frozen=True)
class ListedSplit:
    """One split of one task.

    Attributes:
        data: the task.
        split: train, val or test.
        parts: of each source, at least one.
    """

    data: TaskData
    split: str
    parts: list[ListedPart]

    @property
    def where(self) -> str:
        """Task and split, as findings name them."""
        return f"{self.data.key} {self.split}"

    @property
    def images(self) -> list[str]:
        """The images of all parts."""
        return [image for part in self.parts for image in part.images]


def list_splits(config: DataConfig) -> tuple[list[ListedSplit], list[Finding]]:
    """List every split of every task; parts that cannot be listed are left out and found."""
    listed, found = [], []
    for data in config.tasks.values():
        for split in data.splits:
            parts = []
            for source in data.sources.get(split) or [data]:
                try:
                    with permissions_named(source.source):
                        part, faults = _list_part(source, split)
                except DataError as error:
                    found.append(Finding("split-unusable", f"{data.key} {split}", str(error)))
                    continue
                parts.append(part)
                found += faults
            if parts:
                listed.append(ListedSplit(data, split, parts))
    return listed, found


def _list_part(data: TaskData, split: str) -> tuple[ListedPart, list[Finding]]:
    where = f"{data.key} {split}"
    if data.format == "coco_json":
        file = data.annotations[split]
        coco, sentences = open_coco_parts(file)
        coco, others = without_bad_keypoints(coco, data.keypoints)
        images = coco_images(coco, data.splits[split])
        part = ListedPart(data, split, images, [str(file)] * len(images), file, coco=coco)
        return part, [Finding("label-refused", where, sentence) for sentence in [*sentences, *others]]
    if split in data.annotations:
        file = data.annotations[split]
        _, pictures = SPLIT_FORMATS[data.format].read(file, data.splits[split])
        images = [str(picture.image) for picture in pictures]
        return ListedPart(data, split, images, [str(file)] * len(images), file, pictures=pictures), []
    images = list_images_of(data, split)
    labels, searched = find_labels(data, split, images)
    return ListedPart(data, split, images, labels, searched), []
