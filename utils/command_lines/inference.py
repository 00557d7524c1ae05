"""Options that ``detect.py`` and ``test.py`` have in common: which model answers, how it looks, where it computes."""

from __future__ import annotations

import argparse

from utils.devices import DTYPES
from utils.errors import UsageError


def add_model_options(group: argparse._ArgumentGroup, default_weights: str | None = None) -> None:
    """Add the options about which model answers and how it looks at a picture.

    Args:
        group: to add them to.
        default_weights: words for what the command takes where no weights are given; None where they must be.
    """
    add = group.add_argument
    default = "" if default_weights is None else f" (default: {default_weights})"
    add(
        "--weights",
        required=default_weights is None,
        nargs="+",
        help="checkpoint, ours or an official .pt, or a file of export.py; several of the same heads and classes "
        f"answer together{default}",
    )
    add(
        "--deploy",
        action="store_true",
        help="bring blocks that learn with several branches into their form for use; the same answers to rounding",
    )
    add("--augment", action="store_true", help="look three times: as it is, mirrored at 0.83 and at 0.67 of the size")
    add(
        "--tta",
        action="store_true",
        help="look six times: as it is, at 0.5 and at 1.5 of the size, each mirrored too; every look suppresses its "
        "own boxes before they meet; class maps are the mean of all; not together with --augment",
    )


def add_machine_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about where and in which format the model computes."""
    add = group.add_argument
    add("--device", default="", help="cpu, or the number of a GPU (default: the first GPU, else the CPU)")
    add("--dtype", default="float32", choices=DTYPES, help="format of forward passes (default %(default)s)")
    add(
        "--half",
        dest="dtype",
        action="store_const",
        const="half",
        help="in 16 bits, where the device computes in them",
    )


def add_folder_options(group: argparse._ArgumentGroup, project: str, noun: str) -> None:
    """Add the options about the folder of the run.

    Args:
        group: to add them to.
        project: default folder of all runs.
        noun: what one of them is called: run, test.
    """
    add = group.add_argument
    add("--project", default=project, help=f"folder of all {noun}s (default %(default)s)")
    add("--name", default="exp", help=f"name of this {noun} (default %(default)s)")
    add("--exist-ok", action="store_true", help="write into the folder of that name even if it exists")


def require_shares(options: argparse.Namespace, *names: str) -> None:
    """Make sure that options, where given, are in 0..1.

    Raises:
        UsageError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name.replace('_', '-')} must be in 0..1, but is {value}")


def require_at_least(options: argparse.Namespace, **least: float) -> None:
    """Make sure that options, where given, are not below their least values.

    Raises:
        UsageError: one is.
    """
    for name, lowest in least.items():
        value = getattr(options, name)
        if value is not None and not value >= lowest:
            raise UsageError(f"--{name.replace('_', '-')} must be {lowest} or more, but is {value}")
