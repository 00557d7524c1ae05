"""Steps that are not finite: told with head, row and files, then a return to the last good state, then the end."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import train
from data.samples import Batch
from models.checkpoint import load_checkpoint
from tests.train_runs import SMALL, losses_of, results_of, run_train, stop_at_draw

EVERY_BATCH = "{nominal_batch: 2, warmup_epochs: 0}"


def spoil(patch: pytest.MonkeyPatch, first: int, last: int) -> None:
    """Make the pictures of the draws numbered first ... last of a run infinitely bright."""
    draw, count = train.Parts.draw, [0]

    def draw_spoilt(self: train.Parts, at: int, rounds: int) -> dict[str, list[Batch]]:
        batches = draw(self, at, rounds)
        count[0] += 1
        if first <= count[0] <= last:
            for batch in batches["detect"]:
                batch.images = batch.images.float() * float("inf")
        return batches

    patch.setattr(train.Parts, "draw", draw_spoilt)


@pytest.fixture
def arguments(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> list[str]:
    recipe = tmp_path / "every_batch.yaml"
    recipe.write_text(EVERY_BATCH)
    given = ["--cfg", str(tiny_model), "--data", str(tiny_data), *SMALL, "--batch-size", "2", "--hyp", str(recipe)]
    return [*given, "--val-interval", "9"]


def test_a_bad_step_is_explained_and_left_out(arguments: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 3, 3)
        done = run_train(*arguments, "--epochs", "2", cwd=tmp_path)
    sentence = next(line for line in done.stdout.splitlines() if "was left out" in line)
    assert "step 3 was left out (1 in a row): the loss of head 'detect' is not finite" in sentence
    assert "first the output of row 0 (Conv); files: " in sentence and sentence.count(".png") == 2
    assert "1 steps were left out" in done.stdout
    report = (tmp_path / "runs/train/exp/nonfinite.txt").read_text()
    assert report.splitlines()[0] in sentence and report.count(".png") == 4
    last = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors")
    assert last.progress["progress"]["bad_steps"] == 1
    assert all(torch.isfinite(t).all() for t in last.tensors["model"].values() if t.is_floating_point())
    means = [float(value) for row in losses_of(tmp_path / "runs/train/exp") for value in row.values() if value]
    assert means and all(map(math.isfinite, means)), "one bad step took the means of its epoch with it"


def test_a_bad_step_teaches_the_criterion_nothing(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "every_batch.yaml").write_text("{nominal_batch: 2, warmup_epochs: 0, autobalance: true}")
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 3, 3)
        done = run_train(*arguments, "--epochs", "1", cwd=tmp_path)
    assert done.stdout.count("was left out") == 1
    learned = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors").tensors["criterion"]
    assert learned and all(bool(torch.isfinite(tensor).all()) for tensor in learned.values())


def test_what_is_saved_counts_the_steps_that_nobody_has_asked_about(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, where steps are looked at now and then.
    monkeypatch.setattr("utils.training.health.Health.is_due", False)
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 2, 3)
        stop_at_draw(patch, 3)
        assert run_train(*arguments, cwd=tmp_path, check=False).returncode == 130
    last = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors")
    stored = last.progress["progress"]
    assert (stored["steps"], stored["bad_steps"], stored["bad_in_a_row"]) == (3, 2, 2)


def test_the_run_goes_back_at_half_the_rate_and_ends_well(arguments: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 8, 17)
        done = run_train(*arguments, "--epochs", "4", cwd=tmp_path)
    assert done.stdout.count("was left out") == 10
    assert "going back to the last good state, at half the learning rate" in done.stdout
    run = tmp_path / "runs/train/exp"
    rates = [float(row["lr"]) for row in results_of(run)]
    assert rates[2] < 0.55 * rates[1]
    assert load_checkpoint(run / "weights/last.safetensors").progress["progress"]["returns"] == 1
    again = losses_of(run)
    assert all(float(value) == float(value) for row in again[3:] for name, value in row.items() if "train/" in name)


def test_a_run_that_stays_bad_ends_with_its_own_exit_code(arguments: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 2, 10**6)
        done = run_train(*arguments, "--epochs", "9", cwd=tmp_path, check=False)
    assert done.returncode == 6
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("error: ") and "lower lr0" in last_line and "nonfinite.txt" in last_line
    assert done.stdout.count("was left out") == 20
    load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors")
