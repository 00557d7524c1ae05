"""``python -m utils.plots batches``: they are the pictures that training begins with, for every task."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, write_tiny_set
from tests.train_runs import run_train
from utils.errors import ModelError, UsageError
from utils.plots.__main__ import main

SMALL = ("--img-size", "96", "--batch-size", "4", "--workers", "0", "--seed", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set with boxes and masks, a model for both, and the pictures of a run of one epoch."""
    root = tmp_path_factory.mktemp("batches")
    write_tiny_set(root / "tiny", images=8)
    (root / "model.yaml").write_text(TINY_MODEL)
    run_train("--cfg", "model.yaml", "--data", "tiny/tiny.yaml", "--epochs", "1", "--noval", *SMALL, cwd=root)
    return root


def picture(path: Path) -> np.ndarray:
    return cv2.imread(str(path))


def test_they_are_what_a_run_begins_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = str(folder / "tiny/tiny.yaml")
    main(["batches", tiny, "--cfg", str(folder / "model.yaml"), *SMALL, "--count", "1", "--project", str(folder)])
    for head in ("detect", "segment"):
        name = f"train_batch0_{head}.jpg"
        assert (folder / "exp" / name).read_bytes() == (folder / "runs/train/exp" / name).read_bytes()
        assert str(folder / "exp" / name) in capsys.readouterr().out or head == "segment"


def test_without_a_model_every_block_has_one_by_its_task(folder: Path) -> None:
    poses = folder / "poses.yaml"
    for file in sorted((folder / "tiny/labels/train").glob("*.txt")):
        poses_of = folder / "tiny/labels_pose/train" / file.name
        poses_of.parent.mkdir(parents=True, exist_ok=True)
        poses_of.write_text("".join(f"0 {row[2:]} 0.5 0.5 2\n" for row in file.read_text().splitlines()))
    poses.write_text(
        "path: tiny\nwalkers: {task: pose, train: images/train, labels: labels_pose, names: [w], kpt: {names: [hip]}}\n"
        "segment: {train: images/train, masks: masks, names: [ground, red, green, blue]}\n"
    )
    options = (*SMALL, "--count", "2", "--project", str(folder / "blocks"))
    main(["batches", str(poses), *options])
    main(["batches", str(poses), *options, "--without-mosaic", "--task", "pose"])
    first, second = folder / "blocks/exp", folder / "blocks/exp2"
    assert {path.name for path in first.iterdir()} == {
        f"train_batch{number}_{block}.jpg" for number in (0, 1) for block in ("walkers", "segment")
    }
    assert {path.name for path in second.iterdir()} == {f"train_batch{number}_walkers.jpg" for number in (0, 1)}
    mosaic, plain = (picture(path / "train_batch0_walkers.jpg") for path in (first, second))
    assert mosaic.shape == plain.shape and (mosaic != plain).any()


def test_mistakes_are_one_sentence_and_leave_no_folder(folder: Path) -> None:
    tiny, project = str(folder / "tiny/tiny.yaml"), ("--project", str(folder / "none"))
    with pytest.raises(UsageError, match="there is nothing for --task pose"):
        main(["batches", tiny, "--task", "pose", *project])
    with pytest.raises(ModelError, match=r"hyp\.small"):
        main(["batches", tiny, "--hyp", "hyp.smal", *project])
    with pytest.raises(UsageError, match="--count must be 1 or more"):
        main(["batches", tiny, "--count", "0", *project])
    assert not (folder / "none").exists()
