"""The options of ``detect.py`` about following objects."""

from __future__ import annotations

import argparse

from data.sources import Sources
from utils.errors import UsageError
from utils.tracking.methods import BYTETRACK, METHODS, Method, import_trackers


def add_tracking_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about following objects."""
    group.add_argument(
        "--track",
        nargs="?",
        const=BYTETRACK,
        choices=METHODS,
        help="number the objects of videos and streams, each the same number as long as it can be followed "
        f"(without a word {BYTETRACK}); needs requirements-track.txt",
    )
    group.add_argument(
        "--track-colours",
        action="store_true",
        help="with --track, give every followed object a colour of its own in place of that of its class",
    )


def tracking_method(options: argparse.Namespace, sources: Sources) -> Method | None:
    """Return how objects are followed, None where they are not.

    Raises:
        UsageError: there are still images, two options do not go together, or the package is not installed.
    """
    if options.track is None:
        if options.track_colours:
            raise UsageError("--track-colours colours the objects that --track follows; give both")
        return None
    if sources.images:
        raise UsageError(
            "--track follows objects from frame to frame of videos and streams, but --source has still images "
            f"({sources.images[0]}); name the videos alone, or leave --track out"
        )
    import_trackers()
    return Method(options.track, options.conf_thres)
