"""Checks of a YOLOX fixture in train mode: raw outputs, assignment, losses with and without L1, gradients by name."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from data.samples import Batch
from models.anchor_points import anchor_points, flatten_levels
from models.assigners.simota import Labels
from models.losses.yolox import YOLOXCriterion
from models.losses.yolox_pose import YOLOXPoseCriterion
from tests.parity.model_checks import published_image
from tests.parity.published import Fixture, Report, Tolerance
from tests.parity.rebuild import fill
from tests.parity.yolox_loss_checks import (
    DETECTION_PARTS,
    POSE_PARTS,
    batch_of_objects,
    check_losses,
    check_matches,
    check_pairs,
)
from tests.parity.yolox_rebuild import Rebuilt

GRADIENTS = Tolerance(1e-6, 1e-2)
"""The fixture asks for a relative 1e-2; the absolute part lets gradients of zero be zero."""


def check_train(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare everything of train mode. Every variant of the loss starts from freshly filled tensors."""
    facts = fixture.facts
    images = published_image(facts.get("train_input", facts["input"]))

    def forward() -> list[Tensor]:
        fill(rebuilt.graph, fixture, rebuilt.names)
        rebuilt.graph.train().zero_grad()
        (raw,) = rebuilt.graph(images).values()
        return raw

    detached = [level.detach() for level in forward()]
    check_train_arrays(rebuilt, detached, fixture, report)
    if "targets" not in facts:
        return
    pose = rebuilt.head.task == "pose"
    keypoints = len(rebuilt.head.keypoints) if pose else None
    batch = batch_of_objects(facts["targets"]["per_image"], images.shape, keypoints)
    criterion = rebuilt.head.criterion({**rebuilt.head.recipe, "close_mosaic": 1})
    others = check_assignment(criterion, detached, batch, fixture, report)
    names = POSE_PARTS if pose else DETECTION_PARTS
    for variant, expected in facts.get("losses", {}).items():
        check_losses(variant, expected, criterion, names, others, (detached, batch), fixture, report)
        # The criterion is in the phase of this variant now.
        sum(criterion(forward(), criterion.prepare(batch)).values()).backward()
        check_gradients(variant, rebuilt, fixture, report)


def check_train_arrays(rebuilt: Rebuilt, raw: list[Tensor], fixture: Fixture, report: Report) -> None:
    """Compare raw outputs and running statistics after one forward pass."""
    ours = {f"train_raw_{level}": x for level, x in enumerate(raw)} | norm_statistics(rebuilt, fixture)
    for name in sorted(set(ours) & set(fixture.arrays)):
        report.close(name, ours[name], fixture.arrays[name], fixture.tolerance("train_arrays"))


def norm_statistics(rebuilt: Rebuilt, fixture: Fixture) -> dict[str, Tensor]:
    """Return the running statistics that a fixture holds, told from its words: ``running_mean of NAME after ...``.

    The variance of "the same" is that of the norm before.
    """
    ours = {published: name for name, published in rebuilt.names.items()}
    state, found = rebuilt.graph.state_dict(), {}
    module = "backbone.backbone.stem.conv.bn"
    for kind in ("running_mean", "running_var"):
        words = re.match(rf"{kind} of (\S+)", fixture.facts.get("outputs", {}).get(f"train_bn_first_{kind}", ""))
        module = words[1] if words and f"{words[1]}.{kind}" in ours else module
        if f"{module}.{kind}" in ours:
            found[f"train_bn_first_{kind}"] = state[ours[f"{module}.{kind}"]].clone()
    return found


def check_assignment(
    criterion: YOLOXCriterion, raw: list[Tensor], batch: Batch, fixture: Fixture, report: Report
) -> dict[str, float]:
    """Compare which points are positive and for which objects; return what the losses say of their number."""
    flat, targets = flatten_levels(raw), criterion.prepare(batch)
    points = anchor_points([(level.shape[-2], level.shape[-1]) for level in raw], criterion.strides)
    found = criterion.assign(flat, points, targets)
    if isinstance(criterion, YOLOXPoseCriterion):
        similarity = criterion.similarity(criterion.positives(flat, points, targets, found), targets)[0]
        found = replace(found, iou=similarity.sqrt().where(found.used, 0.0))
    else:
        labels = Labels(targets.boxes, targets.classes, targets.valid)
        check_pairs(raw, points, labels, criterion.rule, fixture, report)
    if "fg_mask" in fixture.arrays:
        check_matches("", found.dense(), fixture, report)
    return {"positives_per_gt": int(found.used.sum()) / max(int(batch.valid.sum()), 1)}


def check_gradients(variant: str, rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare the norm of the gradient of every trainable tensor, by published name."""
    name = f"grad_norm_{variant}"
    if name not in fixture.arrays:
        return
    gradients = {rebuilt.names[own]: value.grad for own, value in rebuilt.graph.named_parameters()}
    listed = fixture.facts["grad_names"]
    report.same(f"{variant} names of trainable tensors", sorted(gradients), sorted(listed))
    ours = [float(gradients[published].norm()) if published in gradients else torch.nan for published in listed]
    report.close(name, ours, fixture.arrays[name], GRADIENTS)
