"""Checks of the ``metrics_*`` fixtures: suppression, metrics, boxes, schedules, anchors, augmentation, sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from data.class_weights import class_weights, image_weights
from data.samples import Batch, Placement, Sample
from data.transforms.colour import scale_hsv
from data.transforms.geometry import AffineDraw, affine_matrix, warp_sample
from data.transforms.letterbox import apply_plan
from data.transforms.segmentation import LongEdgeSampler
from models.autoanchor import anchor_fitness
from models.losses.iou import paired_iou
from models.predictions import Detections, MaskResult, PostprocessOptions
from models.registry import Scale
from tests.parity.loss_checks import check_pixel_losses
from tests.parity.published import NOTHING_MOVES, Fixture, Report, Tolerance, tensor
from utils.boxes import plan_letterbox, plan_stretch, scale_to_native, xywh_to_xyxy
from utils.image_size import round_up_to_stride
from utils.metrics.average_precision import average_precision, precision_recall_curves
from utils.metrics.mask_evaluator import MaskEvaluator
from utils.nms import append_labels, non_max_suppression
from utils.schedules import (
    accumulation,
    cosine_factor,
    ema_decay,
    linear_factor,
    warmup_accumulation,
    warmup_value,
)

MIXED_FITNESS = "a fitness over both tasks is not part of this program: every head has its own"
ORIGINAL_RULE = "not part of this program: accumulation follows the floor rule alone"


def check_nms(fixture: Fixture, report: Report) -> None:
    """Compare kept boxes."""
    prediction = tensor(fixture.arrays["prediction"])
    for case in fixture.facts["cases"]:
        given = case["arguments"]
        detections = Detections(xywh_to_xyxy(prediction[..., :4]), prediction[..., 5:], prediction[..., 4])
        if given["labels"]:
            detections = append_labels(detections, *_padded_labels(given["labels"]))
        options = PostprocessOptions(
            conf=given["conf_thres"],
            iou=given["iou_thres"],
            max_det=300,
            multi_label=given["multi_label"],
            agnostic=given["agnostic"],
            classes=None if given["classes"] is None else tuple(given["classes"]),
        )
        kept = non_max_suppression(detections, options)
        report.same(f"{case['name']} kept_per_image", [len(boxes) for boxes, _, _ in kept], case["kept_per_image"])
        for i, (boxes, scores, classes) in enumerate(kept):
            name = f"{case['name']}_{i}"
            rows = torch.cat((boxes, scores[:, None], classes[:, None].float()), 1)
            report.close(name, rows, fixture.arrays[name], fixture.tolerance("eval_arrays"))


def _padded_labels(labels: list[list[list[float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, M, 4) corner boxes, (B, M) classes and (B, M) validity of rows class, x, y, w, h per image."""
    most = max(len(rows) for rows in labels)
    table = torch.zeros(len(labels), most, 5)
    valid = torch.zeros(len(labels), most, dtype=torch.bool)
    for i, rows in enumerate(labels):
        table[i, : len(rows)] = tensor(rows).reshape(-1, 5)
        valid[i, : len(rows)] = True
    return xywh_to_xyxy(table[..., 1:]), table[..., 0].long(), valid


def check_average_precision(fixture: Fixture, report: Report) -> None:
    """Compare precision, recall and average precision by the rule of v5.0."""
    arrays = fixture.arrays
    for case in fixture.facts["cases"]:
        name = f"case{case['case']}"
        inputs = [arrays[f"{name}_{part}"] for part in ("tp", "conf", "pred_cls", "target_cls")]
        curves = precision_recall_curves(*inputs)
        ours: dict[str, Any] = {
            "precision": curves.precision[:, curves.best],
            "recall": curves.recall[:, curves.best],
            "f1": curves.f1[:, curves.best],
            "ap": curves.ap,
            "classes": curves.classes,
        }
        for part, value in ours.items():
            report.close(f"{name}_{part}", value, arrays[f"{name}_{part}"], NOTHING_MOVES)
        ap50, ap = float(curves.ap[:, 0].mean()), float(curves.ap.mean())
        means = {"mp": ours["precision"].mean(), "mr": ours["recall"].mean(), "map50": ap50, "map": ap}
        means["fitness"] = 0.1 * ap50 + 0.9 * ap
        for part, value in means.items():
            report.close(f"{name} {part}", value, case[part], NOTHING_MOVES)
        for part in case:
            if part.startswith("fitness2"):
                report.skip(f"{name} {part}", MIXED_FITNESS)
    area, envelope, at = average_precision(arrays["curve_recall"], arrays["curve_precision"])
    report.close("curve_ap", area, fixture.facts["curve_ap"], NOTHING_MOVES)
    report.close("curve_mpre", envelope, arrays["curve_mpre"], NOTHING_MOVES)
    report.close("curve_mrec", at, arrays["curve_mrec"], NOTHING_MOVES)


def check_mean_iou(fixture: Fixture, report: Report) -> None:
    """Compare the counts behind mIoU; the published mean runs over all classes, also absent ones."""
    for case in fixture.facts["cases"]:
        name = f"case{case['case']}"
        found, target = fixture.arrays[f"{name}_argmax"], fixture.arrays[f"{name}_target"].astype(np.int64)
        masks = torch.from_numpy(np.where(target < 0, 255, target).astype(np.uint8))
        nothing = torch.zeros(len(found), 0)
        evaluator = MaskEvaluator([str(i) for i in range(case["classes"])])
        batch = Batch(torch.zeros(len(found), 3, 1, 1), nothing, nothing, nothing, native_masks=list(masks))
        evaluator.update([MaskResult(torch.from_numpy(class_map)) for class_map in found], batch)
        intersection, union = evaluator.intersections_unions()
        report.close(f"{name}_intersection", intersection, fixture.arrays[f"{name}_intersection"], Tolerance(0, 0))
        report.close(f"{name}_union", union, fixture.arrays[f"{name}_union"], Tolerance(0, 0))
        metrics, matrix = evaluator.compute(), evaluator.matrix()
        report.same(f"{name} correct", int(matrix.trace()), case["correct"])
        report.same(f"{name} labelled", int(matrix.sum()), case["labelled"])
        report.close(f"{name} pixel_accuracy", metrics["accuracy"], case["pixel_accuracy"], NOTHING_MOVES)
        report.close(f"{name} miou", metrics["miou_all"], case["miou"], NOTHING_MOVES)
        report.close(f"{name} iou", [row["IoU"] for row in evaluator.per_class()], case["iou"], NOTHING_MOVES)


def check_boxes(fixture: Fixture, report: Report) -> None:
    """Compare the kinds of IoU with their gradients, the way back to native pixels, and letterboxes."""
    arrays = fixture.arrays
    for kind in ("iou", "giou", "diou", "ciou"):
        boxes = tensor(arrays["box1_xywh"]).requires_grad_()
        overlap = paired_iou(boxes, tensor(arrays["box2_xywh"]), kind)
        overlap.sum().backward()
        report.close(kind, overlap, arrays[kind], Tolerance(1e-6, 1e-5))
        report.close(f"{kind}_grad_box1", boxes.grad, arrays[f"{kind}_grad_box1"], Tolerance(1e-6, 1e-4))
    for i, case in enumerate(fixture.facts["scale_coords"]):
        (net_h, net_w), (height, width) = case["network_shape_hw"], case["image_shape_hw"]
        gain = min(net_h / height, net_w / width)
        left, top = (net_w - width * gain) / 2, (net_h - height * gain) / 2
        ours = scale_to_native(tensor(case["in"]), Placement(height, width, gain, gain, left, top))
        report.close(f"scale_coords {i}", ours, case["out"], Tolerance(1e-3, 1e-5))
    for i, case in enumerate(fixture.facts["letterbox"]):
        check_letterbox(f"letterbox {i}", case, report)


def check_letterbox(name: str, case: dict[str, Any], report: Report) -> None:
    """Compare one letterbox: sizes, padding, and where the picture's pixels lie."""
    native = tuple(case["shape_hw"])
    wanted = case["new_shape"]
    new = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted)
    if case.get("scaleFill", False):
        plan = plan_stretch(native, new)
    else:
        stride = case.get("stride", 32) if case.get("auto", True) else None
        plan = plan_letterbox(native, new, stride=stride, scale_up=case.get("scaleup", True))
    report.same(f"{name} out_hw", list(plan.out), case["out_hw"])
    padding = [(plan.out[1] - plan.resized[1]) / 2, (plan.out[0] - plan.resized[0]) / 2]
    report.close(f"{name} pad_wh", padding, case["pad_wh"], NOTHING_MOVES)
    # Ours is the ratio of the rounded sizes, so the far edge may lie half a pixel off the published ratio's.
    edges = [plan.placement.scale_x * native[1], plan.placement.scale_y * native[0]]
    published = [case["ratio_wh"][0] * native[1], case["ratio_wh"][1] * native[0]]
    report.close(f"{name} ratio_wh", edges, published, Tolerance(0.5, 0.0))
    black = apply_plan(np.zeros((*native, 3), np.uint8), plan)[..., 0] < 57
    rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
    content = [int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1]
    report.same(f"{name} content_y0_y1_x0_x1", content, case["content_y0_y1_x0_x1"])


def check_schedules(fixture: Fixture, report: Report) -> None:
    """Compare learning-rate factors, EMA decay, accumulation, warm-up and rounding."""
    facts = fixture.facts
    for key, shape, fewer in (
        ("one_cycle", cosine_factor, 0),
        ("linear_v5_divides_by_epochs_minus_1", linear_factor, 1),
        ("linear_later_divides_by_epochs", linear_factor, 0),
    ):
        for i, case in enumerate(facts[key]):
            ours = [shape(epoch, case["epochs"] - fewer, case["lrf"]) for epoch in case["epoch"]]
            report.close(f"{key} {i}", ours, case["factor"], NOTHING_MOVES)
    decays = [ema_decay(case["update"]) for case in facts["ema_decay"]]
    report.close("ema_decay", decays, [case["decay"] for case in facts["ema_decay"]], Tolerance(0, 1e-9))
    check_accumulation(facts["accumulate"], report)
    check_warmup(facts["warmup_lr_example"], report)
    channels = [[c, width, Scale(width=width).channels(c)] for c, width, _ in facts["make_divisible_8"]]
    report.same("make_divisible_8", channels, facts["make_divisible_8"])
    repeats = [[n, depth, Scale(depth=depth).repeats(n)] for n, depth, _ in facts["depth_gain_round_half_even"]]
    report.same("depth_gain_round_half_even", repeats, facts["depth_gain_round_half_even"])
    sizes = [[size, stride, round_up_to_stride(size, stride)] for size, stride, _ in facts["check_img_size"]]
    report.same("check_img_size", sizes, facts["check_img_size"])
    check_class_weights(facts["class_weights"], report)


def check_class_weights(case: dict[str, Any], report: Report) -> None:
    """Compare class weights, published with the sum 1, and image weights."""
    classes = np.array([label for image in case["labels_classes"] for label in image], np.int64)
    offsets = np.cumsum([0] + [len(image) for image in case["labels_classes"]])
    weights = class_weights(classes, case["nc"])
    report.close("class_weights weights", weights / case["nc"], case["weights"], NOTHING_MOVES)
    prefix = "image_weights_with_maps_"
    for key in (key for key in case if key.startswith(prefix)):
        precision = np.array([float(text) for text in key.removeprefix(prefix).split("_")])
        ours = image_weights(weights, precision, classes, offsets)
        report.close(f"class_weights {key}", ours, case[key], NOTHING_MOVES)


def check_accumulation(cases: list[dict[str, Any]], report: Report) -> None:
    """Compare how many batches make a step: the fork's floor rule is ours, the original's rounding is not."""
    ours = [accumulation(case["batch"]) for case in cases]
    report.same("accumulate after_warmup_fork", ours, [case["after_warmup_fork"] for case in cases])
    quarter = [warmup_accumulation(250, 1000, case["batch"]) for case in cases]
    report.same("accumulate fork_at_quarter_of_warmup", quarter, [case["fork_at_quarter_of_warmup"] for case in cases])
    for key in ("start_round_rule", "after_warmup_original", "weight_decay_factor"):
        report.skip(f"accumulate {key}", ORIGINAL_RULE)


def check_warmup(example: dict[str, Any], report: Report) -> None:
    """Compare learning rates and momentum during warm-up."""
    steps, rate = example["nw"], example["lr0"] * example["lf"]
    ours = [
        [
            step,
            warmup_value(step, steps, 0.0, rate),
            warmup_value(step, steps, example["warmup_bias_lr"], rate),
            warmup_value(step, steps, example["warmup_momentum"], example["momentum"]),
        ]
        for step, *_ in example["rows_iteration_weightlr_biaslr_momentum"]
    ]
    report.close("warmup_lr_example", ours, example["rows_iteration_weightlr_biaslr_momentum"], NOTHING_MOVES)


COCO_ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)


def check_autoanchor(fixture: Fixture, report: Report) -> None:
    """Compare the measures of how well anchors fit boxes."""
    sizes = np.exp(np.random.RandomState(70).normal(3.5, 0.9, (500, 2)))
    ours = anchor_fitness(sizes, np.reshape(COCO_ANCHORS, (-1, 2)).astype(np.float64), 4.0)
    for name, value in zip(("best_possible_recall", "anchors_above_threshold", "fitness"), ours, strict=True):
        report.close(name, value, fixture.facts[name], NOTHING_MOVES)


def check_augmentation(fixture: Fixture, report: Report) -> None:
    """Compare the affine change of image and boxes, and HSV gains, with the published draws put in."""
    image, labels = fixture.arrays["image"], fixture.arrays["labels"]
    for case in fixture.facts["random_perspective"]:
        given, name = case["draws"], f"persp{case['case']}"
        draw = AffineDraw(
            perspective=tuple(given["perspective"]),
            degrees=given["degrees"],
            scale=given["scale"],
            shear=tuple(given["shear_degrees"]),
            translate=tuple(given["translate_fraction"]),
        )
        source, target = image.shape[:2], tuple(case["out_hw"])
        sample = Sample(image, labels[:, 1:].astype(np.float32), labels[:, 0].astype(np.int64))
        # v5.0 drops boxes 20 times as long as wide; later releases, and we, say 100.
        moved = warp_sample(sample, affine_matrix(draw, source, target), target, draw.scale, max_aspect=20)
        report.same(f"{name} kept", len(moved.boxes), case["kept"])
        rows = np.column_stack([moved.classes, moved.boxes])
        report.close(f"{name}_labels", rows, fixture.arrays[f"{name}_labels"], Tolerance(1e-3, 1e-5))
        thumbnail = cv2.resize(moved.image, (8, 8), interpolation=cv2.INTER_AREA)
        report.close(f"{name}_image_mean_8x8", thumbnail, fixture.arrays[f"{name}_image_mean_8x8"], Tolerance(3, 0))
    for case in fixture.facts["hsv"]:
        name = f"hsv{case['numpy_seed']}"
        changed = scale_hsv(image[..., ::-1].copy(), tuple(case["gains_h_s_v"]))[..., ::-1]
        report.close(name, changed[::8, ::8], fixture.arrays[name], Tolerance(2, 0))
    if "box_candidates_expected" in fixture.facts:
        report.skip("box_candidates_expected", "the boxes that the published answer belongs to are not in the fixture")


def check_segmentation_metrics(fixture: Fixture, report: Report) -> None:
    """Compare the distribution of long edges and the pixel losses."""
    for i, case in enumerate(fixture.facts["long_edge_sampler"]):
        sampler = LongEdgeSampler(case["base_size"], case["low"], case["high"], case["std"])
        report.same(f"long_edge_sampler {i} units_of_32", sampler.units.tolist(), case["units_of_32"])
        report.close(f"long_edge_sampler {i} cumulative", sampler.cumulative, case["cumulative"], NOTHING_MOVES)
    main = tensor(np.random.RandomState(90).standard_normal((2, 19, 24, 32)) * 2)
    goal = torch.from_numpy(np.random.RandomState(91).randint(-1, 19, (2, 24, 32)))
    outputs = [main, 0.7 * main + 0.1, 0.3 * main - 0.2]
    check_pixel_losses("", fixture.facts["losses"], outputs, goal, fixture, report)


METRIC_CHECKS: dict[str, Callable[[Fixture, Report], None]] = {
    "metrics_nms": check_nms,
    "metrics_ap": check_average_precision,
    "metrics_miou": check_mean_iou,
    "metrics_boxes": check_boxes,
    "metrics_schedules": check_schedules,
    "metrics_autoanchor": check_autoanchor,
    "metrics_augment": check_augmentation,
    "metrics_segmentation": check_segmentation_metrics,
}
