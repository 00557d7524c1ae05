"""Tasks: data sets of unequal length, resumable streams, gains and objects."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from data.config import load_data_config
from data.dataset import TaskDataset
from data.sample_key import SampleKey
from data.transforms.detection import DetectionTrainTransform
from data.transforms.rtmdet import RTMDetTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from data.transforms.yolox import YOLOXTrainTransform
from models.graph import Graph, load_graph
from tests.conftest import write_tiny_set
from utils.distributed import World
from utils.errors import ModelError
from utils.recipe import DEFAULTS
from utils.training.options import default_options
from utils.training.tasks import (
    TrainTask,
    build_tasks,
    crop_size,
    fit_heads_to_objects,
    object_sizes,
    open_datasets,
    plan_turns,
    train_transform,
    weights_of_fitness,
)


@pytest.fixture
def tasks(tiny_model: Path, tmp_path: Path) -> list[TrainTask]:
    """A detection set of nine images and a segmentation set of four."""
    write_tiny_set(tmp_path / "boxes", images=9)
    write_tiny_set(tmp_path / "masks", images=4, seed=1)
    data = tmp_path / "two.yaml"
    data.write_text(
        "detect: {train: boxes/images/train, val: boxes/images/val, names: [red, green, blue]}\n"
        "segment: {train: masks/images/train, val: masks/images/val, names: [ground, red, green, blue]}\n"
    )
    graph = load_graph(tiny_model)
    return tasks_of(graph, open_datasets(graph, load_data_config(data), "train"), DEFAULTS)


def tasks_of(graph: Graph, datasets: dict[str, TaskDataset], hyp: dict, **given: object) -> list[TrainTask]:
    options = default_options()
    vars(options).update(img_size=[96], batch_size=2, workers=0, **given)
    return build_tasks(graph, datasets, hyp, options, World(), plan_turns(datasets, hyp, 2))


def test_the_longer_set_is_not_cut_and_the_shorter_one_cycles(tasks: list[TrainTask]) -> None:
    segment, detect = tasks
    assert [len(task.loader) for task in tasks] == [2, 5]
    seen = [name for batch in itertools.islice(detect.loader.stream(0), 5) for name in batch.ids]
    assert len(set(seen)) == 9
    seen = [name for batch in itertools.islice(segment.loader.stream(0), 4) for name in batch.ids]
    assert sorted(seen[:4]) == sorted(seen[4:])
    assert len(set(seen)) == 4


def test_order_changes_from_pass_to_pass(tasks: list[TrainTask]) -> None:
    detect = tasks[1]
    ids = [name for batch in itertools.islice(detect.loader.stream(0), 15) for name in batch.ids]
    passes = [ids[i : i + 9] for i in (0, 9, 18)]
    assert passes[0] != passes[1] != passes[2]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(passes[2])


@pytest.mark.parametrize("first", [1, 4, 5, 7])
def test_a_stream_goes_on_from_anywhere(first: int, tasks: list[TrainTask]) -> None:
    whole = list(itertools.islice(tasks[1].loader.stream(0), 12))[first:]
    resumed = list(itertools.islice(tasks[1].loader.stream(first), 12 - first))
    assert all(torch.equal(a.images, b.images) and a.ids == b.ids for a, b in zip(whole, resumed, strict=True))


def test_skipped_images_are_told_once_and_none_is_lost(tasks: list[TrainTask]) -> None:
    detect = tasks[1]
    unreadable = Path(detect.dataset.ids[3])
    unreadable.write_bytes(b"")
    list(itertools.islice(detect.loader.stream(0), 7))
    (message,) = detect.new_skips()
    assert unreadable.name in message
    list(itertools.islice(detect.loader.stream(0), 11))
    assert detect.new_skips() == []


def test_gains_of_unknown_heads_are_refused(tasks: list[TrainTask], tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    datasets = {task.name: task.dataset for task in tasks}
    with pytest.raises(ModelError, match=r"'detekt'.*Did you mean 'detect'"):
        tasks_of(graph, datasets, {**DEFAULTS, "gains": {"detekt": 0.5}})
    built = tasks_of(graph, datasets, {**DEFAULTS, "gains": {"detect": 0.6}})
    assert {task.name: task.gain for task in built} == {"segment": 1.0, "detect": 0.6}


def test_crops_have_the_usual_shape_of_the_images() -> None:
    assert crop_size(np.array([[360, 480]] * 3 + [[480, 360]]), 320, 32) == (256, 320)
    assert crop_size(np.array([[100, 50]]), 320, 32) == (320, 160)
    assert crop_size(np.array([[64, 64]]), 320, 32) == (320, 320)


def test_object_sizes_are_pixels_at_training_size(tasks: list[TrainTask]) -> None:
    dataset = tasks[1].dataset
    sizes = object_sizes(dataset, 192)
    first = dataset.load(0)
    assert np.allclose(sizes[: len(first.boxes)], 2 * (first.boxes[:, 2:] - first.boxes[:, :2]), atol=1e-3)


def test_anchors_that_do_not_fit_are_replaced(tasks: list[TrainTask], tiny_model: Path) -> None:
    tiny_model.write_text(tiny_model.read_text().replace("[8, 8, 16, 16]", "[200, 200, 220, 220]"))
    tiny_model.write_text(tiny_model.read_text().replace("[24, 24, 40, 40]", "[300, 300, 400, 400]"))
    graph = load_graph(tiny_model)
    changes = fit_heads_to_objects(graph, {task.name: task.dataset for task in tasks}, DEFAULTS, 96, 0)
    row = graph.head_rows["detect"]
    fitted = np.array(changes[row][1])
    assert fitted.shape == (2, 4)
    assert (fitted > 5).all() and (fitted < 40).all()
    assert graph.spec.with_argument(row, 1, changes[row][1]).rows[row].args[1] == changes[row][1]


@pytest.mark.parametrize(
    ("augment", "kind"),
    [("yolov5", DetectionTrainTransform), ("yolox", YOLOXTrainTransform), ("rtmdet", RTMDetTrainTransform)],
)
def test_the_recipe_chooses_the_pipeline_of_boxes_and_leaves_that_of_masks(
    augment: str, kind: type, tasks: list[TrainTask], tiny_model: Path
) -> None:
    graph, hyp = load_graph(tiny_model), {**DEFAULTS, "augment": augment, "mixup": 1.0}
    made = {task.name: train_transform(graph.heads[task.name], task.dataset, hyp, 96, 96, graph) for task in tasks}
    assert type(made["detect"]) is kind and type(made["segment"]) is SegmentationTrainTransform
    sample = made["detect"](tasks[1].dataset, SampleKey(0, 2), np.random.default_rng(0))
    assert sample.image.shape == (96, 96, 3)


def test_a_recipe_leaves_pictures_out_of_training_alone(tiny_model: Path, tmp_path: Path) -> None:
    write_tiny_set(tmp_path / "set", images=6)
    emptied = sorted((tmp_path / "set/labels/train").iterdir())[:2]
    for label in emptied:
        label.write_text("")
    data = tmp_path / "data.yaml"
    names = "[red, green, blue]"
    data.write_text(
        f"detect: {{train: set/images/train, val: set/images/train, names: {names}}}\n"
        "segment: {train: set/images/train, val: set/images/val, names: [ground, red, green, blue]}\n"
    )
    graph, config = load_graph(tiny_model), load_data_config(data)
    counts = {
        split: {name: len(found) for name, found in open_datasets(graph, config, split, None, hyp).items()}
        for split, hyp in (("train", DEFAULTS | {"drop_empty": True}), ("val", DEFAULTS | {"drop_empty": True}))
    }
    assert counts["train"] == {"segment": 6, "detect": 4} and counts["val"]["detect"] == 6
    assert len(open_datasets(graph, config, "train", None, DEFAULTS)["detect"]) == 6


def test_a_fitness_that_no_head_counts_in_is_refused(tiny_model: Path) -> None:
    graph = load_graph(tiny_model)
    assert weights_of_fitness(graph, {"detect": 0}) == {"detect": 0, "segment": 1}
    with pytest.raises(ModelError, match="'fitness' is 0 for every head"):
        weights_of_fitness(graph, {"detect": 0, "segment": 0})
