"""What a run may be asked for: it trains, and after an interruption it goes on exactly, whatever was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data.config import TaskData
from data.dataset import TaskDataset
from models.checkpoint import load_checkpoint
from models.weights import load_model
from tests.train_runs import SMALL, losses_of, results_of, run_train, same_state, stop_at_draw

RECIPE = "nominal_batch: 4\nwarmup_epochs: 1.0\nwarmup_min: 3\n"


@pytest.fixture
def arguments(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    given = ["--cfg", str(tiny_model), "--data", str(tiny_data), *SMALL, "--epochs", "3", "--batch-size", "2"]
    return [*given, "--hyp", str(tmp_path / "recipe.yaml")]


@pytest.mark.parametrize(
    ("given", "recipe"),
    [
        # Two together where they have nothing to do with each other: both have to go on exactly.
        (["--multi-scale", "--cache", "ram"], ""),
        (["--rect"], "lr_factors: {segment: 0.5}\noptimizer: AdamW"),
        (["--image-weights", "--close-mosaic", "1"], ""),
        (["--single-cls", "--freeze", "0-1"], ""),
        (
            ["--recompute"],
            "schedule: flat_cosine\nflat_share: 0.4\nwarmup_steps: 2\nwarmup_start: 0.1\nema_copy_first: true",
        ),
        (["--cache", "disk", "--precise-bn", "2"], ""),
        (["--cache", "device", "--precise-bn", "1"], ""),
        ([], "bn: per-task\nschedule_every: epoch\nloss_reduction: mean\nloss_images: 2"),
        ([], "bn: frozen\nbalance: uncertainty"),
        ([], "balance: gradnorm"),
        ([], "balance: pcgrad"),
        ([], "turns: proportional"),
        ([], "autobalance: true"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else value.partition("\n")[0].replace(": ", "_"),
)
def test_a_stopped_run_goes_on_exactly(
    given: list[str], recipe: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pictures are kept on GPUs only; the code is the same on the CPU.
    monkeypatch.setattr("utils.training.tasks.why_not_on_device", lambda needed, device: None)
    with open(tmp_path / "recipe.yaml", "a") as file:
        file.write(recipe + "\n")
    run_train(*arguments, *given, "--name", "whole", cwd=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 7)
        done = run_train(*arguments, *given, "--name", "stopped", cwd=tmp_path, check=False)
    assert done.returncode == 130, done.stderr[-2000:]
    whole, stopped = tmp_path / "runs/train/whole", tmp_path / "runs/train/stopped"
    stored = load_checkpoint(stopped / "weights/last.safetensors").progress["progress"]
    assert stored["epochs_done"] >= 1 and stored["rounds_done"] > 0
    kept = "ram" in given or "disk" in given
    with pytest.MonkeyPatch.context() as patch:
        kinds = caches_of_datasets(patch)
        run_train("--resume", str(stopped), *["--cache", "none"] * kept, cwd=tmp_path)
    assert not kept or set(kinds) == {None}
    assert losses_of(stopped) == losses_of(whole)
    same_state(whole, stopped)


def caches_of_datasets(patch: pytest.MonkeyPatch) -> list[str | None]:
    """Return the list of the caches that data sets are opened with from now on."""
    kinds: list[str | None] = []

    class Noted(TaskDataset):
        def __init__(self, task: TaskData, split: str, cache: str | None = None, *more: Any) -> None:
            kinds.append(cache)
            super().__init__(task, split, cache, *more)

    patch.setattr("utils.training.tasks.TaskDataset", Noted)
    return kinds


def test_batch_size_minus_one_takes_what_fits(arguments: list[str], tmp_path: Path) -> None:
    done = run_train(*arguments, "--batch-size", "-1", "--epochs", "1", cwd=tmp_path)
    assert "--batch-size -1: " in done.stdout
    chosen = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors").progress["options"]["batch_size"]
    assert chosen >= 1


def test_time_ends_a_run_and_its_schedule(arguments: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE + "lrf: 0.1\n")
    done = run_train(*arguments, "--epochs", "5000", "--time", str(4 / 3600), "--noval", cwd=tmp_path)
    rows = results_of(tmp_path / "runs/train/exp")
    assert "epochs fit into" in done.stdout
    assert 1 < len(rows) < 5000
    assert float(rows[-1]["lr"]) == pytest.approx(0.001, rel=0.3)
    assert "val/fitness" in rows[-1] and rows[-1]["val/fitness"]


def test_save_period_keeps_weights_of_epochs(arguments: list[str], tmp_path: Path) -> None:
    run_train(*arguments, "--save-period", "2", "--epochs", "4", cwd=tmp_path)
    weights = tmp_path / "runs/train/exp/weights"
    kept = {path.name for path in weights.iterdir()}
    assert kept == {
        "last.safetensors",
        "previous.safetensors",
        "best.safetensors",
        "epoch2.safetensors",
        "epoch4.safetensors",
    }
    load_model(weights / "epoch2.safetensors")


def test_single_class_is_named_item(arguments: list[str], tmp_path: Path) -> None:
    run_train(*arguments, "--single-cls", "--epochs", "1", cwd=tmp_path)
    model = load_model(tmp_path / "runs/train/exp/weights/best.safetensors")
    assert model.names["detect"] == ["item"] and len(model.names["segment"]) == 4


def test_a_run_goes_on_in_the_format_that_it_began_with(arguments: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 2)
        run_train(*arguments, "--dtype", "bfloat16", cwd=tmp_path, check=False)
    done = run_train("--resume", cwd=tmp_path)
    assert "on cpu in bfloat16" in done.stdout


def test_a_resumed_run_follows_the_machine_s_options_at_their_defaults_too(
    arguments: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 2)
        run_train(*arguments, "--save-minutes", "0", cwd=tmp_path, check=False)
    done = run_train("--resume", "--save-minutes", "10", "--patience", "100", "--epochs", "100", cwd=tmp_path)
    stored = load_checkpoint(tmp_path / "runs/train/exp/weights/last.safetensors").progress["options"]
    assert stored["save_minutes"] == 10 and stored["epochs"] == 3
    assert "left aside: --epochs\n" in done.stdout, "the patience is that of the first start"


@pytest.mark.parametrize("given", [[], ["--image-weights"]], ids=["plain", "image weights"])
def test_a_resumed_run_tells_that_pictures_are_gone(
    given: list[str], arguments: list[str], tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 7)
        run_train(*arguments, *given, cwd=tmp_path, check=False)
    for path in tiny_data.parent.glob("*/train/00[0-3].*"):
        path.unlink()
    done = run_train("--resume", cwd=tmp_path)
    assert "have changed since the run was saved (segment 12 -> 8, detect 12 -> 8)" in done.stdout


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--compile", "--recompute"], "--compile and --recompute exclude each other"),
        (["--freeze", "3-1"], "--freeze 3-1: the range is empty; write 1-3"),
        (["--save-minutes", "nan"], "--save-minutes must be 0 or more"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_leaves_no_folder(given: list[str], sentence: str, arguments: list[str], tmp_path: Path) -> None:
    done = run_train(*arguments, *given, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert not list((tmp_path / "runs/train").glob("*"))


def test_resume_passes_over_finished_runs(arguments: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at_draw(patch, 2)
        run_train(*arguments, "--name", "open", cwd=tmp_path, check=False)
    run_train(*arguments, "--epochs", "1", "--name", "newer", cwd=tmp_path)
    done = run_train("--resume", cwd=tmp_path)
    assert "resuming" in done.stdout and "open after epoch 0 of 3" in done.stdout


def test_a_single_image_that_does_not_fit_is_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("models.graph.Graph.forward", refuse)
    monkeypatch.setattr("utils.training.assembly.save_run", lambda *_: None)
    done = run_train(*arguments, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1][:6]) == (1, "error:")
    assert "not enough memory to train on a single image" in done.stderr.splitlines()[-1]
