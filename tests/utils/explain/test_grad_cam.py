"""Grad-CAM: weights against differences, maps where they belong, and sentences for rows without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.transforms.letterbox import apply_plan, plan_for_stride
from models.graph import Graph
from models.inference import Inference, load_inference
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from tests.tiny_detector import BOTH, make_picture, write_weights
from tests.tiny_ms_detr import tiny_ms_detr
from tests.tiny_yolos import WITH_AREAS, tiny_yolos, write_yolos
from utils.errors import UsageError
from utils.explain import grad_cam
from utils.explain.grad_cam import LEAST_AREA, GradCam
from utils.explain.grad_cam_pictures import explained_pictures
from utils.explain.native_maps import enlarge_smoothly
from utils.explain.rows import choose_row
from utils.stage_clock import StageClock

SIZE = 64
PICTURES = [make_picture((64, 64)), make_picture((40, 60), seed=1), make_picture((64, 64), seed=2)]


@pytest.fixture(scope="module")
def inference(tmp_path_factory) -> Inference:
    return load_inference([write_weights(tmp_path_factory.mktemp("model") / "tiny.safetensors", bias=-1.0)])


def look(inference: Inference, pictures: list[np.ndarray]) -> list[dict[str, Any]]:
    options = PostprocessOptions(conf=0.05, max_det=6)
    sizes = dict.fromkeys(inference.heads, SIZE)
    predictor = Predictor(inference, sizes, options, torch.device("cpu"), None, StageClock(STAGES))
    return predictor(pictures)


def outputs_with(graph: Graph, row: int, picture: np.ndarray, change: torch.Tensor | None) -> Any:
    """Return the plain candidates of a picture, with a value added to every channel of a row, and the row's map."""
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None]
    seen = []

    def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output)
        return output if change is None else output + change[:, None, None]

    handle = graph.model[row].register_forward_hook(add)
    with torch.no_grad():
        raw = graph(batch)
        found = {name: head.predict(raw[name], (SIZE, SIZE)) for name, head in graph.heads.items()}
    handle.remove()
    return found, seen[0]


def test_channels_weigh_as_much_as_scores_change_with_them(inference):
    graph, row, picture = inference.graphs[0].double(), 2, PICTURES[0]
    try:
        result = look(inference, [picture])[0]
        maps = GradCam(graph, row, {"detect": SIZE, "segment": SIZE})([picture], [result])[0]
        plain, values = outputs_with(graph, row, picture, None)
        best = plain["segment"].logits[0].argmax(0)

        def scores(found: Any) -> dict[tuple[str, int], float]:
            told = {}
            candidates = found["detect"]
            confidence = (candidates.scores * candidates.objectness[..., None])[0]
            for index in result["detect"].classes.unique().tolist():
                own = result["detect"].only(result["detect"].classes == index)
                # Candidates of the picture as it is, which has no padding.
                rows = torch.cdist(own.boxes, plain["detect"].boxes[0].clamp(0, SIZE), p=1).argmin(1)
                told["detect", index] = float(torch.logit(confidence[rows, index]).sum())
            for index in range(2):
                told["segment", index] = float(found["segment"].logits[0, index][best == index].mean())
            return told

        # Confidences are rounded to float32, which a smaller step would drown in.
        step, keys = 1e-2, list(scores(plain))
        weights = {key: torch.zeros(values.shape[1], dtype=torch.float64) for key in keys}
        for channel in range(values.shape[1]):
            change = torch.zeros(values.shape[1], dtype=torch.float64)
            change[channel] = step
            more, less = (scores(outputs_with(graph, row, picture, each)[0]) for each in (change, -change))
            for key in keys:
                weights[key][channel] = (more[key] - less[key]) / (2 * step) / values[0, 0].numel()
        place = plan_for_stride((64, 64), SIZE, graph.stride).placement
        told = {(head, each.class_index): each.values for head, of_head in maps.items() for each in of_head}
        assert {key for key in told if key[0] == "detect"} == {key for key in keys if key[0] == "detect"}
        assert any(each.any() for each in told.values())
        for key, own in told.items():
            wanted = torch.einsum("c,chw->hw", weights[key], values[0]).relu().numpy()
            assert np.allclose(own, enlarge_smoothly(wanted, place, 8), rtol=0.02, atol=0.02 * max(wanted.max(), 1e-9))
    finally:
        graph.float()


def test_what_shares_a_batch_changes_nothing_and_maps_have_the_size_of_their_pictures(inference):
    results = look(inference, PICTURES)
    cam = GradCam(inference.graphs[0], 3, {"detect": SIZE, "segment": SIZE})
    assert cam.heads == ["detect"], "row 3 is for objects alone"
    with torch.inference_mode():
        together = cam(PICTURES, results)
    for picture, result, own in zip(PICTURES, results, together, strict=True):
        alone = cam([picture], [result])[0]["detect"]
        assert [each.class_index for each in alone] == list(dict.fromkeys(result["detect"].classes.tolist()))
        for each, other in zip(own["detect"], alone, strict=True):
            assert each.values.shape == picture.shape[:2] and each.values.min() >= 0
            assert np.allclose(each.values, other.values, atol=1e-5 * max(other.values.max(), 1e-9))
    assert all(parameter.grad is None for parameter in inference.graphs[0].parameters())


def test_the_surest_classes_are_explained_and_no_more(inference, monkeypatch):
    found = look(inference, PICTURES[:1])[0]["detect"]
    found = replace(found, classes=torch.arange(len(found.classes)).flip(0) % 3)
    cam = GradCam(inference.graphs[0], 2, {"detect": SIZE})
    told = [each.class_index for each in cam(PICTURES[:1], [{"detect": found}])[0]["detect"]]
    assert told == found.classes[:3].tolist()
    monkeypatch.setattr(grad_cam, "MOST_CLASSES", 2)
    assert [each.class_index for each in cam(PICTURES[:1], [{"detect": found}])[0]["detect"]] == told[:2]


def test_the_model_answers_as_before_and_nothing_found_needs_no_map(inference):
    graph = inference.graphs[0]
    before = look(inference, PICTURES[:1])[0]
    cam = GradCam(graph, 2, {"detect": SIZE})
    nothing = before["detect"].only(torch.zeros(len(before["detect"].classes), dtype=torch.bool))
    assert cam(PICTURES[:1], [{"detect": nothing}]) == [{"detect": []}]
    assert cam([], []) == []
    after = look(inference, PICTURES[:1])[0]
    assert torch.equal(before["detect"].boxes, after["detect"].boxes)
    assert not graph.model[2]._forward_hooks


def test_tokens_have_maps_of_their_patches():
    graph = tiny_yolos(WITH_AREAS)
    inference = Inference([graph])
    sizes = {"detect": SIZE, "segment": SIZE}
    results = look(inference, PICTURES[:2])
    row = choose_row(graph, "1", list(sizes))
    explained = GradCam(graph, row, sizes)(PICTURES[:2], results)
    for picture, result, maps in zip(PICTURES, results, explained, strict=False):
        assert len(maps["detect"]) == len(result["detect"].classes.unique()) > 0
        assert all(each.values.shape == picture.shape[:2] for of_head in maps.values() for each in of_head)
        covered = [(result["segment"].class_map == each.class_index).float().mean() for each in maps["segment"]]
        assert covered and all(share >= LEAST_AREA / 2 for share in covered)
    with pytest.raises(UsageError, match=r"row 4 \(YOLOSDetect\) is a head, which has no map; name .* such as 1"):
        choose_row(graph, "detect", list(sizes))


def test_detection_tokens_are_no_places(tmp_path: Path):
    # As loaded, its last block answers for detection tokens alone where nobody else reads it.
    alone = load_inference([write_yolos(tmp_path / "yolos.safetensors")])
    (graph,), sizes = alone.graphs, {"detect": SIZE}
    for asked, module in (("2", "ViTBlock"), ("3", "TokenNorm")):
        words = rf"row {asked} \({module}\) gives detect its detection tokens, which are no places .* such as 1"
        with pytest.raises(UsageError, match=words):
            choose_row(graph, asked, ["detect"])
    maps = GradCam(graph, choose_row(graph, "1", ["detect"]), sizes)(PICTURES[:1], look(alone, PICTURES[:1]))[0]
    assert any(each.values.any() for each in maps["detect"])
    both = tiny_yolos(WITH_AREAS)
    assert choose_row(both, "3", ["detect", "segment"]) == 3
    assert GradCam(both, 3, {"detect": SIZE, "segment": SIZE}).heads == ["segment"]
    with pytest.raises(UsageError, match="no places"):
        choose_row(both, "3", ["detect"])
    with pytest.raises(
        UsageError, match=r"row 5 \(DeformEncoder\) gives memory of .*; name a row before it, such as 4"
    ):
        choose_row(tiny_ms_detr(), "5", ["detect"])


def test_rows_are_named_by_number_or_name_or_refused(tmp_path: Path):
    text = BOTH.replace("[64, 6, 2, 2]]", "[64, 6, 2, 2], stem]")
    graph = load_inference([write_weights(tmp_path / "named.safetensors", text)]).graphs[0]
    heads = ["detect", "segment"]
    assert choose_row(graph, "stem", heads) == 0
    assert choose_row(graph, "3", heads) == choose_row(graph, "-3", heads) == 3
    for asked, words in (
        ("6", "the rows of tiny.yaml are 0 to 5"),
        ("-7", "the rows of tiny.yaml are 0 to 5"),
        ("sten", "has no row of that name, the named ones are stem, segment, detect; .*Did you mean 'stem'?"),
        ("5", r"row 5 \(Detect\) is a head, which has no map; name a row before it, such as 3"),
    ):
        with pytest.raises(UsageError, match=words):
            choose_row(graph, asked, heads)
    with pytest.raises(
        UsageError, match=r"row 3 \(Conv\) is not used by segment; name a row that it depends on, such as 2"
    ):
        choose_row(graph, "3", ["segment"])


def test_pictures_are_named_by_class_and_show_the_map(inference):
    result = look(inference, PICTURES[:1])[0]
    maps = GradCam(inference.graphs[0], 2, {"detect": SIZE, "segment": SIZE})(PICTURES[:1], [result])[0]
    names = {"detect": ["car/van", "person", "  "], "segment": ["road", "sky"]}
    drawn = explained_pictures(PICTURES[0], result, maps, names)
    words = {"detect": ["0_car_van", "1_person", "2"], "segment": ["0_road", "1_sky"]}
    for head, by_word in drawn.items():
        assert list(by_word) == [words[head][each.class_index] for each in maps[head]]
        assert all(picture.shape == PICTURES[0].shape for picture in by_word.values())
    assert not np.array_equal(apply_plan(PICTURES[0], plan_for_stride((64, 64), 64, 32)), drawn["segment"].popitem()[1])
