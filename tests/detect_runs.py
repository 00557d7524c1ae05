"""Calling detect.py within this process, and reading what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect
from utils.errors import run_command
from utils.video import VideoReader

SMALL = ["--img-size", "64", "--conf-thres", "0.1", "--max-det", "5", "--device", "cpu"]
Call = Callable[..., tuple[int, str, str]]


def caller(project: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function of a source and more options that gives exit code, standard output and standard error."""

    def call(source: object, *more: object, model: Path = weights) -> tuple[int, str, str]:
        arguments = ["--weights", str(model), "--source", str(source), "--project", str(project), *SMALL]
        code = 0
        try:
            run_command(lambda: detect.main([*arguments, *map(str, more)]))
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def write_video(path: Path, frames: int = 3, rate: float = 10.0) -> Path:
    """Write a video of noise, 64 x 48 pixels, that can be read without seeking in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    for seed in range(frames):
        writer.write(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def video_facts(path: Path) -> tuple[int, float, tuple[int, int]]:
    """Return number of frames, rate and (height, width) of a video, by reading it."""
    with VideoReader(path) as video:
        sizes = [frame.shape[:2] for frame in video]
    return len(sizes), video.rate, sizes[0]


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read_labels(path: Path) -> np.ndarray:
    """Return the numbers of a label text, a row for each of its lines."""
    return np.array([[float(value) for value in line.split()] for line in path.read_text().splitlines()])
