"""Checks of YOLOX's and YOLOX-Pose's assignment, losses and suppression on given head outputs, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.keypoints import COCO_PERSON, KeypointSpec, generic_keypoints
from data.samples import Batch
from models.anchor_points import AnchorPoints, anchor_points, decode_boxes, flatten_levels
from models.assigners.simota import (
    IOU_WEIGHT,
    MOST_CHOICES,
    SIMOTA_RULES,
    Labels,
    SimOTARule,
    assign_simota,
    weigh_all_pairs,
)
from models.heads.yolox import YOLOXDetect
from models.losses.yolox import YOLOXCriterion
from models.losses.yolox_pose import YOLOXPoseCriterion
from models.predictions import PostprocessOptions
from tests.parity.published import Fixture, Report, Tolerance, tensor
from utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.nms import kept_candidates

GRADIENTS = Tolerance(0.0, 1e-3)
SUPPRESSION = {
    "nms_aware": PostprocessOptions(0.01, 0.65, 10_000),
    "nms_agnostic": PostprocessOptions(0.3, 0.45, 10_000),
}
DETECTION_PARTS = {"iou_times_5": "box", "obj": "obj", "cls": "cls", "l1": "l1"}
POSE_PARTS = {
    "loss_bbox": "box",
    "loss_obj": "obj",
    "loss_cls": "cls",
    "loss_bbox_aux": "l1",
    "loss_kpt": "kpt",
    "loss_vis": "vis",
}
"""Our names of the published losses."""


def check_yolox_simota(fixture: Fixture, report: Report) -> None:
    """Compare both variants of the assignment, costs, losses with gradients, and suppression."""
    facts = fixture.facts
    raw, batch = published_maps(fixture), batch_of_objects(facts["targets"]["per_image"], facts["input"]["shape"])
    points, labels = _points(raw, facts["strides"]), _labels(batch)
    rules = {"": _rule("official", facts.get("simota", {})), "mm_": _rule("mm", facts.get("simota_mm", {}))}
    report.same("highest overlaps counted", MOST_CHOICES, facts.get("simota", {}).get("topk", MOST_CHOICES))
    report.close("weight of the overlap", IOU_WEIGHT, facts.get("simota", {}).get("iou_cost_weight", 3.0), GRADIENTS)
    for prefix, rule in rules.items():
        if f"{prefix}fg_mask" in fixture.arrays:
            found = assign_simota(*_predictions(raw, points), labels, points, rule)
            check_matches(prefix, found.dense(), fixture, report)
    check_pairs(raw, points, labels, rules[""], fixture, report)
    positives = int((fixture.arrays["fg_mask"] > 0).sum())
    facts_of = {"positives_per_gt": positives / max(int(batch.valid.sum()), 1)}
    for variant, expected in facts["losses"].items():
        criterion = YOLOXCriterion(facts["strides"], facts["num_classes"], {"close_mosaic": 1})
        check_losses(variant, expected, criterion, DETECTION_PARTS, facts_of, (raw, batch), fixture, report)
    check_suppression(raw, fixture, report)
    _nothing_left(fixture, report)


def check_yolox_pose_loss(fixture: Fixture, report: Report) -> None:
    """Compare the assignment with keypoints in its cost, and all losses with gradients."""
    facts = fixture.facts
    spec = _keypoints(facts)
    raw = published_maps(fixture)
    batch = batch_of_objects(facts["targets"]["per_image"], facts["input"]["shape"], len(spec))
    criterion = YOLOXPoseCriterion(facts["strides"], facts["num_classes"], spec, {"close_mosaic": 1})
    flat, points, targets = flatten_levels(raw), _points(raw, facts["strides"]), criterion.prepare(batch)
    found = criterion.assign(flat, points, targets)
    positives = criterion.positives(flat, points, targets, found)
    similarity = criterion.similarity(positives, targets)[0]
    check_matches("", replace(found, iou=similarity.sqrt().where(found.used, 0.0)).dense(), fixture, report)
    counts = [torch.bincount(found.object[i][found.used[i]], minlength=n) for i, n in enumerate(batch.valid.sum(1))]
    if "positives_per_gt" in facts:
        report.same("positives per object", [count.tolist() for count in counts], facts["positives_per_gt"])
    for variant, expected in facts["losses"].items():
        check_losses(variant, expected, criterion, POSE_PARTS, {}, (raw, batch), fixture, report)
        if (name := f"loss_kpt_per_positive_{variant}") in fixture.arrays:
            each = criterion.gains["kpt"] * (1 - replace(found, iou=similarity).dense()[2][found.dense()[0]])
            report.close(name, each, fixture.arrays[name], Tolerance(1e-4, 1e-3))
    _nothing_left(fixture, report)


def published_maps(fixture: Fixture) -> list[Tensor]:
    """Return the raw outputs of all levels."""
    names = sorted((name for name in fixture.arrays if name.startswith("raw_")), key=lambda name: int(name[4:]))
    return [tensor(fixture.arrays[name]) for name in names]


def batch_of_objects(per_image: Sequence[Sequence[Any]], shape: Sequence[int], keypoints: int | None = None) -> Batch:
    """Return a batch from published objects.

    Args:
        per_image: of every image its objects: a row of class and box, or a mapping with ``box``, ``kpt`` and ``vis``;
            boxes are centre x, centre y, width, height in pixels.
        shape: (N, 3, H, W) of the images.
        keypoints: how many an object has; None for rows.
    """
    most = max((len(objects) for objects in per_image), default=0)
    boxes, valid = torch.zeros(len(per_image), most, 4), torch.zeros(len(per_image), most, dtype=torch.bool)
    classes = torch.zeros(len(per_image), most, dtype=torch.int64)
    places = None if keypoints is None else torch.zeros(len(per_image), most, keypoints, 3)
    for i, objects in enumerate(per_image):
        valid[i, : len(objects)] = True
        for j, entry in enumerate(objects):
            if places is None:
                classes[i, j], boxes[i, j] = int(entry[0]), tensor(entry[1:])
            else:
                boxes[i, j] = tensor(entry["box"])
                places[i, j] = torch.cat((tensor(entry["kpt"]), tensor(entry["vis"])[:, None]), 1)
    images = torch.zeros(*shape, dtype=torch.uint8)
    return Batch(images, xywh_to_xyxy(boxes), classes, valid, keypoints=places)


def check_matches(prefix: str, dense: tuple[Tensor, Tensor, Tensor], fixture: Fixture, report: Report) -> None:
    """Compare positive points, their objects, and how well they match."""
    positive, matched, overlap = (values.numpy() for values in dense)
    arrays = fixture.arrays
    report.same(f"{prefix}fg_mask, points that differ", int((positive != (arrays[f"{prefix}fg_mask"] > 0)).sum()), 0)
    report.same(f"{prefix}matched_gt, points that differ", int((matched != arrays[f"{prefix}matched_gt"]).sum()), 0)
    report.seen |= {f"{prefix}fg_mask", f"{prefix}matched_gt"}
    for name in (f"{prefix}matched_iou", f"{prefix}matched_sqrt_oks"):
        if name in arrays:
            report.close(name, overlap, arrays[name], fixture.tolerance("eval_arrays"))


def check_pairs(
    raw: list[Tensor], points: AnchorPoints, labels: Labels, rule: SimOTARule, fixture: Fixture, report: Report
) -> None:
    """Compare candidates, overlap and cost of every pair, and how many points every object may take."""
    pairs = weigh_all_pairs(*_predictions(raw, points), labels, points, rule)
    tolerance = fixture.tolerance("eval_arrays")
    if "candidates" in fixture.arrays:
        mask = np.zeros(fixture.arrays["candidates"].shape, bool)
        for i, real in enumerate(pairs.candidate):
            mask[i, pairs.point[i][real]] = True
        report.same("candidates that differ", int((mask != (fixture.arrays["candidates"] > 0)).sum()), 0)
        report.seen.add("candidates")
    for i, objects in enumerate(labels.valid.sum(1).tolist()):
        for kind, values in (("cost", pairs.cost), ("iou", pairs.iou)):
            if (name := f"{kind}_image_{i}") in fixture.arrays:
                report.close(name, values[i, :objects][:, pairs.candidate[i]], fixture.arrays[name], tolerance)
    for i, published in fixture.facts.get("simota", {}).get("dynamic_k_per_image", {}).items():
        report.same(f"dynamic k of image {i}", pairs.count[int(i), : len(published)].tolist(), published)


def check_losses(
    variant: str,
    expected: Mapping[str, Any],
    criterion: YOLOXCriterion,
    names: Mapping[str, str],
    others: Mapping[str, float],
    given: tuple[list[Tensor], Batch],
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare one variant's losses and the absolute sums of its gradients.

    Args:
        variant: ``with_l1`` or ``without_l1``.
        expected: the published numbers.
        criterion: whose last epoch is the one with L1.
        names: our names of the published parts.
        others: further numbers of ours by their published names.
        given: raw maps and the batch.
        fixture: whose tolerance holds.
        report: where the comparisons go.
    """
    raw, batch = given
    tolerance = fixture.tolerance("losses")
    criterion.start_epoch(int(variant == "with_l1"), 2)
    leaves = [level.clone().requires_grad_() for level in raw]
    parts = criterion(leaves, criterion.prepare(batch))
    total = sum(parts.values())
    total.backward()
    ours = {**others, **{published: parts[own] for published, own in names.items()}, "total": total}
    classes = criterion.num_classes
    kinds = {"box": 4, "obj": 1, "cls": classes}
    if (left := raw[0].shape[1] - 5 - classes) > 0:
        kinds |= {"kpt": left // 3 * 2, "vis": left // 3}
    gradients = [dict(zip(kinds, level.grad.split(list(kinds.values()), 1), strict=True)) for level in leaves]
    for key, published in expected.items():
        if key in ours:
            report.close(f"{variant} {key}", ours[key], published, tolerance)
        elif key == "grad_abs_sum_per_level":
            for kind, sums in published.items():
                found = [float(level[kind].abs().sum()) for level in gradients]
                report.close(f"{variant} gradients of {kind}", found, sums, GRADIENTS)
        else:
            report.unread(f"{variant} {key}")


def check_suppression(raw: list[Tensor], fixture: Fixture, report: Report) -> None:
    """Compare what suppression keeps: boxes, objectness, class probability and class."""
    facts = fixture.facts
    head = YOLOXDetect([8] * len(raw), facts["num_classes"], 8)
    head.set_strides(facts["strides"])
    found = head.predict(raw, tuple(facts["input"]["shape"][2:]))
    for kind, options in SUPPRESSION.items():
        kept = kept_candidates(found, replace(options, agnostic=kind == "nms_agnostic"))
        for i, (boxes, _, classes, rows) in enumerate(kept):
            if (name := f"{kind}_image_{i}") in fixture.arrays:
                sure = torch.stack((found.objectness[i, rows], found.scores[i, rows, classes], classes.float()), 1)
                table = torch.cat((boxes, sure), 1)
                report.close(name, table, fixture.arrays[name], fixture.tolerance("eval_arrays"))


def _predictions(raw: list[Tensor], points: AnchorPoints) -> tuple[Tensor, Tensor, Tensor]:
    flat = flatten_levels(raw)
    return decode_boxes(flat[..., :4], points), flat[..., 4], flat[..., 5:]


def _points(raw: list[Tensor], strides: Sequence[int]) -> AnchorPoints:
    return anchor_points([(level.shape[-2], level.shape[-1]) for level in raw], strides)


def _labels(batch: Batch) -> Labels:
    return Labels(xyxy_to_xywh(batch.boxes), batch.classes, batch.valid)


def _rule(name: str, facts: Mapping[str, Any]) -> SimOTARule:
    """Return one of our rules with the constants that a fixture has."""
    ours = SIMOTA_RULES[name]
    return replace(
        ours,
        region=replace(ours.region, radius=facts.get("centre_radius_in_strides", ours.region.radius)),
        penalty=facts.get("outside_penalty", ours.penalty),
        epsilon=facts.get("log_epsilon", ours.epsilon),
    )


def _keypoints(facts: Mapping[str, Any]) -> KeypointSpec:
    spec = generic_keypoints(facts.get("num_keypoints", len(COCO_PERSON)))
    return replace(spec, sigmas=tuple(facts.get("sigmas", spec.sigmas)))


def _nothing_left(fixture: Fixture, report: Report) -> None:
    for name in sorted(set(fixture.arrays) - report.seen):
        if not name.startswith("raw_"):
            report.unread(name)
