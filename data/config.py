"""Data YAMLs: which task has which images, labels and class names.

Two forms are read. Ours has one block per task (or per head)::

    path: ../datasets/camvid
    detect: {train: images/train, val: images/val, names: [car, person]}
    segment: {train: images/train, val: images/val, masks: masks, names: [road, sky], ignore: 255}

YOLOv5's has its keys at the top level: ``train val test nc names`` and, for masks, ``segtrain segval segtest segnames
n_segcls``.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.class_names import checked_mask_names, checked_names
from data.formats import cityscapes
from utils.errors import DataError, did_you_mean
from utils.yaml_text import read_yaml

TASKS = ("detect", "segment", "pose")
SPLITS = ("train", "val", "test")
SINGLE_CLASS = "item"
_log = logging.getLogger("yolograph")
CONFIG_FOLDER = Path(__file__).parent / "configs"
PREPARE_FOLDER = Path(__file__).parent / "prepare"

_FLAT_DETECT = ("train", "val", "test", "nc", "names")
_FLAT_SEGMENT = ("segtrain", "segval", "segtest", "segnames", "n_segcls")
_TOP_KEYS = ("path", "embedded", "download", *TASKS, *_FLAT_DETECT, *_FLAT_SEGMENT)
_KEY_OWNERS = {"masks": ("segment",), "ignore": ("segment",), "labels": ("detect", "pose"), "keypoints": ("pose",)}
_BLOCK_KEYS = ("task", *SPLITS, "names", "nc", "options", *_KEY_OWNERS)
_EXAMPLES = {
    "detect": "detect: {train: images/train, val: images/val, names: [...]}",
    "segment": "segment: {train: images/train, val: images/val, masks: masks, names: [...]}",
    "pose": "pose: {train: images/train, val: images/val, keypoints: 17, names: [person]}",
}


@dataclass(frozen=True)
class TaskData:
    """The data of one task.

    Attributes:
        task: detect, segment or pose.
        key: the YAML's key, a task or the name of a head.
        format: ``yolo_txt``, ``mask_png`` or ``cityscapes``.
        names: class names, by index.
        splits: train, val, test -> folders, list files or image files.
        masks: split -> folder of masks, or None where ``images`` is replaced by ``masks``.
        ignore_index: what ignored pixels are in every loaded mask.
        keypoints: number of keypoints per object.
        options: ``ignore``: the file's own values that are ignored; ``labels``: name of the folder of labels, and what
            the YAML gives under ``options``.
        merged_classes: number of classes in the label files where all of them are read as one; else 0.
        root: where relative lines of list files may start as well.
        source: the YAML, for messages.
    """

    task: str
    key: str
    format: str
    names: list[str]
    splits: dict[str, list[Path]]
    masks: dict[str, Path | None] = field(default_factory=dict)
    ignore_index: int = 255
    keypoints: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    merged_classes: int = 0
    root: Path = Path()
    source: str = "data YAML"

    @property
    def label_classes(self) -> int:
        """The number of classes that label files may name."""
        return self.merged_classes or len(self.names)

    def single_class(self) -> TaskData:
        """Return the task with all its classes of objects made one, named ``item``; a single class keeps its name."""
        if self.task == "segment" or len(self.names) == 1:
            return self
        return replace(self, names=[SINGLE_CLASS], merged_classes=len(self.names))


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
            f"{self.path}: no data for the model's head `{name}` ({task}); add, say, `{_EXAMPLES.get(task, task)}`"
        )


def load_data_config(path: str | Path, splits: Iterable[str] = ("train", "val")) -> DataConfig:
    """Read and check a data YAML; a set named by ``embedded:`` is written first if it is not there.

    Args:
        path: of the YAML, or the name of one in ``data/configs`` (with or without ``.yaml``).
        splits: those whose folders must exist.

    Raises:
        DataError: the file or one of its keys is missing or wrong; the message names both.
    """
    path = _find(Path(path))
    raw = _parse(path)
    for key, value in raw.items():
        if key not in _TOP_KEYS and not (isinstance(value, Mapping) and "task" in value):
            hint = did_you_mean(key, _TOP_KEYS) or " A head's own block needs a key `task`."
            raise DataError(f"{path}: unknown key `{key}`.{hint}")
    if "download" in raw:
        _log.info("%s: `download` is not carried out; fetch the data set yourself if it is not there yet", path)
    reader = _Reader(path, _root(path, raw), frozenset(splits))
    tasks = {
        key: reader.block(str(key), value)
        for key, value in raw.items()
        if key in TASKS or (key not in _TOP_KEYS and isinstance(value, Mapping))
    }
    for task, keys, read in (
        ("detect", _FLAT_DETECT, reader.flat_detect),
        ("segment", _FLAT_SEGMENT, reader.flat_segment),
    ):
        given = [key for key in keys if key in raw]
        if given and task in tasks:
            raise DataError(f"{path}: both `{task}:` and `{given[0]}:` describe {task} data; keep one of them")
        if given:
            tasks[task] = read(raw)
    if not tasks:
        raise DataError(f"{path}: no task has data; add for instance `{_EXAMPLES['detect']}`")
    return DataConfig(path, tasks)


def segmentation_root(root: Path, names: list[str], split: str) -> TaskData:
    """Return the data of one split below the root of a segmentation set.

    Args:
        root: holds ``segimages`` and ``seglabels``, ``images`` and ``masks``, or Cityscapes' folders.
        names: class names.
        split: train, val or test.

    Raises:
        DataError: the root has none of these layouts for the split.
    """
    reader = _Reader(root, root.parent, frozenset({split}))
    layout, images, masks = reader.layout(root.name, split)
    return TaskData(
        task="segment",
        key="segment",
        format=layout,
        names=names,
        splits={split: [images]},
        masks={split: masks},
        options={"ignore": [255]},
        root=root,
        source=str(root),
    )


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    packaged = CONFIG_FOLDER / path.name
    if path.parent == Path() and packaged.is_file():
        return packaged
    if path.suffix == "" and packaged.with_suffix(".yaml").is_file() and path.parent == Path():
        return packaged.with_suffix(".yaml")
    known = sorted(entry.name for entry in CONFIG_FOLDER.glob("*.yaml"))
    hint = did_you_mean(path.name, known)
    raise DataError(f"{path}: no such data YAML (searched {path.absolute()} and {packaged}).{hint}")


def _parse(path: Path) -> dict[str, Any]:
    raw = read_yaml(path, DataError)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: a data YAML is a list of keys; add for instance `{_EXAMPLES['detect']}`")
    return raw


def _root(path: Path, raw: Mapping[str, Any]) -> Path:
    """The folder that relative entries start from; writes the embedded set when the YAML asks for it."""
    given = raw.get("path")
    if given is not None and not isinstance(given, str):
        raise DataError(f"{path}: `path` is {given!r}; give the folder of the data set as text")
    root = path.parent / Path(given or "").expanduser()
    if "embedded" not in raw:
        in_working_folder = Path(given or "").expanduser()
        return in_working_folder if not root.exists() and in_working_folder.exists() else root
    options = raw["embedded"] or {}
    if not isinstance(options, Mapping):
        raise DataError(f"{path}: `embedded` is {options!r}; give its options, for instance {{train: 400, val: 80}}")
    from data.synthetic import ensure_embedded

    try:
        inspect.signature(ensure_embedded).bind(root, **options)
    except TypeError as error:
        raise DataError(f"{path}: `embedded` has an option that does not fit ({error}); mend it") from error
    return ensure_embedded(root, **options)


class _Reader:
    """Turns the values of one YAML into TaskData; knows the file and the root for messages and paths."""

    def __init__(self, path: Path, root: Path, checked: frozenset[str]):
        self.path, self.root, self.checked = path, root, checked

    def block(self, key: str, block: Any) -> TaskData:
        """Our form: one mapping per task or head."""
        if not isinstance(block, Mapping):
            raise DataError(f"{self.path}: `{key}` is {block!r}; write `{_EXAMPLES.get(key, _EXAMPLES['detect'])}`")
        for name in block:
            if name not in _BLOCK_KEYS:
                raise DataError(f"{self.path}: unknown key `{key}.{name}`.{did_you_mean(name, _BLOCK_KEYS)}")
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
        splits = self._splits(block, prefix)
        options = block.get("options") or {}
        labels = block.get("labels", "labels")
        if not isinstance(options, Mapping) or not isinstance(labels, str):
            raise DataError(
                f"{self.path}: `{prefix}options` must be keys and values and `{prefix}labels` a folder's name"
            )
        keypoints = block.get("keypoints", 0)
        if task == "pose" and not (_is_whole(keypoints) and keypoints > 0):
            raise DataError(
                f"{self.path}: `{prefix}keypoints` is {keypoints!r}; give the number of keypoints per object"
            )
        segment = task == "segment"
        read_names = checked_mask_names if segment else checked_names
        ignore = {"ignore": self._ignore(block.get("ignore", 255), prefix)} if segment else {"labels": labels}
        return TaskData(
            task=task,
            key=key,
            format="mask_png" if segment else "yolo_txt",
            names=read_names(self.path, block.get("names"), block.get("nc"), prefix + "names", prefix + "nc"),
            splits=splits,
            masks=self._masks(block.get("masks"), splits, prefix) if segment else {},
            keypoints=keypoints if task == "pose" else 0,
            options={**options, **ignore},
            root=self.root,
            source=str(self.path),
        )

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
            f"{self.path}: `{key}: {entry}` does not exist (searched {searched}); {self._made_by()}mend the entry or "
            "the key `path`"
        )

    def _made_by(self) -> str:
        """Return the command that puts the set of a packaged YAML in place, as the beginning of a mend."""
        name = self.path.stem
        if self.path.resolve().parent != CONFIG_FOLDER.resolve() or not (PREPARE_FOLDER / f"{name}.py").is_file():
            return ""
        return f"run `python -m data.prepare {name} --source DIR` with the folder of the set, or "

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
