"""Frames per second of ``detect.py`` on a video, from file to file, beside a plain loop over its frames.

Three ways make the same annotated video, by turns, with the same folded model:

- ``plain``: read, letterbox, model, suppression or class map, draw, write; one frame after the other, with the usual
  calls of OpenCV, PyTorch and torchvision and all threads that these take by themselves (``plain_video_loop.py``).
- ``in turn``: the parts of ``detect.py``, one frame after the other, with the same threads.
- ``detect.py``: the same parts side by side.

So the second against the first tells what its parts are worth, the third against the second what it is worth to do
several things at once. No way is faster than its processor time shared among all cores: the column ``bound``.

Both models of the published figures, which are written to a file of Markdown::

    python -m benchmarks.detect_video --weights yolov5n.pt models/configs/yolov5_seg/yolov5n_multitask.yaml \\
        --source highway.mp4 --markdown benchmarks/results/detect_video.md

The name of a model YAML among the weights is a model with random ones, which finds nothing but colours all areas.
Threads of PyTorch that wait for each other within a layer count as processor time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import torch

from benchmarks.plain_video_loop import ALL_STAGES, DECODE, DRAW, ENCODE, PlainVideoLoop
from data.sources import find_sources
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import load_graph
from models.predictions import DetectionResult
from models.predictor import STAGES
from utils.annotate import annotate
from utils.command_lines.detecting import parse_options as parse_detect_options
from utils.command_lines.inference import require_at_least
from utils.detecting.films import detect_video
from utils.detecting.run import READ, WRITE, Run
from utils.detecting.setup import prepare
from utils.devices import DTYPES
from utils.errors import UsageError, run_command
from utils.files import atomic_write
from utils.stage_clock import StageClock
from utils.video import VideoReader, VideoWriter

PLAIN, IN_TURN, OURS = "plain", "in turn", "detect.py"
INFERENCE = STAGES[1]
OUR_NAMES = {READ: DECODE, WRITE: ENCODE}
"""What ``detect.py`` calls decoding and encoding, because it also reads and writes other things."""


@dataclass
class Rounds:
    """What was measured of one way, round by round.

    Attributes:
        rates: frames per second of the clock.
        processor: milliseconds of processor time per frame.
        stages: milliseconds of the clock per frame by stage; side by side they add up to more than a frame takes.
        objects: found per round.
    """

    rates: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in ALL_STAGES})
    objects: list[int] = field(default_factory=list)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.detect_video", description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", nargs="+", required=True, help="weights or model YAMLs, each measured by itself")
    parser.add_argument("--source", required=True, help="a video")
    parser.add_argument("--img-size", type=int, default=640, help="longer side of the input (default %(default)s)")
    parser.add_argument("--frames", type=int, help="of the video, per round (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=1, help="of detect.py (default %(default)s)")
    parser.add_argument("--workers", type=int, help="of detect.py (default: one per core, 4 at most)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=DTYPES,
        help="format of forward passes of detect.py and its parts, not of the plain loop (default %(default)s)",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the tables to this file")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every round to this file")
    options = parser.parse_args()
    require_at_least(options, img_size=1, rounds=1, frames=1)
    for path in (options.markdown, options.json):
        if path and not Path(path).parent.is_dir():
            raise UsageError(f"{path}: its folder does not exist; make it first")
    return options


def weights_of(name: str, folder: Path) -> str:
    """Return the file of weights that a name stands for; for a model YAML one with random weights is written."""
    if not name.endswith(".yaml"):
        return name
    torch.manual_seed(0)
    graph = load_graph(name)
    names = {head: [str(i) for i in range(module.num_classes)] for head, module in graph.heads.items()}
    path = folder / f"{Path(name).stem}.safetensors"
    save_checkpoint(path, Checkpoint(name, graph.spec.text, names, {"ema": graph.state_dict()}))
    return str(path)


def prepared(options: argparse.Namespace, weights: str, folder: Path) -> Run:
    """Return a run of ``detect.py`` on the CPU."""
    arguments = ["--weights", weights, "--source", options.source, "--img-size", options.img_size, "--device", "cpu"]
    arguments += ["--project", folder, "--name", Path(weights).stem, "--batch-size", options.batch_size]
    arguments += ["--dtype", options.dtype]
    for name in ("workers", "frames"):
        if getattr(options, name) is not None:
            arguments += [f"--{'max-frames' if name == 'frames' else name}", getattr(options, name)]
    parsed = parse_detect_options([str(argument) for argument in arguments])
    return prepare(parsed, find_sources(options.source))


def run_plain(loop: PlainVideoLoop, source: Path, folder: Path, most: int | None) -> tuple[int, int, dict[str, float]]:
    """Run the plain loop; return frames, objects and seconds by stage."""
    loop.clock, loop.objects = StageClock(ALL_STAGES), 0
    frames = loop.run(source, folder / "plain.mp4", most)
    return frames, loop.objects, loop.clock.seconds


def run_in_turn(run: Run, source: Path, folder: Path) -> tuple[int, int, dict[str, float]]:
    """Run the parts of ``detect.py`` one after the other."""
    forget(run)
    clock, objects, frames = run.clock, 0, 0
    with VideoReader(source) as video, VideoWriter(folder / "in_turn.mp4", video.rate) as writer:
        images = iter(video)
        while run.most_frames is None or frames < run.most_frames:
            with clock.time(READ):
                image = next(images, None)
            if image is None:
                break
            [results] = run.predictor([image])
            with clock.time(DRAW):
                drawing = annotate(image, results, run.names, run.style)
            with clock.time(WRITE):
                writer.write(drawing)
            objects += sum(len(found.boxes) for found in results.values() if isinstance(found, DetectionResult))
            frames += 1
    return frames, objects, clock.seconds


def run_ours(run: Run, source: Path) -> tuple[int, int, dict[str, float]]:
    """Run ``detect.py``'s own way through the video."""
    forget(run)
    before = run.frames
    with run.share.held():
        film = detect_video(run, source, source.name)
    return run.frames - before, sum(int(counts.sum()) for counts in film.counts.values()), run.clock.seconds


def forget(run: Run) -> None:
    """Set the clock of a run back."""
    run.clock.seconds = dict.fromkeys(run.clock.seconds, 0.0)


def measure(options: argparse.Namespace, weights: str, folder: Path) -> dict[str, Rounds]:
    """Return what was measured of every way, after a round that is not counted."""
    run, source = prepared(options, weights, folder), Path(options.source)
    [graph] = run.predictor.model.graphs
    thresholds = next(iter(run.predictor.options.values()))
    loop = PlainVideoLoop(graph, options.img_size, thresholds.conf, thresholds.iou)
    ways: dict[str, Callable[[], tuple[int, int, dict[str, float]]]] = {
        PLAIN: lambda: run_plain(loop, source, folder, options.frames),
        IN_TURN: lambda: run_in_turn(run, source, folder),
        OURS: lambda: run_ours(run, source),
    }
    measured = {way: Rounds() for way in ways}
    for number in range(options.rounds + 1):
        for way, go in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            frames, objects, stages = go()
            spent, busy = time.perf_counter() - clock, time.process_time() - processor
            if number == 0:
                continue
            measured[way].rates.append(frames / spent)
            measured[way].processor.append(1000 * busy / frames)
            measured[way].objects.append(objects)
            for stage, seconds in stages.items():
                measured[way].stages[OUR_NAMES.get(stage, stage)].append(1000 * seconds / frames)
    return measured


def section(weights: str, measured: dict[str, Rounds], cores: int) -> str:
    """Return the Markdown about one model: medians of all ways, how they compare, and what bounds them."""
    header = ["ms per frame", *ALL_STAGES, "processor", "bound", "frames per second"]
    lines = [f"## {Path(weights).name}", "", _row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for way, rounds in measured.items():
        busy = statistics.median(rounds.processor)
        values = [statistics.median(rounds.stages[stage]) for stage in ALL_STAGES]
        values += [busy, busy / cores, statistics.median(rounds.rates)]
        lines.append(_row([way, *(f"{value:.1f}" for value in values)]))
    found = ", ".join(f"{way} {rounds.objects[-1]}" for way, rounds in measured.items())
    lines += ["", f"Objects found: {found}.", ""]
    for way, other in ((IN_TURN, PLAIN), (OURS, IN_TURN), (OURS, PLAIN)):
        ratios = [a / b for a, b in zip(measured[way].rates, measured[other].rates, strict=True)]
        strong = "**" if (way, other) == (OURS, PLAIN) else ""
        lines.append(
            f"- {strong}{way} is {statistics.median(ratios):.2f} times as fast as {other}{strong} "
            f"(rounds {min(ratios):.2f} to {max(ratios):.2f})"
        )
    return "\n".join([*lines, "", what_bounds(measured, cores), ""])


def what_bounds(measured: dict[str, Rounds], cores: int) -> str:
    """Return the sentences about how much faster than the plain loop the same work can be, and what it consists of."""
    plain, ours = measured[PLAIN], measured[OURS]
    taken, least = 1000 / statistics.median(plain.rates), statistics.median(ours.processor) / cores
    network = statistics.median(plain.stages[INFERENCE])
    reached = 100 * least * statistics.median(ours.rates) / 1000
    return (
        f"A frame costs {OURS} {least * cores:.1f} ms of processor time. Shared among {cores} cores that never idle "
        f"it would take {least:.1f} ms, {taken / least:.2f} times as fast as {PLAIN}; {reached:.0f} % of that is "
        f"reached. The network takes {100 * network / taken:.0f} % of the time of {PLAIN}."
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def introduction(options: argparse.Namespace, cores: int) -> str:
    """Return the Markdown about the machine and the command."""
    # Files by name alone: where they lie here says nothing elsewhere.
    command = " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:])
    return f"""# Frames per second of detect.py on a video

`benchmarks/detect_video.py` makes the same annotated video in three ways by turns, from file to file: a plain loop with
the usual calls of OpenCV, PyTorch and torchvision; the parts of `detect.py` one after the other; and `detect.py`, which
does several things at once. Figures are medians of {options.rounds} rounds, ratios medians of the rounds' ratios.
Stages are time of the clock; side by side they add up to more than a frame takes. `processor` is the time of all cores
per frame, `bound` the same shared among {cores}: no way is faster than that.

Machine: {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {cores} threads, {_load()}, \
torch {torch.__version__}, OpenCV {cv2.__version__}.

`python -m benchmarks.detect_video {command}`
"""


def _load() -> str:
    """Return how busy the machine is with other things, in words; it knows where it is a Unix."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    return f"load {os.getloadavg()[0]:.1f} before the first round"


def main() -> None:
    """Compare all ways with every model."""
    options = parse_options()
    logging.getLogger("yolograph").setLevel(logging.WARNING)
    cores = torch.get_num_threads()
    texts = [introduction(options, cores)]
    print(texts[0])
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.weights:
            measured = measure(options, weights_of(name, Path(folder)), Path(folder))
            texts.append(section(name, measured, cores))
            print(texts[-1], flush=True)
            figures[name] = {way: asdict(rounds) for way, rounds in measured.items()}
    if options.markdown:
        atomic_write(options.markdown, "\n".join(texts).encode())
    if options.json:
        atomic_write(options.json, json.dumps(figures, indent=2).encode())


if __name__ == "__main__":
    run_command(main)
