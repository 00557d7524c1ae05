"""Shared fixtures: where optional real data lies, and quiet deterministic threads."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"
FULL_COLLECTIONS = pytest.StashKey[int]()
SLOW = (
    "test_configs.py",
    "test_train_yoloms.py",
    "test_train_distributed.py",
    "test_models_page.py",
    "test_train_options.py",
    "test_train_yolos.py",
    "test_train_yolox.py",
    "test_train.py",
    "test_yolox_files.py",
    "test_export.py",
    "test_compiling.py",
    "test_hostile_files.py",
    "test_evolve.py",
)
"""Files that take longest. They come first, so that no process is left with one of them when the others are done."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep every worker process to one thread, so that parallel test runs do not fight over the cores."""
    torch.set_num_threads(1)
    # While tests are collected, next to nothing becomes garbage.
    gc.disable()
    # Several processes would take the files with the most tests first, which are not those that take longest.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    # Whoever starts the tests in the background of a script has Ctrl-C ignored, here and in what the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine or a slow disk is no fault of the code under test. The same code gets the same examples, so that a
    # failure belongs to the change that is tested; --hypothesis-profile search looks for new ones.
    settings.register_profile("patient", deadline=None, derandomize=True)
    settings.register_profile("search", deadline=None)
    settings.load_profile(config.getoption("--hypothesis-profile") or "patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow files first."""
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


def pytest_collection_finish() -> None:
    """Let garbage be collected from here on."""
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take what lives between two tests out of the garbage collector's sight, where it has been through all of it.

    Modules and collected tests are half a million objects that stay to the end. A full collection goes through them
    in a quarter of a second, and some tests cause dozens; so what is left of one is never looked at again.
    """
    if gc.get_stats()[2]["collections"] != item.config.stash.get(FULL_COLLECTIONS, -1):
        gc.collect()
        gc.freeze()
        item.config.stash[FULL_COLLECTIONS] = gc.get_stats()[2]["collections"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test has written about names that are no Unicode pass from one process to another."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_unconfigure() -> None:
    """Let Python end as it always does."""
    gc.unfreeze()


@pytest.fixture
def shared() -> Path:
    """The folder of real data and published numbers beside the checkout; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real data, which is not part of the project")
    return SHARED


TINY_MODEL = """
nc: 3
n_segcls: 4
depth_multiple: 0.33
width_multiple: 0.125
anchors:
  - [8, 8, 16, 16]
  - [24, 24, 40, 40]
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]  # 2: 1/8
  - [-1, 1, Conv, [128, 3, 2]]  # 3: 1/16
head:
  - [[2], 1, SegMaskBase, [n_segcls, 1, 64, False]]
  - [[2, 3], 1, Detect, [nc, anchors]]
"""


def write_tiny_set(root: Path, images: int = 12, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    """Write a small detection and segmentation set of coloured blocks and return its data YAML."""
    rng = np.random.default_rng(seed)
    width, height = size
    for split in ("train", "val"):
        for folder in ("images", "labels", "masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            picture = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), np.uint8)
            rows = []
            for kind in range(3):
                w, h = rng.integers(12, 28, 2)
                x, y = rng.integers(0, width - w), rng.integers(0, height - h)
                picture[y : y + h, x : x + w] = np.array([(220, 30, 30), (30, 220, 30), (30, 30, 220)][kind])
                mask[y : y + h, x : x + w] = kind + 1
                shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                rows.append(f"{kind} {' '.join(f'{share:.6f}' for share in shares)}")
            cv2.imwrite(str(root / "images" / split / f"{i:03d}.png"), picture[..., ::-1])
            cv2.imwrite(str(root / "masks" / split / f"{i:03d}.png"), mask)
            (root / "labels" / split / f"{i:03d}.txt").write_text("\n".join(rows) + "\n")
    data = root / "tiny.yaml"
    data.write_text(
        "detect: {train: images/train, val: images/val, names: [red, green, blue]}\n"
        "segment: {train: images/train, val: images/val, masks: masks, names: [ground, red, green, blue]}\n"
    )
    return data


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """A data YAML of twelve small pictures per split with boxes and masks."""
    return write_tiny_set(tmp_path / "tiny")


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A model YAML with a detection and a segmentation head and about 40,000 parameters."""
    path = tmp_path / "tiny_model.yaml"
    path.write_text(TINY_MODEL)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained model with both heads, which finds many objects."""
    # Here, so that tests of other things need not wait for the import.
    from tests.tiny_detector import write_weights

    return write_weights(tmp_path_factory.mktemp("tiny_detector") / "tiny.safetensors")


@pytest.fixture
def run_detect(tmp_path: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """detect.py within this process: called with a source and options, it gives exit code, output and errors."""
    from tests.detect_runs import caller

    return caller(tmp_path / "runs", tiny_weights, capsys)
