"""What ``--cache device`` brings: ``python -m benchmarks.device_loader`` times it against worker processes.

Both make the same detection batches, with mosaic, warp, colour and flips, out of one data set, one loader after the
other, the workers' after a pass that fills their cache. Nothing is trained: figures are how fast batches can come.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Iterator

import torch

from data.config import load_data_config
from data.dataset import TaskDataset
from data.device_loader import build_device_loader, device_bytes, why_not_on_device
from data.loader import TrainLoader, build_train_loader
from data.samples import Batch
from data.transforms.detection import DetectionTrainTransform
from utils.devices import select_device
from utils.errors import DataError, UsageError, run_command
from utils.recipe import load_recipe


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.device_loader", description=__doc__)
    parser.add_argument("--data", default="embedded.yaml", help="data YAML with boxes (default %(default)s)")
    parser.add_argument("--hyp", default="hyp.scratch", help="recipe (default %(default)s)")
    parser.add_argument("--img-size", type=int, default=640, help="side of a sample, pixels (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="samples per batch (default %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="worker processes (default %(default)s)")
    parser.add_argument("--cache", default="ram", choices=("none", "ram", "disk"), help="of the workers' loader")
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--images", type=int, default=256, help="timed images per round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each loader (default %(default)s)")
    options = parser.parse_args()
    for name in ("img_size", "batch_size", "images", "rounds"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, but is {getattr(options, name)}")
    return options


def images_per_second(batches: Iterator[Batch], images: int, device: torch.device) -> float:
    """Take batches until they hold enough images, each moved to the device, and return the rate."""
    started, taken = time.perf_counter(), 0
    while taken < images:
        batch = next(batches)
        batch.images.to(device, non_blocking=True)
        taken += len(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return taken / (time.perf_counter() - started)


def measure(loader: TrainLoader, warm_up: int, images: int, rounds: int, device: torch.device) -> list[float]:
    """Return the rates of so many rounds, after some batches and one more round that uses up what was made ahead."""
    stream = loader.stream(0)
    for _ in range(warm_up):
        next(stream)
    rates = [images_per_second(stream, images, device) for _ in range(rounds + 1)]
    loader.close()
    return rates[1:]


def main() -> None:
    """Time both loaders and print medians and their ratio."""
    options = parse_options()
    device = select_device(options.device)
    task = load_data_config(options.data).for_head("detect", "detect")
    dataset = TaskDataset(task, "train", None if options.cache == "none" else options.cache)
    transform = DetectionTrainTransform(load_recipe(options.hyp), options.img_size)
    needed = device_bytes(dataset, transform)
    # On the CPU nobody would want it, but it can be measured.
    if device.type == "cuda" and (reason := why_not_on_device(needed, device)):
        raise DataError(reason)
    started = time.perf_counter()
    # Opened for itself, so that no cache of the workers' loader helps it.
    on_device = build_device_loader(TaskDataset(task, "train"), transform, options.batch_size, 0, device)
    decoding = time.perf_counter() - started
    dataset.reserve_memory(options.img_size)
    with_workers = build_train_loader(dataset, transform, options.batch_size, options.workers, 0)
    rates = {
        "device": measure(on_device, 2, options.images, options.rounds, device),
        "workers": measure(with_workers, len(with_workers), options.images, options.rounds, device),
    }
    ratio = statistics.median(rates["device"]) / statistics.median(rates["workers"])
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"python -m benchmarks.device_loader {' '.join(sys.argv[1:])}")
    print(f"{platform.machine()}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{len(dataset)} pictures at {options.img_size} px on {device}: {needed / 1e6:.0f} MB, {decoding:.1f} s")
    for name, rate in rates.items():
        print(f"{name}: {statistics.median(rate):.0f} images per second (best {max(rate):.0f})")
    print(f"device is {ratio:.2f} times as fast")


if __name__ == "__main__":
    run_command(main)
