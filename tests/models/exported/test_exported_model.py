"""Exported files in place of checkpoints: the same results from pictures of any size, alone, in batches, in threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.exported.model import ExportedModel, device_for
from models.inference import Inference, load_inference
from models.predictions import DetectionResult, MaskResult, PostprocessOptions
from models.predictor import STAGES, Predictor
from models.predictor_pool import PredictorPool
from tests import tiny_ms_detr, tiny_poses, tiny_yolos
from tests.exported_files import SHAPE, module_of, write_checkpoint, write_onnx_and_openvino, write_torchscript
from tests.tiny_detector import make_picture
from utils.export.metadata import BATCH
from utils.export.torchscript_file import build_torchscript
from utils.stage_clock import StageClock

CPU = torch.device("cpu")
PICTURES = [make_picture(size, seed) for seed, size in enumerate(((60, 96), (96, 60), (64, 64)))]
DETECTING = PostprocessOptions(conf=0.3, max_det=40)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def open_files(weights: Path) -> tuple[Path, Path | None]:
    """The file of ONNX and the folder of OpenVINO with all sides open."""
    pytest.importorskip("onnxruntime", reason="needs pip install -r requirements-export.txt")
    return write_onnx_and_openvino(weights.parent, module_of(weights, heads=["detect"]))


@pytest.fixture(scope="module")
def fixed_file(weights: Path) -> Path:
    return write_torchscript(weights.with_suffix(".torchscript"), module_of(weights))


def predictor_of(model: Inference, options: PostprocessOptions = DETECTING) -> Predictor:
    return Predictor(model, dict.fromkeys(model.heads, 96), options, CPU, None, StageClock(STAGES))


def results(
    model: Inference, options: PostprocessOptions = DETECTING, pictures: Sequence[np.ndarray] = PICTURES
) -> list[dict[str, Any]]:
    """Return what is found in pictures of one pass; an input of its own for each where their sizes differ."""
    return predictor_of(model, options)(pictures)


def boxed(graph_path: Path, shape: tuple[int, int] = SHAPE[1:]) -> Inference:
    """Return the model itself with inputs of one shape."""
    model = load_inference([graph_path])
    model.letterbox = model.letterbox.exactly(shape)
    return model


def assert_equal_results(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    """Compare the results of two programs."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert list(ours) == list(theirs)
        for name, result in theirs.items():
            if isinstance(result, MaskResult):
                assert ours[name].class_map.shape == result.class_map.shape
                assert (ours[name].class_map == result.class_map).float().mean() > 0.999
                continue
            assert isinstance(result, DetectionResult) and len(result.boxes) > 0
            for column in ("classes", "scores", "boxes", *(("keypoints",) * hasattr(result, "keypoints"))):
                torch.testing.assert_close(getattr(ours[name], column), getattr(result, column), rtol=1e-4, atol=5e-3)


def test_files_of_open_sides_give_what_the_model_gives(weights: Path, open_files: tuple[Path, Path | None]) -> None:
    model = load_inference([weights])
    expected = [{"detect": found["detect"]} for found in results(model)]
    for path in filter(None, open_files):
        file = load_inference([path])
        assert (file.stride, file.letterbox) == (model.stride, model.letterbox)
        assert file.names == {"detect": model.names["detect"]}
        assert predictor_of(file).shape_text(PICTURES[1]) == "96x64"
        assert_equal_results(results(file), expected)


def test_a_file_of_one_size_and_batch_takes_any_number_of_any_size(weights: Path, fixed_file: Path) -> None:
    file = load_inference([fixed_file])
    assert predictor_of(file).input_shapes(PICTURES[1]) == (SHAPE[1:],)
    found = results(file)
    assert_equal_results(found, results(boxed(weights)))
    alone = [results(file, pictures=[picture])[0] for picture in PICTURES]
    assert_equal_results(found, alone)


def test_channels_may_come_last_and_heads_may_be_left_out(weights: Path, fixed_file: Path, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path / "last.torchscript", module_of(weights, layout="NHWC", heads=["detect"]))
    file = load_inference([path])
    assert list(file.heads) == ["detect"]
    of_all = results(load_inference([fixed_file]))
    assert_equal_results(results(file), [{"detect": found["detect"]} for found in of_all])


def test_objects_chosen_inside_are_those_that_detecting_chooses(weights: Path, tmp_path: Path) -> None:
    path = write_torchscript(tmp_path / "objects.torchscript", module_of(weights, PostprocessOptions(conf=0.3)))
    file, model = load_inference([path]), boxed(weights)
    # Without padding, in which many candidates are equal.
    pictures = [make_picture((64, 96), seed) for seed in range(3)]

    def found(of: Inference, **thresholds: Any) -> list[dict[str, Any]]:
        options = PostprocessOptions(**{"conf": 0.3, **thresholds})
        return [{"detect": each["detect"]} for each in results(of, options, pictures)]

    assert_equal_results(found(file), found(model))
    stricter = {"conf": 0.5, "classes": (0, 1), "max_det": 12}
    assert_equal_results(found(file, **stricter), found(model, **stricter))
    # Nothing that was left out inside comes back.
    assert_equal_results(found(file, conf=0.0, iou=1.0, max_det=1000, multi_label=True), found(file))
    for ours, theirs in zip(results(file), results(model), strict=True):
        # Classes were chosen at the input's size and not at the picture's.
        assert (ours["segment"].class_map == theirs["segment"].class_map).float().mean() > 0.95


FAMILIES = {
    "poses": lambda path: tiny_poses.write_weights(path),
    "tokens": lambda path: tiny_yolos.write_yolos(path),
    "queries": lambda path: tiny_ms_detr.write_ms_detr(path, tiny_ms_detr.OWN_CLASSES),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_other_families(kind: str, tmp_path: Path) -> None:
    path, shape = FAMILIES[kind](tmp_path / "model.safetensors"), (64, 96)
    file = load_inference([write_torchscript(tmp_path / "x.torchscript", module_of(path), (1, *shape))])
    expected = boxed(path, shape)
    assert str(file.letterbox) == str(expected.letterbox)
    unsure = replace(DETECTING, conf=0.05)
    assert_equal_results(results(file, unsure), results(expected, unsure))
    if kind == "poses":
        assert file.heads["pose"].keypoints == tiny_poses.CRANE


def test_threads_share_a_file(open_files: tuple[Path, Path | None]) -> None:
    for path in filter(None, open_files):
        predictor = predictor_of(load_inference([path]))
        expected = [predictor([picture]) for picture in PICTURES]
        pool = PredictorPool(predictor, 3)
        with ThreadPoolExecutor(3) as threads:
            for found, wanted in zip(
                threads.map(lambda i, pool=pool: pool([PICTURES[i % 3]]), range(12)), expected * 4, strict=True
            ):
                assert_equal_results(found, wanted)


def test_callers_at_the_same_time_share_the_cores(
    open_files: tuple[Path, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx, openvino = open_files
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for at_once, threads in ((1, 4), (3, 2), (9, 1)):
        # What ONNX Runtime counts includes one caller; the others come on top.
        [file] = load_inference([onnx], at_once=at_once).graphs
        assert file._run._session.get_session_options().intra_op_num_threads == threads
    if openvino is not None:
        # It takes no more than the machine has cores.
        for at_once, streams in ((1, 1), (9, min(4, os.cpu_count()))):
            [file] = load_inference([openvino], at_once=at_once).graphs
            assert file._run._compiled.get_property("NUM_STREAMS") == streams


def test_files_and_checkpoints_answer_together(weights: Path, open_files: tuple[Path, Path | None]) -> None:
    [file] = load_inference([open_files[0]]).graphs
    [graph] = load_inference([weights]).graphs
    both = Inference([file, graph])
    assert_equal_results(results(both), [{"detect": found["detect"]} for found in results(Inference([graph, graph]))])


def test_a_file_with_an_open_batch_runs_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(weights, heads=["detect"])
    (tmp_path / "b.torchscript").write_bytes(build_torchscript(module, (1, *SHAPE[1:]), BATCH))
    model, seen = ExportedModel(tmp_path / "b.torchscript", CPU), []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda images: seen.append(run(images)) or seen[-1])
    boxes = model.predict(torch.zeros(5, 3, *SHAPE[1:], dtype=torch.uint8), ["detect"])["detect"].boxes
    assert len(boxes) == 5
    [given] = seen
    assert given["detect_boxes"].data_ptr() == boxes.data_ptr(), "it was copied"


def test_no_device_named_is_one_that_can_run_the_file(
    weights: Path, open_files: tuple[Path, Path | None], fixed_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_for([weights], "") == torch.device("cuda:0")
    for path in (*filter(None, open_files), fixed_file):
        assert device_for([weights, path], "") == CPU
        assert device_for([path], "0") == torch.device("cuda:0")
