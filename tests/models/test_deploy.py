"""Models in their form for deployment: the same answers with fewer branches, for running and for nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.api import load
from models.checkpoint import Checkpoint, save_checkpoint
from models.fusing import deploy_graph, fuse_graph
from models.graph import Graph
from models.inference import load_inference
from models.layers.per_head import PerHead
from models.layers.reparam import RepVGG, RepVGGDeployed, reparameterise
from models.spec import load_spec
from models.weights import load_model
from tests.lively import lively
from tests.tiny_detector import make_picture
from utils.errors import ModelError

MODELS = ["yolov6_t", "yolov6_t_ms", "yolov8_n", "yolov8_n_ms", "yoloms_xs_se"]
SMALL = {"width_multiple": 0.125, "depth_multiple": 0.33}
PUBLISHED = {
    "yolov6_t": (10_628_988, 9_697_404),
    "yolov6_t_ms": (8_115_940, 8_115_772),
}
"""Parameters in training and after re-parameterisation, both with BatchNorms."""
MILLIONS = {"yolov6_n": 4.32, "yolov6_s": 17.22}
"""Of the re-parameterised models, as tables have them."""


def made(name: str, **values: object) -> Graph:
    """Return a small model of the zoo in eval mode that looks trained."""
    torch.manual_seed(0)
    spec = load_spec(name)
    known = {key: value for key, value in SMALL.items() if key in spec.values}
    return lively(Graph(spec.with_values(**known, **values))).eval()


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def kinds(graph: Graph, *classes: type[nn.Module]) -> int:
    return sum(isinstance(module, classes) for module in graph.modules())


def worst(expected: dict[str, list[Tensor]], found: dict[str, list[Tensor]]) -> float:
    """Return the largest difference relative to how much a map differs from place to place and picture to picture."""
    pairs = [pair for name in expected for pair in zip(expected[name], found[name], strict=True)]
    return max(((ours - theirs).abs().max() / ours.std((0, 2, 3)).max()).item() for ours, theirs in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_both_forms_answer_alike(name: str) -> None:
    graph = made(name)
    deployed = deploy_graph(copy.deepcopy(graph))
    assert kinds(deployed, RepVGG, nn.BatchNorm2d) == 0
    assert kinds(deployed, RepVGGDeployed) == kinds(graph, RepVGG)
    assert deployed.is_deployed and not graph.is_deployed
    with torch.inference_mode():
        before, after = graph(images()), deployed(images())
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
        size = images().shape[-2:]
        found = [
            form.heads["detect"].predict(raw["detect"], size) for form, raw in ((graph, before), (deployed, after))
        ]
    assert (found[1].boxes - found[0].boxes).abs().max() < 1e-4 * found[0].boxes.abs().max()
    torch.testing.assert_close(found[1].scores, found[0].scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_in_float64_the_two_forms_are_one(name: str) -> None:
    """Against what the picture changes in the outputs, not their size: a fresh model hardly looks at pictures."""
    graph = made(name).double()
    with torch.inference_mode():
        before = graph(images())
        assert worst(before, deploy_graph(graph)(images())) < 1e-10


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name)).eval()
    training = sum(parameter.numel() for parameter in graph.parameters())
    reparameterise(graph.model)
    assert (training, sum(parameter.numel() for parameter in graph.parameters())) == PUBLISHED[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_sizes_of_yolov6_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        graph = Graph(load_spec(name)).eval()
    reparameterise(graph.model)
    assert round(sum(parameter.numel() for parameter in graph.parameters()) / 1e6, 2) == MILLIONS[name]


def test_again_changes_nothing() -> None:
    graph = deploy_graph(made("yolov6_t"))
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    after = deploy_graph(graph).state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)


def test_channels_last_and_half_precision() -> None:
    graph = made("yolov6_t").to(memory_format=torch.channels_last)
    deployed = deploy_graph(copy.deepcopy(graph))
    assert deployed.model[2][0].rbr_reparam.weight.is_contiguous(memory_format=torch.channels_last)
    pixels = images().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = graph(pixels)
        torch.testing.assert_close(deployed(pixels), before, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = deployed(pixels)["detect"]
    assert {level.dtype for level in reduced} == {torch.bfloat16}
    assert worst(before, {"detect": [level.float() for level in reduced]}) < 0.5


def test_every_head_keeps_its_own_norms() -> None:
    rows = load_spec("yolov6_t").values["head"]
    segment = [[17], 1, "SegMaskBase", ["n_segcls", 1, 64, False]]
    graph = made("yolov6_t", bn="per-task", n_segcls=4, head=[segment, *rows])
    assert kinds(graph, PerHead) > 50
    with torch.inference_mode():
        before = graph(images())
        # What runs without --deploy.
        torch.testing.assert_close(fuse_graph(copy.deepcopy(graph))(images()), before, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(deploy_graph(graph)(images()), before, rtol=1e-4, atol=1e-4)
    assert isinstance(graph.model[0].rbr_reparam, PerHead) and kinds(graph, RepVGG) == 0


def test_training_mode_is_refused_before_and_after() -> None:
    graph = made("yolov6_t").train()
    with pytest.raises(ValueError, match="eval mode only"):
        deploy_graph(graph)
    assert kinds(graph, RepVGGDeployed) == 0
    deployed = deploy_graph(graph.eval())
    with pytest.raises(ValueError, match="for running, not for training or saving; load the model again"):
        deployed.train()
    assert not deployed.training


def test_folded_norms_are_too_late() -> None:
    with pytest.raises(ValueError, match="folded already; deploy the model as it was loaded"):
        deploy_graph(fuse_graph(made("yolov6_t")))


def checkpoint_of(graph: Graph, path: Path) -> Path:
    save_checkpoint(path, Checkpoint(graph.spec.source, graph.spec.text, graph.names, {"ema": graph.state_dict()}))
    return path


def test_a_saved_deployed_model_is_refused_by_what_it_is(tmp_path: Path) -> None:
    path = checkpoint_of(deploy_graph(made("yolov6_t")), tmp_path / "deployed.safetensors")
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: holds a deployed model, which is for running and not for saving;")
    assert "\n" not in str(caught.value)


def test_loading_for_use(tmp_path: Path) -> None:
    path = checkpoint_of(made("yolov6_t"), tmp_path / "best.safetensors")
    plain, deployed = load_inference([path]), load_inference([path], deploy=True)
    assert [kinds(model.graphs[0], RepVGG) > 0 for model in (plain, deployed)] == [True, False]
    with torch.inference_mode():
        answers = [model(images(), ("detect",))["detect"] for model in (plain, deployed)]
    torch.testing.assert_close(answers[1].scores, answers[0].scores, rtol=0, atol=1e-4)

    models = [load(path, "cpu", conf=0.0, size=64, max_det=5, deploy=deploy) for deploy in (False, True)]
    assert models[1].inference.graphs[0].is_deployed
    first, second = (model(make_picture())[0].heads["detect"] for model in models)
    torch.testing.assert_close(second.scores, first.scores, rtol=0, atol=1e-4)
