"""What a data YAML says about one task, and about all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.class_map import ClassMap
from data.keypoints import KeypointSpec, default_keypoints
from utils.errors import DataError

TASKS = ("detect", "segment", "pose")
SPLITS = ("train", "val", "test")
SINGLE_CLASS = "item"
EXAMPLES = {
    "detect": "detect: {train: images/train, val: images/val, names: [...]}",
    "segment": "segment: {train: images/train, val: images/val, masks: masks, names: [...]}",
    "pose": "pose: {train: images/train, val: images/val, keypoints: 17, names: [person]}",
}
"""A block of each task, for messages."""


@dataclass(frozen=True)
class TaskData:
    """The data of one task.

    Attributes:
        task: detect, segment or pose.
        key: the YAML's key, a task or the name of a head.
        format: ``yolo_txt``, ``coco_json``, ``mask_png``, ``mixed``, or a name of ``data.formats.registry``.
        names: class names, by index.
        splits: train, val, test -> folders, list files or image files; folders alone where ``annotations`` has files.
        masks: split -> folder of masks, or None where ``images`` is replaced by ``masks``.
        labels: split -> folder of label files, or None for the format's own place; not for ``yolo_txt``.
        annotations: split -> file with the labels of all its images, for ``coco_json`` and ``bdd100k``.
        sources: split -> the data of each of its sources, for ``mixed``; all of them have the names of the set.
        ignore_index: what ignored pixels are in every loaded mask.
        keypoints: number of keypoints per object, 0 without.
        keypoint_spec: what they are, None without; where only their number is given, 17 are COCO's of a person.
        background: whether images without any annotated object are trained on; in a pose set they are not unless the
            YAML says so.
        options: ``ignore``: the file's own values that are ignored; ``labels``: name of the folder of labels; and what
            the YAML gives under ``options``.
        colours: red, green, blue of each class of the masks, where their pixels are colours.
        class_map: from the classes of the label files or masks to those of the set; None where they are the same.
        root: where relative lines of list files may start as well.
        source: the YAML, for messages.

    Raises:
        ValueError: ``keypoints`` and ``keypoint_spec`` disagree.
    """

    task: str
    key: str
    format: str
    names: list[str]
    splits: dict[str, list[Path]]
    masks: dict[str, Path | None] = field(default_factory=dict)
    labels: dict[str, Path | None] = field(default_factory=dict)
    annotations: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, list[TaskData]] = field(default_factory=dict)
    ignore_index: int = 255
    keypoints: int = 0
    keypoint_spec: KeypointSpec | None = None
    background: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    colours: tuple[tuple[int, int, int], ...] = ()
    class_map: ClassMap | None = None
    root: Path = Path()
    source: str = "data YAML"

    def __post_init__(self) -> None:
        if self.keypoint_spec is None and self.keypoints:
            object.__setattr__(self, "keypoint_spec", default_keypoints(self.keypoints))
        elif self.keypoint_spec is not None and not self.keypoints:
            object.__setattr__(self, "keypoints", len(self.keypoint_spec))
        if self.keypoint_spec is not None and self.keypoints != len(self.keypoint_spec):
            raise ValueError(f"{self.keypoints} keypoints, but {len(self.keypoint_spec)} are described")

    @property
    def label_map(self) -> ClassMap:
        """The map from the classes of the label files to those of the set."""
        return self.class_map or ClassMap.same(self.names)

    def single_class(self) -> TaskData:
        """Return the task with all its classes of objects made one, named ``item``; a single class keeps its name."""
        if self.task == "segment" or len(self.names) == 1:
            return self
        return self._as_single_class()

    def _as_single_class(self) -> TaskData:
        sources = {split: [source._as_single_class() for source in entries] for split, entries in self.sources.items()}
        return replace(self, names=[SINGLE_CLASS], class_map=self.label_map.merged(), sources=sources)


@dataclass(frozen=True)
class DataConfig:
    """A data YAML, read and checked.

    Attributes:
        path: of the YAML.
        tasks: by head name or task.
    """

    path: Path
    tasks: dict[str, TaskData]

    def single_class(self) -> DataConfig:
        """Return the data with one class of objects per task; classes of masks stay (``--single-cls``)."""
        return replace(self, tasks={key: task.single_class() for key, task in self.tasks.items()})

    def for_head(self, name: str, task: str) -> TaskData:
        """Return the data of a head: the block of its name, else the block of its task.

        Raises:
            DataError: there is none, or the block of its name is for another task.
        """
        if name in self.tasks:
            found = self.tasks[name]
            if found.task != task:
                raise DataError(
                    f"{self.path}: `{name}` is data for {found.task}, but the model's head `{name}` is for {task}; "
                    "rename one of them"
                )
            return found
        if task in self.tasks and self.tasks[task].task == task:
            return self.tasks[task]
        raise DataError(
            f"{self.path}: no data for the model's head `{name}` ({task}); add, say, `{EXAMPLES.get(task, task)}`"
        )
