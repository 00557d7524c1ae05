"""Memory of training: it does not grow with the steps, and a batch pays for its own head alone."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.utils.training.test_step import make_stepper

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident_bytes() -> int:
    """Return the main memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to tell the resident memory")
def test_resident_memory_does_not_grow_over_two_hundred_steps(tiny_model: Path, tiny_data: Path) -> None:
    stepper, tasks = make_stepper(tiny_model, tiny_data, 2)
    streams = {task.name: task.loader.stream() for task in tasks}

    def steps(count: int) -> int:
        for _ in range(count):
            stepper.step({name: [next(stream)] for name, stream in streams.items()})
        gc.collect()
        return resident_bytes()

    before = steps(50)
    assert steps(200) - before < 8e6


class Allocations(TorchDispatchMode):
    """Counts the bytes of all new tensors, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and value._base is None:
                self.bytes += value.numel() * value.element_size()
        return result


def test_a_detection_batch_allocates_nothing_for_segmentation(tiny_model: Path, tiny_data: Path) -> None:
    both = tiny_model.read_text()
    alone = tiny_model.with_name("alone.yaml")
    alone.write_text("\n".join(line for line in both.splitlines() if "SegMaskBase" not in line))
    counted = []
    for model in (tiny_model, alone):
        stepper, tasks = make_stepper(model, tiny_data, 4)
        batch = next(next(task for task in tasks if task.name == "detect").loader.batches(0))
        with Allocations() as found:
            raw = stepper.graph(batch.images, heads=("detect",))["detect"]
            sum(level.square().sum() for level in raw).backward()
        counted.append(found.bytes)
    assert counted[0] == counted[1] > 1e6
