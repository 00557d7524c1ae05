"""``python -m data.prepare SET --source DIR --out DIR``: see ``data.prepare``."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.prepare.camvid import prepare_camvid
from data.prepare.coco128 import prepare_coco128
from data.prepare.summary import Prepared
from data.prepare.voc import VocOptions, prepare_voc
from utils.errors import run_command

FOLDER = Path("datasets")
PREPARERS = {"camvid": prepare_camvid, "coco128": prepare_coco128, "voc": prepare_voc}


def main() -> None:
    """Read the arguments and prepare one set."""
    parser = argparse.ArgumentParser(prog="python -m data.prepare", description=__doc__)
    sets = parser.add_subparsers(dest="set", required=True, metavar="SET")
    for name, prepare in PREPARERS.items():
        command = sets.add_parser(name, help=prepare.__doc__.splitlines()[0])
        command.add_argument("--source", type=Path, required=True, help="folder of the set as it is distributed")
        command.add_argument("--out", type=Path, help="new folder for the result (below datasets, by the set's name)")
        if name == "voc":
            _add_voc_options(command)
    print(_prepare(parser.parse_args()))


def _add_voc_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--names", nargs="+", help="classes in the order of their indices (all, sorted)")
    command.add_argument("--drop-difficult", action="store_true", help="leave out objects marked as difficult")
    command.add_argument("--one-based", action="store_true", help="corners are pixel indices from 1, as in VOC itself")
    command.add_argument("--val-share", type=float, help="share of the training pictures to draw for validation")
    command.add_argument("--seed", type=int, default=0, help="of that draw (0)")


def _prepare(given: argparse.Namespace) -> Prepared:
    if given.set != "voc":
        return PREPARERS[given.set](given.source, given.out or FOLDER / given.set)
    options = VocOptions(given.names, given.drop_difficult, given.one_based, given.val_share, given.seed)
    return prepare_voc(given.source, given.out or FOLDER / given.source.resolve().name, options)


if __name__ == "__main__":
    run_command(main)
