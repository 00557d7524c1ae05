"""What a file and its model are measured on: labelled pictures, or generated scenes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from data.sample_source import TaskSource
from data.samples import Sample
from data.synthetic import DETECT_NAMES, KEYPOINT_NAMES, SEGMENT_NAMES, render_scene
from data.synthetic.classes import PERSON
from models.heads.base import Head
from utils.testing.datasets import open_test_data

SCENES, SCENE_SIZE = 8, (320, 240)
"""Generated scenes where there are no data, and their width and height in pixels."""


@dataclass(frozen=True)
class ChosenHeads:
    """The heads that a file has.

    Attributes:
        heads: by name.
        names: class names per head.
    """

    heads: Mapping[str, Head]
    names: Mapping[str, list[str]]


class Pictures:
    """Labelled pictures in memory; a ``data.sample_source.TaskSource``.

    Args:
        task: detect, segment or pose.
        samples: labels in pixels of their images.

    Attributes:
        sizes: (n, 2) native height and width.
    """

    def __init__(self, task: str, samples: Sequence[Sample]) -> None:
        self.task, self.samples = task, list(samples)
        self.sizes = np.array([sample.image.shape[:2] for sample in self.samples], np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return sample ``index`` at its native size, which is all that tests ask for."""
        return replace(self.samples[index])


class FirstPictures:
    """The first pictures of a set; a ``data.sample_source.TaskSource``.

    Args:
        source: the set.
        count: how many; all where there are no more.
    """

    def __init__(self, source: TaskSource, count: int) -> None:
        self._source, self.task = source, source.task
        self.sizes = source.sizes[:count]

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return sample ``index``, see ``data.sample_source.SampleSource``."""
        return self._source.load(index, long_side, least=least)


def labelled_pictures(heads: ChosenHeads, options: argparse.Namespace, split: str) -> dict[str, TaskSource]:
    """Open one split of ``--data`` and ``--segdata`` for every head that it has labels for.

    Args:
        heads: of the file.
        options: with ``data`` and ``segdata``.
        split: train or val.

    Raises:
        DataError: there are no data for any head, or they do not fit one.
        UsageError: ``--segdata`` is given, and no head labels pixels.
    """
    asked = argparse.Namespace(data=options.data, segdata=options.segdata, split=split, heads=None, single_cls=False)
    return open_test_data(heads, asked)


def generated_pictures(head: Head, names: Sequence[str], most: int = SCENES) -> tuple[Pictures, bool]:
    """Return generated street scenes for a head, and whether they have labels.

    They have where its classes are those of the embedded data set.

    Args:
        head: whose task counts.
        names: of its classes.
        most: so many of them at most.
    """
    known = {"detect": DETECT_NAMES, "segment": SEGMENT_NAMES, "pose": DETECT_NAMES[PERSON : PERSON + 1]}
    labelled = list(names) == list(known.get(head.task, ()))
    if head.keypoints is not None:
        labelled = labelled and len(head.keypoints) == len(KEYPOINT_NAMES)
    return Pictures(head.task, [_for_task(sample, head.task) for sample in _scenes()[:most]]), labelled


@cache
def _scenes() -> list[Sample]:
    rng = np.random.default_rng(0)
    scenes = [render_scene(rng, SCENE_SIZE) for _ in range(SCENES)]
    return [
        Sample(scene.image, scene.boxes, scene.classes, scene.keypoints, scene.mask, id=f"generated scene {i}")
        for i, scene in enumerate(scenes)
    ]


def _for_task(sample: Sample, task: str) -> Sample:
    """Return a scene with the labels of one task."""
    if task == "segment":
        return Sample(sample.image, mask=sample.mask, id=sample.id)
    if task == "detect":
        return replace(sample, keypoints=None, mask=None)
    people = replace(sample, mask=None).only(sample.classes == PERSON)
    return replace(people, classes=np.zeros_like(people.classes))
