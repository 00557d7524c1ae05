"""What a run says of a learning rate that falls in steps."""

from __future__ import annotations

import logging

import pytest

from utils.recipe import load_recipe
from utils.training.assembly import describe_falls
from utils.training.deadline import RunLength
from utils.training.rates import Rates


def rates_of(recipe: str, epochs: int) -> Rates:
    return Rates(load_recipe(recipe), 7, RunLength(epochs), 16, epochs)


@pytest.mark.parametrize(
    ("epochs", "falls", "words", "warnings"),
    [
        (12, [11], "multiplied by 0.1 after epoch 11", 0),
        (11, [], "never falls, because step_epochs is 11; give step_epochs for a run of 11 epochs", 1),
        (36, [11, 22, 33], "multiplied by 0.1 after epoch 11, 22, 33", 0),
        (100, [11, 22, 33, 44, 55, 66, 77, 88, 99], "falls 9 times, to 1e-09 of itself; give step_epochs", 1),
    ],
)
def test_falls_are_told(
    epochs: int, falls: list[int], words: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    rates = rates_of("ms_detr", epochs)
    with caplog.at_level(logging.INFO, "yolograph"):
        describe_falls(rates)
    assert rates.falls() == falls and words in caplog.text
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == warnings
    # What is told is what happens.
    jumps = [epoch for epoch in range(1, epochs) if rates.factor(epoch / epochs) < rates.factor((epoch - 0.5) / epochs)]
    assert jumps == falls


def test_other_schedules_have_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "yolograph"):
        describe_falls(rates_of("ms_detr_nano", 12))
    assert rates_of("ms_detr_nano", 12).falls() is None and not caplog.text
