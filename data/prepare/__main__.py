"""``python -m data.prepare SET --source DIR --out DIR``: see ``data.prepare``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from data.convert.class_option import parse_classes
from data.prepare.camvid import prepare_camvid
from data.prepare.coco128 import prepare_coco128
from data.prepare.labelme import ALL, LabelmeOptions, prepare_labelme
from data.prepare.summary import Prepared
from data.prepare.voc import VocOptions, prepare_voc
from utils.errors import run_command

FOLDER = Path("datasets")
DESCRIPTION = """Turn a data set, as it is distributed or labelled, into images, labels and masks with a data YAML.

The result appears under --out only when all of it is written. Each SET has its own options:
python -m data.prepare labelme --help"""
EPILOG = """examples:
  python -m data.prepare labelme --source photos --out datasets/mine --val-share 0.2 --seed 0
  python -m data.prepare voc --source BCCD --out datasets/bccd
  python -m data.prepare camvid --source CAMVID --out datasets/camvid

exit codes: 2 wrong usage, 3 the set is at fault"""
PREPARERS = {"camvid": prepare_camvid, "coco128": prepare_coco128, "labelme": prepare_labelme, "voc": prepare_voc}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and prepare one set."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw
    )
    sets = parser.add_subparsers(dest="set", required=True, metavar="SET")
    for name, prepare in PREPARERS.items():
        summary = prepare.__doc__.splitlines()[0]
        command = sets.add_parser(name, help=summary, description=summary)
        command.add_argument("--source", type=Path, required=True, help="folder of the set as it is")
        command.add_argument("--out", type=Path, help="new folder for the result (below datasets, by the set's name)")
        if name == "voc":
            _add_voc_options(command)
        if name == "labelme":
            _add_labelme_options(command)
    print(_prepare(parser.parse_args(arguments)))


def _add_voc_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--names", nargs="+", help="classes in the order of their indices (all, sorted)")
    command.add_argument("--drop-difficult", action="store_true", help="leave out objects marked as difficult")
    command.add_argument("--one-based", action="store_true", help="corners are pixel indices from 1, as in VOC itself")
    command.add_argument("--val-share", type=float, help="share of the training pictures to draw for validation")
    command.add_argument("--seed", type=int, default=0, help="of that draw (0)")


def _add_labelme_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--val-share", type=float, default=0.2, help="share of the pictures for validation (0.2)")
    command.add_argument("--seed", type=int, default=0, help="of the draw of those (0)")
    command.add_argument(
        "--classes", nargs="+", metavar="NEW=OLD,OLD", help="join, rename and choose classes, such as car=car,truck"
    )
    command.add_argument(
        "--polygon-boxes",
        nargs="*",
        metavar="CLASS",
        help="polygons give boxes too: those of these classes, or all without a name",
    )


def _prepare(given: argparse.Namespace) -> Prepared:
    if given.set == "labelme":
        classes = None if given.classes is None else parse_classes(given.classes)
        polygon_boxes = () if given.polygon_boxes is None else given.polygon_boxes or (ALL,)
        chosen = LabelmeOptions(given.val_share, given.seed, classes, polygon_boxes)
        return prepare_labelme(given.source, given.out or FOLDER / given.source.resolve().name, chosen)
    if given.set != "voc":
        return PREPARERS[given.set](given.source, given.out or FOLDER / given.set)
    options = VocOptions(given.names, given.drop_difficult, given.one_based, given.val_share, given.seed)
    return prepare_voc(given.source, given.out or FOLDER / given.source.resolve().name, options)


if __name__ == "__main__":
    run_command(main)
