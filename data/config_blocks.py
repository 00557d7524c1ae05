"""The blocks of a data YAML, each read and checked into the data of one task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.class_names import checked_mask_names, checked_names
from data.coco_cache import open_coco
from data.formats import cityscapes
from data.formats.coco_json import CocoFile
from data.keypoint_block import read_keypoints
from data.keypoints import COCO_PERSON, KeypointSpec
from data.task_data import EXAMPLES, SPLITS, TASKS, TaskData
from utils.errors import DataError, did_you_mean

FLAT_DETECT = ("train", "val", "test", "nc", "names")
FLAT_SEGMENT = ("segtrain", "segval", "segtest", "segnames", "n_segcls")

_KEY_OWNERS = {
    "masks": ("segment",),
    "ignore": ("segment",),
    "labels": ("detect", "pose"),
    "annotations": ("detect", "pose"),
    "keypoints": ("pose",),
    "kpt": ("pose",),
    "background": ("pose",),
}
BLOCK_KEYS = ("task", *SPLITS, "names", "nc", "options", *_KEY_OWNERS)


class BlockReader:
    """Turns the values of one YAML into TaskData; knows the file and the root for messages and paths.

    Args:
        path: of the YAML.
        root: that its relative entries start from.
        checked: splits whose folders and files must exist.
        made_by: a command that puts the set in place, as the beginning of a mend.
    """

    def __init__(self, path: Path, root: Path, checked: frozenset[str], made_by: str = ""):
        self.path, self.root, self.checked, self.made_by = path, root, checked, made_by

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
        for name in block:
            owners = _KEY_OWNERS.get(name, TASKS)
            if task not in owners:
                raise DataError(f"{self.path}: `{key}.{name}` is for {' and '.join(owners)}, not for {task}; drop it")
        prefix = f"{key}."
        if task == "segment":
            return self._segment(key, block, prefix)
        if block.get("annotations") is not None:
            return self._coco(task, key, block, prefix)
        keypoints = self._keypoints(task, block, prefix)
        if task == "pose" and keypoints is None:
            raise DataError(
                f"{self.path}: `{prefix}keypoints` is missing; give the number of keypoints per object, or "
                f"`{prefix}kpt` with their names"
            )
        labels = block.get("labels", "labels")
        if not isinstance(labels, str):
            raise DataError(f"{self.path}: `{prefix}labels` is {labels!r}; give a folder's name")
        return TaskData(
            task=task,
            key=key,
            format="yolo_txt",
            names=checked_names(self.path, block.get("names"), block.get("nc"), prefix + "names", prefix + "nc"),
            splits=self._splits(block, prefix),
            keypoint_spec=keypoints,
            background=self._background(task, block, prefix),
            options={**self._options(block, prefix), "labels": labels},
            root=self.root,
            source=str(self.path),
        )

    def _segment(self, key: str, block: Mapping[str, Any], prefix: str) -> TaskData:
        splits = self._splits(block, prefix)
        return TaskData(
            task="segment",
            key=key,
            format="mask_png",
            names=checked_mask_names(self.path, block.get("names"), block.get("nc"), prefix + "names", prefix + "nc"),
            splits=splits,
            masks=self._masks(block.get("masks"), splits, prefix),
            options={**self._options(block, prefix), "ignore": self._ignore(block.get("ignore", 255), prefix)},
            root=self.root,
            source=str(self.path),
        )

    def _coco(self, task: str, key: str, block: Mapping[str, Any], prefix: str) -> TaskData:
        """A block with COCO annotation files; names and keypoints may be left to them."""
        if "labels" in block:
            raise DataError(f"{self.path}: `{key}` has `labels` and `annotations`; keep one of them")
        splits = self._splits(block, prefix)
        for split, entries in splits.items():
            for entry in entries:
                if split in self.checked and not entry.is_dir():
                    raise DataError(
                        f"{self.path}: `{prefix}{split}: {entry}` is no folder; with `{prefix}annotations` give the "
                        "folder of the images that they name"
                    )
        annotations = self._annotations(block["annotations"], splits, prefix)
        names, keypoints = block.get("names"), self._keypoints(task, block, prefix)
        if names is None or (task == "pose" and keypoints is None):
            coco = open_coco(
                next((annotations[split] for split in splits if split in self.checked), annotations["train"])
            )
            names = coco.categories if names is None else names
            if task == "pose" and keypoints is None:
                keypoints = self._keypoints_of_file(coco, prefix)
        names = checked_names(self.path, names, block.get("nc"), prefix + "names", prefix + "nc")
        return TaskData(
            task=task,
            key=key,
            format="coco_json",
            names=names,
            splits=splits,
            annotations=annotations,
            keypoint_spec=keypoints,
            background=self._background(task, block, prefix),
            options={**self._options(block, prefix), "categories": names},
            root=self.root,
            source=str(self.path),
        )

    def _annotations(self, value: Any, splits: Mapping[str, Any], prefix: str) -> dict[str, Path]:
        if not isinstance(value, Mapping) or not all(isinstance(file, str) for file in value.values()):
            raise DataError(
                f"{self.path}: `{prefix}annotations` is {value!r}; give one COCO file per split, such as "
                "{train: annotations/train.json, val: annotations/val.json}"
            )
        for split in value:
            if split not in splits:
                raise DataError(f"{self.path}: `{prefix}annotations.{split}` has no images; add `{prefix}{split}`")
        for split in splits:
            if split not in value:
                raise DataError(f"{self.path}: `{prefix}annotations.{split}` is missing; give its COCO file")
        return {split: self._existing(value[split], f"{prefix}annotations.{split}", split) for split in splits}

    def _keypoints(self, task: str, block: Mapping[str, Any], prefix: str) -> KeypointSpec | None:
        if task != "pose":
            return None
        return read_keypoints(self.path, prefix, block.get("kpt"), block.get("keypoints"))

    def _keypoints_of_file(self, coco: CocoFile, prefix: str) -> KeypointSpec:
        """Return COCO's persons where a file has their keypoints; of others it lacks mirror partners and sigmas."""
        if coco.keypoint_names == COCO_PERSON.names:
            return COCO_PERSON
        raise DataError(
            f"{self.path}: `{prefix}kpt` is missing, and {coco.path} does not have the seventeen keypoints of COCO's "
            f"persons; give `{prefix}kpt` with their names, flip and sigmas"
        )

    def _background(self, task: str, block: Mapping[str, Any], prefix: str) -> bool:
        value = block.get("background", task != "pose")
        if not isinstance(value, bool):
            raise DataError(
                f"{self.path}: `{prefix}background` is {value!r}; give true to train on images without an object too"
            )
        return value

    def _options(self, block: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
        options = block.get("options") or {}
        if not isinstance(options, Mapping):
            raise DataError(f"{self.path}: `{prefix}options` is {options!r}; give keys and values")
        return options

    def flat_detect(self, raw: Mapping[str, Any]) -> TaskData:
        """YOLOv5's ``train val test nc names``."""
        return TaskData(
            task="detect",
            key="detect",
            format="yolo_txt",
            names=checked_names(self.path, raw.get("names"), raw.get("nc"), "names", "nc"),
            splits=self._splits(raw, ""),
            root=self.root,
            source=str(self.path),
        )

    def flat_segment(self, raw: Mapping[str, Any]) -> TaskData:
        """The fork's ``segtrain segval segtest``: each the root of a layout that is recognised by its folders."""
        if raw.get("segtrain") is None:
            raise DataError(f"{self.path}: `segtrain` is missing; give the root of the segmentation set")
        splits, masks, formats = {}, {}, set()
        for split in SPLITS:
            if raw.get(f"seg{split}") is not None:
                layout, folder, masks[split] = self.layout(raw[f"seg{split}"], split)
                splits[split] = [folder]
                formats.add(layout)
        if len(formats) > 1:
            raise DataError(
                f"{self.path}: `segtrain` and `segval` have folders of different kinds; use one kind for both"
            )
        layout = formats.pop()
        names = raw.get("segnames")
        if names is None and layout == "cityscapes" and raw.get("n_segcls") in (None, len(cityscapes.NAMES)):
            names = cityscapes.NAMES
        return TaskData(
            task="segment",
            key="segment",
            format=layout,
            names=checked_mask_names(self.path, names, raw.get("n_segcls"), "segnames", "n_segcls"),
            splits=splits,
            masks=masks,
            options={"ignore": [255]},
            root=self.root,
            source=str(self.path),
        )

    def layout(self, value: Any, split: str) -> tuple[str, Path, Path]:
        """Return (format, image folder, mask folder) of one split below a segmentation root."""
        key = f"seg{split}"
        if not isinstance(value, str):
            raise DataError(f"{self.path}: `{key}` is {value!r}; give the root folder of the segmentation set")
        root = self._existing(value, key, split)
        layouts = [
            ("mask_png", root / "segimages" / split, root / "seglabels" / split),
            ("mask_png", root / "images" / split, root / "masks" / split),
            ("cityscapes", root / cityscapes.IMAGE_FOLDER / split, root / cityscapes.MASK_FOLDER / split),
        ]
        for layout, images, masks in layouts:
            if images.is_dir() and masks.is_dir():
                return layout, images, masks
        if split not in self.checked:
            return layouts[1]
        searched = ", ".join(f"{images.relative_to(root)} + {masks.relative_to(root)}" for _, images, masks in layouts)
        raise DataError(f"{self.path}: `{key}`: {root} has none of the folder pairs {searched}; arrange one of them")

    def _splits(self, block: Mapping[str, Any], prefix: str) -> dict[str, list[Path]]:
        if block.get("train") is None:
            raise DataError(f"{self.path}: `{prefix}train` is missing; give the folder of the training images")
        splits = {}
        for split in SPLITS:
            value = block.get(split)
            if value is None:
                continue
            entries = value if isinstance(value, list) else [value]
            if not entries or not all(isinstance(entry, str) for entry in entries):
                raise DataError(
                    f"{self.path}: `{prefix}{split}` is {value!r}; give a folder, a list file or a list of them"
                )
            splits[split] = [self._existing(entry, prefix + split, split) for entry in entries]
        return splits

    def _masks(self, value: Any, splits: Mapping[str, Any], prefix: str) -> dict[str, Path | None]:
        if value is None:
            return {split: None for split in splits}
        if isinstance(value, str):
            value = {split: value for split in splits}
        if not isinstance(value, Mapping) or not all(isinstance(folder, str) for folder in value.values()):
            raise DataError(f"{self.path}: `{prefix}masks` is {value!r}; give one folder, or one folder per split")
        for split in value:
            if split not in splits:
                raise DataError(f"{self.path}: `{prefix}masks.{split}` has no images; add `{prefix}{split}`")
        return {
            split: self._existing(value[split], f"{prefix}masks", split) if split in value else None for split in splits
        }

    def _existing(self, entry: str, key: str, split: str) -> Path:
        """Resolve an entry against the root, then against the working folder."""
        given = Path(entry).expanduser()
        candidates = list(dict.fromkeys([self.root / given, given]))
        for candidate in candidates:
            if candidate.exists():
                return candidate
        if split not in self.checked:
            return candidates[0]
        searched = " and ".join(str(candidate.resolve()) for candidate in candidates)
        raise DataError(
            f"{self.path}: `{key}: {entry}` does not exist (searched {searched}); {self.made_by}mend the entry or "
            "the key `path`"
        )

    def _ignore(self, value: Any, prefix: str) -> list[int]:
        values = value if isinstance(value, list) else [value]
        for entry in values:
            if not _is_whole(entry) or not 0 <= entry <= 255:
                raise DataError(
                    f"{self.path}: `{prefix}ignore` is {entry!r}; give one value or a list of values in 0..255"
                )
        return values


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
