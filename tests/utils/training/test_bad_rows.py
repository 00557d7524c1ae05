"""Where values first stop being finite: named by row, and the model is left as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from data.config import load_data_config
from models.graph import Graph, load_graph
from utils.distributed import World
from utils.recipe import DEFAULTS
from utils.training.bad_rows import first_bad_row
from utils.training.compiling import compile_graph
from utils.training.options import default_options
from utils.training.tasks import TrainTask, build_tasks, open_datasets, plan_turns

YOLOS = """
nc: 3
backbone:
  - [-1, 1, ViTEmbed, [16, 16, 4, [64, 96]]]
  - [-1, 1, ViTBlock, [16, 2, 2.0]]
  - [-1, 1, TokenNorm, [16, 1.0e-6]]
head:
  - [-1, 1, YOLOSDetect, [nc]]
"""


@pytest.fixture
def graph_and_task(tiny_model: Path, tiny_data: Path) -> tuple[Graph, TrainTask]:
    torch.manual_seed(0)
    graph = load_graph(tiny_model).train()
    options = default_options()
    vars(options).update(img_size=[96], batch_size=4, workers=0)
    datasets = open_datasets(graph, load_data_config(tiny_data), "train")
    tasks = build_tasks(graph, datasets, DEFAULTS, options, World(), plan_turns(datasets, DEFAULTS, 4))
    return graph, tasks[1]


class Overflow(nn.Module):
    """Multiplies by a number that no format holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1e38 * 1e38


class EvilGradient(torch.autograd.Function):
    """The identity, with a gradient that is not a number."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


def test_the_row_is_named_and_nothing_moves(graph_and_task: tuple[Graph, TrainTask]) -> None:
    graph, task = graph_and_task
    batch = next(task.loader.batches(0))
    assert first_bad_row(graph, task, batch, None) is None
    graph.model[1].act = Overflow()
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    assert first_bad_row(graph, task, batch, None) == "the output of row 1 (Conv)"
    assert all(torch.equal(before[name], tensor) for name, tensor in graph.state_dict().items())
    assert all(parameter.grad is None for parameter in graph.parameters())
    assert graph.training and graph.model[0].bn.track_running_stats


def test_compiled_rows_are_named_and_stay_compiled(graph_and_task: tuple[Graph, TrainTask]) -> None:
    graph, task = graph_and_task
    batch = next(task.loader.batches(0))
    graph.model[1].act = Overflow()
    compile_graph(graph, "eager")
    graph(batch.images, heads=(task.name,))
    assert first_bad_row(graph, task, batch, None) == "the output of row 1 (Conv)"
    assert graph._compiled_call_impl is not None


def test_neither_random_numbers_nor_what_the_criterion_learns_move(graph_and_task: tuple[Graph, TrainTask]) -> None:
    graph, task = graph_and_task
    batch = next(task.loader.batches(0))
    graph.model[0].act = nn.Dropout(0.5)
    task.criterion.autobalance = True
    drawn, learned = torch.get_rng_state(), task.criterion.balance.clone()
    assert first_bad_row(graph, task, batch, None) is None
    assert torch.equal(torch.get_rng_state(), drawn) and torch.equal(task.criterion.balance, learned)
    task.criterion(graph(batch.images, heads=(task.name,))[task.name], task.criterion.prepare(batch))
    assert not torch.equal(task.criterion.balance, learned)


def test_weights_losses_and_gradients_are_named_too(graph_and_task: tuple[Graph, TrainTask]) -> None:
    graph, task = graph_and_task
    batch = next(task.loader.batches(0))
    graph.model[2].register_forward_hook(lambda _module, _inputs, output: EvilGradient.apply(output))
    assert first_bad_row(graph, task, batch, None) == "a gradient of row 2 (Conv)"
    task.criterion.gains["obj"] = float("nan")
    assert first_bad_row(graph, task, batch, None) == "the loss part obj of row 5 (Detect)"
    with torch.no_grad():
        graph.model[3].conv.weight[0, 0, 0, 0] = float("inf")
    assert first_bad_row(graph, task, batch, None) == "a weight of row 3 (Conv)"


def test_a_row_of_tokens_is_named_too_in_a_padded_batch(tmp_path: Path, tiny_data: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "yolos.yaml").write_text(YOLOS)
    graph = load_graph(tmp_path / "yolos.yaml").train()
    options = default_options()
    vars(options).update(img_size=[64], batch_size=4, workers=0)
    hyp = {**DEFAULTS, "augment": "detr", "resize_base": 64, "resize_sides": [32, 64, 16], "crop_chance": 0.0}
    datasets = open_datasets(graph, load_data_config(tiny_data), "train")
    (task,) = build_tasks(graph, datasets, hyp, options, World(), plan_turns(datasets, hyp, 4))
    batch = next(task.loader.batches(0))
    assert batch.sizes is not None and first_bad_row(graph, task, batch, None) is None
    graph.model[1].drop2 = Overflow()
    assert first_bad_row(graph, task, batch, None) == "the output of row 1 (ViTBlock)"
