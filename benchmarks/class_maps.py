"""What class maps cost: ``python -m benchmarks.class_maps`` holds ``mask_results`` against two other ways.

``plain`` enlarges the logits of all classes to the network's input, then to the picture, and takes the largest.
``planes`` does both some classes at a time and keeps only the largest logit so far. ``ours`` is ``mask_results``, which
on a CPU also leaves out the classes that cannot win somewhere, so its time depends on the logits::

    python -m benchmarks.class_maps --logits noise                                # every cell is another class
    python -m benchmarks.class_maps --logits areas                                # areas of about eight cells
    python -m benchmarks.class_maps --weights best.safetensors --source film.mp4  # those of a model

All must give the same classes but for rounding. Memory is the most that a process of its own held, less what it held
before; on a CPU that is known on Linux alone, and not where a model has left memory to spare.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.images import read_image
from data.samples import Placement
from models.predictions import CoarseMasks, PostprocessOptions
from models.predictor import STAGES, Predictor
from models.weights import load_model
from utils.devices import select_device
from utils.errors import RunError, UsageError, run_command
from utils.mask_results import class_map_by_planes, mask_results
from utils.stage_clock import StageClock
from utils.video import VIDEO_SUFFIXES, VideoReader

STRIDE = 8
KINDS = ("noise", "areas")
ROUNDING = 1e-5
"""Of the largest logit; by so much at most is the logit of a pixel's class below the largest of the pixel."""


class Given(NamedTuple):
    """What class maps are made of: (B, C, h, w) logits, the size of the network's input, where pictures lie in it."""

    coarse: Tensor
    size: tuple[int, int]
    places: list[Placement]


def parse_options() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a number is below 1, the input is no multiple of 8, or weights come without a source.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.class_maps", description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch-size", type=int, default=4, help="pictures (default %(default)s)")
    parser.add_argument("--classes", type=int, default=19, help="classes (default %(default)s)")
    parser.add_argument("--input", type=int, nargs=2, default=[512, 1024], help="height and width (default 512 1024)")
    parser.add_argument("--native", type=int, nargs=2, default=[1024, 2048], help="of pictures (default 1024 2048)")
    parser.add_argument("--logits", choices=KINDS, default=KINDS[0], help="made-up ones (default %(default)s)")
    parser.add_argument("--weights", help="take the logits of this model; its input is as wide as --input")
    parser.add_argument("--source", help="for --weights: an image, or a video, whose first frame is taken")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs, the fastest counts (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu (default), or the number of a GPU")
    parser.add_argument("--alone", choices=WAYS, help="run one way once and print the MiB that it takes")
    options = parser.parse_args()
    if min(options.batch_size, options.classes, options.rounds, options.threads, *options.input, *options.native) < 1:
        raise UsageError("all numbers must be 1 or more")
    if any(side % STRIDE for side in options.input):
        raise UsageError(f"--input: height and width are multiples of {STRIDE}, not {options.input}")
    if (options.weights is None) != (options.source is None):
        raise UsageError("--weights and --source belong together: a model and what it looks at")
    return options


def made_up(options: argparse.Namespace, device: torch.device) -> Given:
    """Return random logits of pictures without padding."""
    (height, width), (rows, columns) = options.input, options.native
    shape, generator = (height // STRIDE, width // STRIDE), torch.Generator().manual_seed(0)
    if options.logits == "noise":
        coarse = torch.randn(options.batch_size, options.classes, *shape, generator=generator)
    else:
        few = options.batch_size, options.classes, max(shape[0] // 8, 1), max(shape[1] // 8, 1)
        coarse = F.interpolate(torch.randn(few, generator=generator), shape, mode="bicubic") * 3
    place = Placement(rows, columns, width / columns, height / rows)
    return Given(coarse.to(device), (height, width), [place] * options.batch_size)


@torch.inference_mode()
def of_model(options: argparse.Namespace, device: torch.device) -> Given:
    """Return the logits of a batch of one picture.

    Raises:
        UsageError: the model has no segmentation head.
    """
    path = Path(options.source)
    picture = next(iter(VideoReader(path))) if path.suffix.lower() in VIDEO_SUFFIXES else read_image(path)
    graph = load_model(options.weights, device)
    head = next((name for name, module in graph.heads.items() if module.task == "segment"), None)
    if head is None:
        raise UsageError(f"--weights: {options.weights} has no segmentation head")
    sizes = {head: options.input[1]}
    predictor = Predictor(graph, sizes, PostprocessOptions(), device, None, StageClock(STAGES))
    predictions, places = predictor.look([picture] * options.batch_size, sizes[head], [head])
    return Given(predictions[head].coarse, predictions[head].size, places)


def plain(given: Given) -> list[Tensor]:
    """Return the class maps by way of all logits at full size."""
    return [native.argmax(0).to(torch.uint8).cpu() for native in native_logits(given)]


def planes(given: Given) -> list[Tensor]:
    """Return the class maps by way of all logits, some classes at a time."""
    masks = CoarseMasks(given.coarse, given.size)
    return [class_map_by_planes(masks, i, place).cpu() for i, place in enumerate(given.places)]


def ours(given: Given) -> list[Tensor]:
    """Return the class maps as a segmentation head makes them."""
    return [result.class_map for result in mask_results(CoarseMasks(given.coarse, given.size), given.places)]


WAYS = {"plain": plain, "planes": planes, "ours": ours}


def native_logits(given: Given) -> Iterator[Tensor]:
    """Yield the (C, h, w) logits of every picture at its own size."""
    logits = F.interpolate(given.coarse, given.size, mode="bilinear", align_corners=True)
    for picture, place in zip(logits, given.places, strict=True):
        top, left = round(place.top), round(place.left)
        rows, columns = int(place.height * place.scale_y + 1e-6), int(place.width * place.scale_x + 1e-6)
        area = picture[None, :, top : top + rows, left : left + columns]
        yield F.interpolate(area, (place.height, place.width), mode="bilinear", align_corners=True)[0]


def compare(given: Given, maps: list[Tensor]) -> tuple[int, float]:
    """Return how many pixels have another class than the plain way's, and by how much its logit is smaller at most."""
    apart, most = 0, 0.0
    for native, found in zip(native_logits(given), maps, strict=True):
        found = found.to(native.device).long()
        apart += int((native.argmax(0) != found).sum())
        most = max(most, float((native.amax(0) - native.gather(0, found[None])[0]).max()))
    return apart, most


def most_held(device: torch.device) -> int:
    """Return the most bytes held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def forget_most_held(device: torch.device) -> None:
    """Let ``most_held`` begin with what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def memory_of(way: str, device: torch.device, given: Given) -> float:
    """Return the MiB that one run takes beyond what is there already."""
    # What the first operation of a kind loads is no part of it.
    WAYS[way](Given(given.coarse[:1, :2, :2, :2], (16, 16), [Placement(20, 20, 0.8, 0.8)]))
    forget_most_held(device)
    before = most_held(device)
    WAYS[way](given)
    return (most_held(device) - before) / 2**20


def main() -> None:
    """Run the benchmark.

    Raises:
        RunError: the ways disagree.
    """
    options = parse_options()
    torch.set_num_threads(options.threads)
    device = select_device(options.device)
    given = of_model(options, device) if options.weights else made_up(options, device)
    if options.alone:
        print(f"{memory_of(options.alone, device, given):.1f}")
        return
    print(f"python -m {' '.join(['benchmarks.class_maps', *sys.argv[1:]])}")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = dict.fromkeys(WAYS, float("inf"))
    # By turns, so that a busy machine slows all.
    for _ in range(options.rounds):
        for way, run in WAYS.items():
            start = clock()
            run(given)
            seconds[way] = min(seconds[way], clock() - start)
    known = device.type == "cuda" or Path("/proc/self/clear_refs").exists()
    for way in WAYS:
        words = [sys.executable, "-m", "benchmarks.class_maps", *sys.argv[1:], "--alone", way]
        taken = "unknown"
        if known and not options.weights:
            taken = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
        print(f"{way + ':':8}{seconds[way] * 1e3:9.1f} ms, {taken:>8} MiB")
    apart, most = compare(given, ours(given))
    faster = " and ".join(f"{seconds[way] / seconds['ours']:.1f} times as fast as {way}" for way in ("plain", "planes"))
    print(f"ours is {faster}; {apart} pixels differ, by logits that are {most:.1e} smaller at most")
    if most > ROUNDING * float(given.coarse.abs().max()):
        raise RunError(f"{apart} pixels have another class, by more than rounding")


if __name__ == "__main__":
    run_command(main)
