"""Checks of the fixture ``yolox_pipeline``: letterbox, affine matrices and boxes, mosaic geometry, colours, mirror."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.sample_key import SampleKey
from data.samples import Sample
from data.transforms.geometry import AffineDraw, warp_boxes
from data.transforms.hsv_shift import shift_hsv
from data.transforms.letterbox import LetterboxRule, apply_plan
from data.transforms.yolox import YOLOXTrainTransform
from data.transforms.yolox_mosaic import origin_matrix, place_tile
from tests.parity.published import NOTHING_MOVES, Fixture, Report, Tolerance
from utils.boxes import xyxy_to_xywh

ONE_LEVEL, TWO_LEVELS = Tolerance(1.0, 0.0), Tolerance(2.0, 0.0)
"""Of grey, which another release of OpenCV may round differently; two after the way to HSV and back."""
WHOLE_PIXELS = Tolerance(0.0, 0.0)
RULE = LetterboxRule("top-left", square=True)


class OnePicture:
    """A data set of one picture, which is given as large as it is."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return 1

    def load(self, index: int, long_side: int | None = None) -> Sample:
        """Return the picture."""
        return self.sample


def check_yolox_pipeline(fixture: Fixture, report: Report) -> None:
    """Compare what moves pixels and labels; rates and averages of weights belong to ``utils.schedules``."""
    check_letterbox(fixture, report)
    for number, case in enumerate(fixture.facts["affine"]):
        check_affine(f"affine {number}", case, report)
    for number, case in enumerate(fixture.facts["mosaic"]):
        width, height = case["tile_wh"]
        rows, columns = case["input_hw"]
        place = place_tile(case["tile"], tuple(case["centre_xy"]), (height, width), (2 * rows, 2 * columns))
        report.close(f"mosaic {number} on the canvas", place.canvas, case["canvas_x1y1x2y2"], WHOLE_PIXELS)
        report.close(f"mosaic {number} of the tile", place.tile, case["tile_x1y1x2y2"], WHOLE_PIXELS)
    for number, shifts in enumerate(fixture.facts["hsv"]["gains_h_s_v"]):
        rgb = np.ascontiguousarray(fixture.arrays["hsv_in"][..., ::-1])
        shifted = shift_hsv(rgb, tuple(shifts))[..., ::-1]
        report.close(f"hsv_out_{number}", shifted, fixture.arrays[f"hsv_out_{number}"], TWO_LEVELS)
    check_flip(fixture, report)


def check_letterbox(fixture: Fixture, report: Report) -> None:
    """Compare sizes, ratios and pixels."""
    for number, case in enumerate(fixture.facts["letterbox"]["cases"]):
        plan = RULE.plan(tuple(case["input_hw"]), tuple(case["output_hw"]))
        report.same(f"letterbox {number} resized_hw", list(plan.resized), case["resized_hw"])
        report.close(f"letterbox {number} ratio", plan.ratio, case["ratio"], NOTHING_MOVES)
        placed = apply_plan(fixture.arrays[f"letterbox_in_{number}"], plan)
        name = f"letterbox_out_{number}"
        report.close(name, placed.transpose(2, 0, 1), fixture.arrays[name], ONE_LEVEL)


def check_affine(name: str, case: dict[str, Any], report: Report) -> None:
    """Compare one matrix and the boxes that it moves."""
    width, height = case["target_wh"]
    draw = AffineDraw(
        degrees=case["angle_degrees"],
        scale=case["scale"],
        # Ours are in the order of the rows that they slant.
        shear=(case["shear_degrees_second"], case["shear_degrees_first"]),
        translate=tuple(case["translate_fraction"]),
    )
    matrix = origin_matrix(draw, (height, width))
    report.close(f"{name} matrix", matrix[:2], case["matrix"], NOTHING_MOVES)
    boxes = np.array(case["boxes_xyxy_cls_in"])[:, :4]
    published = np.array(case["boxes_out"])[:, :4]
    report.close(f"{name} boxes_out", warp_boxes(boxes, matrix, (height, width)), published, Tolerance(1e-4, 1e-5))


def check_flip(fixture: Fixture, report: Report) -> None:
    """Compare a picture and its labels after mirror, letterbox and filter, the tail of every published sample."""
    labels = np.array(fixture.facts["flip"]["labels_in_xyxy_cls"], np.float32)
    sample = Sample(image=fixture.arrays["flip_in"], boxes=labels[:, :4], classes=labels[:, 4].astype(np.int64))
    side = fixture.arrays["flip_out"].shape[1]
    transform = YOLOXTrainTransform({"fliplr": 1.0, "hsv_shift": [0, 0, 0]}, side, RULE)
    made = transform(OnePicture(sample), SampleKey(0, 0, mosaic=False), np.random.default_rng(0))
    report.close("flip_out", made.image.transpose(2, 0, 1), fixture.arrays["flip_out"], ONE_LEVEL)
    rows = np.zeros_like(fixture.arrays["flip_labels"])
    rows[: len(made.boxes)] = np.column_stack([made.classes, xyxy_to_xywh(made.boxes)])
    report.close("flip_labels", rows, fixture.arrays["flip_labels"], Tolerance(1e-4, 1e-5))
