"""Splits that are a list of sources, each with a format of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.class_map import REST, SharedClasses
from data.class_names import checked_names
from data.formats.registry import PICTURE_FORMATS
from data.task_data import SPLITS, TaskData
from utils.errors import DataError, did_you_mean

_SHARED = ("task", "names", "nc", "classes", "kpt", "keypoints", "background", "options")
_OF_FORMAT = ("format", "labels", "annotations", "masks", "ignore", "colours")
SOURCE_KEYS = ("images", "names", "nc", "classes", "options", *_OF_FORMAT)
_OPEN_FORMATS = frozenset(name for name, form in PICTURE_FORMATS.items() if form.names_inside and not form.names)

ReadSource = Callable[[Mapping[str, Any], str, SharedClasses], TaskData]
"""Reads a block of one format, with the prefix of its keys in messages, for a set with these classes."""


def has_sources(block: Mapping[str, Any]) -> bool:
    """Tell whether a split of a block is a source with keys of its own, or a list with one."""
    values = [block.get(split) for split in SPLITS]
    entries = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return any(isinstance(entry, Mapping) for entry in entries)


def mixed_block(
    path: Path, task: str, key: str, block: Mapping[str, Any], own: Sequence[str], read: ReadSource
) -> TaskData:
    """Read a block whose splits are sources.

    What a source does not say the block says: names and ``classes`` always, folders and values of a format only where
    the source has no ``format`` of its own.

    Args:
        path: of the YAML, for messages.
        task: detect, segment or pose.
        key: of the block.
        block: keys and values.
        own: classes that the format of the first source brings along.
        read: what reads a source.

    Raises:
        DataError: a key is missing or wrong.
    """
    classes = _classes(path, key, block, own)
    sources = {
        split: [
            read(
                _source(path, key, block, split, number, entry),
                f"{key}.{split}[{number}].",
                SharedClasses(classes, "classes" in block and "classes" not in entry),
            )
            for number, entry in enumerate(_entries(path, key, block[split], split))
        ]
        for split in SPLITS
        if block.get(split) is not None
    }
    _check_map(path, key, block, [source for entries in sources.values() for source in entries])
    first = next(iter(sources.values()))[0]
    return TaskData(
        task=task,
        key=key,
        format="mixed",
        names=classes,
        splits={split: [e for entry in entries for e in entry.splits[split]] for split, entries in sources.items()},
        sources=sources,
        keypoint_spec=first.keypoint_spec,
        background=first.background,
        root=first.root,
        source=str(path),
    )


def _classes(path: Path, key: str, block: Mapping[str, Any], own: Sequence[str]) -> list[str]:
    """Return the classes of the set: the keys of ``classes``, else ``names``, else those of the first format."""
    mapped = block.get("classes")
    if isinstance(mapped, Mapping) and mapped:
        return checked_names(path, list(mapped), None, f"{key}.classes", "")
    names = block.get("names")
    if names is None and own:
        return list(own)
    return checked_names(path, names, block.get("nc"), f"{key}.names", f"{key}.nc")


def _check_map(path: Path, key: str, block: Mapping[str, Any], sources: Sequence[TaskData]) -> None:
    """Refuse a name in the map of a set that none of its sources can have; files of some formats may hold any name."""
    if "classes" not in block:
        return
    if not isinstance(block["classes"], Mapping):
        raise DataError(f"{path}: `{key}.classes` is {block['classes']!r}; give lists by the name of a class")
    if any(source.format in _OPEN_FORMATS for source in sources):
        return
    known = list(dict.fromkeys(name for source in sources for name in source.label_map.names))
    for target, given in block["classes"].items():
        for name in given if isinstance(given, list) else [given]:
            if isinstance(name, str) and name not in (*known, REST):
                hint = did_you_mean(name, known)
                raise DataError(
                    f"{path}: `{key}.classes.{target}` has '{name}', which is no class of any source; name one.{hint}"
                )


def _entries(path: Path, key: str, value: Any, split: str) -> list[Any]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str | Mapping) for entry in entries):
        raise DataError(
            f"{path}: `{key}.{split}` is {value!r}; give folders, list files, or sources such as "
            "{images: images/train, format: voc, labels: Annotations}"
        )
    return entries


def _source(
    path: Path, key: str, block: Mapping[str, Any], split: str, number: int, entry: str | Mapping[str, Any]
) -> dict[str, Any]:
    """Return one source as a block of a single split."""
    where = f"{key}.{split}[{number}]"
    if isinstance(entry, str):
        entry = {"images": entry}
    for name in entry:
        if name not in SOURCE_KEYS:
            raise DataError(f"{path}: unknown key `{where}.{name}`.{did_you_mean(name, SOURCE_KEYS)}")
    if entry.get("images") is None:
        raise DataError(f"{path}: `{where}.images` is missing; give the folder of the images")
    shared = {name: block[name] for name in _SHARED if name in block}
    if "format" not in entry:
        shared |= {name: _of_split(block[name], split) for name in _OF_FORMAT if name in block}
    if "names" in entry:
        shared.pop("nc", None)
    elif "classes" in entry:
        # They are about what the files of this source call their classes, which the set's names need not be.
        shared = {name: value for name, value in shared.items() if name not in ("names", "nc")}
    source = {**shared, **{name: value for name, value in entry.items() if name != "images"}}
    if isinstance(source.get("annotations"), str):
        source["annotations"] = {split: source["annotations"]}
    return {**source, split: entry["images"]}


def _of_split(value: Any, split: str) -> Any:
    """Return a split's own value of a key that may have one per split; None where it has none for this one."""
    return value.get(split) if isinstance(value, Mapping) and set(value) <= set(SPLITS) else value
