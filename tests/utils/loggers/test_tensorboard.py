"""What TensorBoard reads back from a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-loggers.txt")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.utils.loggers.conftest import Started
from utils.loggers.tensorboard import PREFIX, TensorBoardLogger


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 5)) for event in read(folder).Scalars(tag)]


def test_numbers_pictures_and_texts_are_read_back(started: Started) -> None:
    logger = TensorBoardLogger()
    logger.start(*started)
    logger.log({"train/detect_box": 0.5, "val/fitness": 0.25}, 1)
    # Without being closed: a run may be killed.
    assert points(started.folder, "val/fitness") == [(1, 0.25)]
    logger.log({"train/detect_box": 0.125}, 2)
    logger.picture("results", started.folder / "results.png")
    logger.finish({"best_fitness": 0.25})
    assert points(started.folder, "train/detect_box") == [(1, 0.5), (2, 0.125)]
    found = read(started.folder)
    (image,) = found.Images("results")
    assert (image.width, image.height, image.step) == (30, 20, 2)
    assert image.encoded_image_string == (started.folder / "results.png").read_bytes()
    (recipe,), (options,) = found.Tensors("recipe"), found.Tensors("options")
    assert "| lr0 | 0.01 |" in recipe.tensor_proto.string_val[0].decode()
    assert "| cfg | m/odel.yaml |" in options.tensor_proto.string_val[0].decode()
    assert found.SummaryMetadata("recipe").plugin_data.plugin_name == "text"


def test_a_resumed_run_has_no_double_points(started: Started) -> None:
    first = TensorBoardLogger()
    first.start(*started)
    for step in range(1, 6):
        first.log({"val/fitness": step / 10}, step)
    # Killed after epoch 5, whose checkpoint and that of epoch 4 were lost.
    second = TensorBoardLogger()
    second.start(*started, epochs_kept=3)
    for step in range(4, 8):
        second.log({"val/fitness": step / 100}, step)
    second.finish({})
    expected = [(step, step / 10) for step in (1, 2, 3)] + [(step, step / 100) for step in (4, 5, 6, 7)]
    assert points(started.folder, "val/fitness") == expected


def test_a_new_run_in_an_old_folder_forgets_the_old_log(started: Started) -> None:
    for values in ([0.1, 0.2, 0.3], [0.4]):
        logger = TensorBoardLogger()
        logger.start(*started)
        for step, value in enumerate(values, 1):
            logger.log({"val/fitness": value}, step)
        logger.finish({})
    assert points(started.folder, "val/fitness") == [(1, 0.4)]
    assert len(list(started.folder.glob(f"{PREFIX}.*"))) == 1
