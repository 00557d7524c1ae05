"""Rates: warm-up, decay and accumulation as functions of the position."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from utils.errors import RunError
from utils.optimizer import build_optimizer
from utils.recipe import DEFAULTS, load_recipe
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


def group_rates(rates: Rates, hyp: dict, position: int) -> dict[str, float]:
    """Return the rates, and the momentum, that a step gets."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, hyp, 0.0)
    rates.apply(optimizer, position)
    found = {group["name"]: group["lr"] for group in optimizer.param_groups}
    return found | {"momentum": optimizer.param_groups[0].get("momentum", 0.0)}


@pytest.mark.parametrize("name", ["yoloms_xs", "yoloms"])
def test_the_rate_of_yoloms_follows_its_formulas_step_by_step(name: str) -> None:
    """1000 steps from 1e-5 of the peak, the last at the peak; flat to epoch 150; a cosine per step to 2e-4 at 300."""
    hyp, per_epoch, peak, floor = load_recipe(name), 20, 0.001, 0.0002
    rates = Rates(hyp, per_epoch, RunLength(300), batch_size=64, planned_epochs=300)
    assert rates.wanted_warmup == rates.warmup == 999
    for step in range(0, 300 * per_epoch + 1, 7):
        if step < 1000:
            wanted = peak * (1e-5 + (1 - 1e-5) * step / 999)
        elif step <= 150 * per_epoch:
            wanted = peak
        else:
            done = (step - 150 * per_epoch) / (150 * per_epoch)
            wanted = floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
        found = group_rates(rates, hyp, step)
        assert found["decay"] == pytest.approx(wanted, rel=1e-9), step
        assert found["decay"] == found["no_decay"] == pytest.approx(found["bias"], rel=1e-9)
    assert rates.rate(300 * per_epoch) == pytest.approx(floor)
    assert rates.rate(0) == pytest.approx(1e-8) and rates.rate(998) < rates.rate(999) == peak


@pytest.mark.parametrize(
    ("name", "epochs", "per_epoch"), [("yolov6", 400, 30), ("yolov6_ms", 400, 460), ("yolov8", 500, 30)]
)
def test_the_rates_of_yolov6_and_yolov8_follow_their_formulas(name: str, epochs: int, per_epoch: int) -> None:
    """Three epochs or 1000 steps towards the rate of the epoch, which changes when an epoch begins."""
    hyp = load_recipe(name)
    rates = Rates(hyp, per_epoch, RunLength(epochs), int(hyp["nominal_batch"]), epochs)
    length = max(3 * per_epoch, 1000)
    assert rates.warmup == length

    def target(epoch: int) -> float:
        if name == "yolov8":
            return 0.01 * ((1 - epoch / epochs) * 0.99 + 0.01)
        return 0.01 * (0.01 + 0.99 * (1 + math.cos(math.pi * epoch / epochs)) / 2)

    steps = [0, 1, 29, 30, 31, length // 2, length - 1, length, length + 1, *range(0, epochs * per_epoch, 997)]
    for step in steps:
        risen = min(step / length, 1)
        wanted = target(step // per_epoch)
        found = group_rates(rates, hyp, step)
        assert found["decay"] == found["no_decay"] == pytest.approx(wanted * risen)
        assert found["bias"] == pytest.approx(0.1 + (wanted - 0.1) * risen)
        assert found["momentum"] == pytest.approx(0.8 + (0.937 - 0.8) * risen)
    assert rates.rate(epochs * per_epoch) == pytest.approx(0.0001)
    last = [rates.rate(position) for position in range(390 * per_epoch, 391 * per_epoch)]
    assert len(set(last)) == 1 and rates.rate(391 * per_epoch) != last[0]


def test_a_warm_up_in_steps_has_full_steps_and_goes_by_them() -> None:
    hyp = {**DEFAULTS, "warmup_epochs": 0.0, "warmup_steps": 10, "warmup_start": 0.25, "nominal_batch": 64}
    rates = Rates(hyp, rounds=80, length=RunLength(20), batch_size=16, planned_epochs=20)
    assert rates.warmup == 40
    assert {rates.accumulate(position) for position in (0, 4, 39, 40, 1000)} == {4}
    flat = {**hyp, "lrf": 1.0}
    rates = Rates(flat, rounds=80, length=RunLength(20), batch_size=16, planned_epochs=20)
    assert [rates.rate(position) for position in (0, 20, 40)] == pytest.approx([0.0025, 0.00625, 0.01])


def test_a_short_run_gets_a_quarter_of_itself_as_warm_up() -> None:
    rates = Rates(load_recipe("yoloms_xs"), rounds=8, length=RunLength(5), batch_size=16, planned_epochs=5)
    assert (rates.wanted_warmup, rates.warmup) == (3996, 10)


@given(st.floats(0, 0.95), st.floats(0, 1), st.floats(0, 1))
def test_a_flat_start_then_falls_all_the_way(flat: float, share: float, lrf: float) -> None:
    rates = Rates(
        {**DEFAULTS, "schedule": "flat_cosine", "flat_share": flat, "lrf": lrf, "warmup_epochs": 0.0},
        rounds=1,
        length=RunLength(1),
        batch_size=64,
        planned_epochs=1,
    )
    assert rates.factor(flat) == 1.0 and rates.factor(1.0) == pytest.approx(lrf)
    assert lrf - 1e-12 <= rates.factor(share) <= 1
    assert rates.factor(share) == 1.0 or share > flat


@pytest.mark.parametrize("every", ["round", "epoch"])
def test_a_deadline_moves_flat_cosine_along_without_a_jump(every: str) -> None:
    hyp = {**DEFAULTS, "schedule": "flat_cosine", "schedule_every": every, "lrf": 0.2, "warmup_epochs": 0.0}
    rates = Rates(hyp, 8, RunLength(100), batch_size=64, planned_epochs=100)
    before = rates.rate(60 * 8)
    length = RunLength(100)
    length.begun, length.share, length.epochs = 60.0, 0.6, 70
    rates.length = length
    assert rates.rate(60 * 8) == pytest.approx(before)
    assert rates.rate(70 * 8) == pytest.approx(0.002)


@pytest.mark.parametrize(("name", "peak", "epochs", "batch"), [("yolos_ti", 5e-5, 300, 16), ("yolos", 2.5e-5, 150, 8)])
def test_the_rate_of_every_epoch_of_yolos_is_the_published_one(name: str, peak: float, epochs: int, batch: int) -> None:
    rounds = 6
    rates = Rates(load_recipe(name), rounds, RunLength(epochs), batch_size=batch, planned_epochs=epochs)
    # The scheduler is told of epoch t when that is over.
    told = [0, *range(epochs - 1)]
    expected = [1e-7 + 0.5 * (peak - 1e-7) * (1 + math.cos(math.pi * t / epochs)) for t in told]
    optimizer = build_optimizer(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), load_recipe(name), 1e-4)
    for epoch, rate in enumerate(expected):
        for position in range(epoch * rounds, (epoch + 1) * rounds):
            rates.apply(optimizer, position)
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate] * 3, rel=1e-9)
        assert rates.last_rate(epoch + 1) == pytest.approx(rate, rel=1e-9)
    assert told[:2] == [0, 0] and told[-1] == epochs - 2
    assert rates.accumulate(0) == 1 and rates.warmup == 0
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    smaller = Rates(load_recipe(name), rounds, RunLength(epochs), batch_size=2, planned_epochs=epochs)
    assert {smaller.accumulate(position) for position in range(20)} == {batch // 2}


@pytest.mark.parametrize(("every", "late"), [("round", 0), ("epoch", 0), ("late_epoch", 1)])
def test_a_rate_may_fall_in_steps(every: str, late: int) -> None:
    hyp = {**DEFAULTS, "schedule": "step", "step_epochs": 11, "schedule_every": every, "warmup_epochs": 0}
    rates = Rates(hyp, rounds=7, length=RunLength(40), batch_size=64, planned_epochs=40)
    for epoch in range(40):
        expected = 0.01 * 0.1 ** (max(epoch - late, 0) // 11)
        assert [rates.rate(epoch * 7 + round_) for round_ in (0, 6)] == pytest.approx([expected] * 2)


def test_a_deadline_moves_late_epochs_along() -> None:
    rates = Rates(load_recipe("yolos_ti"), 4, RunLength(100), batch_size=16, planned_epochs=100)
    before = rates.rate(25 * 4 - 1), rates.rate(25 * 4)
    rates.length = RunLength(50, begun=25.0, share=0.25)
    assert before[0] > before[1] > rates.rate(26 * 4) > rates.rate(49 * 4) > 0
    assert all(1e-7 <= rates.rate(position) <= 5e-5 for position in range(200))


@pytest.mark.parametrize(
    "text", [b"epoch;lr\n1;0.1\n", b"epoch,lr\nx,0.1\n", b"lr,epoch\n0.1\n", b"\xff\xfe\n", b'epoch\n"1']
)
def test_results_that_a_spreadsheet_has_spoilt_are_one_sentence(text: bytes, tmp_path) -> None:
    (tmp_path / "results.csv").write_bytes(text)
    with pytest.raises(RunError, match=r"results\.csv: is not the table that this run wrote"):
        ResultsTable(tmp_path / "results.csv", epochs_done=2)
