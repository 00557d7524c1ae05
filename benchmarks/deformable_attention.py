"""How fast deformable attention is: ``python -m benchmarks.deformable_attention`` times ours beside transformers'.

Both have the same seeded weights and inputs, of a picture of 800 x 1066 pixels, and are compared before they are timed,
gradients included; but for whole steps, whose networks begin with weights of their own. Rows:

- ``sum``: weighted sums of values at places alone, in every form of ours (``models.layers.deformable_attention``);
- ``attention``: with its linear layers;
- ``layer``: a whole layer of the encoder;
- ``step``: a training step (loss, gradients, clipping, AdamW) of whole networks without dropout on one picture with
  seven objects.

The queries of the encoder are all tokens, those of the decoder 300 boxes. Time of the processor stands beside that of
the clock, which means little on a busy machine. All figures are medians, and all ways take turns. Memory is what a pass
takes at its peak beyond what was held before.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.deformable_peers import (
    THEIRS,
    Way,
    attention_ways,
    layer_ways,
    level_shapes,
    made_up_inputs,
    step_ways,
    sum_ways,
    transformers_detr,
)
from benchmarks.yolos_inference import peak_mib
from utils.devices import select_device
from utils.errors import RunError, UsageError, run_command
from utils.files import atomic_write

KINDS = {"sum": sum_ways, "attention": attention_ways, "layer": layer_ways}
PASSES = {"forward": False, "forward+backward": True}
RELATIVE = {"forward": 1e-3, "forward+backward": 1e-2}
"""How far answers may be apart, see ``apart``."""


@dataclass
class Row:
    """What was measured of one way; times are milliseconds.

    Attributes:
        kind: of the row.
        queries: ``encoder`` or ``decoder``.
        passes: forward, or forward and backward.
        way: a form of ours, a network of ours, or transformers.
        processor_ms: processor time of a pass.
        clock_ms: time of the clock.
        faster: how many times as fast as transformers, by processor time on a CPU, else by the clock.
        mib: memory at the peak; None where the system does not tell.
    """

    kind: str
    queries: str
    passes: str
    way: str
    processor_ms: float
    clock_ms: float
    faster: float
    mib: float | None


def parse_options() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a number is below 1, or the size does not read.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.deformable_attention", description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", default="800x1066", help="height x width of the picture (default %(default)s)")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, "step"], choices=[*KINDS, "step"], help="rows (all)")
    parser.add_argument("--queries", nargs="+", default=["encoder", "decoder"], choices=["encoder", "decoder"])
    parser.add_argument("--threads", type=int, default=0, help="threads on a CPU, 0 for as many as there are cores")
    parser.add_argument("--device", default="", help="cpu, or the number of a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each way (default %(default)s)")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    sides = options.size.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) >= 64 for side in sides):
        raise UsageError(f"--size {options.size}: write height and width of at least 64 pixels, such as 800x1066")
    if options.rounds < 1 or options.threads < 0:
        raise UsageError("--rounds is 1 or more and --threads 0 or more")
    options.size = tuple(int(side) for side in sides)
    return options


def apart(first: list[Tensor], second: list[Tensor]) -> float:
    """Return by how much two answers differ: the largest share that a tensor's difference has in its norm.

    At the border of two cells the gradient of a place jumps, so that single numbers of it may differ by rounding alone.
    """
    pairs = list(zip(first, second, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        raise RunError(f"answers differ in shape: {[tuple(one.shape) for pair in pairs for one in pair]}")
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def timed(way: Way, device: torch.device) -> tuple[float, float]:
    """Return milliseconds of the processor and of the clock that one pass takes, until the device has finished."""
    processor, clock = time.process_time(), time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.process_time() - processor), 1000 * (time.perf_counter() - clock)


def compare(head: tuple[str, str, str], answers: dict[str, list[Tensor]]) -> None:
    """Hold the answers of a row against that of transformers.

    Raises:
        RunError: they differ.
    """
    for name, answer in answers.items():
        distance = apart(answer, answers[THEIRS])
        if not distance <= RELATIVE[head[2]]:
            raise RunError(f"{', '.join(head)}: {name} and {THEIRS} differ by {distance:.2g} of their norm")


def measure(head: tuple[str, str, str], ways: dict[str, Way], rounds: int, device: torch.device) -> Iterator[Row]:
    """Compare the ways of a row where they do the same, then time them by turns.

    Raises:
        RunError: their answers differ.
    """
    if head[0] != "step":
        compare(head, {name: way() for name, way in ways.items()})
    memory = {name: peak_mib(way, device) for name, way in ways.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(timed(way, device))
    column = 1 if device.type == "cuda" else 0
    for name in ways:
        processor, clock = (statistics.median(times[i] for times in spent[name]) for i in (0, 1))
        faster = statistics.median(b[column] / a[column] for a, b in zip(spent[name], spent[THEIRS], strict=True))
        yield Row(*head, name, processor, clock, faster, memory[name])


def rows_of(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Measure all that is asked for."""
    shapes = level_shapes(*options.size)
    for kind, ways in KINDS.items():
        if kind not in options.kinds:
            continue
        for queries in options.queries if kind != "layer" else ("encoder",):
            for name, learns in PASSES.items():
                given = made_up_inputs(shapes, queries, device)
                yield from measure((kind, queries, name), ways(given, learns), options.rounds, device)
    if "step" in options.kinds:
        yield from measure(
            ("step", "both", "forward+backward"), step_ways(*options.size, device), options.rounds, device
        )


def describe(row: Row) -> str:
    """Return a line of a Markdown table."""
    memory = "" if row.mib is None else f"{row.mib:.0f}"
    numbers = f"{row.processor_ms:.0f} | {row.clock_ms:.0f} | {row.faster:.2f} | {memory}"
    return f"| {row.kind} | {row.queries} | {row.passes} | {row.way} | {numbers} |"


def main() -> None:
    """Measure every row, print it, and write all of them as JSON where that is asked for."""
    options = parse_options()
    device = select_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers_detr()
    import transformers

    warnings.filterwarnings("ignore", module="transformers")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = (
        f"{platform.machine()}, {where}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    command = f"python -m benchmarks.deformable_attention {' '.join(sys.argv[1:])}".rstrip()
    print(command, machine, "", sep="\n")
    print("| row | queries | passes | way | processor, ms | clock, ms | times as fast | memory, MiB |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    rows = []
    for row in rows_of(options, device):
        rows.append(row)
        print(describe(row), flush=True)
    if options.json:
        result = {"command": command, "machine": machine, "rows": [asdict(row) for row in rows]}
        atomic_write(Path(options.json), (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
