"""Pictures of batches, labels and runs, and that no drawing touches matplotlib's global state."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from data.keypoints import KeypointSpec
from data.samples import Placement, Sample, collate
from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.boxes import plan_letterbox
from utils.errors import DataError
from utils.plots.batches import picture_of_labels, picture_of_results
from utils.plots.confusion import plot_confusion
from utils.plots.curves import plot_class_bars, plot_precision_recall
from utils.plots.figure import new_figure, save_figure
from utils.plots.labels import plot_labels
from utils.plots.legend import draw_legend
from utils.plots.palette import class_colour, mask_palette
from utils.plots.results import _smooth, plot_results
from utils.plots.skeletons import LEFT, MIDDLE, RIGHT

GREY = 114
NAMES = ["a", "b", "c"]


def batch_of(count: int, size: int = 64, **labels) -> object:
    picture = np.full((size, size, 3), GREY, np.uint8)
    return collate([Sample(picture.copy(), id=f"x/{i}.jpg", **labels) for i in range(count)])


def has_colour(picture: np.ndarray, colour) -> bool:
    return bool((picture == colour).all(-1).any())


def test_labels_of_a_batch_are_drawn():
    keypoints = np.array([[[20, 40, 2]]], np.float32)
    boxes, classes = np.array([[10, 30, 40, 55]], np.float32), np.array([2])
    picture = picture_of_labels(batch_of(4, boxes=boxes, classes=classes, keypoints=keypoints), NAMES)
    # Small pictures are twice as large, and below each there are 18 rows for its name.
    assert picture.shape == (2 * 150 + 4, 2 * 132 + 4, 3) and picture.dtype == np.uint8
    for y, x in ((4, 4), (154, 136)):
        assert has_colour(picture[y : y + 128, x : x + 128], class_colour(2))
        strip = picture[y + 128 : y + 146, x : x + 128]
        assert strip.min() == 48 and strip.max() > 200, "a bright name on a dark strip"


def test_padding_of_smaller_pictures_is_white_and_the_batch_stays_as_it_is():
    sizes = [(64, 96), (48, 32)]
    batch = collate([Sample(np.full((*size, 3), GREY, np.uint8), id="x.jpg") for size in sizes])
    before = batch.images.clone()
    picture = picture_of_labels(batch, NAMES)
    assert picture.shape == (128 + 18 + 8, 2 * (192 + 4) + 4, 3)
    second = picture[4:132, 200:392]
    assert (second[:90, :62] == GREY).all() and (second[:90, 66:] == 255).all()
    assert torch.equal(batch.images, before)


def looks_like(picture: np.ndarray, colours: dict[tuple[int, int], tuple[int, ...]]) -> None:
    """Compare the colours at some x, y before enlarging; thin lines are mixed with what lies beside them."""
    for (x, y), colour in colours.items():
        np.testing.assert_allclose(picture[2 * y, 2 * x].astype(int), colour, atol=25)


def test_poses_are_drawn_with_their_skeleton():
    spec = KeypointSpec(("left", "right"), (1, 0), (0.1, 0.1), ((0, 1),))
    points = np.array([[[20, 40, 2], [60, 40, 2]]], np.float32)
    boxes = np.array([[10, 20, 70, 60]], np.float32)
    labels = batch_of(1, size=80, boxes=boxes, classes=np.array([2]), keypoints=points)
    picture = picture_of_labels(labels, NAMES, spec)[4:164, 4:164]
    looks_like(picture, {(20, 40): LEFT, (60, 40): RIGHT, (40, 40): MIDDLE})
    assert (picture_of_labels(labels, NAMES)[84, 84] == GREY).all(), "no links are known without a description"

    plan = plan_letterbox((40, 80), (80, 80))
    batch = collate([Sample(np.full((80, 80, 3), GREY, np.uint8), placement=plan.placement)])
    keypoints = torch.tensor([[[20.0, 20, 0.9], [60, 20, 0.9]], [[20, 30, 0.2], [60, 30, 0.9]]])
    corners = torch.tensor([[10.0, 2, 70, 38]] * 2)
    found = PoseResult(corners, torch.tensor([0.9, 0.9]), torch.tensor([2, 2]), keypoints, spec)
    picture = picture_of_results(batch, [found], NAMES)[4:164, 4:164]
    looks_like(picture, {(20, 40): LEFT, (60, 40): RIGHT, (40, 40): MIDDLE})
    looks_like(picture, {(60, 50): RIGHT, (20, 50): (GREY,) * 3})  # the unsure keypoint is left out


def test_crowds_are_called_so():
    labels = {"boxes": np.array([[10, 60, 190, 190]], np.float32), "classes": np.array([1])}
    areas = np.ones(1, np.float32)
    pictures = [
        picture_of_labels(batch_of(1, 400, **labels, areas=areas, crowd=np.array([many])), NAMES)
        for many in (False, True)
    ]
    assert [has_colour(picture[:60, 60:], class_colour(1)) for picture in pictures] == [False, True]


def test_training_masks_are_drawn():
    mask = np.full((64, 64), 255, np.uint8)
    mask[:20] = 1
    picture = picture_of_labels(batch_of(1, mask=mask), NAMES)[4:132, 4:132]
    mixed = (GREY + mask_palette(NAMES)[1].astype(int)) / 2
    np.testing.assert_allclose(picture[20, 60], mixed, atol=1)
    assert (picture[60, 60] == GREY).all()


def test_a_legend_says_which_colours_are_which_classes():
    mask = np.full((64, 64), 255, np.uint8)
    mask[:20], mask[40:] = 1, 2
    picture = picture_of_labels(batch_of(1, mask=mask), NAMES)
    legend = picture[4 + 128 + 18 + 4 :]
    palette = mask_palette(NAMES)
    assert [has_colour(legend, palette[c]) for c in range(3)] == [False, True, True]
    assert (legend == 0).any(), "names are black"
    narrow = draw_legend(["sky", "a very long name indeed", ""], palette[:3], 60)
    assert narrow.shape[1] == 60 and [has_colour(narrow, palette[c]) for c in range(3)] == [True] * 3
    assert draw_legend([], palette[:0], 60).shape == (0, 60, 3)


def test_bars_take_a_second_measure(tmp_path):
    values, present = np.array([0.5, 0.9, 0.0]), np.array([True, True, False])
    plain = plot_class_bars(values, present, NAMES, "IoU", tmp_path / "plain.png")
    both = plot_class_bars(values, present, NAMES, "IoU", tmp_path / "both.png", np.array([0.7, -1, -1]), "inner")
    pictures = [cv2.imread(str(path)) for path in (plain, both)]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()


def test_native_masks_and_results_land_on_the_picture():
    plan = plan_letterbox((100, 200), (64, 64))
    mask = np.full((100, 200), 255, np.uint8)
    mask[:, :100] = 0
    batch = collate([Sample(np.full((64, 64, 3), GREY, np.uint8), mask=mask, placement=plan.placement)])
    mixed = (GREY + mask_palette(NAMES)[0].astype(int)) / 2
    for picture in (
        picture_of_labels(batch, NAMES),
        picture_of_results(batch, [MaskResult(torch.from_numpy(mask))], NAMES),
    ):
        inside = picture[4:132, 4:132]
        np.testing.assert_allclose(inside[34:92, 2:62], np.broadcast_to(mixed, (58, 60, 3)), atol=1)
        assert (inside[:30] == GREY).all() and (inside[34:92, 66:] == GREY).all()
    found = DetectionResult(
        torch.tensor([[100.0, 40, 180, 80], [0, 0, 20, 20]]), torch.tensor([0.9, 0.1]), torch.tensor([1, 2])
    )
    picture = picture_of_results(batch, [found], NAMES)[4:132, 4:132]
    scale = 128 / 200
    assert tuple(picture[round(32 + 65 * scale), round(100 * scale)]) == class_colour(1)
    assert not has_colour(picture, class_colour(2))


def test_large_batches_are_cut_and_shrunk_and_small_pictures_enlarged():
    picture = picture_of_labels(batch_of(20, size=640), NAMES, most=16)
    assert picture.shape == (1920, 1848, 3), "as large as it may be, with names below the pictures"
    assert picture_of_labels(batch_of(3, size=8), NAMES).shape == (44 + 2 * 18, 44, 3)
    assert picture_of_labels(batch_of(1, size=300), NAMES).shape == (384 + 18 + 8, 384 + 8, 3)
    assert picture_of_labels(batch_of(1, size=400), NAMES).shape == (400 + 18 + 8, 400 + 8, 3)


def test_results_need_placements():
    with pytest.raises(ValueError, match="placements"):
        picture_of_results(batch_of(1), [], NAMES)


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_label_statistics(tmp_path, count):
    rng = np.random.default_rng(0)
    path = plot_labels(rng.integers(0, 3, count), rng.random((count, 4)), NAMES, tmp_path / "labels.png")
    assert min(cv2.imread(str(path)).shape[:2]) > 800


def test_confusion_of_many_classes(tmp_path):
    matrix = np.random.default_rng(0).integers(0, 9, (81, 81))
    assert plot_confusion(matrix, [str(i) for i in range(81)], tmp_path / "c.png").stat().st_size > 10_000
    assert plot_confusion(np.zeros((2, 2)), ["a", "b"], tmp_path / "d.png").exists()


def test_results_of_a_run(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch, train/box, val/box, metrics/AP\n0, 1.0, 2.0,\n1, 0.5, 1.5, 0.1\n2, nan, 1.0, 0.2\n")
    picture = plot_results(path)
    assert picture == tmp_path / "results.png"
    height, width = cv2.imread(str(picture)).shape[:2]
    # Three groups of one column each stand below one another.
    assert height > 2 * width
    path.write_text("epoch\n0\n")
    assert plot_results(path).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,a\n0,1\n1,high\n", r"row 3: 'high' in column 'a' is not a number"),
        ("epoch,a\n0,1,2\n", r"row 2 has 3 cells but the header 2"),
        ("epoch,a\n", "no results yet"),
        ("", "no results yet"),
    ],
)
def test_bad_results_are_told(tmp_path, text, message):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        plot_results(tmp_path / "results.csv")


def test_missing_results_are_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        plot_results(tmp_path / "results.csv")


@pytest.mark.parametrize("count", [3, 5, 50])
def test_smoothing_keeps_straight_lines(count):
    line = np.linspace(5, -2, count)
    np.testing.assert_allclose(_smooth(line), line, atol=1e-12)
    noise = np.random.default_rng(0).normal(size=count)
    assert np.abs(np.diff(_smooth(noise), 2)).sum() < np.abs(np.diff(noise, 2)).sum()


def test_import_is_light_and_no_global_state():
    """Importing costs no matplotlib, and drawing never starts pyplot."""
    code = (
        "import sys, tempfile, pathlib, numpy as np\n"
        "import utils.metrics, utils.plots.curves, utils.plots.batches, utils.plots.results, utils.plots.labels\n"
        "assert 'matplotlib' not in sys.modules and 'faster_coco_eval' not in sys.modules\n"
        "utils.metrics.BoxEvaluator(['a']).plot(pathlib.Path(tempfile.mkdtemp()))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_placement_of_a_native_size_is_the_identity():
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    image = np.full((4, 4, 3), GREY, np.uint8)
    batch = collate([Sample(image, mask=mask, placement=Placement(4, 4))])
    picture = picture_of_results(batch, [MaskResult(torch.from_numpy(mask))], NAMES)[4:12:2, 4:12:2]
    np.testing.assert_allclose(picture, (GREY + mask_palette(NAMES)[mask].astype(int)) / 2, atol=1)


def test_names_are_drawn_as_they_are_whatever_they_mean_to_matplotlib(tmp_path):
    names = ["$\\no{$", "5$ or 6$", "_background_"]
    path = plot_precision_recall(np.zeros((3, 101)), np.ones(3), names, tmp_path / "curves.png")
    legend = cv2.imread(str(path))[:300, 1100:, ::-1]
    assert all(has_colour(legend, class_colour(index)) for index in range(3))
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_xticks([0, 1], names[:2])
    save_figure(figure, tmp_path / "ticks.png")
    assert [tick.get_parse_math() for tick in axes.get_xticklabels()] == [False, False]
    assert axes.get_yticklabels()[0].get_parse_math(), "powers of ten are formulas"
