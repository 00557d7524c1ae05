"""Weights & Biases is told every epoch once, and sends nothing unasked."""

from __future__ import annotations

import os
import sys

import pytest

from tests.utils.loggers.conftest import Started
from tests.utils.loggers.fake_packages import FakeWandb
from utils.loggers.wandb import WandbLogger


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    package = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_a_run_and_its_continuation_are_one_run_without_double_points(fake: FakeWandb, started: Started) -> None:
    first = WandbLogger()
    first.start(*started)
    for step in (1, 2):
        first.log({"val/fitness": step / 10}, step)
    second = WandbLogger()
    second.start(*started, epochs_kept=1)
    for step in (2, 3):
        second.log({"val/fitness": step / 10}, step)
    second.picture("results", started.folder / "results.png")
    second.finish({"best_fitness": 0.3})
    assert [values for values in fake.history if "epoch" in values] == [
        {"val/fitness": step / 10, "epoch": step} for step in (1, 2, 3)
    ]
    one, two = fake.starts
    assert one["id"] == two["id"] and two["resume"] == "allow"
    assert one["dir"] == str(started.folder) and one["name"] == "exp"
    assert one["config"]["recipe"] == started.hyp and one["config"]["options"]["cfg"] == "m|odel.yaml"
    assert ("*", "epoch") in fake.axes
    assert fake.summary == {"best_fitness": 0.3} and fake.finished == 1


def test_a_new_run_in_an_old_folder_is_another_run(fake: FakeWandb, started: Started) -> None:
    for _ in range(2):
        logger = WandbLogger()
        logger.start(*started)
        logger.log({"val/fitness": 0.1}, 1)
    assert fake.starts[0]["id"] != fake.starts[1]["id"] and len(fake.history) == 2


@pytest.mark.parametrize(("asked", "mode"), [(None, "offline"), ("online", "online"), ("disabled", "disabled")])
def test_it_is_offline_unless_the_environment_says_otherwise(
    asked: str | None, mode: str, fake: FakeWandb, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "logged in")
    if asked:
        monkeypatch.setenv("WANDB_MODE", asked)
    WandbLogger().start(*started)
    assert os.environ["WANDB_MODE"] == mode and "mode" not in fake.starts[0]
