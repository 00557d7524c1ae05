"""Mistakes in data as a user makes them: each ends train.py with exit code 3 and one sentence that names the file."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import train
from utils.errors import run_command

Spoil = Callable[[Path], None]


def label(text: str) -> Spoil:
    """Replace the first label file of the training split."""
    return lambda root: (root / "labels/train/000.txt").write_text(text) and None


def yaml_text(old: str, new: str) -> Spoil:
    """Change the data YAML."""
    return lambda root: (root / "tiny.yaml").write_text((root / "tiny.yaml").read_text().replace(old, new, 1)) and None


def mask(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Change the first mask of the training split."""

    def spoil(root: Path) -> None:
        path = str(root / "masks/train/000.png")
        cv2.imwrite(path, change(cv2.imread(path, cv2.IMREAD_UNCHANGED)))

    return spoil


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change that paints one pixel of a mask."""

    def change(picture: np.ndarray) -> np.ndarray:
        picture[3, 5] = value
        return picture

    return change


def only_image(data: bytes) -> Spoil:
    """Leave one image in the training split, with these bytes."""

    def spoil(root: Path) -> None:
        for path in sorted((root / "images/train").iterdir())[1:]:
            path.unlink()
        (root / "images/train/000.png").write_bytes(data)

    return spoil


def without(folder: str) -> Spoil:
    """Remove a folder of the set."""
    return lambda root: shutil.rmtree(root / folder)


def empty(folder: str) -> Spoil:
    """Empty a folder of the set."""

    def spoil(root: Path) -> None:
        shutil.rmtree(root / folder)
        (root / folder).mkdir()

    return spoil


NAMES = "names: [red, green, blue]"
MISTAKES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "yaml syntax": (yaml_text(NAMES, "names: [red, green"), ("tiny.yaml, line", "not valid YAML")),
    "unknown key": (yaml_text("detect:", "trian: x\ndetect:"), ("tiny.yaml", "`trian`", "Did you mean 'train'")),
    "unknown key of a task": (yaml_text("masks: masks", "mask: masks"), ("`segment.mask`", "Did you mean 'masks'")),
    "no train": (yaml_text("train: images/train, ", ""), ("`detect.train` is missing",)),
    "no names": (yaml_text(f", {NAMES}", ""), ("tiny.yaml", "detect.names")),
    "nc against names": (yaml_text(NAMES, f"nc: 5, {NAMES}"), ("tiny.yaml", "5", "3")),
    "names twice": (yaml_text("green, blue", "green, green"), ("tiny.yaml", "green")),
    "no data for a head": (yaml_text("segment: {", "lanes: {task: segment, "), ("head `segment`",)),
    "missing folder": (without("images/train"), ("tiny.yaml", "images/train")),
    "empty folder": (empty("images/train"), ("images/train",)),
    "ignore out of range": (yaml_text("masks: masks", "masks: masks, ignore: 300"), ("tiny.yaml", "300")),
    "class out of range": (label("3 0.5 0.5 0.2 0.2\n"), ("000.txt:1", "3")),
    "class not whole": (label("0.5 0.5 0.5 0.2 0.2\n"), ("000.txt:1",)),
    "not a number": (label("0 0.5 0.5 0.2 0.2\n1 0.5 nan 0.2 0.2\n"), ("000.txt:2", "nan")),
    "text for a number": (label("red 0.5 0.5 0.2 0.2\n"), ("000.txt:1", "red")),
    "outside the image": (label("0 0.5 1.7 0.2 0.2\n"), ("000.txt:1", "1.7")),
    "too few columns": (label("0 0.5 0.5 0.2\n"), ("000.txt:1",)),
    "negative class": (label("-1 0.5 0.5 0.2 0.2\n"), ("000.txt:1", "-1")),
    "mask value out of range": (mask(with_value(9)), ("000.png", "9", "4")),
    "mask of another size": (mask(lambda picture: picture[:-8]), ("000.png", "96", "64", "56")),
    "mask in colour": (mask(lambda picture: cv2.merge([picture] * 3)), ("000.png",)),
    "no masks at all": (empty("masks/train"), ("masks/train",)),
    "zero-byte image": (only_image(b""), ("000.png",)),
    "corrupt image": (only_image(b"\x89PNG\r\n\x1a\n" + bytes(300)), ("000.png",)),
    "text as an image": (only_image(b"<html>not found</html>"), ("000.png",)),
}


def run_train(root: Path, model: Path) -> tuple[int, str]:
    """Return exit code and stderr of training on the set."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--cfg", str(model), "--data", str(root / "tiny.yaml"), "--epochs", "1", "--img-size", "96"]
    with contextlib.chdir(root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command(lambda: train.main([*arguments, "--workers", "0", "--noplots"]))
        except SystemExit as end:
            return int(end.code or 0), err.getvalue()
    return 0, err.getvalue()


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_gets_one_sentence(kind: str, tiny_model: Path, tiny_data: Path) -> None:
    spoil, words = MISTAKES[kind]
    spoil(tiny_data.parent)
    code, err = run_train(tiny_data.parent, tiny_model)
    assert code == 3, err
    assert err.startswith("error: ")
    assert err.strip().count("\n") == 0
    for word in words:
        assert word in err
    assert not (tiny_data.parent / "runs").exists()


def test_one_corrupt_image_among_many_is_counted_and_named(tiny_model: Path, tiny_data: Path, caplog, capsys) -> None:
    (tiny_data.parent / "images/train/003.png").write_bytes(b"broken")
    out = io.StringIO()
    arguments = ["--cfg", str(tiny_model), "--data", str(tiny_data), "--epochs", "1", "--img-size", "96"]
    with contextlib.chdir(tiny_data.parent), contextlib.redirect_stdout(out):
        train.main([*arguments, "--workers", "0", "--noplots"])
    assert "11 of 12 images usable" in out.getvalue()
    assert "1 unreadable images left out" in out.getvalue()
    assert "003.png" in out.getvalue()
