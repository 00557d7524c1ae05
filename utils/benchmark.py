"""How fast a model answers: ``python -m utils.benchmark --weights FILE`` or ``--cfg MODEL.yaml``.

Every pass is timed by itself, between two moments at which the device has nothing left to do. Once the network alone is
timed, once network and postprocessing together. What was measured, and how, is printed above the numbers.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.samples import Placement
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph, load_graph
from models.predictions import DetectionResult, PostprocessOptions
from models.weights import load_model
from utils.devices import DTYPES, autocast_dtype, select_device
from utils.errors import RunError, UsageError, is_out_of_memory, run_command
from utils.files import atomic_write
from utils.image_size import require_possible_sizes, round_up_to_stride

SEED = 0
LOW, HIGH = 5, 95
"""Percentiles that are given as the spread."""
NETWORK, WHOLE = "network", "network and postprocessing"

EPILOG = """examples:
  python -m utils.benchmark --cfg yoloms_xs.yaml --imgsz 640 --device cpu
  python -m utils.benchmark --weights runs/train/exp/weights/best.safetensors --deploy --device 0 --batch-size 16
  python -m utils.benchmark --weights yolov6_t.safetensors --deploy --dtype float16 --json speed.json

A YAML has random weights: its network takes as long as a trained one, its postprocessing does not.
exit codes: 0 measured, 1 the run failed, 2 wrong usage, 4 the model is at fault"""


@dataclass(frozen=True)
class Latency:
    """Times of one kind of pass over all repeats, milliseconds per batch.

    Attributes:
        median_ms: of all passes.
        p5_ms: 5th percentile.
        p95_ms: 95th percentile.
        repeat_medians_ms: of every repeat by itself.
        images_per_second: of the median pass.
    """

    median_ms: float
    p5_ms: float
    p95_ms: float
    repeat_medians_ms: list[float]
    images_per_second: float

    @classmethod
    def of(cls, repeats: Sequence[Sequence[float]], batch_size: int) -> Latency:
        """Return the summary of measured seconds.

        Args:
            repeats: per repeat, the seconds of every pass.
            batch_size: images of a pass.
        """
        milliseconds = [1000 * np.asarray(seconds) for seconds in repeats]
        low, median, high = np.percentile(np.concatenate(milliseconds), (LOW, 50, HIGH))
        medians = [float(np.median(each)) for each in milliseconds]
        return cls(float(median), float(low), float(high), medians, 1000 * batch_size / float(median))


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range.
    """
    parser = argparse.ArgumentParser(
        prog="python -m utils.benchmark",
        description="Time a model: the network alone, and together with its postprocessing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--weights", help="checkpoint, ours or an official one")
    model.add_argument("--cfg", help="model YAML, with random weights: a path, or a name below models/configs")
    add("--imgsz", "--img-size", nargs="+", type=int, default=[640], help="one size, or height width, in pixels")
    add("--batch-size", type=int, default=1, help="images per pass (default %(default)s)")
    add("--device", default="", help="cpu, mps, or the number of a GPU (default: the first GPU, else the CPU)")
    add("--dtype", choices=DTYPES, default="float32", help="number format of the network (default %(default)s)")
    add("--fuse", action="store_true", help="fold BatchNorms into convolutions, as detect.py does")
    add("--deploy", action="store_true", help="re-parameterise blocks of several branches, and fold BatchNorms")
    add("--warmup", type=int, default=10, help="passes before the first timed one (default %(default)s)")
    add("--iterations", type=int, default=100, help="timed passes of a repeat (default %(default)s)")
    add("--repeat", type=int, default=3, help="how often all is measured (default %(default)s)")
    add("--threads", type=int, default=0, help="threads on the CPU, 0 for as many as PyTorch takes")
    add("--conf-thres", type=float, default=0.25, help="least confidence of a result (default %(default)s)")
    add("--iou-thres", type=float, default=0.45, help="overlap that suppresses a box (default %(default)s)")
    add("--max-det", type=int, default=300, help="most results per image (default %(default)s)")
    add("--json", metavar="FILE", help="write protocol and numbers to this file, too")
    options = parser.parse_args(arguments)
    for name, least in (
        ("batch_size", 1),
        ("warmup", 0),
        ("iterations", 1),
        ("repeat", 1),
        ("threads", 0),
        ("max_det", 1),
    ):
        if getattr(options, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, but is {getattr(options, name)}")
    for name in ("conf_thres", "iou_thres"):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 0 to 1, but is {getattr(options, name)}")
    if len(options.imgsz) > 2:
        raise UsageError("--imgsz takes one size, or a height and a width")
    require_possible_sizes("--imgsz", options.imgsz)
    if options.json is not None and Path(options.json).is_dir():
        raise UsageError(f"--json {options.json}: is a folder; name a file")
    if options.json is not None and not Path(options.json).resolve().parent.is_dir():
        raise UsageError(f"--json {options.json}: its folder does not exist; make it first")
    return options


def load(options: argparse.Namespace, device: torch.device) -> Graph:
    """Return the model that the options name, in the form that they ask for, in eval mode on the device.

    Raises:
        RunError: it does not fit into the memory.
    """
    try:
        if options.weights:
            graph = load_model(options.weights, device)
        else:
            torch.manual_seed(SEED)
            graph = load_graph(options.cfg).eval().to(device).to(memory_format=torch.channels_last)
        if options.deploy:
            return deploy_graph(graph)
        return fuse_graph(graph) if options.fuse else graph
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"{options.weights or options.cfg} does not fit into the memory of {device}; take another --device"
        ) from None


def noise(options: argparse.Namespace, graph: Graph, device: torch.device) -> Tensor:
    """Return a batch of (B, channels, H, W) uint8 noise; sides are rounded up to what the model takes."""
    height, width = (round_up_to_stride(side, graph.stride) for side in (options.imgsz[0], options.imgsz[-1]))
    draw = torch.Generator().manual_seed(SEED)
    shape = (options.batch_size, graph.spec.channels, height, width)
    images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    return images.to(device).contiguous(memory_format=torch.channels_last)


class Passes:
    """The two things that are timed.

    Args:
        graph: in eval mode.
        images: (B, channels, H, W) uint8 on the graph's device.
        dtype: reduced format of the network, None for float32.
        thresholds: of the results.
    """

    def __init__(self, graph: Graph, images: Tensor, dtype: torch.dtype | None, thresholds: PostprocessOptions) -> None:
        self.graph, self.images, self.dtype, self.thresholds = graph, images, dtype, thresholds
        self.size = images.shape[-2], images.shape[-1]
        self.placements = [Placement(*self.size) for _ in images]

    def network(self) -> dict[str, Any]:
        """Run the network from uint8 pixels to raw outputs."""
        with torch.autocast(self.images.device.type, self.dtype, enabled=self.dtype is not None):
            return self.graph(self.images)

    def whole(self) -> dict[str, list[Any]]:
        """Run the network, decode, suppress, and give every image its results."""
        raw = self.network()
        return {
            name: head.postprocess(head.predict(raw[name], self.size), self.thresholds, self.placements)
            for name, head in self.graph.heads.items()
        }

    def kept(self) -> float | None:
        """Return how many objects an image has on average, None for models that find none."""
        results = [result for listed in self.whole().values() for result in listed]
        found = [len(result.boxes) for result in results if isinstance(result, DetectionResult)]
        return sum(found) / len(self.images) if found else None


def timed(work: Callable[[], Any], device: torch.device, warmup: int, iterations: int) -> list[float]:
    """Return the seconds of every timed pass.

    Args:
        work: makes a pass.
        device: whose queue has to be empty before a clock is read.
        warmup: passes before.
        iterations: timed passes.
    """
    for _ in range(warmup):
        work()
    seconds = []
    for _ in range(iterations):
        wait_for(device)
        started = time.perf_counter()
        work()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return seconds


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def measure(
    graph: Graph, options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Latency], dict[str, Any]]:
    """Measure a model.

    Returns:
        The latency of ``NETWORK`` and of ``WHOLE``, and the protocol.

    Raises:
        RunError: a batch does not fit into the memory.
    """
    thresholds = PostprocessOptions(options.conf_thres, options.iou_thres, options.max_det)
    try:
        passes = Passes(graph, noise(options, graph, device), autocast_dtype(device, options.dtype), thresholds)
        kept = passes.kept()
        repeats: dict[str, list[list[float]]] = {NETWORK: [], WHOLE: []}
        for _ in range(options.repeat):
            for name, work in ((NETWORK, passes.network), (WHOLE, passes.whole)):
                repeats[name].append(timed(work, device, options.warmup, options.iterations))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"{options.batch_size} images of {'x'.join(map(str, options.imgsz))} px do not fit into the memory; "
            "take a smaller --batch-size or --imgsz"
        ) from None
    latencies = {name: Latency.of(each, options.batch_size) for name, each in repeats.items()}
    return latencies, protocol(graph, options, passes, kept)


def protocol(graph: Graph, options: argparse.Namespace, passes: Passes, kept: float | None) -> dict[str, Any]:
    """Return what was measured, and how, in words and numbers."""
    device = passes.images.device
    form = "as trained"
    if options.deploy:
        form = "re-parameterised, BatchNorms folded"
    elif options.fuse:
        form = "BatchNorms folded"
    shown = {
        "model": graph.spec.source,
        "weights": options.weights or f"random, seed {SEED}",
        "form": form,
        "parameters": sum(parameter.numel() for parameter in graph.parameters()),
        "input": f"{'x'.join(map(str, passes.images.shape))} uint8 noise, seed {SEED}, channels last, on the device",
        "dtype": "float32" if passes.dtype is None else str(passes.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({_processor()})",
        "threads": torch.get_num_threads(),
        "pytorch": torch.__version__,
        "passes": f"{options.repeat} times {options.warmup} before and {options.iterations} timed, each by itself, "
        "the device's queue empty before and after",
        "postprocessing": f"confidence {options.conf_thres:g}, IoU {options.iou_thres:g}, "
        f"at most {options.max_det} per image",
    }
    if kept is not None:
        shown["objects per image"] = round(kept, 1)
    return shown


def _processor() -> str:
    """Return the name of the CPU as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def report(latencies: dict[str, Latency], shown: dict[str, Any]) -> str:
    """Return protocol and numbers as text."""
    label = max(map(len, shown))
    lines = [
        f"{name.ljust(label)}  {value:,}" if isinstance(value, int) else f"{name.ljust(label)}  {value}"
        for name, value in shown.items()
    ]
    table = [["ms per batch", "median", f"{LOW} %", f"{HIGH} %", "images/s", "median of each repeat"]]
    for name, found in latencies.items():
        medians = " ".join(f"{median:.2f}" for median in found.repeat_medians_ms)
        numbers = [f"{value:.2f}" for value in (found.median_ms, found.p5_ms, found.p95_ms)]
        table.append([name, *numbers, f"{found.images_per_second:.1f}", medians])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        first, *middle, last = row
        cells = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells, last]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    options = parse_options(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = select_device(options.device)
    graph = load(options, device)
    latencies, shown = measure(graph, options, device)
    print(report(latencies, shown))
    if options.json is not None:
        found = {"protocol": shown, **{name.replace(" ", "_"): asdict(each) for name, each in latencies.items()}}
        atomic_write(options.json, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
