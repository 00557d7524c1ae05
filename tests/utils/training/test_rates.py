"""Rates: warm-up, decay and accumulation as functions of the position."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from utils.optimizer import build_optimizer
from utils.recipe import DEFAULTS
from utils.training.deadline import RunLength
from utils.training.rates import Rates
from utils.training.results import ResultsTable


def test_warm_up_follows_the_published_example() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    hyp = {**DEFAULTS, "lrf": 1.0, "warmup_epochs": 1.0}
    rates = Rates(hyp, rounds=1000, length=RunLength(300), batch_size=16, planned_epochs=300)
    optimizer = build_optimizer(model, hyp, 0.0)
    assert rates.warmup == 1000
    published = [
        (0, 0.0, 0.1, 0.8),
        (1, 1e-05, 0.09991, 0.800137),
        (250, 0.0025, 0.0775, 0.83425),
        (1000, 0.01, 0.01, 0.937),
    ]
    for position, weight_rate, bias_rate, momentum in published:
        rates.apply(optimizer, position)
        groups = {group["name"]: group for group in optimizer.param_groups}
        assert groups["decay"]["lr"] == pytest.approx(weight_rate)
        assert groups["bias"]["lr"] == pytest.approx(bias_rate)
        assert groups["no_decay"]["momentum"] == pytest.approx(momentum)


def test_rates_end_at_lrf_and_do_not_depend_on_the_past() -> None:
    rates = Rates({**DEFAULTS, "lrf": 0.1}, rounds=10, length=RunLength(20), batch_size=64, planned_epochs=20)
    optimizer = build_optimizer(nn.Conv2d(3, 4, 3), DEFAULTS, 0.0)
    rates.apply(optimizer, 200)
    assert optimizer.param_groups[0]["lr"] == rates.rate(200) == pytest.approx(0.001)
    rates.apply(optimizer, 3)
    assert rates.rate(100) == pytest.approx(0.0055)


def test_a_group_and_a_run_may_have_factors_of_their_own() -> None:
    rates = Rates({**DEFAULTS, "warmup_epochs": 0.0}, rounds=10, length=RunLength(20), batch_size=64, planned_epochs=20)
    optimizer = build_optimizer(nn.Conv2d(3, 4, 3), DEFAULTS, 0.0, {"bias": 0.5})
    rates.factor_of_run = 0.5
    rates.apply(optimizer, 0)
    found = {(group["name"], group["factor"]): group["lr"] for group in optimizer.param_groups if group["params"]}
    assert found == {("decay", 1.0): pytest.approx(0.005), ("bias", 0.5): pytest.approx(0.0025)}


def test_warm_up_of_a_short_run_ends_within_it() -> None:
    rates = Rates(DEFAULTS, rounds=5, length=RunLength(8), batch_size=16, planned_epochs=8)
    assert rates.warmup == 10
    assert rates.accumulate(0) == 1
    assert rates.accumulate(10) == rates.full_accumulation == 4


YOLOX = {
    **DEFAULTS,
    **{"schedule": "yolox", "warmup": "quadratic", "lrf": 0.05, "warmup_epochs": 5, "warmup_min": 0},
    **{"warmup_momentum": 0.9, "momentum": 0.9, "warmup_bias_lr": 0.0, "close_mosaic": 15},
}


def yolox_rates(epochs: int = 300, rounds: int = 8, **given: object) -> Rates:
    return Rates({**YOLOX, **given}, rounds, RunLength(epochs), batch_size=64, planned_epochs=epochs)


def test_the_schedule_of_yolox_has_its_three_parts() -> None:
    rates, rounds = yolox_rates(), 8
    assert rates.rate(0) == 0
    assert rates.rate(10) == pytest.approx(0.01 * (10 / 40) ** 2)
    assert rates.rate(40) == pytest.approx(0.01)
    middle = (5 + 285) * rounds // 2
    assert rates.rate(middle) == pytest.approx(0.0105 / 2)
    falling = [rates.rate(position) for position in range(40, 285 * rounds + 1)]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    tail = {rates.rate(position) for position in range(285 * rounds, 300 * rounds + 1)}
    assert tail == {0.01 * 0.05}, "15 last epochs are 15"
    assert rates.rate(285 * rounds - 1) > 0.01 * 0.05


def test_all_parameters_share_the_rate_of_yolox_and_steps_are_full_from_the_first() -> None:
    rates = Rates(YOLOX, 8, RunLength(300), batch_size=16, planned_epochs=300)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, YOLOX, 0.0)
    for position in (0, 7, 33, 100):
        rates.apply(optimizer, position)
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
        assert rates.accumulate(position) == 4


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 12), st.integers(0, 12))
def test_every_run_has_rates_between_nothing_and_the_peak(epochs: int, rounds: int, warmup: int, tail: int) -> None:
    rates = yolox_rates(epochs, rounds, warmup_epochs=warmup, close_mosaic=min(tail, epochs))
    assert all(0 <= rates.rate(position) <= 0.01 for position in range(epochs * rounds + 1))


def test_a_deadline_moves_the_parts_of_yolox_along() -> None:
    rates = yolox_rates(epochs=100, close_mosaic=20)
    length = RunLength(100)
    before = rates.rate(200)
    length.begun, length.share, length.epochs = 25.0, 0.25, 50
    rates.length = length
    assert rates.rate(200) == pytest.approx(before), "no jump"
    assert rates.rate(50 * 8) == pytest.approx(0.0005)
    # Four fifths of the way: the plateau begins there as it would have at epoch 80 of 100.
    assert rates.rate(round((25 + 25 * 0.55 / 0.75) * 8)) == pytest.approx(0.0005, rel=1e-2)


def test_results_forget_epochs_that_were_lost(tmp_path) -> None:
    table = ResultsTable(tmp_path / "results.csv")
    for epoch in range(1, 5):
        table.add({"epoch": epoch, "loss": 1 / epoch})
    again = ResultsTable(tmp_path / "results.csv", epochs_done=2)
    again.add({"epoch": 3, "loss": 0.5, "new": 7})
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines == ["epoch,loss,new", "1,1,", "2,0.5,", "3,0.5,7"]
