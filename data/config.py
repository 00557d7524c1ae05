"""Data YAMLs: which task has which images, labels and class names.

Two forms are read. Ours has one block per task (or per head)::

    path: ../datasets/camvid
    detect: {train: images/train, val: images/val, names: [car, person]}
    segment: {train: images/train, val: images/val, masks: masks, names: [road, sky], ignore: 255}
    pose: {train: train2017, val: val2017, annotations: {train: train.json, val: val.json}}

YOLOv5's has its keys at the top level: ``train val test nc names`` and, for masks, ``segtrain segval segtest segnames
n_segcls``.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.config_blocks import FLAT_DETECT, FLAT_SEGMENT, BlockReader
from data.permissions import permissions_named
from data.task_data import EXAMPLES, TASKS, DataConfig, TaskData
from utils.errors import DataError, did_you_mean
from utils.yaml_text import read_yaml

__all__ = ["CONFIG_FOLDER", "DataConfig", "TaskData", "load_data_config", "segmentation_root"]

CONFIG_FOLDER = Path(__file__).parent / "configs"
PREPARE_FOLDER = Path(__file__).parent / "prepare"

_TOP_KEYS = ("path", "embedded", "download", *TASKS, *FLAT_DETECT, *FLAT_SEGMENT)
_log = logging.getLogger("yolograph")


def load_data_config(path: str | Path, splits: Iterable[str] = ("train", "val")) -> DataConfig:
    """Read and check a data YAML; a set named by ``embedded:`` is written first if it is not there.

    Args:
        path: of the YAML, or the name of one in ``data/configs`` (with or without ``.yaml``).
        splits: those whose folders must exist.

    Raises:
        DataError: the file or one of its keys is missing or wrong, or may not be read; the message names both.
    """
    with permissions_named(path):
        return _load(Path(path), frozenset(splits))


def _load(path: Path, splits: frozenset[str]) -> DataConfig:
    path = _find(path)
    raw = _parse(path)
    for key, value in raw.items():
        if key not in _TOP_KEYS and not (isinstance(value, Mapping) and "task" in value):
            hint = did_you_mean(key, _TOP_KEYS) or " A head's own block needs a key `task`."
            raise DataError(f"{path}: unknown key `{key}`.{hint}")
    if "download" in raw:
        _log.info("%s: `download` is not carried out; fetch the data set yourself if it is not there yet", path)
    reader = BlockReader(path, _root(path, raw), splits, _made_by(path))
    tasks = {
        key: reader.block(str(key), value)
        for key, value in raw.items()
        if key in TASKS or (key not in _TOP_KEYS and isinstance(value, Mapping))
    }
    for task, keys, read in (
        ("detect", FLAT_DETECT, reader.flat_detect),
        ("segment", FLAT_SEGMENT, reader.flat_segment),
    ):
        given = [key for key in keys if key in raw]
        if given and task in tasks:
            raise DataError(f"{path}: both `{task}:` and `{given[0]}:` describe {task} data; keep one of them")
        if given:
            tasks[task] = read(raw)
    if not tasks:
        raise DataError(f"{path}: no task has data; add for instance `{EXAMPLES['detect']}`")
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
    reader = BlockReader(root, root.parent, frozenset({split}))
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
        raise DataError(f"{path}: a data YAML is a list of keys; add for instance `{EXAMPLES['detect']}`")
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


def _made_by(path: Path) -> str:
    """Return how the set of a packaged YAML gets into its place, as the beginning of a mend."""
    if path.resolve().parent != CONFIG_FOLDER.resolve():
        return ""
    if not (PREPARE_FOLDER / f"{path.stem}.py").is_file():
        return "put the set in its place, or "
    return f"run `python -m data.prepare {path.stem} --source DIR` with the folder of the set, or "
