"""Which pictures of a Pascal VOC folder belong to which split: its lists, or a seeded draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.formats.voc_lists import read_names
from data.prepare.draw import draw_for_val
from data.prepare.summary import first_of
from utils.errors import DataError, UsageError

SPLITS = ("train", "val", "test")
LISTS = Path("ImageSets") / "Main"


@dataclass
class Splits:
    """The pictures of each split.

    Attributes:
        pictures: split -> names of pictures, in the order of the list, each once.
        notes: a line for whatever the lists name that is not there, and for pictures in two splits.
    """

    pictures: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_splits(source: Path, pictures: Mapping[str, Path], val_share: float | None, seed: int) -> Splits:
    """Read the lists ``ImageSets/Main/{train,val,test,trainval}.txt``; where val is missing, draw it if asked to.

    ``trainval`` stands in for a missing ``train`` or ``val``: it is what the other one leaves.

    Args:
        source: the VOC folder.
        pictures: all pictures by name, without their suffix.
        val_share: share of the training pictures to draw for val where no list has it, None for no draw.
        seed: of that draw.

    Raises:
        DataError: there is no list and no share, none of the training pictures is there, or a list cannot be read.
        UsageError: a share is given though there is a list for val.
    """
    found = Splits()
    lists = {name: source / LISTS / f"{name}.txt" for name in (*SPLITS, "trainval")}
    lists = {name: _read_list(file, pictures, found.notes) for name, file in lists.items() if file.is_file()}
    if val_share is not None and "val" in lists:
        raise UsageError(f"{source / LISTS / 'val.txt'} lists the pictures for validation; leave --val-share out")
    both = lists.pop("trainval", None)
    for missing, other in (("train", "val"), ("val", "train")):
        # With a share, trainval is what the draw is made from.
        if both is not None and missing not in lists and not (missing == "val" and val_share is not None):
            rest = _without(both, lists.get(other, []))
            lists |= {missing: rest} if rest else {}
    if not lists and val_share is not None:
        lists["train"] = sorted(pictures)
    if not lists.get("train"):
        raise DataError(
            f"{source / LISTS}: no train.txt or trainval.txt names a picture of JPEGImages; add the lists, or, where "
            "there are none at all, give --val-share 0.2 to draw a fifth of the pictures for validation"
        )
    if val_share is not None:
        lists["train"], lists["val"] = draw_for_val(lists["train"], val_share, seed)
        found.notes.append(f"drew {len(lists['val'])} of the training pictures for val (seed {seed})")
    elif "val" not in lists:
        found.notes.append(f"no list for val; --val-share 0.2 draws one, which training needs ({source / LISTS})")
    found.pictures = {split: lists[split] for split in SPLITS if lists.get(split)}
    _note_overlaps(found)
    return found


def _read_list(file: Path, pictures: Mapping[str, Path], notes: list[str]) -> list[str]:
    """Return the pictures that a list names; a name that is not there is noted and never looked for on the disk."""
    names = read_names(file, pictures)
    absent = [name for name in names if name not in pictures]
    if absent:
        notes.append(f"{len(absent)} pictures of {file.name} are not in JPEGImages: {first_of(absent)}")
    return [name for name in names if name in pictures]


def _without(names: list[str], others: list[str]) -> list[str]:
    left_out = set(others)
    return [name for name in names if name not in left_out]


def _note_overlaps(found: Splits) -> None:
    for i, split in enumerate(SPLITS):
        for other in SPLITS[i + 1 :]:
            common = set(found.pictures.get(split, [])) & set(found.pictures.get(other, []))
            if common:
                found.notes.append(
                    f"WARNING: {len(common)} pictures are in {split} and in {other}: {first_of(sorted(common))}"
                )
