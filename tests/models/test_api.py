"""The three lines: a checkpoint becomes a callable model whose results are those of detect.py."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import detect
from data.sources import find_sources, read_frames
from models.api import Model, load
from models.graph import Graph
from models.predictions import DetectionResult
from models.results import Results
from tests.tiny_detector import (
    AREAS_ALONE,
    BOTH,
    NAMES,
    TWO_DETECTORS,
    make_picture,
    write_picture,
    write_weights,
)
from utils.errors import DataError, ModelError, UsageError

SMALL = {"size": 64, "conf": 0.1, "max_det": 5, "device": "cpu"}
SMALL_OPTIONS = ["--img-size", "64", "--conf-thres", "0.1", "--max-det", "5", "--device", "cpu"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("other") / "other.safetensors", seed=4)


@pytest.fixture
def model(weights) -> Model:
    return load(weights, **SMALL)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of pictures of mixed sizes, two of a size in a row."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate([(60, 80), (60, 80), (80, 60), (30, 90), (44, 44)]):
        write_picture(folder / f"{i}.png", size, seed=i)
    return folder


def assert_equal(results: Results, expected: list[dict]) -> None:
    """Compare every tensor of every head bit for bit."""
    assert len(results) == len(expected)
    for result, heads in zip(results, expected, strict=True):
        assert list(result.heads) == list(heads)
        for head, theirs in heads.items():
            ours = vars(result.heads[head])
            assert list(ours) == list(vars(theirs))
            for key, value in vars(theirs).items():
                assert torch.equal(ours[key], value) if isinstance(value, torch.Tensor) else ours[key] is value is None


def results_of(run, pictures):
    """Return what the command finds in every picture."""
    frames = read_frames(sorted(pictures.iterdir()), run.failed)
    with run.looks(run.batches(frames)) as looks:
        return [look.results for look in looks]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, []),
        (
            {"conf": 0.3, "iou": 0.2, "max_det": 50, "agnostic": True},
            "--conf 0.3 --iou 0.2 --max-det 50 --agnostic-nms",
        ),
        ({"classes": [0, 2], "size": 96}, "--classes 0 2 --img-size 96"),
        ({"augment": True}, "--augment"),
        ({"tta": True}, "--tta"),
        ({"half": True}, "--half"),
        ({"batch_size": 8}, "--batch-size 8"),
    ],
)
def test_results_are_those_of_the_command_bit_for_bit(weights, pictures, tmp_path, settings, options):
    given = ["--weights", str(weights), "--source", str(pictures), "--project", str(tmp_path), *SMALL_OPTIONS]
    given += options.split() if options else []
    run = detect.prepare(detect.parse_options(given), find_sources(str(pictures)))
    expected = results_of(run, pictures)
    results = load(weights, **{**SMALL, **settings})(sorted(pictures.iterdir()))
    assert sum(len(heads["detect"].boxes) for heads in expected) > 3
    assert_equal(results, expected)


def test_an_ensemble_answers_as_the_command_does(weights, other_weights, pictures, tmp_path):
    given = ["--weights", str(weights), str(other_weights), "--source", str(pictures), "--project", str(tmp_path)]
    run = detect.prepare(detect.parse_options([*given, *SMALL_OPTIONS]), find_sources(str(pictures)))
    expected = results_of(run, pictures)
    assert_equal(load([weights, str(other_weights)], **SMALL)(sorted(pictures.iterdir())), expected)


def test_files_and_lines_are_those_of_the_command(model, weights, pictures, tmp_path, capsys):
    given = ["--weights", str(weights), "--source", str(pictures), "--project", str(tmp_path), "--name", "command"]
    detect.main([*given, *SMALL_OPTIONS, "--save-txt", "--save-conf", "--save-mask"])
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("image ")]
    results = model(sorted(pictures.iterdir()))
    ours, theirs = results.save(tmp_path / "python", labels=True, confidences=True, masks=True), tmp_path / "command"
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
    assert len(names) == 5 * 4
    assert sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file()) == names
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in names)
    lines = [line for line in str(results).splitlines() if line.startswith("image ")]
    without_time = [[re.sub(r"[\d.]+ ms$", "", line) for line in found] for found in (lines, printed)]
    assert without_time[0] == without_time[1] and len(lines) == 5


def test_settings_hold_from_the_next_call_on(model, pictures):
    paths = sorted(pictures.iterdir())
    assert all(len(boxes) == 5 for boxes in model(paths).xyxy)
    model.conf, model.max_det, model.classes = 0.5, 3, 1
    for boxes in model(paths).xyxy:
        assert len(boxes) <= 3 and (boxes[:, 4] > 0.5).all() and (boxes[:, 5] == 1).all()
    model.classes = np.array([2])
    assert {float(index) for boxes in model(paths).xyxy for index in boxes[:, 5]} == {2.0}
    model.classes = []
    assert all(len(boxes) == 0 for boxes in model(paths).xyxy)
    model.size = 96
    assert model(paths[4])[0].input_shape == "96x96"


def test_two_kinds_of_augmentation_at_once_are_refused(model, pictures):
    model.augment = True
    with pytest.raises(UsageError, match=r"^augment looks three times as YOLOv5 does, tta six times"):
        model(pictures / "0.png", tta=True)
    assert len(model(pictures / "0.png", augment=False, tta=True)) == 1


def test_arguments_of_a_call_hold_for_it_alone(model, pictures):
    path = pictures / "0.png"
    plain, six = model(path), model(path, tta=True)
    assert not torch.equal(plain[0].boxes, six[0].boxes)
    assert model(path, size=128)[0].input_shape == "96x128"
    augmented = model(path, augment=True)
    model.augment, model.size = True, 64
    assert torch.equal(augmented[0].boxes, model(path)[0].boxes)
    assert torch.equal(plain[0].boxes, model(path, augment=False)[0].boxes)
    assert not torch.equal(plain[0].boxes, augmented[0].boxes)


def test_a_setting_that_there_is_not_is_refused(model, weights):
    with pytest.raises(AttributeError):
        model.confidence = 0.4
    with pytest.raises(TypeError):
        load(weights, confidence=0.4)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("conf", 1.5, "conf must be in 0..1, but is 1.5"),
        ("conf", "high", "conf must be in 0..1"),
        ("iou", float("nan"), "iou must be in 0..1"),
        ("max_det", 0, "max_det must be a whole number"),
        ("size", 640.0, "size must be a whole number"),
        ("size", (640, 480), "size must be a whole number"),
        ("batch_size", 0, "batch_size must be a whole number"),
        ("classes", [3], "classes holds 3, but the model's classes are 0 to 2"),
        ("classes", ["car"], "classes holds 'car'"),
        ("classes", -1, "classes holds -1"),
        ("classes", "car", "classes must be None, an index or a list of indices"),
        ("classes", 1.5, "classes must be None, an index or a list of indices"),
    ],
)
def test_settings_out_of_range_are_one_sentence(model, setting, value, words):
    setattr(model, setting, value)
    with pytest.raises(UsageError) as caught:
        model(make_picture())
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_kind_of_picture_gives_the_same_results(model, pictures):
    path = pictures / "0.png"
    rgb = cv2.imread(str(path))[..., ::-1]
    chw = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    results = model([path, str(path), Image.open(path), rgb, rgb.transpose(2, 0, 1), chw, chw / 255])
    for result in results:
        assert torch.equal(result.boxes, results[0].boxes) and torch.equal(result.masks, results[0].masks)
        np.testing.assert_array_equal(result.image, rgb)
    assert [result.name for result in results] == ["0.png"] * 3 + [f"image{i}.jpg" for i in range(3, 7)]


def test_results_are_in_native_pixels(model, pictures):
    results = model(sorted(pictures.iterdir()))
    assert [tuple(result.masks.shape) for result in results] == [(60, 80), (60, 80), (80, 60), (30, 90), (44, 44)]
    assert [result.image.shape[:2] for result in results] == [tuple(result.masks.shape) for result in results]
    for result in results:
        height, width = result.image.shape[:2]
        assert (result.boxes[:, :4] >= 0).all()
        assert (result.boxes[:, [0, 2]] <= width).all() and (result.boxes[:, [1, 3]] <= height).all()


def test_pictures_of_equal_shape_share_a_pass(model, pictures, monkeypatch):
    passes = []
    forward = Graph.forward
    monkeypatch.setattr(
        Graph, "forward", lambda self, images, heads=None: passes.append(len(images)) or forward(self, images, heads)
    )
    model.batch_size = 8
    results = model(sorted(pictures.iterdir()))
    assert passes == [3, 1, 1]
    assert results[0].speed == results[2].speed != results[3].speed
    assert list(results.speed) == ["preprocess", "inference", "postprocess"]
    assert all(spent > 0 for result in results for spent in result.speed.values())


def test_no_pictures_give_no_results(model):
    assert len(model([])) == 0


def test_a_model_tells_about_itself(model, weights):
    assert list(model.names) == NAMES["detect"] and model.class_names == NAMES
    assert model.stride == 32 and model.device == torch.device("cpu")
    assert model.to("cpu") is model and model.cpu() is model
    assert repr(model).startswith("Model(conf=0.1, iou=0.45, max_det=5,")
    areas = load(write_weights(weights.parent / "areas.safetensors", AREAS_ALONE), **SMALL)
    assert list(areas.names) == NAMES["segment"]
    assert areas(make_picture())[0].boxes is None
    areas.classes = [0]
    with pytest.raises(UsageError, match="the model has no head for boxes"):
        areas(make_picture())


def test_two_heads_of_one_task_answer_by_name(tmp_path):
    names = {"cars": ["car", "bus", "van"], "signs": ["stop", "yield", "end"]}
    model = load(write_weights(tmp_path / "two.safetensors", TWO_DETECTORS, names), **SMALL)
    (result,) = model(make_picture())
    assert isinstance(result.heads["cars"], DetectionResult) and list(result.only("signs").names) == names["signs"]
    with pytest.raises(UsageError, match=r"several heads \(cars, signs\); write class_names\['cars'\]"):
        _ = model.names
    found = json.loads(model(make_picture()).to_json())[0]["objects"]
    count = defaultdict(int)
    for entry in found:
        count[entry["head"]] += 1
    assert set(count) == {"cars", "signs"}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"weights": "gone.pt"}, ModelError, "gone.pt"),
        ({"weights": "https://example.org/yolov5n.pt"}, UsageError, "nothing is downloaded"),
        ({"weights": []}, UsageError, "weights is an empty list"),
        ({"weights": None}, UsageError, "weights must be the path of a checkpoint"),
        ({"weights": [3]}, UsageError, "weights must be the path of a checkpoint"),
        ({"device": "tpu"}, UsageError, "device tpu: write cpu"),
        ({"device": 99}, UsageError, "device 99: this machine has"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(weights, given, error, words):
    with pytest.raises(error) as caught:
        load(**{"weights": weights, **given})
    assert words in str(caught.value) and "--" not in str(caught.value) and "\n" not in str(caught.value)


def test_devices_may_be_given_as_torch_has_them(weights, model):
    assert load(weights, torch.device("cpu")).device.type == "cpu"
    if not torch.cuda.is_available():
        for ask in (lambda: load(weights, "cuda"), lambda: load(weights, torch.device("cuda:0")), model.cuda):
            with pytest.raises(UsageError, match="device cuda:0: this machine has no CUDA GPU"):
                ask()


def test_models_that_do_not_belong_together_are_refused(weights, tmp_path):
    other = write_weights(tmp_path / "areas.safetensors", AREAS_ALONE)
    with pytest.raises(UsageError, match=r"weights: .*tiny.safetensors has the heads") as caught:
        load([weights, other])
    assert "--" not in str(caught.value)


def test_a_model_for_other_than_colour_pictures_is_refused(tmp_path):
    deep = write_weights(tmp_path / "deep.safetensors", BOTH.replace("nc: 3", "nc: 3\nch: 4"))
    with pytest.raises(UsageError, match="takes 4 channels, but pictures have 3"):
        load(deep)


def test_pictures_that_cannot_be_read_are_errors(model, pictures):
    with pytest.raises(DataError, match=r"gone\.jpg: no such image"):
        model([pictures / "0.png", "gone.jpg"])
    with pytest.raises(UsageError, match="nothing is downloaded"):
        model("https://example.org/bus.jpg")


@pytest.mark.parametrize("file", ["yolov5n_v6.2_v7.0", "yolov5n_v6.0"])
def test_official_weights_find_what_they_are_known_to_find(shared, file):
    published = json.loads((shared / "data/weights/expected_detections.json").read_text())[file]["images"]
    model = load(shared / "data/weights" / f"{file}.pt", "cpu")
    paths = [shared / f"data/images/{name}.jpg" for name in published]
    expected = [torch.tensor(found["boxes_xyxy_score_class"]) for found in published.values()]
    for boxes, theirs in zip(model(paths).xyxy, expected, strict=True):
        torch.testing.assert_close(boxes, theirs, atol=0.01, rtol=0)
