"""Results: the same objects in every form, files that hold what was found, and sentences where something is missing."""

from __future__ import annotations

import builtins
import errno
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.formats.mask_png import read_mask
from models.predictions import DetectionResult, MaskResult
from models.results import ImageResult, Results
from tests.tiny_detector import make_picture
from utils.annotate import Style, annotate
from utils.boxes import xywh_to_xyxy
from utils.errors import RunError, UsageError

NAMES = {"detect": ["car", "traffic light"], "segment": ["road", "sky"]}
SPEED = {"preprocess": 1.0, "inference": 5.0, "postprocess": 2.0}
OBJECTS = DetectionResult(
    torch.tensor([[10.25, 5.0, 40.0, 30.5], [0.0, 0.0, 80.0, 60.0], [80.0, 60.0, 80.0, 60.0]]),
    torch.tensor([0.9, 0.5, 0.25]),
    torch.tensor([1, 0, 1]),
)
NOTHING = DetectionResult(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
AREAS = MaskResult((torch.arange(60)[:, None] >= 45).to(torch.uint8).expand(60, 80).contiguous())


def picture(name="a.jpg", path=None, names=NAMES, size=(60, 80), speed=SPEED, **heads) -> ImageResult:
    return ImageResult(make_picture(size), name, path, heads, names, speed, "64x64")


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    """Two pictures, one with objects and areas, one with areas alone; the working directory is a fresh folder."""
    monkeypatch.chdir(tmp_path)
    return Results(
        [picture(detect=OBJECTS, segment=AREAS), picture("b.png", Path("in/b.png"), detect=NOTHING, segment=AREAS)]
    )


def test_it_is_a_sequence_of_pictures(results):
    assert len(results) == 2 and [result.name for result in results] == ["a.jpg", "b.png"]
    assert results[1].path == Path("in/b.png") and results[-1] is results[1]
    assert isinstance(results[:1], Results) and len(results[:1]) == 1
    with pytest.raises(IndexError):
        results[2]


def test_it_prints_like_the_command_line(results, capsys):
    lines = [
        "image 1/2 a.jpg: 64x64, 2 traffic light, 1 car, road 75 %, sky 25 %, 8.0 ms",
        "image 2/2 b.png: 64x64, no objects, road 75 %, sky 25 %, 8.0 ms",
        "mean of 2 pictures: preprocess 1.0 ms, inference 5.0 ms, postprocess 2.0 ms",
    ]
    assert str(results).splitlines() == lines
    results.print()
    assert capsys.readouterr().out.splitlines() == lines
    assert str(results[0]) == lines[0].removeprefix("image 1/2 ")


def test_speed_is_the_mean_of_the_pictures():
    slow = {stage: 3 * spent for stage, spent in SPEED.items()}
    both = Results([picture(detect=OBJECTS), picture(detect=OBJECTS, speed=slow)])
    assert both.speed == {"preprocess": 2.0, "inference": 10.0, "postprocess": 4.0}


def test_no_pictures_give_empty_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = Results([])
    assert (none.xyxy, none.masks, none.render(), none.to_list(), none.crop(save=False)) == ([], [], [], [], [])
    assert list(none.names) == [] and str(none) == "mean of 0 pictures: "
    assert written(none.save()) == []


def test_boxes_and_masks_are_tensors(results):
    boxes = results[0].boxes
    assert boxes.shape == (3, 6) and boxes.dtype == torch.float32
    torch.testing.assert_close(boxes[0], torch.tensor([10.25, 5.0, 40.0, 30.5, 0.9, 1.0]))
    assert results[1].boxes.shape == (0, 6)
    assert results[0].masks is AREAS.class_map and results.masks == [AREAS.class_map] * 2
    assert list(results.names) == NAMES["detect"]


def test_the_four_forms_of_boxes_agree(results):
    for xyxy, xywh, xyxyn, xywhn, result in zip(
        results.xyxy, results.xywh, results.xyxyn, results.xywhn, results, strict=True
    ):
        torch.testing.assert_close(xyxy, result.boxes)
        assert xywh.shape == xyxyn.shape == xywhn.shape == xyxy.shape
        torch.testing.assert_close(xywh_to_xyxy(xywh[:, :4]), xyxy[:, :4])
        torch.testing.assert_close(xyxyn[:, :4] * torch.tensor([80, 60, 80, 60]), xyxy[:, :4])
        torch.testing.assert_close(xywh_to_xyxy(xywhn[:, :4]), xyxyn[:, :4])
        for form in (xywh, xyxyn, xywhn):
            assert torch.equal(form[:, 4:], xyxy[:, 4:])
    assert all(torch.equal(*pair) for pair in zip(results.pred, results.xyxy, strict=True))


def test_a_model_without_a_kind_of_head_answers_none():
    areas = Results([picture(segment=AREAS)])
    assert areas[0].boxes is None and list(areas.names) == NAMES["segment"]
    assert picture(detect=OBJECTS).masks is None
    for ask in (lambda: areas.xyxy, areas.to_pandas, areas.to_supervision, areas.crop):
        with pytest.raises(UsageError, match="needs a head for boxes, but there is only segment"):
            ask()
    assert len(areas.render()) == 1 and areas.to_list()[0]["objects"] == []


def test_several_heads_of_a_kind_are_chosen_by_name():
    names = {"cars": ["car", "bus"], "signs": ["stop", "yield"], "segment": ["road", "sky"]}
    both = Results([picture(names=names, cars=OBJECTS, signs=NOTHING, segment=AREAS)])
    for ask in (lambda: both[0].boxes, lambda: both.names, lambda: both.xyxy, both.to_pandas, both.crop):
        with pytest.raises(UsageError, match=r"several heads of this kind \(cars, signs\); choose one: only\('cars'\)"):
            ask()
    assert torch.equal(both.only("cars")[0].boxes[:, :4], OBJECTS.boxes)
    assert both.only("signs").xyxy[0].shape == (0, 6) and list(both.only("signs").names) == names["signs"]
    assert both.only("signs")[0].masks is None and both.only("signs", "segment")[0].masks is AREAS.class_map
    assert "2 bus, 1 car, no objects, road" in str(both)
    with pytest.raises(UsageError, match=r"only\('sign'\).*Did you mean 'signs'\?"):
        both.only("sign")


def test_rendering_draws_on_copies(results):
    before = results[0].image.copy()
    first, second = results.render()
    np.testing.assert_array_equal(results[0].image, before)
    np.testing.assert_array_equal(first, annotate(before, results[0].heads, NAMES, Style()))
    assert (first != before).any() and second.shape == before.shape
    (plain,) = results[1:].render(Style(mask_alpha=0.0))
    np.testing.assert_array_equal(plain, results[1].image)


def test_runs_get_folders_of_their_own(results):
    assert [str(results.save()) for _ in range(3)] == [str(Path("runs/hub") / name) for name in ("exp", "exp2", "exp3")]
    assert written(Path("runs/hub/exp")) == ["a.jpg", "b.png"]
    np.testing.assert_array_equal(cv2.imread("runs/hub/exp/b.png")[..., ::-1], results[1].render())


def test_labels_and_masks_are_written_where_asked(results):
    folder = results.save("deep/found", labels=True, confidences=True, masks=True)
    assert folder == Path("deep/found")
    stems = ["a", "b"]
    assert written(folder) == sorted(
        ["a.jpg", "b.png"]
        + [f"labels/{stem}.txt" for stem in stems]
        + [f"masks/{stem}{kind}.png" for stem in stems for kind in ("", "_colour")]
    )
    rows = np.loadtxt(folder / "labels" / "a.txt")
    np.testing.assert_allclose(rows[:, 1:5], results.xywhn[0][:, :4], atol=1e-5)
    np.testing.assert_allclose(rows[:, 5], OBJECTS.scores, atol=1e-5)
    assert (folder / "labels" / "b.txt").read_text() == ""
    np.testing.assert_array_equal(read_mask(folder / "masks" / "a.png"), AREAS.class_map)


def test_equal_and_unknown_names_become_names_of_their_own(tmp_path):
    pictures = Results(
        [picture(name, detect=OBJECTS) for name in ("a.jpg", "a.jpg", "a.png", "scan.heic", "no_suffix")]
    )
    assert written(pictures.save(tmp_path)) == ["a.jpg", "a_2.jpg", "a_3.png", "no_suffix.jpg", "scan.jpg"]


def test_the_pictures_themselves_are_never_replaced(tmp_path):
    source = tmp_path / "a.jpg"
    source.write_bytes(b"the original")
    one = Results([picture("a.jpg", source, detect=OBJECTS)])
    for save in (one.save, lambda folder: one.crop(folder=folder)):
        with pytest.raises(UsageError, match="would replace"):
            save(tmp_path)
    assert source.read_bytes() == b"the original" and written(tmp_path) == ["a.jpg"]


def test_saving_in_vain_is_one_sentence(results, tmp_path, monkeypatch):
    Path("file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        results.save("file")
    with pytest.raises(UsageError, match="give labels=True too"):
        results.save(confidences=True)
    with pytest.raises(UsageError, match=r"crop\(pad=-1\)"):
        results.crop(pad=-1)
    with pytest.raises(UsageError, match=r"crop\(pad=1.5\)"):
        results.crop(pad=1.5)
    Path("runs").touch()
    with pytest.raises(UsageError, match="runs/hub is not a folder"):
        results.save()

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("utils.plots.drawing.atomic_write", full)
    with pytest.raises(RunError, match=r"cannot write at .*a.jpg: No space left on device"):
        results.save("elsewhere")


def test_crops_are_the_pixels_of_their_boxes(results):
    crops = results.crop(save=False)
    image = results[0].image
    assert [(crop.name, crop.class_index, crop.picture) for crop in crops] == [
        ("traffic light", 1, "a.jpg"),
        ("car", 0, "a.jpg"),
        ("traffic light", 1, "a.jpg"),
    ]
    np.testing.assert_array_equal(crops[0].image, image[5:31, 10:40])
    np.testing.assert_array_equal(crops[1].image, image)
    np.testing.assert_array_equal(crops[2].image, image[59:60, 79:80])
    assert crops[0].box == (10.25, 5.0, 40.0, 30.5) and crops[0].confidence == pytest.approx(0.9)
    padded = results.crop(save=False, pad=8)
    np.testing.assert_array_equal(padded[0].image, image[0:39, 2:48])
    assert not Path("runs").exists()


def test_crops_are_saved_by_class(results):
    crops = results.crop()
    folder = Path("runs/hub/exp/crops")
    assert written(folder) == ["car/a.jpg", "traffic light/a.jpg", "traffic light/a_2.jpg"]
    assert len(crops) == 3 and cv2.imread(str(folder / "car" / "a.jpg")).shape == (60, 80, 3)


def test_plain_values_and_json(results):
    first, second = results.to_list()
    assert json.loads(results.to_json()) == [first, second]
    assert (first["name"], first["path"], first["width"], first["height"]) == ("a.jpg", None, 80, 60)
    assert second["path"] == "in/b.png" and second["objects"] == []
    assert first["objects"][0] == {
        "head": "detect",
        "class": 1,
        "name": "traffic light",
        "confidence": pytest.approx(0.9),
        "box": [10.25, 5.0, 40.0, 30.5],
    }
    assert first["areas"] == [
        {"head": "segment", "class": 0, "name": "road", "share": 0.75},
        {"head": "segment", "class": 1, "name": "sky", "share": 0.25},
    ]
    assert "\n" in results.to_json(indent=1)


def test_data_frames(results):
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install -r requirements-results.txt")
    first, second = results.to_pandas()
    assert list(first.columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert list(second.columns) == list(first.columns) and len(second) == 0
    np.testing.assert_allclose(first[["xmin", "ymin", "xmax", "ymax", "confidence"]], results.xyxy[0][:, :5])
    assert list(first["name"]) == ["traffic light", "car", "traffic light"]
    assert [pandas.api.types.is_integer_dtype(frame["class"]) for frame in (first, second)] == [True, True]
    assert first["confidence"].dtype == np.float32
    tables = results.pandas()
    pandas.testing.assert_frame_equal(tables.xyxy[0], first)
    centres = ["xcenter", "ycenter", "width", "height"]
    np.testing.assert_allclose(tables.xywh[0][centres], results.xywh[0][:, :4])
    np.testing.assert_allclose(tables.xyxyn[0]["xmax"], results.xyxyn[0][:, 2])
    np.testing.assert_allclose(tables.xywhn[0][centres], results.xywhn[0][:, :4])


def test_supervision_detections(results):
    supervision = pytest.importorskip(
        "supervision", reason="needs supervision: pip install -r requirements-results.txt"
    )
    first, second = results.to_supervision()
    np.testing.assert_array_equal(first.xyxy, OBJECTS.boxes)
    np.testing.assert_array_equal(first.confidence, OBJECTS.scores)
    np.testing.assert_array_equal(first.class_id, OBJECTS.classes)
    assert list(first.data["class_name"]) == ["traffic light", "car", "traffic light"]
    assert len(second) == 0 and second.is_empty()
    assert list(first[first.class_id == 0].data["class_name"]) == ["car"]
    assert supervision.Detections.from_yolov5(results).xyxy.shape == (3, 4)


@pytest.mark.parametrize(
    ("package", "call", "purpose"),
    [
        ("pandas", Results.to_pandas, "to_pandas()"),
        ("pandas", Results.pandas, "to_pandas()"),
        ("supervision", Results.to_supervision, "to_supervision()"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_pip_line(results, monkeypatch, package, call, purpose):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as caught:
        call(results)
    assert str(caught.value) == (
        f"{purpose} needs the package {package}, which is not installed; run: pip install {package}"
    )


def test_nothing_optional_is_imported_unasked(results, monkeypatch):
    for package in ("pandas", "supervision"):
        monkeypatch.setitem(sys.modules, package, None)
    assert results.to_json() and results.save() and results.crop(save=False) and results.render()


def test_what_is_shown_is_what_is_rendered(results, monkeypatch):
    shown = []
    monkeypatch.setattr("models.results.show_pictures", lambda *given: shown.extend(zip(*given, strict=True)))
    style = Style(mask_alpha=0.1)
    results.show(style)
    assert [title for _, title in shown] == ["a.jpg", "b.png"]
    for (image, _), expected in zip(shown, results.render(style), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_printing_is_the_only_output(results, monkeypatch):
    monkeypatch.setattr(builtins, "print", lambda *args: pytest.fail("something was printed"))
    results.save()
    results.crop()
    results.to_json()
