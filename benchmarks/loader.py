"""How many training pictures a core makes: ``python -m benchmarks.loader`` times ours against a plain OpenCV pipeline.

Both make the same kind of batches of 16: a mosaic of four pictures, one affine warp, HSV gains, a mirror image, stacked
to a batch. The plain pipeline is written below as people write it: decode four pictures, paste them on a canvas of
twice the side, ``warpAffine``, three tables in HSV, ``flip``. All run in this process, by turns, so that a busy machine
slows all of them. A rate is images per second of this one core's time, which other programs do not take part in; the
rate by the clock stands beside it. Figures are medians of the rounds, and ratios medians of each round's ratio.

- ``none``: nothing is kept; every tile that is seen is decoded.
- ``window``: the default without ``--cache``: the pictures decoded last are kept in a bounded ring.
- ``ram``, ``disk``: ``--cache``, filled before the first round.
- ``plain``: the plain pipeline; ``plain, decoded``: the same with all pictures decoded before, in a list.

The recipe chooses our pipeline (``augment``): ``--hyp yoloms_xs`` measures that of RTMDet, with two mosaics per sample.
The plain one stays what it is. With ``--hyp yolos_ti`` both are DETR's, the plain one with Pillow
(``benchmarks.pillow_detr``): single pictures in random sizes, padded to a batch; there is no ring then, so ``window``
is ``none``.

The set is copied to a temporary folder, so no earlier cache helps and none is left. A small set fits into the ring as a
whole: ``--repeat-set 8`` copies it eight times under other names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.pillow_detr import PillowPipeline
from data.config import TaskData, load_data_config
from data.dataset import TaskDataset
from data.formats.yolo_txt import label_path
from data.image_list import list_images
from data.loader import build_train_loader
from data.transforms.detection import DetectionTrainTransform
from data.transforms.detr import DETRTrainTransform
from data.transforms.hsv import compiled_change
from data.transforms.letterbox import LetterboxRule
from data.transforms.rtmdet import RTMDetTrainTransform
from data.transforms.yolox import YOLOXTrainTransform
from utils.errors import UsageError, run_command
from utils.files import atomic_write
from utils.recipe import load_recipe

BATCH = 16
TRANSFORMS = {
    "yolov5": DetectionTrainTransform,
    "yolox": partial(YOLOXTrainTransform, letterbox=LetterboxRule("top-left", square=True)),
    "rtmdet": RTMDetTrainTransform,
    "detr": partial(
        DETRTrainTransform, stride=16, letterbox=LetterboxRule("top-left", shrink="antialias", fit="shortest")
    ),
}
CACHES = {"none": None, "window": None, "ram": "ram", "disk": "disk"}


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.loader", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="embedded.yaml", help="data YAML with boxes (default %(default)s)")
    parser.add_argument("--hyp", default="hyp.scratch", help="recipe (default %(default)s)")
    parser.add_argument("--img-size", type=int, default=640, help="side of a sample, pixels (default %(default)s)")
    parser.add_argument("--images", type=int, default=128, help="images per round and pipeline (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default %(default)s)")
    parser.add_argument("--repeat-set", type=int, default=1, help="copies of the set (default %(default)s)")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    for name in ("img_size", "images", "rounds", "repeat_set"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, but is {getattr(options, name)}")
    return options


def copy_set(task: TaskData, folder: Path, times: int) -> TaskData:
    """Copy the training pictures and labels of a task so many times under other names, and return the task there."""
    labels_name = task.options.get("labels", "labels")
    target = folder / "images" / "train"
    target.mkdir(parents=True)
    (folder / labels_name / "train").mkdir(parents=True)
    for number, image in enumerate(list_images(task.splits["train"], task.root)):
        label = label_path(image, labels_name)
        for copy in range(times):
            name = f"{copy}-{number:06d}"
            shutil.copyfile(image, target / f"{name}{image.suffix}")
            if label.is_file():
                shutil.copyfile(label, folder / labels_name / "train" / f"{name}.txt")
    return replace(task, splits={"train": [target]}, root=folder)


def our_batches(task: TaskData, hyp: Mapping[str, Any], size: int, kind: str) -> Iterator[np.ndarray]:
    """Return the images of our batches, for ever, with one kind of cache, filled."""
    dataset = TaskDataset(task, "train", CACHES[kind])
    transform = TRANSFORMS[hyp["augment"]](hyp, size)
    largest = getattr(transform, "largest_side", None)
    if kind != "none":
        dataset.reserve_memory(size if largest is None else None, largest)
        for index in range(len(dataset)):
            dataset.load(index, size if largest is None else None, least=largest)
    loader = build_train_loader(dataset, transform, BATCH, 0, 0)
    return (batch.images.numpy() for batch in loader.stream())


class PlainPipeline:
    """What a training picture goes through, one OpenCV call after the other.

    Args:
        dataset: for the files and boxes; nothing else of it is used.
        hyp: the recipe.
        size: side of a sample, pixels.
        decoded: whether all pictures are decoded now and kept in a list.
    """

    def __init__(self, dataset: TaskDataset, hyp: Mapping[str, Any], size: int, decoded: bool):
        self.files, self.hyp, self.size = dataset.ids, hyp, size
        bounds = zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
        self.boxes = [dataset.boxes[first:last] for first, last in bounds]
        self.images = [self.decode(file) for file in self.files] if decoded else None
        self.rng = np.random.default_rng(0)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield stacked images, for ever."""
        while True:
            yield np.stack([self.sample(int(i))[0] for i in self.rng.integers(len(self.files), size=BATCH)])

    def decode(self, file: str) -> np.ndarray:
        """Return a picture with its longer side at the size of a sample."""
        image = cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB)
        scale = self.size / max(image.shape[:2])
        return image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale)

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and boxes of one sample."""
        rng, size = self.rng, self.size
        canvas, boxes = np.full((2 * size, 2 * size, 3), 114, np.uint8), []
        x, y = rng.integers(size // 2, 3 * size // 2, 2).tolist()
        for place, i in enumerate([index, *rng.integers(len(self.files), size=3).tolist()]):
            tile = self.images[i] if self.images is not None else self.decode(self.files[i])
            height, width = tile.shape[:2]
            left, top = x - width * (place % 2 == 0), y - height * (place < 2)
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, 2 * size), min(top + height, 2 * size)
            canvas[y1:y2, x1:x2] = tile[y1 - top : y2 - top, x1 - left : x2 - left]
            boxes.append(self.boxes[i] * (width, height, width, height) + (left, top, left, top))
        zoom = 1 + rng.uniform(-1, 1) * self.hyp["scale"]
        shift = (0.5 + rng.uniform(-1, 1, 2) * self.hyp["translate"]) * size - zoom * size
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        image = cv2.warpAffine(canvas, matrix, (size, size), borderValue=(114, 114, 114))
        moved = (np.concatenate(boxes).clip(0, 2 * size) * zoom + np.tile(shift, 2)).clip(0, size)
        image = self.colour(image)
        if rng.random() < self.hyp["fliplr"]:
            image = cv2.flip(image, 1)
            moved[:, [0, 2]] = size - moved[:, [2, 0]]
        return image, moved[((moved[:, 2:] - moved[:, :2]) > 2).all(1)]

    def colour(self, image: np.ndarray) -> np.ndarray:
        """Return the picture with its hue, saturation and value multiplied."""
        gains = self.rng.uniform(-1, 1, 3) * [self.hyp["hsv_h"], self.hyp["hsv_s"], self.hyp["hsv_v"]] + 1
        levels = np.arange(256)
        tables = [levels * gains[0] % 180, (levels * gains[1]).clip(0, 255), (levels * gains[2]).clip(0, 255)]
        channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        changed = [cv2.LUT(channel, table.astype(np.uint8)) for channel, table in zip(channels, tables, strict=True)]
        return cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2RGB)


def rates_of_round(batches: Iterator[np.ndarray], images: int) -> tuple[float, float]:
    """Take batches until they hold enough images and return images per second of the core's time and of the clock."""
    core, clock, taken = time.process_time(), time.perf_counter(), 0
    while taken < images:
        taken += len(next(batches))
    return taken / (time.process_time() - core), taken / (time.perf_counter() - clock)


def measure(task: TaskData, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Return the two rates of every round by pipeline, after one round that is not counted."""
    hyp = load_recipe(options.hyp)
    dataset = TaskDataset(task, "train")
    streams = {kind: our_batches(task, hyp, options.img_size, kind) for kind in CACHES}
    for name, decoded in (("plain", False), ("plain, decoded", True)):
        if hyp["augment"] == "detr":
            streams[name] = PillowPipeline(dataset, hyp, options.img_size, BATCH, decoded).batches()
        else:
            streams[name] = PlainPipeline(dataset, hyp, options.img_size, decoded).batches()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
    for number in range(options.rounds + 1):
        for name, stream in streams.items():
            both = rates_of_round(stream, options.images)
            if number > 0:
                rates[name].append(both)
    return rates


def machine() -> str:
    """Return the processor, the cores this process may use, and the versions that matter."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    numba = f"numba {version('numba')}" if compiled_change() is not None else "without numba"
    return f"{name}, {cores} of {os.cpu_count()} cores, OpenCV {cv2.__version__}, NumPy {np.__version__}, {numba}{load}"


def main() -> None:
    """Measure, and print and write the table."""
    options = parse_options()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    task = load_data_config(options.data).for_head("detect", "detect")
    with tempfile.TemporaryDirectory() as folder:
        copied = copy_set(task, Path(folder), options.repeat_set)
        rates = measure(copied, options)
        count = len(list_images(copied.splits["train"], copied.root))
    command = f"python -m benchmarks.loader {' '.join(sys.argv[1:])}"
    print(f"\n{command}\n{machine()}\n{count} pictures at {options.img_size} px\n")
    print(
        "| pipeline | times plain | times plain, decoded | images per second of a core | fastest round | by the clock |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    figures = {}
    for name, rounds in rates.items():
        core, clock = zip(*rounds, strict=True)
        ratios = [
            statistics.median(ours[0] / theirs[0] for ours, theirs in zip(rounds, rates[other], strict=True))
            for other in ("plain", "plain, decoded")
        ]
        figures[name] = {"ratios": ratios, "core": core, "clock": clock}
        shown = (*(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(core):.0f}", f"{max(core):.0f}")
        print(f"| {name} | {' | '.join(shown)} | {statistics.median(clock):.0f} |")
    if options.json:
        facts = {"command": command, "machine": machine(), "pictures": count, "img_size": options.img_size}
        atomic_write(options.json, json.dumps(facts | {"pipelines": figures}, indent=1).encode())


if __name__ == "__main__":
    run_command(main)
