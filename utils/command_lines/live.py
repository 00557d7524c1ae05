"""The options of ``detect.py`` about webcams and network streams."""

from __future__ import annotations

import argparse

from data.sources import Sources
from utils.command_lines.inference import require_at_least
from utils.errors import UsageError
from utils.streams.live_options import MOST_FIRST_TRIES, LiveOptions

LEAST_STALE = 0.1
"""Seconds."""


def add_live_options(group: argparse._ArgumentGroup) -> None:
    """Add the options about live sources."""
    defaults = LiveOptions()
    group.add_argument(
        "--reconnect",
        type=int,
        metavar="TRIES",
        help="tries in a row to reach a lost webcam or stream again, after 0.5 s, 1 s, 2 s ... up to 30 s; 0 for no "
        f"end (default {defaults.reconnect}; {MOST_FIRST_TRIES} for a source that never gave a frame)",
    )
    group.add_argument(
        "--stale",
        type=float,
        metavar="SECONDS",
        help=f"leave out live frames that have waited longer, from {LEAST_STALE:g} on (default {defaults.stale:g})",
    )


def check_live_options(options: argparse.Namespace) -> None:
    """Hold the options about live sources against their ranges.

    Raises:
        UsageError: one is out of its range.
    """
    # From 0 seconds on every frame would be too old.
    require_at_least(options, reconnect=0, stale=LEAST_STALE)


def live_options(options: argparse.Namespace, sources: Sources) -> LiveOptions:
    """Return how live sources are to be read; ``vid_stride``, where the command has it, counts for them too.

    Raises:
        UsageError: an option is about live sources, but there are none.
    """
    wishes = {name: getattr(options, name) for name in ("reconnect", "stale") if getattr(options, name) is not None}
    for name in wishes:
        if not sources.live:
            raise UsageError(f"--{name} is about webcams and streams, but --source names none; leave it out")
    return LiveOptions(stride=getattr(options, "vid_stride", None) or 1, **wishes)
