"""detect.py, test.py and the Python interface with a deformable transformer: pictures of any shape, several looks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.api import Model, load
from models.fusing import fuse_graph
from models.predictions import PostprocessOptions
from models.predictor import STAGES, Predictor
from models.weights import load_model
from tests.conftest import write_tiny_set
from tests.detect_runs import Call, caller, read_labels
from tests.test_test import COMMAND
from tests.tiny_detector import make_picture, write_picture
from tests.tiny_ms_detr import LEARNT_ALONE, MS_DETR, OWN_CLASSES, QUERIES, WITH_AREAS, tiny_ms_detr, write_ms_detr
from utils.errors import run_command
from utils.explain.__main__ import main as explain
from utils.logging import start_logging
from utils.stage_clock import StageClock

CLASSES = 3
Patch = pytest.MonkeyPatch
SHAPES = {"square": (64, 64), "landscape": (60, 91), "portrait": (91, 60), "banner": (8, 300), "thread": (300, 4)}
LABELS = ("--save-txt", "--save-conf", "--conf-thres", "0", "--max-det", "1000", "--nosave")
COLOURS = {"detect": ["red", "green", "blue"], "segment": ["ground", "red"]}


@pytest.fixture(autouse=True)
def messages() -> None:
    """Start the command's messages before the test: pytest listens to the loggers that it finds when a test begins."""
    start_logging()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ms_detr(tmp_path_factory.mktemp("model") / "ms-detr.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of five shapes, two of them the same in a row."""
    folder = tmp_path_factory.mktemp("photos")
    for number, shape in enumerate(("square", "landscape", "landscape", "portrait", "banner", "thread")):
        write_picture(folder / f"{number}_{shape}.png", SHAPES[shape], seed=number)
    return folder


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    """The model in Python, which keeps every candidate."""
    return load(weights, device="cpu", conf=0, size=64, batch_size=3)


@pytest.fixture
def call(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(tmp_path, weights, capsys)


def test_results_of_every_shape_are_those_of_any_batch_size(call: Call, photos: Path, tmp_path: Path) -> None:
    for size in (1, 4):
        code, out, err = call(photos, *LABELS, "--batch-size", size, "--name", f"batch{size}")
        assert code == 0, err
        # 64 pixels are the short side and the long one follows to the pixel, but no farther than about 107.
        shapes = {"0_square": "64x64", "1_landscape": "64x97", "3_portrait": "97x64"}
        for name, shape in {**shapes, "4_banner": "3x112", "5_thread": "75x1"}.items():
            assert f"{name}.png: {shape}," in out
    alone, together = tmp_path / "batch1" / "labels", tmp_path / "batch4" / "labels"
    for path in sorted(alone.iterdir()):
        rows = read_labels(path)
        assert rows.shape == (QUERIES * CLASSES, 6), "every query may be of every class, and nothing is suppressed"
        assert (np.diff(rows[:, 5]) <= 0).all() and np.isfinite(rows).all()
        np.testing.assert_allclose(read_labels(together / path.name), rows, atol=2e-5)


def test_a_photo_is_drawn_upon(call: Call, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "street.png", (60, 90))
    code, out, err = call(picture, "--conf-thres", "0.2")
    assert code == 0, err
    assert "car" in out or "person" in out or "dog" in out
    drawn = cv2.imread(str(tmp_path / "exp" / "street.png"))
    assert drawn.shape == (60, 90, 3) and (drawn != cv2.imread(str(picture))).any(-1).sum() > 100


def test_models_answer_together(call: Call, photos: Path, tmp_path: Path, weights: Path) -> None:
    other = write_ms_detr(tmp_path / "other" / "ms-detr.safetensors", MS_DETR.replace("queries: 12", "queries: 9"), 1)
    code, _, err = call(photos, *LABELS, "--iou-thres", "0.99", "--weights", weights, other)
    assert code == 0, err
    assert QUERIES * CLASSES < len(read_labels(tmp_path / "exp" / "labels" / "0_square.txt")) <= 21 * CLASSES


def test_python_gives_what_the_command_gives(call: Call, photos: Path, model: Model, tmp_path: Path) -> None:
    code, _, err = call(photos, *LABELS)
    assert code == 0, err
    results = model(sorted(photos.iterdir()))
    assert results[1].input_shape == "64x97"
    for result, table in zip(results, results.xywhn, strict=True):
        rows = read_labels(tmp_path / "exp" / "labels" / f"{Path(result.name).stem}.txt")
        np.testing.assert_allclose(rows, torch.roll(table, 1, 1).numpy(), atol=2e-5)


def test_a_picture_with_fewer_places_than_queries_has_as_many_answers(model: Model) -> None:
    [result] = model(make_picture((16, 16)), size=16)
    assert len(result.boxes) == (2 * 2 + 1) * CLASSES and result.boxes.isfinite().all()


@pytest.mark.parametrize(("option", "looks"), [("augment", 3), ("tta", 6)])
def test_several_looks_meet_by_suppression(option: str, looks: int, model: Model, monkeypatch: Patch) -> None:
    monkeypatch.setattr(model.inference.heads["detect"], "top_k", 999)
    picture = make_picture((60, 91))
    counts = {}
    for iou in (1.0, 0.3):
        monkeypatch.setattr(model, "iou", iou)
        counts[iou] = len(model(picture, **{option: True})[0].boxes)
    assert counts[0.3] < counts[1.0] == looks * QUERIES * CLASSES


def looking(model: Model, dtype: torch.dtype | None = None) -> Predictor:
    """Return what detect.py looks with, in a format that ``--dtype`` names."""
    options, clock = PostprocessOptions(conf=0.0), StageClock(STAGES)
    return Predictor(model.inference, {"detect": 64}, options, torch.device("cpu"), dtype, clock)


def test_a_batch_of_several_shapes_answers_as_each_picture_alone(model: Model) -> None:
    pictures, look = [make_picture(SHAPES[name], seed) for seed, name in enumerate(SHAPES)], looking(model)
    for picture, found in zip(pictures, look(pictures), strict=True):
        [alone] = look([picture])
        torch.testing.assert_close(found["detect"].boxes, alone["detect"].boxes, atol=1e-3, rtol=1e-4)
        assert torch.equal(found["detect"].classes, alone["detect"].classes)


def test_half_precision_finds_the_same_boxes(model: Model) -> None:
    picture = make_picture((60, 91))
    whole, half = (looking(model, dtype)([picture])[0]["detect"].boxes for dtype in (None, torch.bfloat16))
    assert half.dtype == torch.float32 and not torch.equal(whole, half)
    near = (whole[:, None] - half[None]).abs().amax(-1).amin(1)
    assert near.median() < 1, "places are kept in float32, so boxes move by less than a pixel"


def test_suppression_within_a_class_is_an_option_of_the_row(tmp_path: Path) -> None:
    text = OWN_CLASSES.replace("nms: 0.7", "nms: 0.0001, top_k: 7")
    model = load(write_ms_detr(tmp_path / "nms.safetensors", text), device="cpu", conf=0, size=64)
    [result] = model([make_picture((60, 90))])
    boxes = result.boxes
    assert 0 < len(boxes) <= 7
    for kind in boxes[:, 5].unique():
        own = boxes[boxes[:, 5] == kind]
        inside = torch.min(own[:, None, 2:4], own[None, :, 2:4]) - torch.max(own[:, None, :2], own[None, :, :2])
        shared = inside.clamp(min=0).prod(-1).fill_diagonal_(0)
        assert (shared <= 2e-4 * own[:, 2:4].sub(own[:, :2]).prod(-1).amax()).all()


@pytest.mark.parametrize("text", [WITH_AREAS, LEARNT_ALONE, OWN_CLASSES.replace("nms: 0.7", "box_refine: false")])
def test_every_kind_of_row_comes_back_from_its_file_and_answers(text: str, tmp_path: Path) -> None:
    graph = load_model(write_ms_detr(tmp_path / "model.safetensors", text))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 41, 67), np.uint8))
    expected = tiny_ms_detr(text)
    with torch.inference_mode():
        for each in (expected, fuse_graph(graph)):
            raw = each(images)
            assert set(raw) == set(expected.heads)
        wanted = expected(images)["detect"]
    torch.testing.assert_close(raw["detect"].boxes, wanted.boxes, rtol=0, atol=1e-5)
    torch.testing.assert_close(raw["detect"].logits, wanted.logits, rtol=1e-4, atol=1e-4)


def test_all_candidates_count_in_a_test(tmp_path: Path) -> None:
    data = write_tiny_set(tmp_path / "set", images=4)
    tall = tmp_path / "set" / "images" / "val" / "001.png"
    cv2.imwrite(str(tall), cv2.imread(str(tall))[:, :47])
    weights = write_ms_detr(tmp_path / "model.safetensors", names=COLOURS)
    common = ["--weights", str(weights), "--data", str(data), "--workers", "0", "--noplots", "--heads", "detect"]
    common += ["--project", str(tmp_path / "runs")]
    found = {}
    for name, more in (("all", ()), ("sure", ("--conf-thres", "0.3"))):
        COMMAND.test(COMMAND.parse_options([*common, *more, "--img-size", "64", "--save-txt", "--name", name]))
        found[name] = [len(read_labels(path)) for path in (tmp_path / "runs" / name / "labels_detect").iterdir()]
    assert found["all"] == [QUERIES * CLASSES] * 4
    assert sum(found["sure"]) < sum(found["all"])
    [small, large] = COMMAND.test_sizes(COMMAND.parse_options([*common, "--sizes", "32", "64"]))
    assert 0 < small.cost.tokens < large.cost.tokens


@pytest.mark.parametrize("command", ["attention", "tokens"])
def test_pictures_of_tokens_are_refused_in_one_sentence(
    command: str, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--source", str(photos)] if command == "attention" else ["--data", str(photos)]
    with pytest.raises(SystemExit) as end:
        run_command(lambda: explain([command, "--weights", str(weights), *where, "--project", str(tmp_path / "runs")]))
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.strip().count("\n") == 0
    assert "MSDETRDecoder" in said and "no head that answers by detection tokens" in said
    assert not (tmp_path / "runs").exists()
