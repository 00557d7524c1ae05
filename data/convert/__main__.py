"""``python -m data.convert --from F --to G --images DIR --labels DIR|FILE --out DIR``: see ``data.convert``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from data.convert.areas import BACKGROUND
from data.convert.class_option import parse_classes
from data.convert.colours import WITH_COLOURS
from data.convert.format_names import find_format, format_names
from data.convert.from_folders import source_of_folders
from data.convert.from_yaml import source_of_yaml
from data.convert.options import DROPPABLE, RESTS, Options
from data.convert.sources import SourceSet
from data.convert.to_masks import convert_to_masks
from data.convert.to_objects import convert_to_objects
from data.formats.colour_table import Colour, read_colour_table
from data.formats.registry import OF_COLOURS
from data.formats.voc_objects import VocObjects
from data.prepare.summary import Prepared
from data.task_data import SPLITS
from utils.errors import UsageError, run_command

_EPILOG = """\
objects:  {objects}
masks:    {masks}

Objects with outlines become masks, and every connected area of a mask becomes an object with its outline.
What the new format cannot say is left out and counted.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, convert, and say what was written and what was left out."""
    given = parser().parse_args(arguments)
    print(_convert(given))


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    objects, masks = format_names()
    reader = argparse.ArgumentParser(
        prog="python -m data.convert",
        description="Convert labels and masks from any format into any other, with a data YAML beside them.",
        epilog=_EPILOG.format(objects=" ".join(objects), masks=" ".join(masks)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*objects, *masks]
    source = reader.add_argument_group("source: a folder of pictures with its labels, or a data YAML")
    source.add_argument("--from", dest="source", choices=names, metavar="FORMAT", help="format of the labels")
    source.add_argument("--images", type=Path, help="folder of the pictures")
    source.add_argument("--labels", type=Path, help="folder of the label files or masks, or the one label file")
    source.add_argument("--data", type=Path, help="data YAML, which knows formats, folders and classes")
    source.add_argument("--task", help="which block of the data YAML (the only one)")
    source.add_argument(
        "--split", nargs="+", choices=SPLITS, help="splits of the data YAML (all); name of the folder's split (train)"
    )
    source.add_argument("--keypoints", type=int, help="keypoints per object in YOLO label files (none)")
    source.add_argument("--one-based", action="store_true", help="corners of VOC files are pixel indices from 1")
    source.add_argument("--ignore", type=int, nargs="+", help="mask values that do not count (255)")
    source.add_argument("--colours", type=Path, help="table of classes and colours, for masks that are colours")
    result = reader.add_argument_group("result")
    result.add_argument("--to", dest="target", choices=names, metavar="FORMAT", required=True, help="format to write")
    result.add_argument("--out", type=Path, required=True, help="new folder for the result")
    result.add_argument(
        "--names",
        nargs="+",
        help="classes in the order of their indices, or a .txt file with one per line; where labels hold names, "
        "objects of other classes are left out (all)",
    )
    result.add_argument(
        "--classes", nargs="+", metavar="NEW=OLD,OLD", help="join, rename and choose classes, such as car=car,truck"
    )
    result.add_argument("--drop", nargs="+", choices=DROPPABLE, help="leave these out")
    pictures = result.add_mutually_exclusive_group()
    pictures.add_argument("--copy", action="store_true", help="copy the pictures")
    pictures.add_argument(
        "--link", dest="copy", action="store_false", help="link the pictures where possible (default)"
    )
    result.add_argument(
        "--rest",
        choices=RESTS,
        help=f"pixels of masks without an object: a class of their own, or ignored ({RESTS[0]})",
    )
    result.add_argument("--least-area", type=int, help="pixels; smaller areas of masks become no object (1)")
    return reader


def _convert(given: argparse.Namespace) -> Prepared:
    names = None if given.names is None else _listed_names(given.names)
    target = find_format(given.target)
    source, by_index = _source(given, names)
    _refuse_idle(given, source.of_masks, hasattr(target, "mask_files"))
    if given.rest == BACKGROUND and target.names and BACKGROUND not in target.names:
        raise UsageError(f"--rest {BACKGROUND}: {given.target} has no such class; leave it out")
    options = Options(
        names=None if by_index else names,
        classes=None if given.classes is None else parse_classes(given.classes),
        drop=given.drop or (),
        copy=given.copy,
        rest=given.rest or RESTS[0],
        least_area=1 if given.least_area is None else given.least_area,
        colours=_colours(given),
    )
    made_by = shlex.join(["python", "-m", "data.convert", "--to", given.target])
    write = convert_to_masks if hasattr(target, "mask_files") else convert_to_objects
    return write(source, target, given.out, options, made_by)


def _refuse_idle(given: argparse.Namespace, from_masks: bool, to_masks: bool) -> None:
    """Refuse options that have nothing to do here, because whoever gives one expects something of it."""
    numbered = given.source is not None and from_masks and given.source not in OF_COLOURS
    coloured = (given.source == "mask_colour", given.target in WITH_COLOURS)
    for option, works, purpose in (
        ("least_area", from_masks and not to_masks, "masks that become objects"),
        ("rest", to_masks and not from_masks, "objects that become masks"),
        ("drop", not from_masks, "objects"),
        ("keypoints", given.source == "yolo", "--from yolo"),
        ("one_based", given.source == "voc", "--from voc"),
        ("ignore", numbered, "--from with a format of masks whose pixels are numbers"),
        ("colours", any(coloured), f"{', '.join(WITH_COLOURS)}"),
    ):
        if getattr(given, option) not in (None, False) and not works:
            raise UsageError(f"--{option.replace('_', '-')} is for {purpose}; leave it out")


def _source(given: argparse.Namespace, names: Sequence[str] | None) -> tuple[SourceSet, bool]:
    """Return what is read, and whether ``--names`` says what the indices of its labels stand for."""
    if given.data is not None:
        for option in ("images", "labels"):
            if getattr(given, option) is not None:
                raise UsageError(f"--data knows the pictures and their labels; leave --{option} out")
        if given.source is not None:
            raise UsageError("--data knows the format of its labels; leave --from out")
        return source_of_yaml(given.data, given.task, given.split), False
    if given.task is not None:
        raise UsageError("--task is for --data, which may have several; leave it out")
    for option, name in (("source", "from"), ("images", "images"), ("labels", "labels")):
        if getattr(given, option) is None:
            raise UsageError(f"--{name} is missing; give --from, --images and --labels, or --data with a data YAML")
    if given.split is not None and len(given.split) > 1:
        raise UsageError("--images is one split; give --split one name, or --data with a data YAML of all splits")
    split = given.split[0] if given.split else "train"
    format = VocObjects(one_based=True) if given.one_based else find_format(given.source)
    return source_of_folders(
        format, given.images, given.labels, split, names, given.keypoints or 0, given.ignore or (255,), _colours(given)
    )


def _colours(given: argparse.Namespace) -> dict[str, Colour]:
    if given.colours is None:
        return {}
    table = read_colour_table(given.colours)
    return dict(zip(table.names, table.colours, strict=True))


def _listed_names(given: Sequence[str]) -> list[str]:
    """Return the names, from a file where its name is given."""
    if len(given) > 1 or not given[0].endswith(".txt"):
        return list(given)
    try:
        lines = Path(given[0]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"--names {given[0]} cannot be read; give a text file with one class per line") from None
    return [line.strip() for line in lines if line.strip()]


if __name__ == "__main__":
    run_command(main)
