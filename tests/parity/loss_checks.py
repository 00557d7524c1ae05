"""Checks of losses: target assignment and detection loss, pixel losses, and the fixture of synthetic predictions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.samples import Batch
from models.heads.detect import Detect
from models.losses.anchor_detection import AnchorDetectionCriterion, AnchorTargets
from models.losses.segmentation import pixel_cross_entropy, rare_probability_pixels
from models.losses.segmentation_criterion import IGNORED, SegmentationCriterion
from tests.parity.published import Fixture, Report, tensor
from utils.boxes import xywh_to_xyxy


def batch_of_rows(rows: Sequence[Sequence[float]], shape: Sequence[int]) -> Batch:
    """Return a batch from published targets.

    Args:
        rows: image index, class, then centre x, centre y, width, height as fractions of the image.
        shape: (N, 3, H, W) of the images.
    """
    count, _, height, width = shape
    table = np.asarray(rows, np.float32).reshape(-1, 6)
    most = max((int((table[:, 0] == i).sum()) for i in range(count)), default=0)
    boxes, classes = torch.zeros(count, most, 4), torch.zeros(count, most, dtype=torch.int64)
    valid = torch.zeros(count, most, dtype=torch.bool)
    for i in range(count):
        own = torch.from_numpy(table[table[:, 0] == i])
        boxes[i, : len(own)] = xywh_to_xyxy(own[:, 2:] * torch.tensor([width, height, width, height]))
        classes[i, : len(own)] = own[:, 1].long()
        valid[i, : len(own)] = True
    return Batch(torch.zeros(*shape, dtype=torch.uint8), boxes, classes, valid)


def match_rows(targets: AnchorTargets, level: int) -> np.ndarray:
    """Return a level's matches as published: image, anchor, row, column, class, box, anchor size; rows sorted."""
    found = targets.levels[level]
    whole = torch.stack((found.image, found.anchor, found.row, found.column, found.classes), 1).float()
    table = torch.cat((whole, found.boxes, found.anchors), 1).numpy()
    return table[np.lexsort(table.T[::-1])]


def check_assignment(head: Detect, fixture: Fixture, shape: Sequence[int], report: Report) -> None:
    """Compare the target assignment of a fixture's default recipe."""
    losses = fixture.facts.get("losses", {})
    hyp = losses.get("default", {"hyp": {"box": 0.05, "obj": 1.0, "cls": 0.5, "anchor_t": 4.0}})["hyp"]
    targets = head.criterion(hyp).prepare(batch_of_rows(fixture.facts["targets"]["rows"], shape))
    published = fixture.facts["targets"].get("matches_per_level_n_and_duplicate_cells")
    if published is not None:
        report.same("matches and duplicate cells", [list(pair) for pair in _counts(targets)], published)
    for level in range(len(targets.levels)):
        if f"build_targets_{level}" in fixture.arrays:
            name = f"build_targets_{level}"
            report.close(name, match_rows(targets, level), fixture.arrays[name], fixture.tolerance("eval_arrays"))


def _counts(targets: AnchorTargets) -> list[tuple[int, int]]:
    return [(len(level), len(level) - len(level.deciding)) for level in targets.levels]


def check_detection_losses(
    variant: str,
    expected: dict[str, Any],
    head: Detect,
    raw: list[Tensor],
    shape: Sequence[int],
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare one recipe's losses, gradients with respect to the raw maps, and level weights.

    A published total is multiplied by the number of images, and the gradients are of that product.
    """
    rows = [] if "no_targets" in variant else fixture.facts["targets"]["rows"]
    criterion = head.criterion({**expected["hyp"], "autobalance": "autobalance" in variant}).train()
    check_criterion(variant, expected, criterion, raw, batch_of_rows(rows, shape), fixture, report)


def check_criterion(
    variant: str,
    expected: dict[str, Any],
    criterion: AnchorDetectionCriterion,
    raw: list[Tensor],
    batch: Batch,
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare whatever a published variant holds with what a criterion gives."""
    tolerance = fixture.tolerance("losses")
    leaves = [level.detach().requires_grad_() for level in raw]
    targets = criterion.prepare(batch)
    parts = criterion(leaves, targets)
    total = sum(parts.values())
    (total * len(batch)).backward()
    ours = {
        **parts,
        "total": total,
        "total_times_batch": total * len(batch),
        "grad_abs_sum_per_level": [float(level.grad.abs().sum()) for level in leaves],
        "balance_after_call": criterion.balance,
        "balance_after": criterion.balance,
    }
    whole = {
        "matches_per_level": [count for count, _ in _counts(targets)],
        "duplicate_cells_per_level": [twice for _, twice in _counts(targets)],
    }
    for key, published in expected.items():
        if key in ours:
            report.close(f"{variant} {key}", ours[key], published, tolerance)
        elif key in whole:
            report.same(f"{variant} {key}", whole[key], published)
        elif key not in DESCRIPTIONS:
            report.unread(f"{variant} {key}")


DESCRIPTIONS = {"model", "variant", "anchors", "strides", "nc", "image_size", "seed", "targets", "hyp", "notes"}
"""Keys of a published loss that describe it."""


def check_synthetic_losses(fixture: Fixture, report: Report) -> None:
    """Compare detection losses on synthetic predictions."""
    for case in fixture.facts["cases"]:
        size, strides, classes = case["image_size"], case["strides"], case["nc"]
        draw = np.random.RandomState(case["seed"])
        raw = [
            tensor(draw.standard_normal((2, 3, size // stride, size // stride, 5 + classes)) * 1.5)
            for stride in strides
        ]
        pixels = tensor(case["anchors"]).view(len(strides), -1, 2)
        cells = pixels / torch.tensor(strides).view(-1, 1, 1)
        hyp = {**case["hyp"], "autobalance": "autobalance" in case["variant"]}
        criterion = AnchorDetectionCriterion(cells, strides, classes, hyp).train()
        batch = batch_of_rows(case["targets"], (2, 3, size, size))
        check_criterion(f"{case['model']} {case['variant']}", case, criterion, raw, batch, fixture, report)


def scalar_focal(logits: Tensor, goal: Tensor, gamma: float) -> Tensor:
    """Return the published program's focal loss: its cross entropy is a mean before the focal factor is applied.

    So it is ``mean((1 - p_true)^gamma) * CE``; the first mean runs over all pixels, an ignored one counting there with
    the likelihood of class 0. Ours weighs pixel by pixel; this form exists for the fixture alone.
    """
    summed, labelled = pixel_cross_entropy(logits, goal, IGNORED)
    true_class = goal.where(goal != IGNORED, 0)
    likelihood = logits.softmax(1).gather(1, true_class[:, None])
    return ((1 - likelihood) ** gamma).mean() * summed / labelled


def check_segmentation_losses(
    prefix: str,
    expected: dict[str, Any],
    outputs: list[Tensor],
    classes: int,
    shape: Sequence[int],
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare the pixel losses that a model fixture lists under ``losses.segmentation``."""
    count, _, height, width = shape
    drawn = np.random.RandomState(7).randint(-1, classes, (count, height // 8, width // 8))
    goal = torch.from_numpy(drawn.repeat(8, 1).repeat(8, 2))
    check_pixel_losses(prefix, expected, [output.detach() for output in outputs], goal, fixture, report)


def check_pixel_losses(
    prefix: str, expected: dict[str, Any], outputs: list[Tensor], goal: Tensor, fixture: Fixture, report: Report
) -> None:
    """Compare every published pixel loss, told apart by its name.

    Args:
        prefix: put before the names in the report.
        expected: published numbers by name.
        outputs: main logits, then auxiliary ones; ours enlarge themselves.
        goal: (N, H, W) class indices, -1 ignored.
        fixture: whose tolerance holds.
        report: where the comparisons go.
    """
    masks = goal.where(goal >= 0, IGNORED).to(torch.uint8)
    full = F.interpolate(outputs[0], goal.shape[-2:], mode="bilinear", align_corners=True)
    tolerance = fixture.tolerance("losses")
    for key, published in expected.items():
        if not isinstance(published, int | float):
            continue
        if match := re.fullmatch(r"focal_gamma_?([\d.]+)", key):
            ours = scalar_focal(full, masks.long(), float(match[1]))
        elif match := re.fullmatch(r"prob_ohem_([\d.]+)_min_kept_(\d+)", key):
            summed, kept = rare_probability_pixels(full, masks.long(), IGNORED, float(match[1]), int(match[2]))
            ours = summed / kept
        else:
            hyp = _recipe(key, expected)
            if hyp is None:
                report.unread(f"{prefix}{key}")
                continue
            criterion = SegmentationCriterion(outputs[0].shape[1], hyp)
            batch = Batch(
                torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8),
                torch.zeros(len(masks), 0, 4),
                torch.zeros(len(masks), 0, dtype=torch.int64),
                torch.zeros(len(masks), 0, dtype=torch.bool),
                masks=masks,
            )
            used = outputs[: 1 + len(hyp["seg_aux"])]
            ours = criterion(used, criterion.prepare(batch))["seg"]
        report.close(f"{prefix}{key}", ours, published, tolerance)


def _recipe(key: str, expected: dict[str, Any]) -> dict[str, Any] | None:
    """Return our recipe for a published loss's name, or None for a name without a counterpart."""
    if key in ("cross_entropy", "cross_entropy_main"):
        return {"seg_aux": ()}
    if key == "cross_entropy_class_weights":
        return {"seg_aux": (), "seg_class_weights": expected["class_weights"]}
    if match := re.fullmatch(r"cross_entropy_(?:aux2|two_aux)_weight_?([\d.]+)", key):
        # The published weight w gives the two auxiliary outputs 1.5 w and 0.5 w.
        return {"seg_aux": (1.5 * float(match[1]), 0.5 * float(match[1]))}
    if match := re.fullmatch(r"cross_entropy_(?:aux1|one_aux)_weight_?([\d.]+)", key):
        return {"seg_aux": (float(match[1]),)}
    if match := re.fullmatch(
        r"ohem_(?:aux_)?(?:thresh)?([\de.-]+)(?:_(?:weights|aux)_([\d.]+)_([\d.]+))?(?:_topk_path)?", key
    ):
        aux = () if match[2] is None else (float(match[2]), float(match[3]))
        return {"seg_loss": "ohem", "seg_ohem_threshold": float(match[1]), "seg_aux": aux}
    return None
