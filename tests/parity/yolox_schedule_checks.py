"""Check of the schedule in the fixture ``yolox_pipeline``: learning rates of a whole run, and the average's weights."""

from __future__ import annotations

import numpy as np

from tests.parity.published import NOTHING_MOVES, Fixture, Report
from utils.recipe import DEFAULTS
from utils.schedules import ema_decay
from utils.training.deadline import RunLength
from utils.training.rates import Rates


def check_yolox_schedule(fixture: Fixture, report: Report) -> None:
    """Compare the rate of every step under ``schedule: yolox`` and ``warmup: quadratic``, and the decay of the EMA."""
    facts = fixture.facts["lr"]
    hyp = {
        **DEFAULTS,
        "schedule": "yolox",
        "warmup": "quadratic",
        "lr0": facts["peak"],
        "lrf": facts["min_ratio"],
        "warmup_epochs": facts["warmup_epochs"],
        "warmup_min": 0,
        "close_mosaic": facts["constant_last_epochs"],
    }
    epochs, rounds = facts["epochs"], facts["iters_per_epoch"]
    rates = Rates(hyp, rounds, RunLength(epochs), int(hyp["nominal_batch"]), epochs)
    published = fixture.arrays["lr"]
    ours = np.array([rates.rate(step, facts["warmup_start"]) for step in range(len(published))])
    report.close("lr", ours, published, NOTHING_MOVES)
    average = fixture.facts["ema"]
    for updates, decay in average["decay_at_update"].items():
        ours = ema_decay(int(updates), average["decay"], average["tau"])
        report.close(f"ema decay at update {updates}", ours, decay, NOTHING_MOVES)
