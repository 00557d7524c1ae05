"""Checks of the matching, the set loss and the gradients of a whole YOLOS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from data.samples import Batch
from models.assigners.hungarian import Matches, pair_costs
from models.losses.set_prediction import SetCriterion
from models.losses.set_targets import SetTargets
from models.set_outputs import SetOutputs
from tests.parity.published import Fixture, Report, Tolerance, tensor
from tests.parity.yolos_rebuild import Rebuilt
from tests.parity.yolox_loss_checks import batch_of_objects

GRADIENTS = Tolerance(1e-6, 1e-2)
"""Of a network's tensors; the fixtures ask for a relative 1e-2, the absolute part lets gradients of zero be zero."""
EXACT = Tolerance(0.0, 1e-12)
PARTS = {"loss_ce": "cls", "loss_bbox": "box", "loss_giou": "giou"}
"""Our names of the published losses, which are given without their weights."""
WEIGHT_KEYS = {"loss_ce": "set_class", "loss_bbox": "set_box", "loss_giou": "set_giou", "no_object": "set_no_object"}
COST_KEYS = {"cost_class": "set_cost_class", "cost_bbox": "set_cost_box", "cost_giou": "set_cost_giou"}


def check_losses(rebuilt: Rebuilt, images: Tensor, fixture: Fixture, report: Report) -> None:
    """Compare outputs, costs, matching, losses and gradients in training mode."""
    graph, head = rebuilt.graph.train(), rebuilt.head
    check_weights(dict(head.recipe), fixture, report)
    criterion = head.criterion(dict(head.recipe))
    batch = published_batch(rebuilt, fixture, report)
    (raw,) = graph(images).values()
    targets = criterion.prepare(batch)
    tolerance = fixture.tolerance("train_arrays")
    for name, ours in (("pred_logits", raw.logits), ("pred_boxes", raw.boxes)):
        if name in fixture.arrays:
            report.close(name, ours, fixture.arrays[name], tolerance)
    check_matching(criterion, raw, targets, fixture, report)
    parts = criterion(raw, targets)
    sum(parts.values()).backward()
    check_parts(criterion, parts, criterion.seen(), fixture, report)
    check_gradients(rebuilt, fixture, report)


def check_weights(recipe: dict[str, Any], fixture: Fixture, report: Report) -> None:
    """Compare the weights of the losses and of the costs with those of our recipe."""
    for group, keys in (("weights", WEIGHT_KEYS), ("matcher", COST_KEYS)):
        for name, published in fixture.facts.get(group, {}).items():
            if name in keys:
                report.close(f"{group}: {name}", recipe[keys[name]], published, EXACT)
            else:
                report.same(f"{group}: {name}", "minus softmax probability", published)


def published_batch(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> Batch:
    """Return the published objects; their labels are category ids, which become our classes."""
    height, width = fixture.facts["input"]["shape"][2:]
    ids = rebuilt.head.category_ids or list(range(rebuilt.head.labels))
    rows = []
    for image in fixture.facts["targets"]:
        report.same("form of the boxes", image["box_format"].startswith("cxcywh, fractions"), True)
        boxes = tensor(image["boxes"]).view(-1, 4) * torch.tensor([width, height, width, height])
        classes = [ids.index(label) for label in image["labels"]]
        rows.append([[kind, *box] for kind, box in zip(classes, boxes.tolist(), strict=True)])
    return batch_of_objects(rows, fixture.facts["input"]["shape"])


def check_matching(
    criterion: SetCriterion, raw: SetOutputs, targets: SetTargets, fixture: Fixture, report: Report
) -> None:
    """Compare the costs of all pairs, and which token answers for which object."""
    with torch.no_grad():
        classes = criterion.classes.costs(raw.logits, targets)
        costs = pair_costs(classes, raw.boxes, targets.boxes, criterion.cost_weights)
        (found,) = criterion.match([raw.last], targets)
    for i, count in enumerate(targets.valid.sum(1).tolist()):
        if (name := f"cost_{i}") in fixture.arrays:
            report.close(name, costs[i, :, :count], fixture.arrays[name], fixture.tolerance("train_arrays"))
    for published in fixture.facts.get("matching", []):
        image = published["image"]
        wanted = sorted(zip(published["tokens"], published["targets"], strict=True))
        report.same(f"matching of image {image}", pairs_of(found, image), wanted)


def pairs_of(found: Matches, image: int) -> list[tuple[int, int]]:
    """Return token and object of an image's pairs, by token."""
    own = found.image == image
    return sorted(zip(found.query[own].tolist(), found.object[own].tolist(), strict=True))


def check_parts(
    criterion: SetCriterion, parts: dict[str, Tensor], mistakes: Mapping[str, Tensor], fixture: Fixture, report: Report
) -> None:
    """Compare the losses and what is logged beside them."""
    ours = {name: parts[own] / criterion.gains[own] for name, own in PARTS.items()}
    ours |= {"total_weighted": sum(parts.values()), **mistakes}
    for name, published in fixture.facts["losses"].items():
        if name in ours:
            report.close(name, ours[name], published, fixture.tolerance("losses"))
        else:
            report.unread(name)


def check_gradients(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare the length of every tensor's gradient."""
    if "grad_norm" not in fixture.arrays:
        return
    gradients = {name: value.grad for name, value in rebuilt.graph.named_parameters()}
    norms = {piece.name: float(piece.of(gradients).norm()) for piece in rebuilt.pieces}
    names = fixture.facts["grad_names"]
    report.same("tensors with a gradient", sorted(norms), sorted(names))
    report.close("grad_norm", [norms.get(name, -1.0) for name in names], fixture.arrays["grad_norm"], GRADIENTS)
