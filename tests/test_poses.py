"""Poses from end to end: detect.py, test.py, export.py and the Python interface with a model that gives keypoints."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from data.formats.yolo_txt import read_labels
from data.keypoints import generic_keypoints
from models.api import Model, load
from models.predictions import PoseResult
from models.results import Results
from tests.test_test import COMMAND
from tests.tiny_detector import make_picture
from tests.tiny_poses import CRANE, POSES, POSES_AND_AREAS, write_set, write_weights
from utils.annotate import Style
from utils.errors import DataError, UsageError
from utils.plots.skeletons import LEFT, RIGHT

PICTURE = make_picture((72, 96))
FEW = {"conf": 0.3, "max_det": 4, "size": 96}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("poses") / "poses.safetensors")


@pytest.fixture
def model(weights: Path) -> Model:
    return load(weights, "cpu", **FEW)


@pytest.fixture
def results(model: Model) -> Results:
    return model([PICTURE, PICTURE[:, ::-1]])


def detect_on(source: Path, weights: Path, project: Path, *more: str) -> Path:
    options = ["--weights", str(weights), "--source", str(source), "--project", str(project), "--device", "cpu"]
    return detect.detect(detect.parse_options([*options, "--img-size", "96", "--conf", "0.3", "--max-det", "4", *more]))


def run_test(weights: Path, data: Path, project: Path, *more: str) -> dict[str, dict[str, float]]:
    options = ["--weights", str(weights), "--data", str(data), "--project", str(project), "--img-size", "96"]
    return COMMAND.test(COMMAND.parse_options([*options, "--workers", "0", "--device", "cpu", *more]))


def write_picture(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "yard.png"), PICTURE[..., ::-1])
    return folder / "yard.png"


def test_results_have_keypoints_in_the_order_of_their_boxes(results: Results) -> None:
    found = results[0]
    assert found.keypoints.shape == (4, 5, 3) and found.boxes.shape == (4, 6)
    assert [len(points) for points in results.keypoints] == [4, 4]
    assert isinstance(found.heads["pose"], PoseResult) and found.heads["pose"].spec == CRANE
    assert results.names == ["crane"] and found.only("pose").keypoints is found.keypoints


def test_tables(results: Results) -> None:
    frame = results.pandas().keypoints[0]
    assert list(frame) == ["object", "class", "name", "keypoint", "x", "y", "score"] and len(frame) == 20
    assert frame["keypoint"].tolist() == list(CRANE.names) * 4 and set(frame["name"]) == {"crane"}
    np.testing.assert_allclose(
        frame[["x", "y", "score"]].to_numpy().reshape(4, 5, 3), results[0].keypoints.numpy(), rtol=1e-6
    )
    assert frame["object"].tolist() == [row for row in range(4) for _ in range(5)]
    plain = json.loads(results.to_json())[0]["objects"]
    assert [point["name"] for point in plain[2]["keypoints"]] == list(CRANE.names)
    assert plain[2]["keypoints"][3]["x"] == pytest.approx(float(results[0].keypoints[2, 3, 0]))
    assert results.to_supervision()[0].data["keypoints"].shape == (4, 5, 3)
    assert len(results.crop(save=False)) == 8


def test_skeletons_are_drawn_from_the_asked_score_on(results: Results) -> None:
    def count(score: float) -> int:
        drawn = results[0].render(Style(labels=False, keypoint_score=score))
        return int(sum((drawn == colour).all(-1).sum() for colour in (LEFT, RIGHT)))

    assert count(0.0) > count(0.999) >= 0
    assert (results[0].image == PICTURE).all()


def test_detect_writes_pictures_and_label_rows(weights: Path, results: Results, tmp_path: Path) -> None:
    source = write_picture(tmp_path / "in")
    folder = detect_on(source, weights, tmp_path / "runs", "--save-txt", "--kpt-conf", "0.5")
    drawn = cv2.imread(str(folder / "yard.png"))[..., ::-1]
    np.testing.assert_array_equal(drawn, results[0].render(Style(keypoint_score=0.5)))
    read = read_labels(folder / "labels/yard.txt", 1, 5)
    found, (height, width) = results[0], PICTURE.shape[:2]
    sure = (found.keypoints[..., 2] >= 0.5).numpy()
    points = found.keypoints[..., :2].numpy() / (width, height)
    shown = sure & ((points >= 0) & (points <= 1)).all(-1)
    assert 0 < shown.sum() < shown.size, "some are left out"
    # The reader gives rows in an order of its own.
    order = np.lexsort(read.boxes.T)
    boxes = found.boxes[:, :4].numpy() / (width, height, width, height)
    expected = np.lexsort(boxes.T)
    np.testing.assert_allclose(read.boxes[order], boxes[expected], atol=1e-5)
    np.testing.assert_array_equal(read.keypoints[order][..., 2], np.where(shown, 2, 0)[expected])
    np.testing.assert_allclose(
        read.keypoints[order][..., :2], np.where(shown[..., None], points, 0)[expected], atol=1e-5
    )


def test_with_confidences_label_rows_have_scores(weights: Path, results: Results, tmp_path: Path) -> None:
    folder = detect_on(write_picture(tmp_path / "in"), weights, tmp_path / "runs", "--save-txt", "--save-conf")
    rows = np.loadtxt(folder / "labels/yard.txt", ndmin=2)
    assert rows.shape == (4, 5 + 15 + 1)
    points = rows[:, 5:20].reshape(4, 5, 3) * (PICTURE.shape[1], PICTURE.shape[0], 1)
    np.testing.assert_allclose(points, results[0].keypoints.numpy(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(rows[:, 20], results[0].boxes[:, 4].numpy(), rtol=1e-5)


def test_areas_and_poses_of_one_model_are_drawn_together(tmp_path: Path) -> None:
    both = write_weights(tmp_path / "both.safetensors", POSES_AND_AREAS)
    found = load(both, "cpu", **FEW)(PICTURE)[0]
    assert found.keypoints is not None and found.masks.shape == PICTURE.shape[:2]
    assert str(found).count("crane") == 1, "objects are named once"
    assert found.only("segment").keypoints is None
    folder = detect_on(write_picture(tmp_path / "in"), both, tmp_path / "runs", "--save-txt", "--save-mask")
    assert (folder / "labels/yard.txt").exists() and (folder / "masks/yard.png").exists()


def test_an_idle_or_impossible_score_is_refused(weights: Path, tmp_path: Path) -> None:
    from tests.tiny_detector import write_weights as write_detector

    source = write_picture(tmp_path / "in")
    with pytest.raises(UsageError, match="--kpt-conf needs a head for keypoints"):
        detect_on(source, write_detector(tmp_path / "boxes.safetensors"), tmp_path / "runs", "--kpt-conf", "0.5")
    with pytest.raises(UsageError, match=r"--kpt-conf must be in 0\.\.1"):
        detect_on(source, weights, tmp_path / "runs", "--kpt-conf", "2")


def test_a_pose_model_is_measured(weights: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    metrics = run_test(weights, data, tmp_path / "runs", "--save-json", "--save-txt")["pose"]
    assert {"AP50", "AP", "AP75", "AR", "box_AP"} <= set(metrics) and 0 <= metrics["AP"] <= metrics["AP50"] <= 1
    folder = tmp_path / "runs/exp"
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"pose/keypoint_PR_curve.png", "pose/PR_curve.png", "test_batch0_pose_results.jpg"} <= written
    rows = json.loads((folder / "pose_predictions.json").read_text())
    assert len(rows[0]["keypoints"]) == 15 and {row["image_id"] for row in rows} <= set(range(5))
    labels = sorted((folder / "labels_pose").glob("*.txt"))
    assert len(labels) == 5 and all(len(line.split()) == 20 for p in labels for line in p.read_text().splitlines())


def test_suppression_by_keypoints_is_an_option_of_the_test(weights: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")

    def found(*more: str) -> int:
        run_test(weights, data, tmp_path / "runs", "--noplots", "--save-json", "--name", "x", "--exist-ok", *more)
        return len(json.loads((tmp_path / "runs/x/pose_predictions.json").read_text()))

    assert found("--oks-thres", "0.01") < found("--oks-thres", "0.9") <= found("--oks-thres", "1")


def test_data_of_another_number_of_keypoints_are_refused(tmp_path: Path) -> None:
    other = write_weights(
        tmp_path / "seven.safetensors", POSES.replace("nkpt: 5", "nkpt: 7"), keypoints=generic_keypoints(7)
    )
    with pytest.raises(DataError, match=r"have 5 keypoints.*gives 7"):
        run_test(other, write_set(tmp_path / "set"), tmp_path / "runs")


def test_views_and_several_models_answer_together(weights: Path, tmp_path: Path) -> None:
    other = write_weights(tmp_path / "other.safetensors", seed=4)
    single = load(weights, "cpu", **FEW)
    several = load([weights, other], "cpu", **FEW)
    assert several(PICTURE)[0].keypoints.shape == (4, 5, 3)
    once, looked_thrice = single(PICTURE), single(PICTURE, augment=True)
    assert looked_thrice[0].keypoints.shape == (4, 5, 3)
    assert not torch.equal(looked_thrice[0].keypoints, once[0].keypoints)


def test_models_of_other_keypoints_do_not_answer_together(weights: Path, tmp_path: Path) -> None:
    other = write_weights(tmp_path / "other.safetensors", keypoints=generic_keypoints(5))
    with pytest.raises(UsageError, match="keypoints of head 'pose' differ"):
        load([weights, other], "cpu")


def test_a_pose_model_is_exported_with_what_its_keypoints_are(weights: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from export import export, parse_options

    [path] = export(
        parse_options(["--weights", str(weights), "--img-size", "64", "96", "--output", str(tmp_path / "p.onnx")])
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["pose_boxes", "pose_scores", "pose_objectness", "pose_keypoints"]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96), np.uint8)
    found = dict(zip(names, session.run(names, {"images": pixels}), strict=True))
    with torch.inference_mode():
        graph = load(weights, "cpu").inference.graphs[0]
        poses = graph.heads["pose"].predict(graph(torch.from_numpy(pixels), heads=("pose",))["pose"], (64, 96))
    assert found["pose_keypoints"].shape == (1, poses.boxes.shape[1], 5, 3)
    np.testing.assert_allclose(found["pose_keypoints"], poses.keypoints.numpy(), rtol=1e-3, atol=1e-2)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["keypoints"])["pose"] == CRANE.to_plain()
