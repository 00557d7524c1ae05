"""Blocks of masks in a data YAML, in any format of masks, read and checked into the data of one task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.annotations import MaskClasses
from data.class_map import ClassMap, SharedClasses, Vocabulary, read_class_map, shared_map
from data.class_names import MOST_MASK_CLASSES, checked_mask_names
from data.config_places import Places
from data.formats import cityscapes
from data.formats.colour_table import check_colours, read_colour_table
from data.formats.registry import MASK_FORMATS, OF_COLOURS
from data.task_data import SPLITS, TaskData
from utils.errors import DataError, did_you_mean

_LAYOUTS = (
    ("mask_png", "segimages", "seglabels"),
    ("mask_png", "images", "masks"),
    ("cityscapes", cityscapes.IMAGE_FOLDER, cityscapes.MASK_FOLDER),
)
"""Format, folder of images and folder of masks of the layouts that a segmentation root is recognised by."""


def mask_block(
    places: Places, key: str, block: Mapping[str, Any], prefix: str, shared: SharedClasses | None = None
) -> TaskData:
    """Read a block of masks.

    Args:
        places: of the YAML.
        key: of the block.
        block: keys and values.
        prefix: of its keys in messages, such as ``segment.``.
        shared: the classes of the set where the block is one of its sources.

    Raises:
        DataError: a key is missing or wrong, or keys do not go together.
    """
    form = block.get("format", "mask_png")
    if not isinstance(form, str) or form not in MASK_FORMATS:
        raise DataError(
            f"{places.path}: `{prefix}format` is {form!r}; choose one of {', '.join(MASK_FORMATS)}."
            f"{did_you_mean(form, MASK_FORMATS)}"
        )
    given, colours = _names_and_colours(places, form, block, prefix)
    names, class_map = _classes(places, form, block, prefix, given, shared)
    splits = places.splits(block, prefix)
    return TaskData(
        task="segment",
        key=key,
        format=form,
        names=names,
        splits=splits,
        masks=places.folders(block.get("masks"), splits, f"{prefix}masks"),
        options={"ignore": _ignore(places.path, form, block, prefix)},
        colours=colours,
        class_map=class_map,
        root=places.root,
        source=str(places.path),
    )


def _names_and_colours(
    places: Places, form: str, block: Mapping[str, Any], prefix: str
) -> tuple[list[str] | None, tuple[tuple[int, int, int], ...]]:
    """Return the names of the masks' classes by index, None where the YAML does not say, and their colours."""
    own, value = MASK_FORMATS[form].names, block.get("colours")
    if value is None:
        if form == "mask_colour":
            raise DataError(
                f"{places.path}: `{prefix}colours` is missing; give red, green, blue of each class, such as "
                "{road: [128, 64, 128]}, or the file that lists them"
            )
        if own or block.get("names") is None:
            return list(own) or None, ()
        return _checked(places, block, prefix), ()
    if form != "mask_colour":
        raise DataError(f"{places.path}: `{prefix}colours` is for `format: mask_colour`, not for {form}; drop it")
    if isinstance(value, str):
        split = next((name for name in SPLITS if name in places.checked and block.get(name) is not None), "train")
        file = places.existing(value, f"{prefix}colours", split)
        table = read_colour_table(file) if file.is_file() or split in places.checked else MaskClasses([], ())
    elif isinstance(value, Mapping) and value:
        table = MaskClasses([str(name) for name in value], tuple(_colour(places, c, prefix) for c in value.values()))
    elif isinstance(value, list) and value:
        table = MaskClasses(_checked(places, block, prefix), tuple(_colour(places, c, prefix) for c in value))
    else:
        raise DataError(f"{places.path}: `{prefix}colours` is {value!r}; give a colour per class, or a file of them")
    if len(table.names) != len(table.colours):
        raise DataError(
            f"{places.path}: `{prefix}colours` has {len(table.colours)} entries, but `{prefix}names` has "
            f"{len(table.names)}; give one colour per class"
        )
    check_colours(f"{places.path}: `{prefix}colours`", table.names, table.colours)
    return list(table.names), table.colours


def _colour(places: Places, value: Any, prefix: str) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3 or not all(_is_level(level) for level in value):
        raise DataError(f"{places.path}: `{prefix}colours` holds {value!r}; give red, green, blue in 0..255")
    return value[0], value[1], value[2]


def _classes(
    places: Places,
    form: str,
    block: Mapping[str, Any],
    prefix: str,
    given: list[str] | None,
    shared: SharedClasses | None,
) -> tuple[list[str], ClassMap | None]:
    """Return the classes of the set, and the map from those of the masks, None where they are the same.

    Args:
        places: of the YAML.
        form: of the masks.
        block: keys and values.
        prefix: of its keys.
        given: classes of the masks by index, None where the YAML does not say.
        shared: the classes of the set where these are the masks of one of its sources.
    """
    if "classes" in block:
        # Without names every value of a mask may be mapped by its number; 255 is no class.
        known = [str(value) for value in range(MOST_MASK_CLASSES)] if given is None else given
        what = "value of a mask" if given is None else f"class of {form}"
        partial = shared is not None and shared.mapped
        vocabulary = Vocabulary(known, what, indexed=True, partial=partial)
        names, class_map = read_class_map(places.path, f"{prefix}classes", block["classes"], vocabulary, shared)
        return checked_mask_names(places.path, names, None, f"{prefix}classes", ""), class_map
    if given is None:
        given = _checked(places, block, prefix)
    if shared is not None:
        return shared_map(places.path, prefix, given, shared)
    if block.get("names") is None:
        return checked_mask_names(places.path, given, block.get("nc"), f"{prefix}names", f"{prefix}nc"), None
    # The names of a format that brings its own, or of a table of colours, choose among them.
    chosen = _checked(places, block, prefix)
    unknown = next((name for name in chosen if name not in given), None)
    if unknown is not None:
        raise DataError(
            f"{places.path}: `{prefix}names` has '{unknown}', which is no class of {form}; it has "
            f"{', '.join(given)}.{did_you_mean(unknown, given)}"
        )
    return chosen, None if chosen == given else ClassMap.by_name(given, chosen)


def _checked(places: Places, block: Mapping[str, Any], prefix: str) -> list[str]:
    return checked_mask_names(places.path, block.get("names"), block.get("nc"), f"{prefix}names", f"{prefix}nc")


def _ignore(path: Path, form: str, block: Mapping[str, Any], prefix: str) -> list[int]:
    if "ignore" in block and form in OF_COLOURS:
        raise DataError(
            f"{path}: `{prefix}ignore` is for pixels that are numbers, not for {form}; drop it, and leave colours that "
            f"do not count out of `{prefix}classes`"
        )
    value = block.get("ignore", 255)
    values = value if isinstance(value, list) else [value]
    for entry in values:
        if not _is_level(entry):
            raise DataError(f"{path}: `{prefix}ignore` is {entry!r}; give one value or a list of values in 0..255")
    return values


def _is_level(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def flat_masks(places: Places, raw: Mapping[str, Any]) -> TaskData:
    """Read the fork's ``segtrain segval segtest``: each the root of a layout that is recognised by its folders.

    Raises:
        DataError: a key is missing or wrong, or a root has none of the layouts.
    """
    given = [split for split in SPLITS if raw.get(f"seg{split}") is not None]
    if "train" not in given and ("train" in places.checked or not given):
        raise DataError(f"{places.path}: `segtrain` is missing; give the root of the segmentation set")
    splits, masks, formats = {}, {}, set()
    for split in given:
        layout, folder, masks[split] = find_layout(places, raw[f"seg{split}"], split)
        splits[split] = [folder]
        formats.add(layout)
    if len(formats) > 1:
        raise DataError(
            f"{places.path}: `segtrain` and `segval` have folders of different kinds; use one kind for both"
        )
    layout = formats.pop()
    names = raw.get("segnames")
    if names is None and layout == "cityscapes" and raw.get("n_segcls") in (None, len(cityscapes.NAMES)):
        names = cityscapes.NAMES
    return TaskData(
        task="segment",
        key="segment",
        format=layout,
        names=checked_mask_names(places.path, names, raw.get("n_segcls"), "segnames", "n_segcls"),
        splits=splits,
        masks=masks,
        options={"ignore": [255]},
        root=places.root,
        source=str(places.path),
    )


def find_layout(places: Places, value: Any, split: str) -> tuple[str, Path, Path]:
    """Return (format, image folder, mask folder) of one split below a segmentation root.

    Raises:
        DataError: the root does not exist or has none of the layouts.
    """
    key = f"seg{split}"
    if not isinstance(value, str):
        raise DataError(f"{places.path}: `{key}` is {value!r}; give the root folder of the segmentation set")
    root = places.existing(value, key, split)
    layouts = [(form, root / images / split, root / masks / split) for form, images, masks in _LAYOUTS]
    for layout, images, masks in layouts:
        if images.is_dir() and masks.is_dir():
            return layout, images, masks
    if split not in places.checked:
        return layouts[1]
    searched = ", ".join(f"{images.relative_to(root)} + {masks.relative_to(root)}" for _, images, masks in layouts)
    raise DataError(f"{places.path}: `{key}`: {root} has none of the folder pairs {searched}; arrange one of them")
