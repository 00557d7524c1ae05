"""A validation dealt over several processes measures what one process measures, to the last bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from data.config import load_data_config
from models.graph import Graph, load_graph
from tests.conftest import write_tiny_set
from tests.processes import in_processes, results_of
from utils.distributed import World
from utils.errors import DataError, StoppedRun
from utils.metrics import EVALUATORS
from utils.training.tasks import open_datasets
from utils.validation import HeadTest, build_tests, validate

CPU = torch.device("cpu")


def prepare(world: World, model: str, data: str, batch_size: int = 2) -> tuple[Graph, dict[str, HeadTest]]:
    torch.manual_seed(0)
    graph = load_graph(model).eval()
    datasets = open_datasets(graph, load_data_config(data), "val")
    tests = build_tests(graph, datasets, 96, 96, batch_size, 0, share=(world.rank, world.size))
    return graph, tests


def measure(world: World, model: str, data: str, batch_size: int = 2) -> dict[str, Any]:
    graph, tests = prepare(world, model, data, batch_size)
    evaluators = validate(graph, tests, CPU, None, world)
    found = {name: (e.compute(), e.per_class(), e.fitness(), e.state()) for name, e in evaluators.items()}
    return found | {"images": {name: test.speed.images for name, test in tests.items()}}


def damage(data: Path, *numbers: int) -> None:
    """Cut images off."""
    for number in numbers:
        path = data.parent / "images/val" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(("processes", "batch_size"), [(2, 2), (3, 5), (5, 4)])
def test_metrics_are_those_of_one_process_to_the_bit(
    processes: int, batch_size: int, tiny_model: Path, tiny_data: Path
) -> None:
    arguments = (str(tiny_model), str(tiny_data), batch_size)
    whole = measure(World(), *arguments)
    first, *others = results_of(processes, measure, *arguments)
    assert whole["detect"][0]["AP"] >= 0 and whole["segment"][2] > 0
    for name in ("detect", "segment"):
        assert first[name][:3] == whole[name][:3]
        assert sum(found["images"][name] for found in (first, *others)) == 12
        assert all(name not in found for found in others), "the results are with the first process"
    ids = [record.id for record in first["detect"][3]]
    assert ids == [record.id for record in whole["detect"][3]], "images come in the order of one process"


def test_evaluators_of_every_kind_can_be_joined() -> None:
    assert all(hasattr(kind, "state") and hasattr(kind, "merge") for kind in EVALUATORS.values())


def measure_damaged(world: World, model: str, data: str, batch_size: int, numbers: list[int]) -> dict[str, Any]:
    """Validate twice after some images were damaged; return ids, what was warned of, and the metrics."""
    graph, tests = prepare(world, model, data, batch_size)
    world.barrier()
    if world.rank == 0:
        damage(Path(data), *numbers)
    world.barrier()
    with warnings_caught() as warned:
        evaluators = [validate(graph, tests, CPU, None, world) for _ in range(2)][1]
    ids = {name: [Path(record.id).name for record in e.state()] for name, e in evaluators.items() if name == "detect"}
    return {"ids": ids, "warned": warned, "metrics": {name: e.compute() for name, e in evaluators.items()}}


@contextmanager
def warnings_caught() -> Iterator[list[str]]:
    caught: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: caught.append(record.getMessage())
    logger = logging.getLogger("yolograph")
    logger.addHandler(handler)
    try:
        yield caught
    finally:
        logger.removeHandler(handler)


def test_an_unreadable_image_in_any_share_is_told_once(tiny_model: Path, tmp_path: Path) -> None:
    copies = [str(write_tiny_set(tmp_path / name)) for name in ("one", "two")]
    whole = measure_damaged(World(), str(tiny_model), copies[0], 2, [1, 10])
    first, second = results_of(2, measure_damaged, str(tiny_model), copies[1], 2, [1, 10])
    assert first["metrics"] == whole["metrics"]
    assert first["ids"] == whole["ids"] and len(first["ids"]["detect"]) == 10
    for number in (1, 10):
        told = [text for text in first["warned"] if f"{number:03d}.png" in text]
        assert len(told) == 2, "once per head, whichever process met it, and not again in the second validation"
        assert len(told) == len([text for text in whole["warned"] if f"{number:03d}.png" in text])
    assert second["warned"] == []


def test_a_share_may_be_unreadable_but_not_the_whole_test(tmp_path: Path, tiny_model: Path) -> None:
    data = str(write_tiny_set(tmp_path / "few", images=4))
    first, _ = results_of(2, measure_damaged, str(tiny_model), data, 1, [0, 1])
    assert first["ids"]["detect"] == ["002.png", "003.png"]
    again = str(write_tiny_set(tmp_path / "none", images=4))
    ended = in_processes(2, measure_damaged, str(tiny_model), again, 1, [0, 1, 2, 3])
    assert [entry.exit_code for entry in ended] == [DataError.exit_code] * 2
    spoken = [line for entry in ended for line in entry.stderr.splitlines() if line.startswith("error:")]
    assert len(spoken) == 1 and "000.png" in spoken[0]


def stop_in_one(world: World, model: str, data: str) -> str:
    graph, tests = prepare(world, model, data, 1)
    try:
        validate(graph, tests, CPU, None, world, is_stopping=lambda: world.rank == 1)
    except StoppedRun:
        # What the loop does next: everybody talks again, in step.
        return f"stopped {world.gather_objects(world.rank)}"
    return "not stopped"


def test_a_signal_to_one_process_stops_the_validation_of_all(tiny_model: Path, tiny_data: Path) -> None:
    assert results_of(2, stop_in_one, str(tiny_model), str(tiny_data)) == ["stopped [0, 1]"] * 2
