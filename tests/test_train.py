"""train.py as a user runs it: it learns, resumes, trains single tasks, and explains mistakes."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import train
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.graph import load_graph
from models.weights import load_model
from tests.conftest import TINY_MODEL
from tests.train_runs import SMALL, losses_of, results_of, run_train, same_state
from utils.training.results import ResultsTable


def test_a_run_leaves_what_the_readme_promises(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), *SMALL[:-3], "--dtype", "auto"]
    done = run_train(*arguments, "--epochs", "2", cwd=tmp_path)
    run = tmp_path / "runs/train/exp"
    written = {path.name for path in run.iterdir()}
    assert {"opt.yaml", "hyp.yaml", "results.csv", "results.png", "labels_detect.png"} <= written
    assert {"train_batch0_detect.jpg", "train_batch0_segment.jpg"} <= written
    kept = {path.name for path in (run / "weights").iterdir()}
    assert kept == {"last.safetensors", "previous.safetensors", "best.safetensors"}
    assert [row["epoch"] for row in results_of(run)] == ["1", "2"]
    assert "best fitness" in done.stdout
    again = run_train("--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL, cwd=tmp_path)
    assert "exp2" in again.stdout


def test_training_learns_the_blocks(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(
        "{optimizer: AdamW, lr0: 0.01, warmup_bias_lr: 0.01, momentum: 0.9, nominal_batch: 4, "
        "mosaic: 0.0, ema_decay: 0.9}"
    )
    run_train(
        "--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "40", "--hyp", str(recipe),
        "--val-interval", "40", *SMALL, cwd=tmp_path,
    )  # fmt: skip
    rows = results_of(tmp_path / "runs/train/exp")
    assert float(rows[-1]["train/segment_seg"]) < 0.6 * float(rows[0]["train/segment_seg"])
    assert float(rows[-1]["train/detect_box"]) < 0.95 * float(rows[0]["train/detect_box"])
    assert float(rows[-1]["val/segment_mIoU"]) > 0.5


@pytest.mark.parametrize(("head", "other"), [("detect", "segment"), ("segment", "detect")])
def test_a_single_task_trains_from_the_same_file(
    head: str, other: str, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    removed = "SegMaskBase" if head == "detect" else "Detect"
    tiny_model.write_text("\n".join(line for line in TINY_MODEL.splitlines() if removed not in line))
    run_train("--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL, cwd=tmp_path)
    columns = results_of(tmp_path / "runs/train/exp")[0]
    assert any(name.startswith(f"train/{head}_") for name in columns)
    assert not any(other in name for name in columns)


def start_train(*arguments: str, cwd: Path) -> multiprocessing.Process:
    """Run the command in a process that can be killed; forked, because importing PyTorch takes longer than the run."""

    def work() -> None:
        # A session of its own, so that its workers can be found and nobody else is hit.
        os.setsid()
        run_train(*arguments, cwd=cwd)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(
    workers: str, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "20", *SMALL, "--workers", workers]
    recipe = tmp_path / "short_steps.yaml"
    recipe.write_text("nominal_batch: 4\n")
    arguments += ["--val-interval", "10", "--batch-size", "2", "--save-minutes", "0", "--hyp", str(recipe)]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    rng = random.Random(0)
    last = tmp_path / "runs/train/killed/weights/last.safetensors"
    command, kills, within_epochs = [*arguments, "--name", "killed"], 0, 0
    while kills < 10:
        process = start_train(*command, cwd=tmp_path)
        saves, stamp = rng.randint(1, 4), last.stat().st_mtime_ns if last.is_file() else 0
        while saves and process.is_alive():
            time.sleep(0.002)
            found = last.stat().st_mtime_ns if last.is_file() else 0
            saves, stamp = saves - (found != stamp), found
        time.sleep(rng.random() * 0.04)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
        kills += 1
        within_epochs += load_checkpoint(last).progress["progress"]["rounds_done"] > 0
        command = ["--resume", "runs/train/killed", "--workers", workers]
    assert within_epochs >= 2
    run_train(*command, cwd=tmp_path)
    whole, killed = tmp_path / "runs/train/whole", tmp_path / "runs/train/killed"
    assert losses_of(killed) == losses_of(whole)
    same_state(whole, killed)
    assert not list(tmp_path.rglob("*.tmp")), "half a file was left"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(
    number: signal.Signals, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "every_batch.yaml"
    recipe.write_text("nominal_batch: 2\n")
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "3", *SMALL, "--batch-size", "2"]
    arguments += ["--noval", "--hyp", str(recipe)]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    draw, draws = train.Parts.draw, []

    def draw_and_signal(self: train.Parts, first: int, count: int) -> dict:
        draws.append(first)
        if len(draws) == 8:
            os.kill(os.getpid(), number)
        return draw(self, first, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Parts, "draw", draw_and_signal)
        done = run_train(*arguments, "--name", "stopped", cwd=tmp_path, check=False)
    assert done.returncode == 130
    assert "stopped in epoch 2 after step 8, and saved; go on with: python train.py --resume" in done.stderr
    stopped = tmp_path / "runs/train/stopped"
    stored = load_checkpoint(stopped / "weights/last.safetensors").progress["progress"]
    assert (stored["epochs_done"], stored["rounds_done"], stored["steps"]) == (1, 2, 8)
    run_train("--resume", str(stopped), cwd=tmp_path)
    same_state(tmp_path / "runs/train/whole", stopped)


def test_resume_of_a_finished_run_is_refused(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run_train("--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL, cwd=tmp_path)
    done = run_train("--resume", cwd=tmp_path, check=False)
    assert done.returncode == 4
    assert done.stderr.strip().count("\n") == 0
    assert "finished after 1 epochs" in done.stderr


def disk_is_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_last_checkpoint_falls_back_to_the_previous(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "3", "--nosave", *SMALL]
    run_train(*arguments, cwd=tmp_path)
    last = tmp_path / "runs/train/exp/weights/last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.training.run_state.save_checkpoint", disk_is_full)
        done = run_train("--resume", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "previous.safetensors" in done.stdout
    run_train("--resume", cwd=tmp_path)
    assert [row["epoch"] for row in results_of(tmp_path / "runs/train/exp")] == ["1", "2", "3"]


def test_weights_carry_over_to_another_class_count(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run_train("--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL, cwd=tmp_path)
    best = tmp_path / "runs/train/exp/weights/best.safetensors"
    text = tiny_data.read_text().replace("names: [red, green, blue]", "names: [red, green, blue, other]", 1)
    tiny_data.write_text(text)
    done = run_train("--weights", str(best), "--data", str(tiny_data), "--epochs", "1", *SMALL, cwd=tmp_path)
    assert "detect 3 -> 4" in done.stdout
    assert "85 of 90 tensors taken over; other shape: model.5.m.0.weight (16x8x1x1 -> 18x8x1x1)" in done.stdout
    account = (tmp_path / "runs/train/exp2/transfer.txt").read_text()
    assert "copied (85): model.0.conv.weight" in account and "the model's own: model.5.anchors" in account
    assert load_model(tmp_path / "runs/train/exp2/weights/best.safetensors").names["detect"][-1] == "other"


def test_placeholder_anchors_are_fitted_or_refused(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    text = tiny_model.read_text()
    start = text.index("anchors:")
    tiny_model.write_text(text[:start] + "anchors: 2\n" + text[text.index("backbone:") :])
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL]
    refused = run_train(*arguments, "--noautoanchor", cwd=tmp_path, check=False)
    assert refused.returncode == 4
    assert "leave --noautoanchor out" in refused.stderr
    run_train(*arguments, cwd=tmp_path)
    fitted = load_model(tmp_path / "runs/train/exp/weights/best.safetensors").heads["detect"].anchors
    assert (fitted > 0.1).all()


def test_frozen_rows_do_not_move(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--seed", "3", *SMALL]
    run_train(*arguments, "--epochs", "1", "--freeze", "2", cwd=tmp_path)
    run_train(*arguments, "--epochs", "2", "--freeze", "2", cwd=tmp_path)
    runs = [tmp_path / "runs/train" / name / "weights/last.safetensors" for name in ("exp", "exp2")]
    one, two = (load_checkpoint(last).tensors["model"] for last in runs)
    same = {name: torch.equal(one[name], two[name]) for name in one if name.endswith("weight")}
    frozen = ("model.0.conv", "model.1.conv", "model.0.bn", "model.1.bn")
    assert all(same[name] for name in same if name.startswith(frozen))
    assert not torch.equal(one["model.0.bn.running_mean"], two["model.0.bn.running_mean"]), "statistics follow the data"
    assert not any(same[name] for name in same if name.startswith("model.2.conv"))


def test_patience_counts_from_the_best_but_ends_a_run_only_where_it_was_validated(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "weighed_fitness", lambda evaluators, weights: 0.5)
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "9", "--patience", "1", *SMALL]
    done = run_train(*arguments, "--val-interval", "2", cwd=tmp_path)
    rows = results_of(tmp_path / "runs/train/exp")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"], "epoch 3 had no chance to be better"
    assert "no better result since epoch 2" in done.stdout
    again = run_train("--resume", cwd=tmp_path, check=False)
    assert again.returncode == 4
    assert "finished after 4 epochs (stopped early)" in again.stderr


def test_exist_ok_leaves_nothing_of_the_run_before(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--exist-ok", *SMALL]
    run_train(*arguments, "--epochs", "2", cwd=tmp_path)
    done = run_train(*arguments, "--epochs", "1", "--nosave", cwd=tmp_path)
    assert "of the run before are replaced" in done.stdout
    run = tmp_path / "runs/train/exp"
    assert {path.name for path in (run / "weights").iterdir()} == {"last.safetensors", "previous.safetensors"}
    assert [row["epoch"] for row in results_of(run)] == ["1"]


@pytest.fixture
def unfinished(tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of three epochs that was interrupted in its second one."""
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "3", *SMALL]
    table = ResultsTable.add

    def interrupt(self: ResultsTable, row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        table(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(ResultsTable, "add", interrupt)
        done = run_train(*arguments, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted")
    return tmp_path / "runs/train/exp"


def test_resume_tells_which_options_it_leaves_aside_and_that_numba_came_or_went(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = unfinished / "weights"
    compiled = load_checkpoint(weights / "last.safetensors").progress["progress"]["compiled_colours"]
    assert compiled is (find_spec("numba") is not None)
    monkeypatch.setattr("utils.training.run_state.colours_are_compiled", lambda: not compiled)
    done = run_train("--resume", "last.safetensors", "--epochs", "7", "--device", "cpu", cwd=weights)
    assert "left aside: --epochs" in done.stdout
    assert f"saved {'with' if compiled else 'without'} numba" in done.stdout
    assert "--device" not in done.stdout
    assert [row["epoch"] for row in results_of(unfinished)] == ["1", "2", "3"]
    assert load_checkpoint(weights / "last.safetensors").progress["options"]["device"] == "cpu"


def test_resume_refuses_other_classes_and_other_places(unfinished: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.safetensors").write_bytes((unfinished / "weights/last.safetensors").read_bytes())
    done = run_train("--resume", "elsewhere.safetensors", cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not lie in a run folder" in done.stderr
    tiny_data.write_text(tiny_data.read_text().replace("[red, green, blue]", "[green, red, blue]", 1))
    done = run_train("--resume", cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1].count("red, green, blue")) == (3, 1)


def test_a_full_disk_is_one_sentence(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", disk_is_full)
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", *SMALL]
    done = run_train(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "free some space" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_loses_no_earlier_checkpoint(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, small_disk: Path
) -> None:
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "3", *SMALL]
    run_train(*arguments, "--name", "whole", cwd=tmp_path)
    ballast = small_disk / "ballast"
    draw, draws = train.Parts.draw, []

    def draw_and_fill(self: train.Parts, first: int, count: int) -> dict:
        draws.append(first)
        if draws.count(0) == 2 and not ballast.exists():
            with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        return draw(self, first, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Parts, "draw", draw_and_fill)
        done = run_train(*arguments, "--project", str(small_disk), cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "No space left on device; free some space" in done.stderr.splitlines()[-1]
    run = small_disk / "exp"
    for name in ("last", "previous"):
        load_checkpoint(run / f"weights/{name}.safetensors")
    assert load_checkpoint(run / "weights/last.safetensors").progress["progress"]["epochs_done"] == 1
    assert not list(small_disk.rglob("*.tmp"))
    ballast.unlink()
    run_train("--resume", str(run), cwd=tmp_path)
    same_state(tmp_path / "runs/train/whole", run)


def test_weights_of_which_nothing_fits_are_refused(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    stranger = load_graph(tiny_model)
    weights = {f"other.{name}": tensor for name, tensor in stranger.state_dict().items()}
    checkpoint = Checkpoint(stranger.spec.source, stranger.spec.text, stranger.names, {"ema": weights})
    save_checkpoint(tmp_path / "other.safetensors", checkpoint)
    done = run_train(
        "--cfg", str(tiny_model), "--weights", "other.safetensors", "--data", str(tiny_data), *SMALL,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "no tensor has name and shape" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--cfg", "absent.yaml", "--data", "DATA"], 4, "absent.yaml"),
        (["--cfg", "tiny_model.yaml", "--data", "absent.yaml"], 3, "absent.yaml"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--hyp", "hyp.scrach"], 4, "Did you mean 'hyp.scratch.yaml'"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--epochs", "0"], 2, "--epochs must be 1 or more"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--device", "99"], 2, "--device 99"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--freeze", "nosuch"], 2, "--freeze nosuch"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--freeze", "7"], 2, "has only 6 rows"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--freeze", "99999999999999"], 2, "has only 6 rows"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--freeze", "6"], 2, "nothing to learn for the head 'segment'"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--label-smoothing", "-1"], 2, "--label-smoothing"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--time", "inf"], 2, "--time must be a number"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--seed", str(2**64)], 2, "--seed must be"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--evolve", "0"], 2, "--evolve must be 1 trial or more"),
        (["--cfg", "tiny_model.yaml", "--data", "DATA", "--noval", "--image-weights"], 2, "leave one out"),
        (["--cfg", "tiny_model.yaml"], 2, "--data"),
        (["--data", "DATA"], 2, "--cfg"),
        (["--resume"], 2, "--resume"),
        (["--weights", "absent.safetensors", "--data", "DATA"], 4, "absent.safetensors"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], code: int, words: str, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = [str(tiny_data) if argument == "DATA" else argument for argument in arguments]
    done = run_train(*given, *([] if "--resume" in given else ["--workers", "0"]), cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0
    assert words in done.stderr
