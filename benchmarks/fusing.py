"""What folding BatchNorm brings: ``python -m benchmarks.fusing`` times one model with and without it, by turns."""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch

from models.fusing import fuse_graph
from models.graph import load_graph
from utils.devices import autocast_dtype, select_device
from utils.errors import run_command


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.fusing", description=__doc__)
    parser.add_argument("--cfg", default="yolov5s.yaml", help="model YAML (default %(default)s)")
    parser.add_argument(
        "--img-size", type=int, default=640, help="both sides of the input, pixels (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per pass (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--rounds", type=int, default=30, help="timed passes of each (default %(default)s)")
    return parser.parse_args()


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes, until the device has finished."""
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


@torch.inference_mode()
def main() -> None:
    """Time both in turns, so that a busy machine slows both, and print medians and the median of the pairs' ratios."""
    options = parse_options()
    device = select_device(options.device)
    dtype = autocast_dtype(device, options.dtype)
    plain = load_graph(options.cfg).eval().to(device).to(memory_format=torch.channels_last)
    fused = fuse_graph(copy.deepcopy(plain))
    shape = options.batch_size, options.img_size, options.img_size, 3
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    times: dict[str, list[float]] = {"plain": [], "fused": []}
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        for number in range(options.rounds + 3):
            for name, graph in (("plain", plain), ("fused", fused)):
                spent = milliseconds(lambda graph=graph: graph(images), device)
                if number >= 3:
                    times[name].append(spent)
    ratio = statistics.median(a / b for a, b in zip(times["plain"], times["fused"], strict=True))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"python -m benchmarks.fusing {' '.join(sys.argv[1:])}")
    print(f"{platform.machine()}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, spent in times.items():
        print(f"{name}: {statistics.median(spent):.1f} ms (fastest {min(spent):.1f})")
    print(f"fused is {ratio:.2f} times as fast")


if __name__ == "__main__":
    run_command(main)
