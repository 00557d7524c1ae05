"""Checks of a fixture of YOLO-MS, YOLOv6 or YOLOv8 of any size: the network, its stages, outputs, boxes, detections."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from data.samples import Placement
from models.fusing import deploy_graph
from models.heads.yolov8 import SIDES, YOLOv8Head
from models.layers.reparam import reparameterise
from models.losses.distribution_focal import expected_distances
from models.predictions import Detections, PostprocessOptions
from models.table import tabulate_model, totals_of
from tests.parity.mmyolo_loss_checks import check_network_losses
from tests.parity.mmyolo_rebuild import Rebuilt, rebuild_network, recorded_stages
from tests.parity.published import Fixture, Report, Tolerance
from tests.parity.rebuild import fill
from tests.parity.seeded import seeded_image
from tests.parity.yolox_model_checks import check_stages
from utils.nms import MAX_CANDIDATES

CLEAR_WINNER = 1e-5
"""Two probabilities nearer than this may change places through rounding."""
NOTHING_BETWEEN = Tolerance(0.0, 1e-12)
ORDERS = {"B, G, R": "BGR", "R, G, B": "RGB"}


def check_mmyolo_model(fixture: Fixture, report: Report) -> None:
    """Rebuild a fixture's network, fill it and compare everything that the fixture holds."""
    rebuilt = rebuild_network(fixture, report)
    check_description(rebuilt, fixture, report)
    fill(rebuilt.graph, fixture, rebuilt.names)
    if "losses" in fixture.facts:
        check_network_losses(rebuilt, network_input(rebuilt, fixture, report), fixture, report)
    else:
        check_eval(rebuilt, fixture, report)
    for name in sorted(set(fixture.arrays) - report.seen):
        report.unread(name)


def check_description(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare what can be said without running the network."""
    graph, facts = rebuilt.graph, fixture.facts
    sizes: dict[str, int] = defaultdict(int)
    for name, value in graph.named_parameters():
        sizes[rebuilt.names[name].split(".")[0]] += value.numel()
    if "parameters" in facts:
        report.same("parameters", sum(sizes.values()), facts["parameters"])
    if "parameters_by_part" in facts:
        report.same("parameters by part", dict(sizes), facts["parameters_by_part"])
    if "strides" in facts:
        report.same("strides", rebuilt.head.strides, facts["strides"])
    if "prior_offset" in facts:
        check_prior(rebuilt, facts["prior_offset"], report)
    check_norms(rebuilt, fixture, report)
    if "gflops" in facts:
        check_operations(rebuilt, facts["gflops"], report)


def check_operations(rebuilt: Rebuilt, published: dict[str, Any], report: Report) -> None:
    """Compare the operations of an image by the published convention, and the parameters that are left for it."""
    totals = totals_of(tabulate_model(rebuilt.graph.spec, tuple(published["size"]), deploy=True))
    for key, ours in (
        ("measured_reference_counter", totals["mac_based"]),
        ("parameters_after_reparameterisation", totals["parameters"]),
    ):
        if key in published:
            report.same(key.replace("_", " "), ours, published[key])
    if "published" in published:
        # It was rounded to one decimal.
        report.close("published GFLOPs", totals["mac_based"] / 1e9, published["published"], Tolerance(0.05, 0.0))


def check_prior(rebuilt: Rebuilt, offset: float, report: Report) -> None:
    """Compare the place in a cell from which boxes are measured, in strides."""
    criterion = rebuilt.head.criterion({})
    points = criterion.points_of([torch.zeros(1, 1, 2, 2) for _ in criterion.strides])
    first = criterion.places(points)[[0, 4, 8]] / points.strides[[0, 4, 8]]
    report.close("prior offset", first, np.full((3, 2), offset), NOTHING_BETWEEN)


def check_norms(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare eps and momentum of every norm, by part of the network and, where the fixture names them, one by one."""
    facts, found = fixture.facts, {}
    for name, module in rebuilt.graph.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            published = rebuilt.names[f"{name}.weight"].removesuffix(".weight")
            found[published] = {"eps": module.eps, "momentum": module.momentum}
    for part, published in facts.get("bn", {}).items():
        ours = [values for name, values in found.items() if name.split(".")[0] == part]
        kinds = {(values["eps"], values["momentum"]) for values in ours}
        report.same(f"BatchNorm of the {part}", kinds, {(entry["eps"], entry["momentum"]) for entry in published})
    if "bn_default" in facts:
        others = {name: values for name, values in found.items() if values != facts["bn_default"]}
        report.same("BatchNorm that differs from the others", others, facts.get("bn_exceptions", {}))


def network_input(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> Tensor:
    """Return the seeded batch as the network reads it, and compare our input rule with the fixture's words."""
    description, rule = fixture.facts["input"], rebuilt.graph.spec.input
    images = torch.from_numpy(seeded_image(tuple(description["shape"]), description["seed"]))
    images = images * np.float32(description.get("scale", 1))
    given = description.get("normalisation", "none")
    if not isinstance(given, dict):
        report.same("input rule", (rule.channels, rule.scale, rule.mean, rule.std), ("RGB", 255.0, None, None))
        return images
    order = next((ours for words, ours in ORDERS.items() if words in given["order"]), given["order"])
    published = (order, 1.0, tuple(given["mean"]), tuple(given["std"]))
    report.same("input rule", (rule.channels, rule.scale, rule.mean, rule.std), published)
    mean, std = (torch.tensor(given[key], dtype=torch.float32).view(-1, 1, 1) for key in ("mean", "std"))
    return (images - mean) / std


def check_eval(rebuilt: Rebuilt, fixture: Fixture, report: Report) -> None:
    """Compare everything of eval mode."""
    graph, head, tolerance = rebuilt.graph.eval(), rebuilt.head, fixture.tolerance("eval_arrays")
    images = network_input(rebuilt, fixture, report)
    size = (images.shape[2], images.shape[3])
    rows = fixture.facts.get("eval_layers", {}).get("rows", [])
    with torch.no_grad(), recorded_stages(rebuilt, [row[0] for row in rows]) as outputs:
        (raw,) = graph(images).values()
        found = head.predict(raw, size)
    if rows:
        check_stages(rows, outputs, tolerance, report)
    ours = raw_parts(rebuilt, raw) | {"boxes": found.boxes, "score_max": found.scores.amax(-1)}
    for name in sorted(set(ours) & set(fixture.arrays)):
        report.close(name, ours[name], fixture.arrays[name], tolerance)
    if "score_argmax" in fixture.arrays:
        best = found.scores.topk(min(2, found.scores.shape[-1]), -1).values
        clear = (best[..., 0] - best[..., -1] > CLEAR_WINNER).numpy()
        wrong = (found.scores.argmax(-1).numpy() != fixture.arrays["score_argmax"]) & clear
        report.same(f"best class ({clear.mean():.1%} of cells clear)", int(wrong.sum()), 0)
        report.seen.add("score_argmax")
    check_detections(rebuilt, found, size, fixture, report)
    if "deploy" in fixture.facts:
        check_deployed(rebuilt, images, fixture, report)


def raw_parts(rebuilt: Rebuilt, raw: list[Tensor]) -> dict[str, Tensor]:
    """Return raw outputs split as a fixture has them: classes, distances, and the logits of distributions."""
    head, parts = rebuilt.head, {}
    for level, x in enumerate(raw):
        boxes, parts[f"cls_{level}"] = x.split((x.shape[1] - head.num_classes, head.num_classes), 1)
        parts[f"box_{level}"] = boxes
        if isinstance(head, YOLOv8Head):
            parts[f"dist_{level}"] = boxes
            distances = expected_distances(boxes.movedim(1, -1), boxes.shape[1] // SIDES)
            parts[f"box_{level}"] = distances.movedim(-1, 1)
    return parts


def check_detections(
    rebuilt: Rebuilt, found: Detections, size: tuple[int, int], fixture: Fixture, report: Report
) -> None:
    """Compare what is left after suppression, under each of the fixture's settings, and how many there are."""
    for kind, given in fixture.facts.get("postprocess", {}).items():
        options = PostprocessOptions(given["score_thr"], given["nms_iou"], given["max_per_img"], given["multi_label"])
        report.same(f"{kind}: most candidates", MAX_CANDIDATES, given["nms_pre"])
        kept = rebuilt.head.postprocess(found, options, [Placement(*size)] * len(found.boxes))[0]
        report.same(f"{kind}: detections", len(kept.boxes), given["count"])
        if (name := f"det_{kind}") in fixture.arrays:
            table = torch.cat((kept.boxes, kept.scores[:, None], kept.classes[:, None].float()), 1)
            published, tolerance = fixture.arrays[name], fixture.tolerance("eval_arrays")
            report.close(f"{name}, scores in order", table[:, 4], published[:, 4], tolerance)
            report.close(name, paired(table.numpy(), published), published, tolerance)


def paired(ours: np.ndarray, published: np.ndarray) -> np.ndarray:
    """Return our rows in the order of the published ones that they are nearest to: equal scores may change places."""
    distance = np.abs(ours[:, None] - published[None]).max(-1)
    return ours[linear_sum_assignment(distance.T)[1]]


def check_deployed(rebuilt: Rebuilt, images: Tensor, fixture: Fixture, report: Report) -> None:
    """Compare the re-parameterised network, with its other norms and without them, with the same published outputs."""
    graph, given = copy.deepcopy(rebuilt.graph).eval(), fixture.facts["deploy"]
    reparameterise(graph.model)
    report.same("deployed parameters", sum(p.numel() for p in graph.parameters()), given["parameters"])
    for words, form in (("re-parameterised", graph), ("deployed", deploy_graph(copy.deepcopy(graph)))):
        with torch.no_grad():
            (raw,) = form(images).values()
        for name, values in raw_parts(replace(rebuilt, graph=form), raw).items():
            if name in fixture.arrays:
                report.close(f"{words} {name}", values, fixture.arrays[name], fixture.tolerance("eval_arrays"))
