"""Rates: warm-up, decay and accumulation as functions of the position."""

from __future__ import annotations

import pytest
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


def test_results_forget_epochs_that_were_lost(tmp_path) -> None:
    table = ResultsTable(tmp_path / "results.csv")
    for epoch in range(1, 5):
        table.add({"epoch": epoch, "loss": 1 / epoch})
    again = ResultsTable(tmp_path / "results.csv", epochs_done=2)
    again.add({"epoch": 3, "loss": 0.5, "new": 7})
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines == ["epoch,loss,new", "1,1,", "2,0.5,", "3,0.5,7"]
