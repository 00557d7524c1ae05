"""Use a trained model on pictures, videos and live sources: ``python detect.py --weights WEIGHTS --source PATH``."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from data.sources import Sources, find_sources
from utils.command_lines.detecting import parse_options
from utils.command_lines.live import live_options
from utils.detecting.defaults import USUAL_SIZE, choose_weights, example_sources
from utils.detecting.ending import ended_by_sigterm
from utils.detecting.films import detect_video
from utils.detecting.live import detect_live
from utils.detecting.report import report
from utils.detecting.run import Run
from utils.detecting.setup import prepare
from utils.detecting.still_images import detect_images
from utils.errors import DataError, run_command
from utils.logging import start_logging
from utils.streams.live_options import LiveOptions

LOGGER = logging.getLogger("yolograph")


def detect(options: argparse.Namespace) -> Path:
    """Run the model over the source and return the run folder.

    Raises:
        DataError: no input could be read.
        KeyboardInterrupt: Ctrl-C or SIGTERM has ended the run; what was done by then is complete.
    """
    if not options.weights:
        use_choice(options)
    options.img_size = options.img_size or USUAL_SIZE
    sources = find_sources(options.source, options.recursive) if options.source is not None else example_sources()
    if sources.left_out:
        LOGGER.info("%s: files that are neither images nor videos: %d", options.source, sources.left_out)
    reading = live_options(options, sources)
    run = prepare(options, sources)
    with ended_by_sigterm(), run.share.held(), run.files:
        run.started = time.perf_counter()
        look_at(run, sources, reading)
    report(run, options.source or "the embedded set")
    if run.interrupted:
        raise KeyboardInterrupt
    if run.window is not None:
        run.window.hold()
    return run.files.folder


def use_choice(options: argparse.Namespace) -> None:
    """Take a model where none was named, at the size that it was trained with unless another one is asked for.

    Raises:
        UsageError: there is no model to take.
    """
    choice = choose_weights()
    options.weights = [str(choice.weights)]
    if options.img_size is None:
        options.img_size = choice.img_size
        options.base_size = options.base_size or choice.base_size
    LOGGER.info("taking %s at %d pixels", choice.weights, options.img_size)


def look_at(run: Run, sources: Sources, reading: LiveOptions) -> None:
    """Run the model over everything that was found, kind by kind, until the user interrupts it."""
    if sources.images:
        detect_images(run, sources.images)
    for number, path in enumerate(sources.videos, 1):
        if run.interrupted:
            return
        try:
            detect_video(run, path, f"video {number}/{len(sources.videos)} {path.name}")
        except DataError as error:
            run.failed(path.name, error)
    if sources.live and not run.interrupted:
        try:
            detect_live(run, sources.live, reading)
        except DataError as error:
            if len(sources.live) == run.inputs:
                raise
            run.failures += [source.name for source in sources.live]
            LOGGER.warning("left out: %s", error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    detect(parse_options(arguments))


if __name__ == "__main__":
    run_command(main)
