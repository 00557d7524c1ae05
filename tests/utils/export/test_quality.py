"""A file is measured beside its model: by labels where there are some, and refused where it is worth less."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from data.keypoints import default_keypoints
from data.samples import Sample
from data.synthetic import DETECT_NAMES, SEGMENT_NAMES
from export import main, parse_options
from models.inference import Inference, load_inference
from models.predictions import DetectionResult, MaskResult, PoseResult, PostprocessOptions
from models.weights import load_model
from tests.exported_files import module_of, write_torchscript
from tests.labelled_squares import arguments, write_labelled_squares
from tests.square_finder import NAMES, square_finder
from tests.tiny_detector import write_weights
from utils.errors import ExportError, UsageError
from utils.export.check_pictures import FirstPictures, Pictures, generated_pictures
from utils.export.latency import WARM_UP, by_turns
from utils.export.proof import Proof
from utils.export.quality import Measure, Measured, answered, require_worth, table_of


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and pictures with labels."""
    return write_labelled_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def exported(squares: Path) -> Path:
    """The file in float32, held against the labels."""
    main(arguments(squares))
    return squares / "squares.onnx"


def told(path: Path, key: str) -> object:
    return json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}[key])


def test_a_right_file_is_worth_what_the_model_is_and_says_so(exported: Path) -> None:
    found = told(exported, "measured")
    assert found["pictures"] == "the first 2 pictures of data.yaml (val)"
    head = found["heads"]["detect"]
    assert head["metric"] == "AP" and head["labelled"] is True
    assert head["model"] == pytest.approx(1.0) and head["file"] == head["model"]


def spoiled(path: Path, target: Path) -> Path:
    """Write a copy of a file in which nothing is an object."""
    model = onnx.load(path)
    [last] = [node for node in model.graph.node if node.op_type == "Conv"][-1:]
    bias = next(each for each in model.graph.initializer if each.name == last.input[2])
    values = onnx.numpy_helper.to_array(bias).copy()
    values[4] = -100
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, target)
    return target


def proof(squares: Path, *more: str) -> Proof:
    graph = load_model(squares / "squares.safetensors")
    options = parse_options(arguments(squares, *more))
    return Proof(graph, ["detect"], (1, 64, 64), options, torch.device("cpu"))


def test_a_file_that_finds_less_is_refused(squares: Path, exported: Path, tmp_path: Path) -> None:
    # Read under whatever name a file has while it is written.
    worse = spoiled(exported, tmp_path / ".worse.tmp")
    with pytest.raises(
        ExportError, match=r"AP of the exported head 'detect' is 0\.0000, that of the model 1\.0000: low"
    ):
        proof(squares).hold(worse, ".onnx")
    assert json.loads(proof(squares, "--ap-tolerance", "1").hold(worse, ".onnx"))["heads"]["detect"]["file"] == 0


def test_without_data_the_models_own_answers_are_the_labels(squares: Path, exported: Path, tmp_path: Path) -> None:
    options = parse_options(["--weights", "any", "--img-size", "64", "--passes", "1"])
    graph = load_model(squares / "squares.safetensors")
    with torch.no_grad():
        # Whatever there is to see on a street is an object to it.
        graph.heads["detect"].m[0].bias[4] = 1
    own = Proof(graph, ["detect"], (1, 64, 64), options, torch.device("cpu"))
    found = json.loads(own.hold(spoiled(exported, tmp_path / "worse.onnx"), ".onnx"))["heads"]["detect"]
    assert found == {"metric": "AP", "model": pytest.approx(1.0), "file": 0, "labelled": False}


def test_scenes_have_labels_for_models_of_their_classes() -> None:
    pictures, labelled = generated_pictures(square_finder().heads["detect"], DETECT_NAMES)
    assert labelled and sum(len(pictures.load(i).boxes) for i in range(len(pictures))) > len(pictures)
    assert not generated_pictures(square_finder().heads["detect"], NAMES)[1]


def test_the_own_answers_of_a_model_that_labels_pixels_are_masks(tmp_path: Path) -> None:
    model = "nc: 1\nbackbone:\n  - [-1, 1, Conv, [8, 3, 4]]\nhead:\n  - [-1, 1, SegMaskBase, [2, 1, 8]]\n"
    weights = write_weights(tmp_path / "areas.safetensors", model)
    inference = load_inference([weights])
    pictures, labelled = generated_pictures(inference.heads["segment"], SEGMENT_NAMES[:2])
    assert not labelled
    measure = Measure(64, 4, inference.letterbox, PostprocessOptions())
    few = Pictures("segment", pictures.samples[:5])
    answers = measure.own_answers(inference, "segment", few)
    assert [answers.load(i).mask.shape for i in range(5)] == [sample.image.shape[:2] for sample in few.samples]
    assert measure.of(inference, "segment", answers, SEGMENT_NAMES[:2]) == 1
    other = Inference([load_model(write_weights(tmp_path / "other.safetensors", model, seed=4)).eval()])
    assert measure.of(other, "segment", answers, SEGMENT_NAMES[:2]) < 1


def test_a_class_map_is_held_against_one_of_its_own_size(tmp_path: Path) -> None:
    model = "nc: 1\nbackbone:\n  - [-1, 1, Conv, [8, 3, 4]]\nhead:\n  - [-1, 1, SegMaskBase, [2, 1, 8]]\n"
    weights = write_weights(tmp_path / "areas.safetensors", model)
    path = write_torchscript(tmp_path / "areas.torchscript", module_of(weights, PostprocessOptions()), (1, 64, 64))
    options = parse_options(["--weights", "any", "--nms", "--img-size", "64", "--passes", "1", "--check-images", "2"])
    told = Proof(load_model(weights), ["segment"], (1, 64, 64), options, torch.device("cpu")).hold(path, path.suffix)
    found = json.loads(told)
    assert found["pictures"] == "2 generated scenes"
    # Scenes are larger than the input, where edges of logits would be others.
    assert found["heads"]["segment"] == {"metric": "mIoU", "model": 1, "file": 1, "labelled": False}


def test_results_become_labels() -> None:
    picture = Sample(np.zeros((8, 9, 3), np.uint8), id="a")
    boxes, scores, classes = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([0.5]), torch.tensor([2])
    objects = answered(picture, DetectionResult(boxes, scores, classes))
    assert objects.boxes.tolist() == [[1, 2, 3, 4]] and objects.classes.tolist() == [2] and objects.keypoints is None
    keypoints = torch.rand(1, 17, 3)
    pose = answered(picture, PoseResult(boxes, scores, classes, keypoints=keypoints, spec=default_keypoints(17)))
    np.testing.assert_array_equal(pose.keypoints[..., :2], keypoints[..., :2])
    assert (pose.keypoints[..., 2] == 2).all() and (keypoints[..., 2] < 1).all()
    assert answered(picture, MaskResult(torch.ones(8, 9, dtype=torch.uint8))).mask.sum() == 72


def test_the_worst_head_is_named_and_better_ones_pass() -> None:
    heads = {
        "areas": Measured("mIoU", 0.5, 0.4, True),
        "objects": Measured("AP", 0.3, 0.35, True),
        "own": Measured("AP", 1.0, 0.1, False),
    }
    with pytest.raises(
        ExportError, match=r"mIoU of the exported head 'areas' .* by 0\.1000, more than --ap-tolerance 0\.05"
    ):
        require_worth(heads, 0.05)
    require_worth(heads, 0.11)
    assert list(table_of(heads))[2].split() == ["objects", "AP", "0.3000", "0.3500", "+0.0500"]
    with pytest.raises(ExportError, match="is nan"):
        require_worth({"objects": Measured("AP", 0.3, float("nan"), True)}, 1)


def test_the_first_pictures_are_no_more_than_there_are() -> None:
    source = Pictures("detect", [Sample(np.full((4 + i, 5, 3), i, np.uint8), id=str(i)) for i in range(3)])
    first = FirstPictures(source, 2)
    assert len(first) == 2 and first.sizes.tolist() == [[4, 5], [5, 5]] and first.load(1).image.max() == 1
    assert len(FirstPictures(source, 9)) == 3


def test_file_and_model_are_timed_by_turns() -> None:
    made = []
    latency = by_turns(lambda: made.append("model"), lambda: made.append("file"), 5)
    assert made == ["model", "file"] * (WARM_UP + 5)
    assert latency.passes == 5 and latency.speedup == latency.model_ms / latency.file_ms
    made.clear()
    assert by_turns(lambda: made.append("model"), lambda: made.append("file"), 5, most_seconds=0).passes == 1
    assert made == ["model", "file"] * 2, "one pass of each warms up, however slow it is"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--check-images", "0"], "--check-images must be 1 or more"),
        (["--passes", "0"], "--passes must be 1 or more"),
        (["--ap-tolerance", "nan"], "--ap-tolerance must be 0 to 1"),
        (["--segdata", "masks"], "--segdata stands in place of the masks"),
        (["--calibration", "pictures"], "--calibration is about --int8"),
        (["--calibration-images", "9"], "--calibration-images is about --int8"),
        (["--int8"], "--int8 needs pictures with labels"),
        (["--int8", "--calibration", "pictures"], "--int8 needs pictures with labels"),
        (["--int8", "--data", "d.yaml", "--calibration-images", "0"], "--calibration-images must be 1 or more"),
        (
            ["--int8", "--data", "d.yaml", "--include", "onnx", "torchscript"],
            "--int8 is for onnx and openvino, not for tor",
        ),
        (["--int8", "--data", "d.yaml", "--half"], "--int8 and --half are two number formats"),
        (["--skip-check", "--ap-tolerance", "0.1"], "--ap-tolerance is about the check that --skip-check"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_options(["--weights", "any.safetensors", *wrong])


def test_a_file_of_eight_bits_may_go_unmeasured_where_that_is_asked_for() -> None:
    options = ["--weights", "any.safetensors", "--int8", "--calibration", "pictures", "--skip-check"]
    assert parse_options(options).int8
