"""How many images fit: counted bytes, a line through them, and nothing left behind by the trial."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import utils.training.batch_size as module
from models.graph import Graph, load_graph
from tests.test_train_yolox import BACKBONE, INPUT, POSE
from utils.recipe import DEFAULTS
from utils.training.batch_size import drawn_batch, input_sizes, largest_batch_size, sensible_batch
from utils.training.peak_memory import peak_memory

CPU = torch.device("cpu")
GIB = 2**30
SIZES = {"detect": (96, 96), "segment": (64, 96)}


@pytest.fixture
def graph(tiny_model: Path) -> Graph:
    torch.manual_seed(0)
    return load_graph(tiny_model).to(memory_format=torch.channels_last).train()


def set_free(monkeypatch: pytest.MonkeyPatch, amount: int | None) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: amount)


@given(st.floats(0, 500), st.integers(1, 200))
def test_a_batch_fits_and_wastes_less_than_half(limit: float, nominal: int) -> None:
    size = sensible_batch(limit, nominal)
    assert 1 <= size <= nominal
    if limit >= 1:
        assert size <= limit
        assert 2 * size >= min(int(limit), nominal)


@pytest.mark.parametrize(
    ("limit", "nominal", "size"), [(0.3, 64, 1), (40.9, 64, 32), (900, 64, 64), (47, 61, 40), (5, 61, 5), (48, 48, 48)]
)
def test_divisors_of_the_nominal_batch_come_first(limit: float, nominal: int, size: int) -> None:
    assert sensible_batch(limit, nominal) == size


def test_more_memory_takes_more_images(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "yolograph")
    found = []
    for free in (GIB // 1024, GIB // 64, GIB // 16, 100 * GIB):
        set_free(monkeypatch, free)
        found.append(largest_batch_size(graph, SIZES, DEFAULTS, 0.8))
    assert found == sorted(found)
    assert found[0] == 1 and found[-1] == 64 and len(set(found)) >= 3
    assert len(caplog.messages) == 4
    assert caplog.messages[0].endswith("even a single image may not fit")
    assert caplog.messages[-1].startswith(
        "--batch-size -1: 64 images at a time (head 'segment' at 64 x 96) take about "
    )
    assert caplog.messages[-1].endswith(" of 100.0 GiB free memory")


def test_share_and_processes_divide_the_memory(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, GIB // 8)
    whole = largest_batch_size(graph, SIZES, DEFAULTS, 1.0)
    quarter = largest_batch_size(graph, SIZES, DEFAULTS, 0.25)
    assert whole > quarter
    assert largest_batch_size(graph, SIZES, DEFAULTS, 1.0, processes=4) == quarter


def test_the_head_with_the_largest_images_decides(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, GIB // 16)
    small = largest_batch_size(graph, {"detect": (64, 64), "segment": (64, 64)}, DEFAULTS, 1.0)
    for large in ("detect", "segment"):
        sizes = {"detect": (64, 64), "segment": (64, 64)} | {large: (192, 192)}
        assert largest_batch_size(graph, sizes, DEFAULTS, 1.0) < small


def test_what_is_recomputed_leaves_room() -> None:
    deep = load_graph("yolov5n").train()
    plain = module._memory_line(deep, "detect", (96, 96), DEFAULTS, None)
    deep.recompute = True
    again = module._memory_line(deep, "detect", (96, 96), DEFAULTS, None)
    assert again[1] < 0.6 * plain[1]


def test_the_trial_leaves_nothing_behind(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, GIB)
    graph.eval()
    before = {name: t.clone() for name, t in graph.state_dict().items()}
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    largest_batch_size(graph, SIZES, DEFAULTS, 0.5, torch.bfloat16)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(before[name], t) for name, t in graph.state_dict().items())
    assert all(p.grad is None for p in graph.parameters())
    assert not graph.training


def test_running_out_of_memory_in_the_trial_is_an_answer(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, GIB)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "peak_memory", fail)
    assert largest_batch_size(graph, SIZES, DEFAULTS, 0.8) == 1


def test_without_a_figure_the_usual_batch_is_taken(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_free(monkeypatch, None)
    assert largest_batch_size(graph, SIZES, DEFAULTS, 0.8) == 16
    assert "does not tell its free memory" in caplog.messages[0]


def test_sizes_follow_the_heads(graph: Graph) -> None:
    class Wide:
        sizes = torch.tensor([[60, 120]] * 3).numpy()

    datasets = {"detect": Wide(), "segment": Wide()}
    assert input_sizes(graph, datasets, 128, DEFAULTS) == {"detect": (128, 128), "segment": (64, 128)}


def test_drawn_boxes_are_boxes() -> None:
    batch = drawn_batch(3, (64, 96))
    assert bool((batch.boxes[..., 2:] >= batch.boxes[..., :2]).all())
    assert float(batch.boxes[..., 2].max()) <= 96 and float(batch.boxes[..., 3].max()) <= 64


def test_counted_bytes_are_those_of_the_tensors() -> None:
    known = torch.zeros(1000)

    def work() -> None:
        held = torch.ones(3000)  # 12,000 bytes
        view = held[10:]  # shares them
        for _ in range(5):
            view.add(1)  # 11,960 more, freed at once
        known.add_(1)
        del held, view
        torch.ones(2000)

    assert peak_memory(work, CPU, [known]) == 12_000 + 11_960


def test_heads_with_keypoints_are_tried_with_keypoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pose.yaml"
    path.write_text("nc: 1\nnkpt: 5\n" + INPUT + BACKBONE + POSE)
    pose = load_graph(path).to(memory_format=torch.channels_last).train()
    set_free(monkeypatch, GIB // 16)
    assert 1 <= largest_batch_size(pose, {"pose": (96, 96)}, DEFAULTS, 0.8) < 64
    batch = drawn_batch(2, (64, 96), 5)
    assert batch.keypoints.shape == (2, batch.boxes.shape[1], 5, 3)
    places = batch.keypoints[..., :2]
    assert (places >= batch.boxes[:, :, None, :2]).all() and (places <= batch.boxes[:, :, None, 2:]).all()


def test_pictures_of_sizes_of_their_own_are_measured_as_a_wide_one_beside_a_tall_one() -> None:
    assert module.mixed_sizes(3, (104, 96)) == [(52, 96), (104, 48), (52, 96)]
    assert module.mixed_sizes(2, (1, 1)) == [(1, 1), (1, 1)]
    assert module.draws_sizes({**DEFAULTS, "augment": "detr"}) and not module.draws_sizes(DEFAULTS)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_tensors_that_hold_rows_alone_are_counted_by_what_they_hold() -> None:
    def work() -> None:
        begins, columns = torch.arange(11), torch.zeros(10, dtype=torch.int64)
        made = torch.sparse_csr_tensor(begins, columns, torch.ones(10), (10, 5), check_invariants=False)
        assert made.values().sum() == 10

    assert 11 * 8 + 10 * 8 + 10 * 4 <= peak_memory(work, CPU, []) < 1000
