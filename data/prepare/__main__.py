"""``python -m data.prepare SET --source DIR --out DIR``: see ``data.prepare``."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.prepare.camvid import prepare_camvid
from utils.errors import run_command

PREPARERS = {"camvid": prepare_camvid}


def main() -> None:
    """Read the arguments and prepare one set."""
    parser = argparse.ArgumentParser(prog="python -m data.prepare", description=__doc__)
    sets = parser.add_subparsers(dest="set", required=True, metavar="SET")
    for name, prepare in PREPARERS.items():
        command = sets.add_parser(name, help=prepare.__doc__.splitlines()[0])
        command.add_argument("--source", type=Path, required=True, help="folder of the set as it is distributed")
        command.add_argument("--out", type=Path, default=Path("datasets") / name, help="new folder for the result")
    arguments = parser.parse_args()
    print(PREPARERS[arguments.set](arguments.source, arguments.out))


if __name__ == "__main__":
    run_command(main)
