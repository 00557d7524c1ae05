"""How fast YOLOS answers: ``python -m benchmarks.yolos_inference`` times ours against that of transformers, by turns.

Both have the same seeded weights, which go over by the names that ``models.convert`` writes for Hugging Face, and both
are compared before they are timed. Rows:

- ``network``: from an input in the network's format to raw outputs; ours as ``detect.py`` runs it (``fuse_graph``).
- ``whole``: from decoded pictures to boxes in their pixels; ours is ``Predictor``, theirs the image processor, the
  model and ``post_process_object_detection``. The pictures are made up, 15/16 of the input, so that both resize them.
- ``shapes``: the same for landscape and portrait pictures by turns. Theirs pads them to one canvas, and its answers
  depend on the padding (the row says by how much); ours groups pictures of one shape.

Figures are medians, and the ratio is the median of the pairs' ratios, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.yolos_peers import Case, Peers, attention_of, build_peers, transformers_yolos
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from utils.devices import autocast_dtype, select_device
from utils.errors import RunError, UsageError, run_command
from utils.files import atomic_write
from utils.stage_clock import StageClock

CASES = ("yolos-ti:512x672", "yolos-ti:800x1056", "yolos-s:512x864")
KINDS = ("network", "whole", "shapes")
RELATIVE = {"float32": 1e-3, "bfloat16": 0.1}
"""How far both may be apart, as a share of the largest value."""
EVERYTHING = PostprocessOptions(conf=0.0, max_det=100)
Ways = tuple[Callable[[], list[Tensor]], Callable[[], list[Tensor]]]


@dataclass
class What:
    """What a row measures; ``attention`` is how theirs computes it."""

    kind: str
    cfg: str
    input: str
    batch: int
    dtype: str
    attention: str


@dataclass
class Row:
    """What was measured; times are milliseconds of a batch, memory is MiB beyond what was held before."""

    what: What
    ours_ms: float
    theirs_ms: float
    ours_fastest_ms: float
    theirs_fastest_ms: float
    ratio: float
    apart: float
    ours_mib: float | None
    theirs_mib: float | None


def parse_options() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a number is below 1, or there is no such kind of row.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.yolos_inference", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--cases", nargs="+", default=list(CASES), help="model YAML:height x width (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 4], help="pictures together (default 1 4)")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="rows (default all)")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=tuple(RELATIVE))
    parser.add_argument("--force-dtype", action="store_true", help="bfloat16 also where the hardware only imitates it")
    parser.add_argument("--attention", help="of theirs: sdpa or eager (default: its own default, which is told)")
    parser.add_argument("--threads", type=int, default=0, help="threads on a CPU, 0 for as many as there are cores")
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--rounds", type=int, default=15, help="timed passes of each (default %(default)s)")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    for number in (options.rounds, *options.batch_size):
        if number < 1:
            raise UsageError(f"--rounds and --batch-size must be 1 or more, but there is {number}")
    options.cases = [parse_case(text) for text in options.cases]
    return options


def parse_case(text: str) -> Case:
    """Read ``yolos-ti:512x672``.

    Raises:
        UsageError: it does not read so, or a side is no multiple of 16.
    """
    cfg, _, size = text.rpartition(":")
    sides = size.split("x")
    if not cfg or len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise UsageError(f"--cases {text}: write the model's YAML and its input, such as yolos-ti:512x672")
    height, width = (int(side) for side in sides)
    if not height or not width or height % 16 or width % 16 or height > width:
        raise UsageError(f"--cases {text}: height and width are multiples of 16, and the width is not the shorter one")
    return Case(cfg, height, width)


def pictures(case: Case, count: int, turned: bool) -> list[np.ndarray]:
    """Return decoded pictures, smooth as photographs are; every second one upright if ``turned``."""
    rng = np.random.default_rng(0)
    height, width = case.height * 15 // 16, case.width * 15 // 16
    coarse = torch.from_numpy(rng.random((count, 3, 9, 12), np.float32))
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    noise = torch.from_numpy(rng.random((count, 3, height, width), np.float32))
    images = (fine * 235 + noise * 20).byte().permute(0, 2, 3, 1).contiguous().numpy()
    flat = [
        np.ascontiguousarray(image.transpose(1, 0, 2)) if turned and i % 2 else image for i, image in enumerate(images)
    ]
    return flat


def network_ways(peers: Peers, case: Case, batch: int, device: torch.device) -> Ways:
    """Return both networks on the same floats, each giving logits and boxes."""
    images = torch.randn(batch, 3, case.height, case.width, generator=torch.Generator().manual_seed(1)).to(device)

    def ours() -> list[Tensor]:
        raw = peers.ours(images)["detect"]
        return [raw.logits, raw.boxes]

    def theirs() -> list[Tensor]:
        raw = peers.theirs(images)
        return [raw.logits, raw.pred_boxes]

    return ours, theirs


def whole_ways(
    peers: Peers, case: Case, images: list[np.ndarray], dtype: torch.dtype | None, device: torch.device
) -> Ways:
    """Return both ways from decoded pictures to boxes (100, 4) of each picture in its own pixels."""
    predictor = Predictor(peers.ours, {"detect": case.height}, EVERYTHING, device, dtype, StageClock(STAGES))
    places = list(groups(images))

    def ours() -> list[Tensor]:
        found: list[Any] = [None] * len(images)
        for group in places:
            for i, result in zip(group, predictor([images[i] for i in group]), strict=True):
                found[i] = result["detect"]
        return [torch.as_tensor(each.boxes) for each in found]

    def theirs() -> list[Tensor]:
        inputs = peers.processor(images=images, return_tensors="pt", device=device)
        raw = peers.theirs(**inputs.to(device))
        found = peers.processor.post_process_object_detection(raw, 0.0, [image.shape[:2] for image in images])
        return [clip_boxes(each["boxes"], image.shape[:2]) for each, image in zip(found, images, strict=True)]

    return ours, theirs


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return corner boxes inside a picture of (height, width), as ours are."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def groups(images: list[np.ndarray]) -> Iterator[list[int]]:
    """Yield the positions of pictures of equal size."""
    for shape in dict.fromkeys(image.shape for image in images):
        yield [i for i, image in enumerate(images) if image.shape == shape]


def apart(first: list[Tensor], second: list[Tensor]) -> float:
    """Return the largest difference of two answers as a share of the largest value.

    Boxes of a picture come in any order: it is that of a box from the nearest one of the other answer.
    """
    worst = 0.0
    for one, other in zip(first, second, strict=True):
        one, other = one.float().cpu(), other.float().cpu()
        if one.shape != other.shape:
            raise RunError(f"one way gives {tuple(one.shape)} and the other {tuple(other.shape)}")
        if one.dim() == 2:
            between = (one[:, None] - other).abs().amax(-1)
            distance = torch.cat((between.amin(0), between.amin(1))).max()
        else:
            distance = (one - other).abs().max()
        worst = max(worst, float(distance / other.abs().max()))
    return worst


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes, until the device has finished."""
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def peak_mib(call: Callable[[], object], device: torch.device) -> float | None:
    """Return how much memory a call takes beyond what is held before it; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: give back what is free, so that it counts when it is taken again
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
        before = status_mib("VmRSS")
        call()
        return max(status_mib("VmHWM") - before, 0.0)
    except (OSError, ValueError, AttributeError):
        return None


def status_mib(name: str) -> float:
    """Return a line of the process's status in MiB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


def measure(what: What, ways: Ways, rounds: int, device: torch.device) -> Row:
    """Compare both ways, then time them by turns.

    Raises:
        RunError: their answers differ, though their inputs are the same.
    """
    ours, theirs = ways
    distance = apart(ours(), theirs())
    if what.kind != "shapes" and distance > RELATIVE[what.dtype]:
        raise RunError(f"{what.kind}, {what.cfg}: the two answers differ by {distance:.2g} of the largest value")
    memory = [peak_mib(way, device) for way in ways]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            spent.append(milliseconds(way, device))
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    medians, fastest = [statistics.median(spent) for spent in times], [min(spent) for spent in times]
    return Row(what, *medians, *fastest, ratio, distance, *memory)


def rows_of(case: Case, options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Measure everything of one model at one size."""
    peers = build_peers(case, options.attention, device)
    for dtype in options.dtype:
        reduced = autocast_dtype(device, dtype if options.force_dtype or dtype == "float32" else "auto")
        if dtype == "bfloat16" and reduced is not torch.bfloat16:
            print(f"bfloat16: this {device.type.upper()} does not compute in it, so there is no row", flush=True)
            continue
        with torch.autocast(device.type, reduced, enabled=reduced is not None):
            for kind, batch in runs(options):
                if kind == "network":
                    ways = network_ways(peers, case, batch, device)
                else:
                    ways = whole_ways(peers, case, pictures(case, batch, kind == "shapes"), reduced, device)
                size, attention = f"{case.height}x{case.width}", attention_of(peers.theirs)
                what = What(kind, case.cfg, size, batch, dtype, attention)
                yield measure(what, ways, options.rounds, device)


def runs(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Yield the rows to measure; one picture alone has no other shapes beside it."""
    for kind in options.kinds:
        yield from ((kind, batch) for batch in options.batch_size if kind != "shapes" or batch > 1)


def describe(row: Row) -> str:
    """Return a row for people."""
    what, memory = row.what, ""
    if row.ours_mib is not None and row.theirs_mib is not None:
        memory = f", {row.ours_mib:.0f} and {row.theirs_mib:.0f} MiB"
    return (
        f"{what.kind}, {what.cfg} {what.input}, batch {what.batch}, {what.dtype}, theirs with {what.attention}: "
        f"ours {row.ours_ms:.0f} ms (fastest {row.ours_fastest_ms:.0f}), "
        f"theirs {row.theirs_ms:.0f} ms ({row.theirs_fastest_ms:.0f}), {row.ratio:.2f} times as fast; "
        f"answers {row.apart:.1g} apart{memory}"
    )


@torch.inference_mode()
def main() -> None:
    """Measure every case, print its rows, and write them as JSON where that is asked for."""
    options = parse_options()
    device = select_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers_yolos()
    import transformers

    warnings.filterwarnings("ignore", module="transformers")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = (
        f"{platform.machine()}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    command = f"python -m benchmarks.yolos_inference {' '.join(sys.argv[1:])}".rstrip()
    print(command, machine, sep="\n", flush=True)
    rows = []
    for case in options.cases:
        for row in rows_of(case, options, device):
            rows.append(row)
            print(describe(row), flush=True)
    if options.json:
        result = {"command": command, "machine": machine, "rows": [asdict(row) for row in rows]}
        atomic_write(Path(options.json), (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
