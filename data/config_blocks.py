"""The blocks of a data YAML, each read and checked into the data of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.class_map import SharedClasses
from data.class_names import checked_names
from data.config_masks import find_layout, flat_masks, mask_block
from data.config_mixed import has_sources, mixed_block
from data.config_objects import OBJECT_FORMATS, object_block
from data.config_places import Places
from data.formats.registry import MASK_FORMATS
from data.task_data import EXAMPLES, SPLITS, TASKS, TaskData
from utils.errors import DataError, did_you_mean

FLAT_DETECT = ("train", "val", "test", "nc", "names")
FLAT_SEGMENT = ("segtrain", "segval", "segtest", "segnames", "n_segcls")

_KEY_OWNERS = {
    "masks": ("segment",),
    "ignore": ("segment",),
    "colours": ("segment",),
    "labels": ("detect", "pose"),
    "annotations": ("detect", "pose"),
    "keypoints": ("pose",),
    "kpt": ("pose",),
    "background": ("pose",),
    "options": ("detect", "pose"),
}
BLOCK_KEYS = ("task", *SPLITS, "format", "names", "nc", "classes", *_KEY_OWNERS)


class BlockReader:
    """Turns the values of one YAML into TaskData; knows the file and the root for messages and paths.

    Args:
        path: of the YAML.
        root: that its relative entries start from.
        checked: splits whose folders and files must exist.
        made_by: a command that puts the set in place, as the beginning of a mend.
    """

    def __init__(self, path: Path, root: Path, checked: frozenset[str], made_by: str = ""):
        self.path = path
        self.places = Places(path, root, checked, made_by)

    def block(self, key: str, block: Any) -> TaskData:
        """Our form: one mapping per task or head."""
        if not isinstance(block, Mapping):
            raise DataError(f"{self.path}: `{key}` is {block!r}; write `{EXAMPLES.get(key, EXAMPLES['detect'])}`")
        for name in block:
            if name not in BLOCK_KEYS:
                raise DataError(f"{self.path}: unknown key `{key}.{name}`.{did_you_mean(name, BLOCK_KEYS)}")
        task = block.get("task", key)
        if task not in TASKS:
            raise DataError(
                f"{self.path}: `{key}.task` is {task!r}; choose detect, segment or pose.{did_you_mean(task, TASKS)}"
            )
        self._check_owners(task, key, block)
        self.places.require_splits(block, f"{key}.")
        if not has_sources(block):
            return self._single(task, key, block, f"{key}.", None)

        def read(source: Mapping[str, Any], prefix: str, shared: SharedClasses) -> TaskData:
            self._check_owners(task, prefix.rstrip("."), source)
            return self._single(task, key, source, prefix, shared)

        return mixed_block(self.path, task, key, block, _own_names(task, block), read)

    def flat_detect(self, raw: Mapping[str, Any]) -> TaskData:
        """YOLOv5's ``train val test nc names``."""
        names = checked_names(self.path, raw.get("names"), raw.get("nc"), "names", "nc")
        self.places.require_splits(raw, "")
        return TaskData(
            task="detect",
            key="detect",
            format="yolo_txt",
            names=names,
            splits=self.places.splits(raw, ""),
            root=self.places.root,
            source=str(self.path),
        )

    def flat_segment(self, raw: Mapping[str, Any]) -> TaskData:
        """The fork's ``segtrain segval segtest``."""
        return flat_masks(self.places, raw)

    def layout(self, value: Any, split: str) -> tuple[str, Path, Path]:
        """Return (format, image folder, mask folder) of one split below a segmentation root."""
        return find_layout(self.places, value, split)

    def _single(
        self, task: str, key: str, block: Mapping[str, Any], prefix: str, shared: SharedClasses | None
    ) -> TaskData:
        """Read a block of one format."""
        if task == "segment":
            return mask_block(self.places, key, block, prefix, shared)
        return object_block(self.places, task, key, block, prefix, shared)

    def _check_owners(self, task: str, where: str, block: Mapping[str, Any]) -> None:
        for name in block:
            owners = _KEY_OWNERS.get(name, TASKS)
            if task not in owners:
                raise DataError(f"{self.path}: `{where}.{name}` is for {' and '.join(owners)}, not for {task}; drop it")


def _own_names(task: str, block: Mapping[str, Any]) -> Sequence[str]:
    """Return the classes that the format of a block's first source brings along, none where it has none."""
    value = next(block[split] for split in SPLITS if block.get(split) is not None)
    first = value[0] if isinstance(value, list) and value else value
    form = (first.get("format") if isinstance(first, Mapping) else None) or block.get("format")
    formats = MASK_FORMATS if task == "segment" else OBJECT_FORMATS
    return formats[form].names if isinstance(form, str) and form in formats else ()
