"""A search on a training that takes no time: it improves, survives kills and failures, and leaves what it promises."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("optuna", reason="needs optuna: pip install -r requirements-search.txt")

from models.graph import load_graph
from utils.errors import DataError, DivergedError, RunError, StoppedRun, UsageError
from utils.plots.search import plot_search
from utils.recipe import load_recipe
from utils.search import evolve as evolution
from utils.search import records
from utils.search.evolve import evolve
from utils.search.trial import StopRun
from utils.training.options import parse_train_options

Training = Callable[..., Any]


class FakeTraining:
    """Trains nothing: its fitness is best at lr0 0.003 and mosaic 0.3, and grows over the epochs."""

    def __init__(self) -> None:
        self.recipes: list[dict[str, Any]] = []
        self.options: list[Namespace] = []

    def __call__(self, options: Namespace, hyp: dict[str, Any], on_epoch: Callable[..., None]) -> SimpleNamespace:
        self.recipes.append(hyp)
        self.options.append(options)
        weights = Path(options.project) / options.name / "weights"
        weights.mkdir(parents=True, exist_ok=options.exist_ok)
        (weights / "last.safetensors").write_bytes(b"large")
        (weights.parent / "results.csv").write_text("epoch\n1\n")
        top = math.exp(-((math.log10(hyp["lr0"] / 0.003)) ** 2) - (hyp["mosaic"] - 0.3) ** 2)
        best = -1.0
        try:
            for epoch in range(1, options.epochs + 1):
                best = max(best, top * epoch / options.epochs)
                on_epoch(epoch, {"epoch": epoch, "val/fitness": top * epoch / options.epochs})
        except StopRun:
            pass
        return SimpleNamespace(folder=weights.parent, progress=SimpleNamespace(best_fitness=best))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the picture after each trial, which takes longer than all else."""
    monkeypatch.setattr(records, "plot_search", lambda *_: None)


@pytest.fixture
def search(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Call a search as the command line does: number of trials (0 for none given), training, further arguments."""

    def call(trials: int, train: Training, *arguments: str) -> Path:
        fixed = ["--cfg", str(tiny_model), "--data", "tiny.yaml", "--epochs", "4", "--project", str(tmp_path / "runs")]
        keys = ["--evolve-keys", "lr0", "mosaic"]
        number = [str(trials)] if trials else []
        return evolve(parse_train_options([*fixed, "--evolve", *number, *keys, *arguments]), train)

    return call


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "evolve.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tried(folder: Path) -> list[tuple[str, str]]:
    return [(row["lr0"], row["mosaic"]) for row in rows_of(folder) if row["state"] != "interrupted"]


def test_a_search_begins_with_the_recipe_and_ends_with_a_better_one(search: Callable[..., Path]) -> None:
    train = FakeTraining()
    folder = search(16, train)
    rows = rows_of(folder)
    assert len(rows) == 16 and folder.name == "exp"
    assert train.recipes[0] == load_recipe("hyp.scratch")
    states = [row["state"] for row in rows]
    assert set(states) == {"complete", "pruned"}
    for row in rows:
        assert int(row["epochs"]) == 4 if row["state"] == "complete" else 1 <= int(row["epochs"]) < 4
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["fitness"]))
    assert float(best["fitness"]) > float(rows[0]["fitness"]) + 0.2
    evolved = load_recipe(folder / "hyp_evolved.yaml")
    assert evolved == train.recipes[int(best["trial"]) - 1]
    head = (folder / "hyp_evolved.yaml").read_text().splitlines()[0]
    assert f"in trial {best['trial']}." in head and f"{float(best['fitness']):.5g}" in head


def test_the_picture_is_there_after_the_first_trial(
    search: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "plot_search", plot_search)
    assert (search(1, FakeTraining()) / "evolve.png").stat().st_size > 5000


def test_trials_train_without_pictures_and_leave_no_checkpoints(search: Callable[..., Path]) -> None:
    train = FakeTraining()
    folder = search(2, train, "--time", "5", "--save-period", "1", "--seed", "3")
    for number, options in enumerate(train.options, 1):
        assert Path(options.project) / options.name == folder / "trials" / f"{number:04d}"
        assert options.noplots and options.nosave and options.evolve is None and options.time is None
        assert options.loggers == ["none"] and options.save_period < 1 and options.seed == 3
    assert sorted(path.name for path in (folder / "trials").rglob("*")) == ["0001", "0002"] + ["results.csv"] * 2


def test_the_seed_decides_what_is_tried(search: Callable[..., Path]) -> None:
    one, two, other = (search(4, FakeTraining(), "--seed", seed) for seed in ("1", "1", "2"))
    assert tried(one) == tried(two) != tried(other)


def test_a_killed_search_goes_on_as_if_it_had_not_been(search: Callable[..., Path], tmp_path: Path) -> None:
    whole = search(6, FakeTraining(), "--name", "whole")
    child = os.fork()
    if child == 0:
        train = FakeTraining()

        def killed(options: Namespace, **others: Any) -> SimpleNamespace:
            if len(train.recipes) == 4:
                os.kill(os.getpid(), 9)
            return train(options, **others)

        try:
            search(6, killed, "--name", "killed")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    killed = tmp_path / "runs" / "killed"
    assert len(rows_of(killed)) == 4
    assert search(6, FakeTraining(), "--resume", str(killed)) == killed
    states = [row["state"] for row in rows_of(killed)]
    assert states.count("interrupted") == 1 and states[4] == "interrupted" and len(states) == 7
    assert tried(killed) == tried(whole)


def test_ctrl_c_ends_the_search_and_its_trial_is_tried_again(search: Callable[..., Path], tmp_path: Path) -> None:
    train = FakeTraining()

    def stopped(options: Namespace, **others: Any) -> SimpleNamespace:
        if len(train.recipes) == 2:
            raise StoppedRun("stopped by SIGINT")
        return train(options, **others)

    # The trial's own words would name a folder whose checkpoints are gone.
    with pytest.raises(StoppedRun, match=rf"stopped in trial 3; .*--evolve --resume {tmp_path / 'runs' / 'exp'}$"):
        search(4, stopped)
    again = FakeTraining()
    folder = search(0, again, "--resume")
    assert folder == tmp_path / "runs" / "exp"
    # The number of trials is that of the first start, since --evolve named none.
    assert len(tried(folder)) == 4 and len(again.recipes) == 2
    assert [row["state"] for row in rows_of(folder)][2] == "interrupted"


def test_a_trial_that_is_interrupted_again_and_again_is_given_up(search: Callable[..., Path], tmp_path: Path) -> None:
    train = FakeTraining()

    def stopped(options: Namespace, **others: Any) -> SimpleNamespace:
        if others["hyp"]["lr0"] != 0.01:
            raise KeyboardInterrupt
        return train(options, **others)

    for arguments in ([], ["--resume"], ["--resume"]):
        with pytest.raises(KeyboardInterrupt):
            search(3, stopped, *arguments)
    folder = search(3, train, "--resume")
    assert [row["state"] for row in rows_of(folder)] == ["complete", "interrupted", "interrupted", "failed", "complete"]
    assert "3 times" in rows_of(folder)[3]["reason"]


def test_the_same_name_goes_on_when_asked_to(search: Callable[..., Path]) -> None:
    first = search(3, FakeTraining(), "--name", "mine")
    train = FakeTraining()
    assert search(5, train, "--name", "mine", "--exist-ok", "--batch-size", "2") == first
    assert len(train.recipes) == 2 and train.options[0].batch_size == 16
    other = search(1, train, "--name", "mine")
    assert other.name == "mine2"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DivergedError("the loss is not finite"), "the loss is not finite"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "there is not enough memory"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_failed_trials_are_reported_and_do_not_end_the_search(
    search: Callable[..., Path], error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    train = FakeTraining()

    def failing(options: Namespace, **others: Any) -> SimpleNamespace:
        run = train(options, **others)
        if len(train.recipes) % 2 == 0:
            raise error
        return run

    folder = search(4, failing)
    rows = rows_of(folder)
    assert [row["state"] == "failed" for row in rows] == [False, True] * 2
    assert {row["reason"] for row in rows if row["state"] == "failed"} == {reason}
    assert load_recipe(folder / "hyp_evolved.yaml")


def test_many_failures_in_a_row_end_the_search(
    search: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evolution.MOST_FAILURES == 10
    monkeypatch.setattr(evolution, "MOST_FAILURES", 3)

    def failing(options: Namespace, hyp: dict[str, Any], **_: Any) -> None:
        raise DivergedError("the loss is not finite")

    with pytest.raises(RunError, match="3 trials in a row failed, the last one because: the loss is not finite"):
        search(9, failing)
    rows = rows_of(tmp_path / "runs/exp")
    assert len(rows) == 3 and not (tmp_path / "runs/exp/hyp_evolved.yaml").exists()
    train = FakeTraining()
    search(5, train, "--resume")
    assert len(train.recipes) == 2


def test_a_fitness_that_is_not_finite_is_a_failure(search: Callable[..., Path]) -> None:
    def train(options: Namespace, hyp: dict[str, Any], on_epoch: Callable[..., None]) -> SimpleNamespace:
        fitness = 0.5 if hyp["lr0"] == 0.01 else math.nan
        for epoch in range(1, 5):
            on_epoch(epoch, {"val/fitness": fitness})
        return SimpleNamespace(progress=SimpleNamespace(best_fitness=max(fitness, -1.0)))

    assert [row["state"] for row in rows_of(search(3, train))] == ["complete", "failed", "failed"]


def test_a_mistake_in_the_data_ends_the_search_at_once_and_counts_for_nothing(
    search: Callable[..., Path], tmp_path: Path
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise DataError("tiny.yaml: there is no such file; name another")

    with pytest.raises(DataError, match="no such file"):
        search(3, failing)
    assert len(tried(search(3, FakeTraining(), "--resume"))) == 3


def test_time_ends_the_search_after_the_trial_that_is_under_way(search: Callable[..., Path]) -> None:
    train = FakeTraining()
    assert len(rows_of(search(50, train, "--time", "1e-9"))) == 1


def test_wrong_use_is_explained_before_a_folder_is_made(
    search: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FakeTraining()
    for arguments, words in (
        (["--resume", str(tmp_path)], "there is no study.db"),
        (["--resume"], "no search below"),
        (["--evolve-keys", "lr00"], "Did you mean 'lr0'"),
        (["--evolve-keys", "label_smoothing", "--label-smoothing", "0.1"], "leave one of them out"),
        (["--evolve-keys", "mosaic", "--rect"], "mosaic: has no effect under --rect"),
    ):
        with pytest.raises(UsageError, match=words):
            search(3, train, *arguments)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        with pytest.raises(UsageError, match=r"--evolve needs the package optuna.*pip install optuna"):
            search(3, train)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        search(3, train)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"):
        search(3, train)
    assert not (tmp_path / "runs").exists() and not train.recipes


def test_a_damaged_study_is_one_sentence(search: Callable[..., Path]) -> None:
    folder = search(1, FakeTraining())
    (folder / "study.db").write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    with pytest.raises(RunError, match=r"study\.db: the study cannot be read") as caught:
        search(3, FakeTraining(), "--resume", str(folder))
    assert "\n" not in str(caught.value)


def test_two_processes_do_not_search_in_one_folder(search: Callable[..., Path]) -> None:
    folder = search(1, FakeTraining())
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "study.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline()
        with pytest.raises(UsageError, match="another process searches in this folder"):
            search(3, FakeTraining(), "--resume", str(folder))
        other.communicate(b"\n")
    assert len(rows_of(search(3, FakeTraining(), "--resume", str(folder)))) == 3


def test_looking_at_the_model_leaves_the_random_numbers_alone(search: Callable[..., Path], tiny_model: Path) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    search(1, FakeTraining())
    assert torch.equal(torch.rand(3), expected)
    assert load_graph(str(tiny_model)).heads.keys() == {"segment", "detect"}
