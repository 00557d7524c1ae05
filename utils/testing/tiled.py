"""A test that looks at pictures in tiles, as ``detect.py --tile`` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm

from data.dataset import TaskDataset
from data.samples import Batch, Placement, collate
from models.inference import Inference
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.tiled_predictor import TiledPredictor
from models.tiles import Tiling
from utils.errors import DataError
from utils.stage_clock import StageClock
from utils.validation import HeadTest, Speed


class NativePictures:
    """The samples of a data set one by one, at their native size.

    Args:
        dataset: of one task.

    Attributes:
        skipped: messages of images that could not be read in the last iteration.
    """

    def __init__(self, dataset: TaskDataset) -> None:
        self.dataset = dataset
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of one.

        Raises:
            DataError: not one image could be read.
        """
        self.skipped = []
        for index in range(len(self.dataset)):
            try:
                sample = self.dataset.load(index)
            except DataError as error:
                self.skipped.append(str(error))
                continue
            sample.placement = Placement(*sample.image.shape[:2])
            yield collate([sample])
        if len(self.skipped) == len(self.dataset):
            raise DataError(self.skipped[0])


def tiled_predictor(
    model: Inference,
    name: str,
    size: int,
    device: torch.device,
    dtype: torch.dtype | None,
    options: PostprocessOptions,
    tiling: Tiling,
    batch_size: int,
) -> TiledPredictor:
    """Return what looks at pictures for one head; arguments as for ``TiledPredictor``."""
    return TiledPredictor(model, {name: size}, options, device, dtype, StageClock(STAGES), tiling, batch_size)


def run_tiled_test(predictor: Predictor, name: str, test: HeadTest, evaluator: Any) -> None:
    """Run one head over its test pictures, tile by tile.

    Args:
        predictor: looks at the pictures; its clock is started anew.
        name: of the head.
        test: of ``NativePictures``.
        evaluator: gets the results and the batch of every picture by its ``update``.
    """
    predictor.clock = clock = StageClock(("load", *STAGES, "evaluate"))
    test.speed, test.inputs = Speed(0, clock.seconds), Counter()
    bar = {"desc": f"testing {name} in tiles", "unit": "img", "leave": False, "dynamic_ncols": True, "delay": 1.0}
    pictures = iter(tqdm(test.loader, disable=test.hidden, **bar))
    while True:
        with clock.time("load"):
            batch = next(pictures, None)
        if batch is None:
            return
        picture = batch.images[0].permute(1, 2, 0).numpy()
        found = predictor([picture])[0][name]
        test.speed.images += 1
        test.inputs.update(predictor.input_shapes(picture))
        with clock.time("evaluate"):
            evaluator.update([found], batch)
