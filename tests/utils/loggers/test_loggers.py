"""Loggers never end a run: one that fails is told once and left out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from tests.utils.loggers.conftest import Started
from utils import loggers
from utils.errors import UsageError
from utils.loggers import Loggers, open_loggers


class Remembering:
    """A logger that fails from a given method on."""

    def __init__(self, fails_in: str = "") -> None:
        self.fails_in = fails_in
        self.calls: list[tuple] = []

    def _take(self, name: str, *values: object) -> None:
        if name == self.fails_in:
            raise OSError("no route to host\nwith a long story")
        self.calls.append((name, *values))

    def start(self, folder, options, hyp, epochs_kept=None):
        self._take("start", epochs_kept)

    def log(self, values, step):
        self._take("log", values, step)

    def picture(self, name, path):
        self._take("picture", name)

    def finish(self, summary):
        self._take("finish", summary)


def go_through(together: Loggers, started: Started) -> None:
    together.start(*started)
    together.log({"epoch": 1, "val/fitness": 0.5}, 1)
    together.picture("results", started.folder / "results.png")
    together.picture("nothing", started.folder / "not_there.png")
    together.finish({"best_fitness": 0.5})
    together.finish({"best_fitness": 0.5})


@pytest.mark.parametrize("method", ["start", "log", "picture", "finish"])
def test_a_failing_logger_is_told_once_and_the_others_go_on(
    method: str, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(loggers.LOGGER, "warning", lambda text, *values: told.append(text % values))
    bad, good = Remembering(method), Remembering()
    go_through(Loggers({"bad": bad, "good": good}), started)
    (line,) = told
    assert "the logger bad failed" in line and "no route to host" in line and "\n" not in line
    assert good.calls == [
        ("start", None),
        ("log", {"val/fitness": 0.5}, 1),
        ("picture", "results"),
        ("finish", {"best_fitness": 0.5}),
    ]
    assert method not in {name for name, *_ in bad.calls} and len(bad.calls) < 4


def test_ctrl_c_is_no_failure_of_a_logger(started: Started) -> None:
    class Interrupted(Remembering):
        def log(self, values, step):
            raise KeyboardInterrupt

    together = Loggers({"one": Interrupted()})
    together.start(*started)
    with pytest.raises(KeyboardInterrupt):
        together.log({}, 1)


def test_names_choose_the_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_loggers(["none"]).names == []
    with pytest.raises(UsageError, match="cannot be combined"):
        open_loggers(["none", "wandb"])
    with pytest.raises(UsageError, match="must be one of tensorboard, mlflow, wandb or none"):
        open_loggers(["comet"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    assert open_loggers(None).names == []


@pytest.mark.parametrize("name", loggers.LOGGER_NAMES)
def test_a_named_logger_without_its_package_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"--loggers {name} needs the package {name}.*pip install {name}"):
        open_loggers([name])


def test_a_full_disk_is_reported(started: Started, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-loggers.txt")
    if not Path("/dev/full").exists():
        pytest.skip("needs the device /dev/full")
    together = open_loggers(["tensorboard"])
    together.start(*started)
    inner = together._loggers["tensorboard"]
    with open("/dev/full", "wb", buffering=0) as full:
        inner._records._writer = inner._file = full
        logging.getLogger("yolograph").propagate = True
        together.log({"val/fitness": 1.0}, 1)
    assert together.names == []
    together.log({"val/fitness": 1.0}, 2)
    together.finish({})
