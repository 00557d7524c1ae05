"""How fast a model answers: ``python -m utils.benchmark --weights FILE`` or ``--cfg MODEL.yaml``.

Every pass is timed by itself, between two moments at which the device has nothing left to do. Once the network alone is
timed, once network and postprocessing together. What was measured, and how, is printed above the numbers. With several
files, or exported ones, it compares them: ``utils/format_table.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.samples import Placement
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph, load_graph
from models.predictions import DetectionResult, PostprocessOptions
from models.weights import load_model
from utils.command_lines.benchmarking import parse_options
from utils.devices import autocast_dtype, select_device
from utils.errors import RunError, is_out_of_memory, run_command
from utils.files import atomic_write
from utils.format_table import compare, table_of
from utils.image_size import round_up_to_stride
from utils.logging import start_logging
from utils.timed_passes import HIGH, LOW, Latency, timed

SEED = 0
NETWORK, WHOLE = "network", "network and postprocessing"


def load(options: argparse.Namespace, device: torch.device) -> Graph:
    """Return the model that the options name, in the form that they ask for, in eval mode on the device.

    Raises:
        RunError: it does not fit into the memory.
    """
    try:
        if options.weights:
            graph = load_model(options.weights[0], device)
        else:
            torch.manual_seed(SEED)
            graph = load_graph(options.cfg).eval().to(device).to(memory_format=torch.channels_last)
        if options.deploy:
            return deploy_graph(graph)
        return fuse_graph(graph) if options.fuse else graph
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        model = options.weights[0] if options.weights else options.cfg
        raise RunError(f"{model} does not fit into the memory of {device}; take another --device") from None


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
        "weights": options.weights[0] if options.weights else f"random, seed {SEED}",
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
    found = measure_formats(options) if options.compares else measure_model(options)
    if options.json is not None:
        atomic_write(options.json, (json.dumps(found, indent=2) + "\n").encode())


def measure_formats(options: argparse.Namespace) -> dict[str, Any]:
    """Measure several files, print their table, and return it as plain values."""
    start_logging()
    rows = compare(options)
    print(table_of(rows))
    conditions = (
        "data",
        "segdata",
        "batch_size",
        "warmup",
        "iterations",
        "repeat",
        "conf_thres",
        "iou_thres",
        "max_det",
    )
    shown = {name: getattr(options, name) for name in conditions}
    shown |= {"threads": torch.get_num_threads(), "pytorch": torch.__version__, "processor": _processor()}
    return {"protocol": shown, "rows": [row.to_plain() for row in rows]}


def measure_model(options: argparse.Namespace) -> dict[str, Any]:
    """Time one model, print protocol and numbers, and return them as plain values."""
    device = select_device(options.device)
    graph = load(options, device)
    latencies, shown = measure(graph, options, device)
    print(report(latencies, shown))
    return {"protocol": shown, **{name.replace(" ", "_"): asdict(each) for name, each in latencies.items()}}


if __name__ == "__main__":
    run_command(main)
