"""Pictures of different sizes in one padded batch: each gets the answer that it gets alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from data.samples import Placement
from models.fusing import fuse_graph
from models.graph import Graph
from models.inference import Inference
from models.padded_batches import cut_to_size, pictures_by_size
from models.predictions import Detections, Masks, PostprocessOptions
from models.predictor import STAGES, Predictor
from models.views import AUGMENTED, SINGLE, SIX_VIEWS, Pass
from tests.models.test_inference import graph_of
from tests.tiny_detector import make_picture
from tests.tiny_yolos import WITH_AREAS, tiny_yolos
from utils.stage_clock import StageClock

SIZES = [(64, 96), (96, 64), (64, 96), (48, 80)]
"""Landscape, portrait with as many patches, the first shape again, a smaller one; the batch is 96 x 96."""
COARSE_SIZES = [(64, 96), (96, 64), (32, 64)]


def sure_graph() -> Graph:
    """Return a graph of convolutions that finds objects everywhere."""
    graph = graph_of()
    for conv in graph.heads["detect"].m:
        nn.init.normal_(conv.weight, std=0.5)
        nn.init.constant_(conv.bias, 1.0)
    return graph


def padded(sizes: Sequence[tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
    """Return pictures (1, 3, H, W) and the batch that holds all of them, with noise where it is padded."""
    generator = torch.Generator().manual_seed(5)
    alone = [torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    batch = torch.randint(0, 256, (len(sizes), 3, 96, 96), dtype=torch.uint8, generator=generator)
    for image, picture in zip(batch, alone, strict=True):
        image[:, : picture.shape[2], : picture.shape[3]] = picture[0]
    return alone, batch


@torch.inference_mode()
def assert_answers_as_alone(model: Inference, sizes: Sequence[tuple[int, int]]) -> None:
    """Hold the results of a padded batch against those of its pictures; every head has to say something."""
    alone, batch = padded(sizes)
    options = PostprocessOptions(conf=0.2, iou=0.6)
    together = model(batch, model.heads, None, sizes)
    for name, head in model.heads.items():
        places = [Placement(*size) for size in sizes]
        results = head.postprocess(together[name], options, places)
        for picture, place, result in zip(alone, places, results, strict=True):
            expected = head.postprocess(model(picture, (name,))[name], options, [place])[0]
            for what, value in vars(expected).items():
                if value is not None:
                    assert len(value) > 0, f"{name} finds nothing"
                    torch.testing.assert_close(getattr(result, what), value, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("passes", [SINGLE, AUGMENTED, SIX_VIEWS])
def test_tokens_answer_for_a_padded_picture_as_for_it_alone(passes: tuple[Pass, ...]) -> None:
    assert_answers_as_alone(Inference([tiny_yolos()], passes), SIZES)


def test_so_does_the_form_for_running() -> None:
    assert_answers_as_alone(Inference([fuse_graph(tiny_yolos())]), SIZES)


def test_a_padded_batch_of_tokens_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, seen = tiny_yolos(), []
    forward = graph.forward
    monkeypatch.setattr(graph, "forward", lambda images, **more: seen.append(len(images)) or forward(images, **more))
    _, batch = padded(SIZES)
    Inference([graph])(batch, ("detect",), None, SIZES)
    assert seen == [4]
    Inference([graph], AUGMENTED)(batch, ("detect",), None, SIZES)
    assert seen[1:] == [2] * 3 + [1] * 6, "of three sizes, each of three looks by itself"


@pytest.mark.parametrize("passes", [SINGLE, AUGMENTED])
def test_heads_that_see_padding_get_pictures_without_any(passes: tuple[Pass, ...]) -> None:
    assert_answers_as_alone(Inference([tiny_yolos(WITH_AREAS)], passes), SIZES)


@pytest.mark.parametrize("passes", [SINGLE, SIX_VIEWS])
def test_convolutions_get_pictures_without_padding(passes: tuple[Pass, ...]) -> None:
    assert_answers_as_alone(Inference([sure_graph()], passes), COARSE_SIZES)


@pytest.mark.parametrize("passes", [SINGLE, AUGMENTED], ids=["once", "three times"])
def test_a_padded_batch_of_no_pictures_has_no_answers(passes: tuple[Pass, ...]) -> None:
    images = torch.zeros(0, 3, 64, 96, dtype=torch.uint8)
    found = Inference([tiny_yolos(WITH_AREAS)], passes)(images, ("detect", "segment"), sizes=[])
    assert found["detect"].boxes.shape == (0, 7 * len(passes), 4) and found["segment"].logits.shape[0] == 0


def test_members_of_an_ensemble_answer_for_padded_pictures() -> None:
    both = Inference([tiny_yolos(seed=0), tiny_yolos(seed=1)])
    assert_answers_as_alone(both, SIZES)
    _, batch = padded(SIZES)
    found = both(batch, ("detect",), None, SIZES)["detect"]
    assert found.boxes.shape == (4, 14, 4) and not found.distinct, "two models find the same objects"


def test_candidates_that_fill_up_are_never_found() -> None:
    few = Detections(torch.rand(1, 2, 4), torch.rand(1, 2, 3), torch.rand(1, 2))
    many = Detections(torch.rand(2, 5, 4), torch.rand(2, 5, 3), torch.rand(2, 5))
    found = Detections.stack([few, many], [[1], [0, 2]], (64, 64))
    assert torch.equal(found.boxes[[0, 2]], many.boxes) and torch.equal(found.scores[1, :2], few.scores[0])
    assert found.objectness is not None and not found.objectness[1, 2:].any() and not found.scores[1, 2:].any()


def test_maps_lie_in_the_corner_of_the_batch() -> None:
    small, large = Masks(torch.rand(1, 2, 4, 6)), Masks(torch.rand(1, 2, 8, 8))
    found = Masks.stack([small, large], [[1], [0]], (8, 8)).logits
    assert torch.equal(found[0], large.logits[0]) and torch.equal(found[1, :, :4, :6], small.logits[0])
    assert not found[1, :, 4:].any() and not found[1, :, :, 6:].any()


def test_pictures_are_grouped_by_size_and_cut_to_whole_strides() -> None:
    assert pictures_by_size(SIZES) == {(64, 96): [0, 2], (96, 64): [1], (48, 80): [3]}
    images = torch.arange(96 * 96).view(1, 1, 96, 96).expand(4, 3, 96, 96)
    assert cut_to_size(images, [3], (48, 80), 16).shape == (1, 3, 48, 80)
    assert cut_to_size(images, [3, 0], (48, 80), 32).shape == (2, 3, 64, 96)


@pytest.mark.parametrize("model", [tiny_yolos(), sure_graph()], ids=["tokens", "convolutions"])
def test_pictures_of_one_call_may_have_any_shapes(model: Graph) -> None:
    options = PostprocessOptions(conf=0.2)
    sizes = dict.fromkeys(model.heads, 64)
    predictor = Predictor(model, sizes, options, torch.device("cpu"), None, StageClock(STAGES))
    pictures = [make_picture(size, seed=i) for i, size in enumerate([(60, 80), (80, 60), (64, 64), (40, 90)])]
    assert len({predictor.input_shapes(picture) for picture in pictures}) > 1
    together = predictor(pictures)
    for picture, results in zip(pictures, together, strict=True):
        for name, expected in predictor([picture])[0].items():
            for what, value in vars(expected).items():
                if value is not None:
                    assert len(value) > 0, f"{name} finds nothing"
                    torch.testing.assert_close(getattr(results[name], what), value, rtol=1e-4, atol=1e-2)
