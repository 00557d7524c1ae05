"""Examines a data set: ``python -m data.doctor DATA.yaml``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np

from data.checks.caches import mend_caches
from data.checks.contact_sheet import contact_sheet
from data.checks.examination import Examination, examine
from data.checks.html_report import html_of
from data.checks.listing import list_splits
from data.checks.text_report import json_of, text_of
from data.config import load_data_config
from utils.errors import UsageError, run_command
from utils.files import UniqueNames, atomic_write, increment_run_folder
from utils.image_size import require_possible_sizes
from utils.plots.drawing import save_picture

EPILOG = """examples:
  python -m data.doctor camvid.yaml
  python -m data.doctor data.yaml --cfg yolov5s.yaml --img-size 640
  python -m data.doctor data.yaml --json > faults.json

Every image, label and mask is read, also those after a broken one. The folder of the report gets report.html (one file
that needs nothing else), report.json and, for each task, a sheet of pictures with their labels drawn.
exit codes: 0 nothing or only notes, 1 warnings (a model or its figures get worse), 2 wrong usage, 3 errors (training
stops, or data are lost) or no such data YAML, 4 the model YAML is missing or wrong"""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data.doctor",
        description="Look for whatever is wrong with a data set, and say file by file how to mend it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="data YAML, or the name of one in data/configs")
    parser.add_argument("--json", action="store_true", help="print all findings as JSON and nothing else")
    parser.add_argument("--cfg", help="model YAML whose anchors are held against the objects")
    parser.add_argument("--img-size", type=int, default=640, help="long side of images in training, pixels (640)")
    parser.add_argument("--near", action="store_true", help="also find pictures that look alike; decodes all of them")
    parser.add_argument(
        "--fix-cache", action="store_true", help="remove caches of labels that no longer hold, and scan anew"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/doctor/exp"), help="new folder for the report (runs/doctor/exp)"
    )
    options = parser.parse_args(arguments)
    require_possible_sizes("--img-size", [options.img_size])
    return options


def write_report(examination: Examination, folder: Path) -> None:
    """Write the page, the JSON and the sheets of pictures into a folder that exists."""
    pictures: dict[str, np.ndarray] = {}
    names = UniqueNames()
    for key in examination.config.tasks:
        splits = [facts for (task, _), facts in examination.facts.items() if task == key]
        sheet = contact_sheet(splits)
        if sheet is not None:
            pictures[f"{key}: pictures with their labels"] = sheet
            save_picture(folder / names.take(f"contact_sheet_{_file_name(key)}.png"), sheet)
    atomic_write(folder / "report.html", html_of(examination, pictures))
    atomic_write(folder / "report.json", json.dumps(json_of(examination), indent=1).encode())


def _new_folder(out: Path) -> Path:
    try:
        return increment_run_folder(out.parent, out.name)
    except UsageError:
        raise UsageError(f"--out {out}: no folder can be made there; choose another one") from None


def _file_name(key: str) -> str:
    """Return the key of a block as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in key)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line.

    Raises:
        SystemExit: with the exit code of the worst finding.
    """
    options = parse_options(arguments)
    # What is found along the way must not stand before the JSON.
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        # A split that is not there is a finding, and no reason to stop.
        config = load_data_config(options.data, splits=())
        if options.fix_cache:
            print(mend_caches(list_splits(config)[0]))
        # First, so that nobody waits for an examination whose report has no place.
        folder = _new_folder(options.out)
        try:
            examination = examine(config, options.img_size, options.cfg, options.near)
            write_report(examination, folder)
        except BaseException:
            with suppress(OSError):
                folder.rmdir()
            raise
    if options.json:
        print(json.dumps({**json_of(examination), "report": str(folder)}, indent=1))
    else:
        print(text_of(examination))
        print(f"report: {folder / 'report.html'}")
    sys.exit(examination.exit_code)


if __name__ == "__main__":
    run_command(main)
