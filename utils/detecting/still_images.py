"""Still images: read by several threads, looked at, each drawn into a file of its own name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.frame import Frame
from data.images import read_image
from utils.annotate import describe
from utils.detecting.look import Look
from utils.detecting.run import READ, READERS, Run
from utils.errors import DataError
from utils.ordered_work import InOrder
from utils.result_formats.found_picture import FoundPicture

LOGGER = logging.getLogger("yolograph")


def detect_images(run: Run, paths: Sequence[Path]) -> None:
    """Run the model over still images: the wanted files for each, and a line when they are there.

    Raises:
        DataError: the only input of the run cannot be read.
        OSError: the disk is full, or the folder cannot be written to.
    """

    def write(target: Path, look: Look, drawing: np.ndarray | None) -> None:
        if drawing is not None:
            run.files.append_to_film(drawing)
        run.files.save(FoundPicture.of_still(target, look.frame.path, look.frame.image, look.results))
        run.images += 1
        LOGGER.info(
            "image %d/%d %s: %s, %s, %.1f ms",
            look.frame.number,
            len(paths),
            look.frame.path.name,
            run.predictor.shape_text(look.frame.image),
            describe(look.results, run.names),
            look.milliseconds,
        )

    batches = run.batches(_readable(run, paths))
    with run.until_interrupted(), run.outlet(write, run.files.save_still) as outlet, run.looks(batches) as looks:
        for look in looks:
            drawing = run.shown(look)
            outlet.put((run.files.name_for(look.frame.path), look, run.files.wanted.drawn_stills, drawing))


def _readable(run: Run, paths: Sequence[Path]) -> Iterator[Frame]:
    """Yield the pictures of the files that can be read; the others are taken note of."""

    def read(numbered: tuple[int, Path]) -> Frame | tuple[Path, DataError]:
        number, path = numbered
        try:
            with run.clock.time(READ):
                return Frame(path, read_image(path), number)
        except DataError as error:
            return path, error

    with InOrder(read, enumerate(paths, 1), READERS, ahead=READERS + run.batch_size) as found:
        for each in found:
            if isinstance(each, Frame):
                yield each
            else:
                run.failed(each[0].name, each[1])
