"""Files that answer with objects, take pixels last or compute in float16: in their own programs, and as the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.samples import Placement
from export import export, parse_options
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.predictions import PostprocessOptions
from models.spec import parse_spec
from models.weights import load_model
from tests.lively import lively
from utils.errors import ExportError
from utils.export.agreement import Runner, compare, judge, onnx_runner
from utils.export.exported_graph import ExportedGraph
from utils.export.objects_graph import ObjectsGraph
from utils.export.openvino_model import openvino_runner
from utils.export.torchscript_file import torchscript_runner

MODEL = """
nc: 3
n_segcls: 4
width_multiple: 0.125
anchors: [[4, 5, 8, 10, 13, 9]]
backbone:
  - [-1, 1, Conv, [64, 3, 8]]
head:
  - [[0], 1, SegMaskBase, [n_segcls, 1, 64], base]
  - [[0], 1, Detect, [nc, anchors], street]
"""
SIZE = (64, 96)
KEPT = PostprocessOptions(conf=0.05, iou=0.3, max_det=100)
THRESHOLDS = ["--nms", "--conf-thres", "0.05", "--iou-thres", "0.3", "--max-det", "100"]
FIELDS = ["boxes", "scores", "classes", "count"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    graph = lively(Graph(parse_spec(yaml.safe_load(MODEL), "tiny.yaml"))).eval()
    with torch.no_grad():
        # Sure of many objects, and not of all to the same degree.
        last = graph.heads["street"].m[0]
        last.weight.mul_(10)
        last.bias.view(3, -1)[:, 4] = 0
    path = tmp_path_factory.mktemp("objects") / "best.safetensors"
    save_checkpoint(path, Checkpoint("tiny.yaml", graph.spec.text, graph.names, {"model": graph.state_dict()}))
    return path


def written(weights: Path, *arguments: str) -> dict[str, Path]:
    """Export and return the files by format."""
    size = ["--img-size", *map(str, SIZE)]
    files = export(parse_options(["--weights", str(weights), *size, "--passes", "1", *arguments]))
    return {path.suffix: path for path in files}


@pytest.fixture(scope="module")
def files(weights: Path) -> dict[str, Path]:
    formats = ["onnx", "torchscript"]
    try:
        import openvino  # noqa: F401
    except ImportError:
        pass
    else:
        formats.append("openvino")
    return written(weights, *THRESHOLDS, "--embed-input", "--dynamic-batch", "--include", *formats)


def runner_of(path: Path) -> Runner:
    return {".onnx": onnx_runner, ".torchscript": torchscript_runner, ".xml": openvino_runner}[path.suffix](path)


@pytest.mark.parametrize("ending", [".onnx", ".torchscript", ".xml"])
def test_a_file_finds_what_detecting_finds(files: dict[str, Path], weights: Path, ending: str) -> None:
    if ending not in files:
        pytest.skip("openvino is not installed")
    pixels = np.random.default_rng(4).integers(0, 256, (3, *SIZE, 3), np.uint8)
    found = runner_of(files[ending])(pixels)
    assert list(found) == ["base_classmap", *(f"street_{field}" for field in FIELDS)]
    graph = load_model(weights)
    with torch.inference_mode():
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        raw = graph(images)
        predictions = {name: head.predict(raw[name], SIZE) for name, head in graph.heads.items()}
        place = Placement(*SIZE)
        objects = graph.heads["street"].postprocess(predictions["street"], KEPT, [place] * 3)
        maps = graph.heads["base"].postprocess(predictions["base"], KEPT, [place] * 3)
    for i, (result, class_map) in enumerate(zip(objects, maps, strict=True)):
        count = len(result.scores)
        assert found["street_count"][i] == count and count > 3
        boxes = found["street_boxes"][i, :count].clip(0, [SIZE[1], SIZE[0]] * 2)
        np.testing.assert_allclose(boxes, result.boxes, atol=1e-2)
        np.testing.assert_allclose(found["street_scores"][i, :count], result.scores, atol=1e-4)
        np.testing.assert_array_equal(found["street_classes"][i, :count], result.classes)
        assert not any(found[f"street_{field}"][i, count:].any() for field in FIELDS[:3])
        assert found["base_classmap"].dtype == np.uint8
        assert (found["base_classmap"][i] == class_map.class_map.numpy()).mean() > 0.999


def test_a_file_says_how_it_chooses_and_what_goes_in(files: dict[str, Path]) -> None:
    import onnx

    model = onnx.load(files[".onnx"])
    told = {entry.key: entry.value for entry in model.metadata_props if entry.key not in ("graph", "yolograph")}
    told = {key: json.loads(value) for key, value in told.items()}
    assert told["answers"] == "objects" and told["input"]["layout"] == "NHWC" and told["precision"] == "float32"
    assert told["objects"] == {"street": {"confidence": 0.05, "overlap": 0.3, "most": 100, "every_class": False}}
    assert told["checked"]["tolerance"] == 1e-4 and 0 < told["checked"]["largest_difference"] < 1e-4
    assert told["heads"]["base"]["outputs"] == ["base_classmap"]
    sides = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", *SIZE, 3]
    # The sizes of answers do not depend on what there is to see.
    answers = {o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    assert answers["street_boxes"] == ["batch", 100, 4] and answers["street_count"] == ["batch"]


@pytest.mark.parametrize(
    ("change", "output"),
    [({"iou": 0.02}, "street_count"), ({"conf": 0.4}, "street_"), ({}, "street_"), (None, "base_classmap")],
)
def test_a_file_with_other_objects_is_refused(
    files: dict[str, Path], weights: Path, change: dict[str, float] | None, output: str
) -> None:
    graph = load_model(weights)
    with torch.no_grad():
        if change == {}:
            graph.heads["street"].m[0].weight.mul_(1.01)
        if change is None:
            graph.heads["base"].m[3].weight[0].mul_(1.5)
    options = PostprocessOptions(**{"conf": KEPT.conf, "iou": KEPT.iou, "max_det": KEPT.max_det, **(change or {})})
    pixels = np.random.default_rng(4).integers(0, 256, (3, 3, *SIZE), np.uint8)
    run = onnx_runner(files[".onnx"])
    found = compare(
        lambda images: run(np.ascontiguousarray(images.transpose(0, 2, 3, 1))),
        ExportedGraph(graph, graph.heads),
        {"noise": pixels},
        ObjectsGraph(graph, graph.heads, options),
    )
    with pytest.raises(ExportError, match=f"output '{output}"):
        judge(found, 1e-4)


def test_half_of_the_size_and_nearly_the_same_answers(weights: Path, tmp_path: Path) -> None:
    import onnx

    half = written(weights, "--half", "--include", "onnx", "torchscript")
    graph = load_model(weights)
    module = ExportedGraph(graph, graph.heads)
    pixels = {"noise": np.random.default_rng(1).integers(0, 256, (1, 3, *SIZE), np.uint8)}
    for path in half.values():
        found = compare(runner_of(path), module, pixels)
        assert 1e-5 < max(each.relative for each in found.values()) < 0.02
    model = onnx.load(half[".onnx"])
    formats = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert formats == {onnx.TensorProto.FLOAT16}
    assert all(output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for output in model.graph.output)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["precision"]) == "float16" and json.loads(told["checked"])["tolerance"] == 0.02


def test_a_check_that_has_seen_no_object_says_so(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(weights, "--nms", "--conf-thres", "1", "--heads", "street", "--include", "torchscript")
    assert "street_count is 0 on every picture of the check" in caplog.text


def test_openvino_stores_half_of_the_bytes(weights: Path) -> None:
    openvino = pytest.importorskip("openvino")
    [path] = written(weights, "--half", "--include", "openvino").values()
    parameters = sum(each.numel() for each in load_model(weights).parameters())
    assert path.with_suffix(".bin").stat().st_size < 3 * parameters
    assert openvino.Core().read_model(path).get_rt_info(["yolograph", "precision"]).value == '"float16"'


def test_what_nobody_has_checked_says_so(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx

    def no_run(*_: object) -> Runner:
        raise AssertionError("it was run")

    monkeypatch.setattr("utils.export.writers.onnx_runner", no_run)
    size = ["--img-size", *map(str, SIZE)]
    [path] = export(parse_options(["--weights", str(weights), *size, "--skip-check", "--heads", "street"]))
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert told["checked"] == "false" and "measured" not in told
    assert "is not checked" in caplog.text
