"""Checks of the assignments and losses of YOLO-MS, YOLOv8 and YOLOv6, on given head outputs and on a whole network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.samples import Batch
from models.anchor_points import boxes_from_distances, flatten_levels
from models.assigners import atss, dynamic_soft_label
from models.assigners.dynamic_soft_label import weigh_all_pairs
from models.assigners.scored_points import ScoredPoints
from models.assigners.task_aligned import TASK_ALIGNED_RULES
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.rtmdet import RTMDetCriterion
from models.losses.yolov6 import YOLOv6Criterion
from models.losses.yolov8 import YOLOv8Criterion
from tests.parity.mmyolo_rebuild import Rebuilt
from tests.parity.published import Fixture, Report, Tolerance, tensor
from tests.parity.rebuild import fill

GRADIENTS = Tolerance(1e-6, 1e-2)
"""Of a network's tensors; the fixtures ask for a relative 1e-2, the absolute part lets gradients of zero be zero."""
GRADIENT_SUMS = Tolerance(1e-6, 1e-3)
EXACT = Tolerance(0.0, 1e-12)
PARTS = {"loss_cls": "cls", "loss_bbox": "box", "loss_dfl": "dfl"}
"""Our names of the published losses."""
ATSS_EPOCHS = 4
RULE_WORDS = {"topk": "most", "alpha": "score_power", "beta": "overlap_power", "eps": "score_eps"}
"""Our names of the constants of task alignment."""


def check_yoloms_dsl(fixture: Fixture, report: Report) -> None:
    """Compare dynamic soft labels, costs and losses with both box losses."""
    raw, batch = given_maps(fixture, "box"), batch_of_corners(fixture)
    for kind, expected in fixture.facts["losses"].items():
        criterion = RTMDetCriterion(*sizes_of(fixture), {"rtmdet_box_loss": kind})
        if kind == next(iter(fixture.facts["losses"])):
            check_matches(assigned(criterion, raw, batch), ("matched_gt", "matched_iou"), fixture, report)
            check_pairs(criterion, raw, batch, fixture, report)
        check_losses(kind, expected, criterion, (raw, batch), 1, fixture, report)
    check_dynamic_labels(fixture, report)
    nothing_left(fixture, report)


def check_yolov8_tal(fixture: Fixture, report: Report) -> None:
    """Compare task-aligned assignment and the losses of YOLOv8, which the reference multiplies by the batch."""
    raw, batch = given_maps(fixture, "dist"), batch_of_corners(fixture)
    criterion = YOLOv8Criterion(*sizes_of(fixture), fixture.facts["reg_max"], {})
    check_matches(assigned(criterion, raw, batch), ("matched_gt", "target_score"), fixture, report)
    check_losses("", fixture.facts["losses"], criterion, (raw, batch), len(batch), fixture, report)
    check_task_alignment("yolov8", fixture.facts["assigner"], report)
    nothing_left(fixture, report)


def check_yolov6_assign(fixture: Fixture, report: Report) -> None:
    """Compare both assignments of YOLOv6 and its losses with both box losses."""
    raw, batch = given_maps(fixture, "box"), batch_of_corners(fixture)
    for key, expected in fixture.facts["losses"].items():
        phase, kind = key.split("_")
        criterion = YOLOv6Criterion(*sizes_of(fixture), {"yolov6_box_loss": kind, "yolov6_least_scores": 0.0})
        criterion.start_epoch(ATSS_EPOCHS - 1 if phase == "atss" else ATSS_EPOCHS, 2 * ATSS_EPOCHS)
        if f"matched_gt_{phase}" not in report.seen:
            names = (f"matched_gt_{phase}", f"target_score_{phase}")
            check_matches(assigned(criterion, raw, batch), names, fixture, report)
        check_losses(key, expected, criterion, (raw, batch), 1, fixture, report)
    rules = fixture.facts["assigner"]
    check_task_alignment("yolov6", rules["tal"], report)
    report.same("candidates of a level", atss.NEAREST, rules["atss"]["topk_per_level"])
    report.same("side of the squares", f"{atss.SQUARE_SIDE:g} strides", rules["atss"]["anchor_side"])
    nothing_left(fixture, report)


@dataclass(frozen=True)
class Variant:
    """One way in which a fixture has a network weighed.

    Attributes:
        name: its key in the fixture; nothing where there is only one.
        criterion: ours.
        factor: what the reference multiplies the loss by.
        expected: the published numbers.
    """

    name: str
    criterion: AnchorPointCriterion
    factor: float
    expected: Mapping[str, Any]

    def named(self, *names: str) -> list[str]:
        """Return names of arrays as the fixture has them for this variant."""
        return [f"{name}_{self.name}" if self.name else name for name in names]


def variants_of(rebuilt: Rebuilt, fixture: Fixture, images: int) -> list[Variant]:
    """Return the criteria that a fixture of a whole network asks for."""
    losses, recipe = fixture.facts["losses"], dict(rebuilt.head.recipe)
    nested = all(isinstance(entry, dict) for entry in losses.values())
    found = []
    for name, expected in losses.items() if nested else [("", losses)]:
        words = name.split("_")
        kind = next((word for word in words if word.endswith("iou")), None)
        published = {key: kind for key in recipe if key.endswith("_box_loss") and kind}
        published |= {key: 0.0 for key in recipe if key == "yolov6_least_scores"}
        criterion = rebuilt.head.criterion({**recipe, **published})
        atss_first = "atss" in words or "ATSS" in str(fixture.facts.get("assigner", {}).get("type", ""))
        criterion.start_epoch(0 if atss_first else ATSS_EPOCHS, 2 * ATSS_EPOCHS)
        found.append(Variant(name, criterion, images if isinstance(criterion, YOLOv8Criterion) else 1, expected))
    return found


def check_network_losses(rebuilt: Rebuilt, images: Tensor, fixture: Fixture, report: Report) -> None:
    """Compare outputs, assignment, losses and gradients of a whole network, and what a pass in train mode records.

    The reference ran it with every norm in eval mode. The tensors are filled when this begins.
    """
    graph, batch = rebuilt.graph.eval(), batch_of_corners(fixture)
    (raw,) = graph(images).values()
    boxes = "dist" if "dist_0" in fixture.arrays else "box"
    given, tolerance = given_maps(fixture, boxes), fixture.tolerance("eval_arrays")
    start = raw[0].shape[1] - rebuilt.head.num_classes
    for level, (ours, published) in enumerate(zip(raw, given, strict=True)):
        report.close(f"{boxes}_{level}", ours[:, :start], published[:, :start], tolerance)
        report.close(f"cls_{level}", ours[:, start:], published[:, start:], tolerance)
    for variant in variants_of(rebuilt, fixture, len(batch)):
        check_variant(variant, rebuilt, raw, (given, batch), fixture, report)
    check_statistics(rebuilt, images, fixture, report)


def check_variant(
    variant: Variant,
    rebuilt: Rebuilt,
    raw: list[Tensor],
    given: tuple[list[Tensor], Batch],
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare assignment, losses and gradients of one variant.

    Args:
        variant: it.
        rebuilt: the network.
        raw: its outputs, with their graph of gradients.
        given: the published outputs, on which points are assigned, so that rounding cannot change who wins; the batch.
        fixture: what is compared with.
        report: where the comparisons go.
    """
    criterion, (maps, batch) = variant.criterion, given
    for names in (variant.named("matched_gt", "matched_iou"), variant.named("matched_gt", "target_score")):
        if set(names) <= set(fixture.arrays):
            check_matches(assigned(criterion, maps, batch), (names[0], names[1]), fixture, report)
    if isinstance(criterion, RTMDetCriterion):
        check_pairs(criterion, maps, batch, fixture, report)
        check_dynamic_labels(fixture, report)
    check_losses(f"{variant.name} given outputs", variant.expected, criterion, given, variant.factor, fixture, report)
    rebuilt.graph.zero_grad()
    parts = {name: part * variant.factor for name, part in criterion(raw, criterion.prepare(batch)).items()}
    sum(parts.values()).backward(retain_graph=True)
    for name, own in PARTS.items():
        if name in variant.expected:
            words = f"{variant.name} network {name}".strip()
            report.close(words, parts[own], variant.expected[name], fixture.tolerance("losses"))
    for name in variant.named("grad_norm"):
        if name in fixture.arrays:
            check_gradients(name, rebuilt, fixture, report)


def check_gradients(array: str, rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare the norm of the gradient of every trainable tensor, by published name; a shared one is listed once."""
    gradients = {rebuilt.names[own]: value.grad for own, value in rebuilt.graph.named_parameters()}
    listed = fixture.facts["grad_names"]
    report.same("names of trainable tensors", sorted(gradients), sorted(listed))
    ours = [float(gradients[name].norm()) if gradients.get(name) is not None else torch.nan for name in listed]
    report.close(array, ours, fixture.arrays[array], GRADIENTS)


def check_statistics(rebuilt: Rebuilt, images: Tensor, fixture: Fixture, report: Report) -> None:
    """Compare running statistics after one pass in train mode from freshly filled tensors."""
    names = [name for name in fixture.arrays if name.startswith("bn_")]
    if not names:
        return
    fill(rebuilt.graph, fixture, rebuilt.names)
    with torch.no_grad():
        rebuilt.graph.train()(images)
    state = {rebuilt.names[own]: value for own, value in rebuilt.graph.state_dict().items()}
    for name in names:
        for kind in ("running_mean", "running_var"):
            if name.endswith(kind):
                # bn_stage1_0_running_mean is that of backbone.stage1.0.bn.
                module = name.removeprefix("bn_").removesuffix(f"_{kind}").replace("_", ".")
                ours = state[f"backbone.{module}.bn.{kind}"]
                report.close(name, ours, fixture.arrays[name], fixture.tolerance("train_arrays"))


def sizes_of(fixture: Fixture) -> tuple[list[int], int]:
    """Return strides and number of classes."""
    return fixture.facts["strides"], fixture.facts["num_classes"]


def given_maps(fixture: Fixture, boxes: str) -> list[Tensor]:
    """Return published outputs as our heads give them: boxes (``box`` or ``dist``) first, then classes."""
    levels = range(len(fixture.facts["strides"]))
    return [torch.cat([tensor(fixture.arrays[f"{part}_{i}"]) for part in (boxes, "cls")], 1) for i in levels]


def batch_of_corners(fixture: Fixture) -> Batch:
    """Return the published objects, rows of class, x1, y1, x2, y2 in pixels, as a padded batch."""
    per_image = fixture.facts["targets"]["per_image"]
    most = max(len(objects) for objects in per_image)
    boxes, classes = torch.zeros(len(per_image), most, 4), torch.zeros(len(per_image), most, dtype=torch.int64)
    valid = torch.zeros(len(per_image), most, dtype=torch.bool)
    for i, objects in enumerate(per_image):
        if objects:
            rows = tensor(objects)
            boxes[i, : len(rows)], classes[i, : len(rows)], valid[i, : len(rows)] = rows[:, 1:], rows[:, 0].long(), True
    return Batch(torch.zeros(fixture.facts["input"]["shape"], dtype=torch.uint8), boxes, classes, valid)


def assigned(criterion: AnchorPointCriterion, raw: list[Tensor], batch: Batch) -> ScoredPoints:
    """Return which points are positive."""
    return criterion.assign(flatten_levels(raw), criterion.points_of(raw), criterion.prepare(batch))


def check_matches(found: ScoredPoints, names: tuple[str, str], fixture: Fixture, report: Report) -> None:
    """Compare positive points, their objects and their target scores."""
    _, matched, score = (values.numpy() for values in found.dense())
    wrong = int((matched != fixture.arrays[names[0]]).sum())
    report.same(f"{names[0]}, points that differ", wrong, 0)
    report.seen.add(names[0])
    report.close(names[1], score, fixture.arrays[names[1]], fixture.tolerance("eval_arrays"))


def check_pairs(criterion: RTMDetCriterion, raw: list[Tensor], batch: Batch, fixture: Fixture, report: Report) -> None:
    """Compare cost and overlap of every pair, and how many points each object takes."""
    points, flat = criterion.points_of(raw), flatten_levels(raw)
    boxes = boxes_from_distances(flat[..., :4], points.corners, points.strides)
    pairs = weigh_all_pairs(boxes, flat[..., 4:], criterion.prepare(batch), points)
    counts = [image[valid].tolist() for image, valid in zip(pairs.count, batch.valid, strict=True)]
    report.same("dynamic k", counts, fixture.facts["assigner"]["dynamic_k_per_image"])
    for i, objects in enumerate(batch.valid.sum(1).tolist()):
        cost = np.full((len(points), objects), dynamic_soft_label.UNREACHABLE)
        real = pairs.candidate[i]
        cost[pairs.point[i][real]] = pairs.cost[i, :objects][:, real].T
        for name, values in ((f"cost_image_{i}", cost), (f"iou_image_{i}", pairs.iou[i, :objects].T)):
            if name in fixture.arrays:
                report.close(name, values, fixture.arrays[name], fixture.tolerance("eval_arrays"))


def check_losses(
    variant: str,
    expected: Mapping[str, Any],
    criterion: AnchorPointCriterion,
    given: tuple[list[Tensor], Batch],
    factor: float,
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare the parts of a loss, its denominator, and the absolute sums of its gradients.

    Args:
        variant: of the loss, for the report.
        expected: the published numbers.
        criterion: ours.
        given: raw maps and the batch.
        factor: what the reference multiplies the loss by.
        fixture: whose tolerance holds.
        report: where the comparisons go.
    """
    raw, batch = given
    tolerance = fixture.tolerance("losses")
    leaves = [level.clone().requires_grad_() for level in raw]
    parts = {name: part * factor for name, part in criterion(leaves, criterion.prepare(batch)).items()}
    sum(parts.values()).backward()
    found = assigned(criterion, raw, batch)
    scores = float(found.score.sum())
    ours = {published: parts[own] for published, own in PARTS.items() if own in parts}
    ours |= {"total": sum(parts.values()), "target_score_sum": scores, "average_factor": max(scores, 1.0)}
    start = raw[0].shape[1] - criterion.num_classes
    slices = {"cls": slice(start, None), "box": slice(start), "dist": slice(start)}
    for key, published in expected.items():
        if key == "positives":
            report.same(f"{variant} {key}".strip(), int(found.used.sum()), published)
        elif key in ours:
            report.close(f"{variant} {key}".strip(), ours[key], published, tolerance)
        elif key == "grad_abs_sum_per_level":
            for part, sums in published.items():
                values = [float(level.grad[:, slices[part]].abs().sum()) for level in leaves]
                report.close(f"{variant} gradients of {part}".strip(), values, sums, GRADIENT_SUMS)
        else:
            report.unread(f"{variant} {key}".strip())


def check_dynamic_labels(fixture: Fixture, report: Report) -> None:
    """Compare the constants of the dynamic soft labels and the weights of the losses."""
    given, weights = fixture.facts["assigner"], fixture.facts["loss_weights"]
    ours = (dynamic_soft_label.MOST_CHOICES, dynamic_soft_label.IOU_WEIGHT, dynamic_soft_label.CENTRE_RADIUS)
    report.same("constants of the labels", ours, (given["topk"], given["iou_weight"], given["soft_center_radius"]))
    gains = RTMDetCriterion(fixture.facts["strides"], 1, {}).gains
    boxes = weights.get("bbox_diou", weights.get("bbox"))
    report.same("gains", (gains["cls"], gains["box"]), (weights["cls_qfl"], boxes))


def check_task_alignment(family: str, given: Mapping[str, Any], report: Report) -> None:
    """Compare the constants of task alignment."""
    rule = TASK_ALIGNED_RULES[family]
    for word, ours in RULE_WORDS.items():
        report.close(f"task alignment, {word}", getattr(rule, ours), given[word], EXACT)


def nothing_left(fixture: Fixture, report: Report) -> None:
    """Count arrays that nothing was compared with as misses; the given outputs are no results."""
    for name in sorted(set(fixture.arrays) - report.seen):
        if name.split("_")[0] not in ("cls", "box", "dist"):
            report.unread(name)
