"""How fast a training step is: ``python -m benchmarks.train_throughput`` times ours against a plain loop, by turns.

A step is everything between two changes of the weights, data loading included: as many batches as make a nominal batch,
their passes, the update, the average. ``ours`` is what ``train.py`` does. ``plain`` is a loop as people begin with:
float32, contiguous tensors, an optimizer and an average that go from tensor to tensor, losses read after every batch.
Both have the same model, losses and loader. Steps alternate, so that a busy machine slows both, and the order changes
from round to round; figures are medians, and the ratio is the median of each round's ratio.

The share of waiting is what a step takes longer than one whose batches were made before.

Under ``torchrun`` ours is the run of all processes, whose images are added up; the plain loop runs in the first process
alone, with the threads of all of them, while the others wait. ``--batch-size`` is that of all processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.samples import Batch
from utils.distributed import World, start_world
from utils.errors import UsageError, run_command
from utils.files import atomic_write
from utils.schedules import ema_decay
from utils.training.assembly import assemble
from utils.training.options import parse_train_options
from utils.training.parts import Parts
from utils.training.setup import prepare_run
from utils.training.tasks import TrainTask

Batches = dict[str, list[Batch]]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.train_throughput", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cfg", default="yolov5s.yaml", help="model YAML (default %(default)s)")
    parser.add_argument("--data", default="embedded.yaml", help="data YAML (default %(default)s)")
    parser.add_argument("--hyp", default="hyp.scratch", help="recipe (default %(default)s)")
    parser.add_argument("--img-size", type=int, nargs="+", default=[320, 640], help="sizes in pixels")
    parser.add_argument("--batch-size", type=int, default=16, help="images per batch (default %(default)s)")
    parser.add_argument("--batches", type=int, default=4, help="batches per step and head (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each (default %(default)s)")
    parser.add_argument("--workers", type=int, help="data workers (default: 0 on the CPU, whose cores compute, else 8)")
    parser.add_argument("--cache", default="ram", choices=("none", "ram", "disk", "device"), help="default %(default)s")
    parser.add_argument("--dtype", default="auto", help="format of our forward passes (default %(default)s)")
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--compile", action="store_true", help="our side with torch.compile")
    parser.add_argument("--without-plain", action="store_true", help="time our side alone")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    for name in ("batch_size", "batches", "rounds"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, but is {getattr(options, name)}")
    return options


def open_parts(options: argparse.Namespace, size: int, folder: str, world: World) -> Parts:
    """Put together what ``train.py`` would train with; the run's folder is a temporary one."""
    workers = options.workers
    if workers is None:
        workers = 0 if world.device.type == "cpu" else 8
    words = f"--img-size {size} --batch-size {options.batch_size} --workers {workers} --dtype {options.dtype} --noplots"
    arguments = [*words.split(), "--cfg", options.cfg, "--data", options.data, "--hyp", options.hyp]
    arguments += ["--project", folder, "--device", options.device, "--noval"]
    arguments += ["--cache", options.cache] if options.cache != "none" else []
    arguments += ["--compile"] if options.compile else []
    return assemble(prepare_run(parse_train_options(arguments), None, world), world)


class Ours:
    """The step of ``train.py``.

    Args:
        parts: of a run.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        parts.graph.train()

    def step(self, batches: Batches) -> None:
        """Make one step and what the loop does after it."""
        parts = self.parts
        record, _ = parts.stepper.step(batches, (False, False))
        parts.meter.add(record.parts)
        parts.health.add(record)
        if parts.health.is_due:
            parts.health.read()


class Plain:
    """A loop in float32 without anything that makes it fast.

    Args:
        parts: whose model, losses and learning rates to take over; its model is copied.
    """

    def __init__(self, parts: Parts) -> None:
        self.device, self.tasks = parts.device, parts.tasks
        # A copy of a compiled graph is not compiled.
        self.model = copy.deepcopy(parts.graph).to(memory_format=torch.contiguous_format).train()
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = plain_optimizer(self.model, parts.optimizer)
        self.criteria = {task.name: copy.deepcopy(task.criterion) for task in parts.tasks}
        self.updates = 0
        self.losses: list[float] = []

    def step(self, batches: Batches) -> None:
        """Make one step."""
        targets = {t.name: [self.criteria[t.name].prepare(batch) for batch in batches[t.name]] for t in self.tasks}
        totals = {name: sum(each.normalizers for each in listed) for name, listed in targets.items()}
        images = {name: sum(len(batch) for batch in listed) for name, listed in batches.items()}
        for turn in range(max(len(listed) for listed in batches.values())):
            for task in self.tasks:
                if turn < len(batches[task.name]):
                    prepared = targets[task.name][turn].to(self.device)
                    self._pass(task, batches[task.name][turn], prepared, totals[task.name], images[task.name])
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0, foreach=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._follow()

    def _pass(self, task: TrainTask, batch: Batch, targets: Any, totals: Tensor, images: int) -> None:
        x = batch.images.to(self.device).contiguous().float() / 255
        parts = self.criteria[task.name](self.model(x, heads=(task.name,))[task.name], targets, totals)
        loss = sum(parts[name] for name in task.head.loss_names) * (task.gain * images)
        loss.backward()
        self.losses.append(loss.item())

    @torch.no_grad()
    def _follow(self) -> None:
        self.updates += 1
        decay = ema_decay(self.updates)
        live = self.model.state_dict()
        for name, tensor in self.average.state_dict().items():
            if tensor.is_floating_point():
                tensor.mul_(decay).add_(live[name], alpha=1 - decay)


def plain_optimizer(model: nn.Module, ours: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer of the same kind that goes through the parameters one by one."""
    rate = ours.param_groups[0]["lr"]
    if isinstance(ours, torch.optim.SGD):
        return torch.optim.SGD(model.parameters(), rate, 0.937, nesterov=True, weight_decay=5e-4, foreach=False)
    return type(ours)(model.parameters(), rate, foreach=False, fused=False)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long some work takes, until the device has finished."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(options: argparse.Namespace, size: int, world: World) -> dict[str, Any]:
    """Return the figures of one size."""
    device = world.device
    with tempfile.TemporaryDirectory() as folder:
        parts = open_parts(options, size, folder, world)
        rounds = parts.turns.rounds
        parts.rates.apply(parts.optimizer, 0)
        sides: dict[str, Ours | Plain | None] = {"ours": Ours(parts)}
        if not options.without_plain:
            sides["plain"] = Plain(parts) if world.rank == 0 else None
        done = 0

        def draw() -> Batches:
            nonlocal done
            first = done if done + options.batches <= rounds else 0
            done = first + options.batches
            return parts.draw(first, options.batches)

        for side in sides.values():
            for _ in range(2 if side is not None else 0):
                side.step(draw())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            sides["ours"].step(draw())
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(options.rounds):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                rates[name].append(images_per_second(sides[name], draw, world))
        waiting = share_of_waiting(sides["ours"], draw, options.rounds, device)
        parts.close()
    figures: dict[str, Any] = {"size": size, "dtype": str(parts.dtype or torch.float32).removeprefix("torch.")}
    figures |= {f"{name}_images_per_second": statistics.median(found) for name, found in rates.items()}
    if "plain" in rates:
        figures["ratio"] = statistics.median(a / b for a, b in zip(rates["ours"], rates["plain"], strict=True))
    return figures | {"waiting_share": waiting, "peak_memory_gib": peak}


def images_per_second(side: Ours | Plain | None, draw: Callable[[], Batches], world: World) -> float:
    """Return how many images of all processes a step of one side makes in a second; None is no side of this process."""
    counted = [0]

    def work() -> None:
        if side is not None:
            with all_threads(world.size if isinstance(side, Plain) else 1):
                counted[0] = run(side, draw)
        world.sum_over_ranks([torch.zeros(1)])

    world.sum_over_ranks([torch.zeros(1)])
    spent = seconds(work, world.device)
    return float(world.sum_over_ranks([torch.tensor(float(counted[0]))])[0]) / spent


@contextmanager
def all_threads(times: int) -> Iterator[None]:
    """Let a process compute on several times its threads for a while, as when it has the machine to itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(before * times)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(side: Ours | Plain, draw: Callable[[], Batches]) -> int:
    """Make a step with fresh batches and return how many images it had."""
    batches = draw()
    side.step(batches)
    return sum(len(batch) for listed in batches.values() for batch in listed)


def share_of_waiting(side: Ours | Plain, draw: Callable[[], Batches], steps: int, device: torch.device) -> float:
    """Return by what share of its time a run of steps is longer than the same steps with batches made before."""
    whole, made = [], []
    for _ in range(steps):
        whole.append(seconds(lambda: run(side, draw), device))
        batches = draw()
        made.append(seconds(lambda batches=batches: side.step(batches), device))
    return max(0.0, 1 - statistics.median(made) / statistics.median(whole))


def machine(world: World) -> str:
    """Return the processor, the cores this process may use, and the versions that matter."""
    device = world.device
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    capability = torch.backends.cpu.get_cpu_capability()
    threads = f"{torch.get_num_threads() * world.size} threads in {world.size} process(es)"
    return f"{name}, {threads}, {capability}, torch {torch.__version__}{load}"


def main() -> None:
    """Measure every size, and print and write the figures."""
    options = parse_options()
    logging.getLogger("yolograph").setLevel(logging.WARNING)
    command = " ".join(["python -m benchmarks.train_throughput", *sys.argv[1:]])
    with start_world(options.device) as world:
        where = machine(world)
        first = world.rank == 0
        if first:
            print(f"{command}\n{where}", flush=True)
        results = []
        for size in options.img_size:
            figures = measure(options, size, world)
            results.append(figures)
            if first:
                print(describe(figures), flush=True)
    if options.json and first:
        content = {"command": command, "machine": where, "results": results}
        atomic_write(Path(options.json), json.dumps(content, indent=2).encode())


def describe(figures: dict[str, Any]) -> str:
    """Return the figures of one size in one line."""
    text = f"{figures['size']} px: ours {figures['ours_images_per_second']:.1f} images/s in {figures['dtype']}"
    if "ratio" in figures:
        text += f", plain {figures['plain_images_per_second']:.1f}, ratio {figures['ratio']:.2f}"
    text += f", {100 * figures['waiting_share']:.0f} % of our time goes into data"
    if figures["peak_memory_gib"] is not None:
        text += f", peak memory {figures['peak_memory_gib']:.2f} GiB"
    return text


if __name__ == "__main__":
    run_command(main)
