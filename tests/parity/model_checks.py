"""Checks of a model fixture: what the graph is, what it computes, layer by layer, in both modes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.graph import Graph
from models.heads.base import Head
from models.heads.detect import Detect
from models.heads.segment import SegmentationHead
from models.table import tabulate_model
from tests.parity.loss_checks import check_assignment, check_detection_losses, check_segmentation_losses
from tests.parity.published import Fixture, Report, Tolerance, as_array
from tests.parity.rebuild import fill, rebuild
from tests.parity.seeded import seeded_image
from utils.boxes import xyxy_to_xywh

FLOPS_SHARE = 0.01
CLEAR_WINNER = 1e-3
"""Two logits nearer than this may change places through rounding."""


def check_model(fixture: Fixture, report: Report) -> None:
    """Rebuild a fixture's model, fill it and compare everything the fixture holds."""
    graph = rebuild(fixture, report)
    check_description(graph, fixture, report)
    facts = fixture.facts
    if "eval_layers" in facts or any(name.startswith("eval_") for name in fixture.arrays):
        fill(graph, fixture)
        check_eval(graph.eval(), fixture, report)
    if "train_layers" in facts or "losses" in facts or any(name.startswith("train_") for name in fixture.arrays):
        fill(graph, fixture)
        check_train(graph.train(), fixture, report)
    for name in sorted(set(fixture.arrays) - report.seen):
        report.unread(name)


def check_description(graph: Graph, fixture: Fixture, report: Report) -> None:
    """Compare what can be said without running the model."""
    facts, exact = fixture.facts, Tolerance(1e-6, 1e-6)
    checks: dict[str, Callable[[Any], None]] = {
        "parameters": lambda published: report.same(
            "parameters", sum(p.numel() for p in graph.parameters() if p.requires_grad), published
        ),
        "gflops_640_thop": lambda published: report.within(
            "gflops_640_thop",
            sum(row.flops for row in tabulate_model(graph.spec, (640, 640))) / 1e9,
            published,
            FLOPS_SHARE,
        ),
        "savelist": lambda published: report.same("savelist", rows_kept(graph), published),
        "strides": lambda published: report.close("strides", _detect(graph).strides, published, exact),
        "anchors_over_stride": lambda published: report.close(
            "anchors_over_stride", _detect(graph).anchors, published, exact
        ),
        "bn": lambda published: report.same(
            "bn",
            sorted({(m.eps, m.momentum) for m in graph.modules() if isinstance(m, nn.BatchNorm2d)}),
            [(published["eps"], published["momentum"])],
        ),
    }
    for key, check in checks.items():
        if key in facts:
            check(facts[key])


def rows_kept(graph: Graph) -> list[int]:
    """Return the rows whose output must outlive the next row, once for each reader, as the references list them.

    A reader that says -1 takes the running value, so it keeps nothing; heads before the last row are outputs and kept.
    """
    kept = []
    for row in graph.spec.rows:
        written = row.written if row.listed else [row.written]
        kept += [source for text, source in zip(written, row.sources, strict=True) if text != -1]
    last = len(graph.spec.rows) - 1
    return sorted(kept + [index for index in graph.head_rows.values() if index != last])


def _detect(graph: Graph) -> Detect:
    return next(head for head in graph.heads.values() if isinstance(head, Detect))


def _segment(graph: Graph) -> tuple[str, SegmentationHead] | None:
    return next(((name, head) for name, head in graph.heads.items() if isinstance(head, SegmentationHead)), None)


def published_image(description: dict[str, Any]) -> Tensor:
    """Return the seeded input batch that a fixture describes."""
    if description.get("normalisation", "none") != "none":
        raise ValueError(f"inputs with the normalisation '{description['normalisation']}' are not known here")
    image = seeded_image(tuple(description["shape"]), description["seed"])
    return torch.from_numpy(image * np.float32(description.get("scale", 1)))


@contextmanager
def recorded_rows(graph: Graph) -> Iterator[dict[int, Any]]:
    """Record the output of every row while the graph runs."""
    outputs: dict[int, Any] = {}

    def keep(index: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # A copy, because a later row may activate in place.
            outputs[index] = output.detach().clone() if isinstance(output, Tensor) else output

        return hook

    handles = [row.register_forward_hook(keep(index)) for index, row in enumerate(graph.model)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def published_outputs(head: nn.Module, raw: Any, size: tuple[int, int]) -> list[Tensor]:
    """Return a row's output in the form in which a reference returns it.

    A detection row answers decoded boxes before its raw maps in eval mode; a segmentation row answers enlarged logits.
    """
    if isinstance(head, Detect):
        return list(raw) if head.training else [decoded(head, raw, size), *raw]
    if isinstance(head, SegmentationHead):
        return [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in raw]
    return [raw]


def decoded(head: Detect, raw: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Return (N, boxes, 5 + C): centre x, centre y, width, height, objectness, class probabilities."""
    found = head.predict(raw, size)
    return torch.cat((xyxy_to_xywh(found.boxes), found.objectness[..., None], found.scores), -1)


def check_layers(
    key: str, graph: Graph, rows: dict[int, Any], size: tuple[int, int], fixture: Fixture, report: Report
) -> None:
    """Compare mean, population standard deviation and shapes of every row, its outputs taken together."""
    tolerance = fixture.tolerance(key.replace("_layers", "_arrays"))
    published = fixture.facts[key]["rows"]
    report.same(f"{key} rows", sorted(rows), [row[0] for row in published])
    ours, theirs = [], []
    shapes, their_shapes = {}, {}
    for index, mean, deviation, their_shape in published:
        if index not in rows:
            continue
        outputs = published_outputs(graph.model[index], rows[index], size)
        values = np.concatenate([as_array(x).ravel() for x in outputs])
        ours.append((values.mean(), values.std()))
        theirs.append((mean, deviation))
        shapes[index], their_shapes[index] = [list(x.shape) for x in outputs], their_shape
    report.same(f"{key} shapes", shapes, their_shapes)
    for column, name in enumerate(("mean", "std")):
        report.close(f"{key} {name}", [row[column] for row in ours], [row[column] for row in theirs], tolerance)


def check_eval(graph: Graph, fixture: Fixture, report: Report) -> None:
    """Compare everything of eval mode."""
    images = published_image(fixture.facts["input"])
    size = (images.shape[2], images.shape[3])
    tolerance = fixture.tolerance("eval_arrays")
    with torch.no_grad(), recorded_rows(graph) as rows:
        raw = graph(images)
    with torch.no_grad():
        detections = decoded(_detect(graph), raw["detect"], size) if "detect" in raw else None
        if "eval_layers" in fixture.facts:
            check_layers("eval_layers", graph, rows, size, fixture, report)
        for name, published in sorted(fixture.arrays.items()):
            if name == "eval_pred" and detections is not None:
                report.close(name, detections, published, tolerance)
            elif match := re.fullmatch(r"eval_raw_(\d+)", name):
                report.close(name, raw["detect"][int(match[1])], published, tolerance)
            elif name.startswith("eval_seg"):
                check_eval_mask(name, graph, raw, size, fixture, report)


def check_eval_mask(
    name: str, graph: Graph, raw: dict[str, Any], size: tuple[int, int], fixture: Fixture, report: Report
) -> None:
    """Compare one array of the segmentation head in eval mode."""
    found = _segment(graph)
    if found is None:
        return
    head_name, head = found
    published, tolerance = fixture.arrays[name], fixture.tolerance("eval_arrays")
    logits = head.predict(raw[head_name], size).logits
    if name == "eval_seg_s8":
        report.close(name, raw[head_name][0], published, tolerance)
    elif match := re.fullmatch(r"eval_seg_sub(\d+)", name):
        step = int(match[1])
        report.close(name, logits[..., ::step, ::step], published, tolerance)
    elif name == "eval_seg_argmax":
        best = logits.topk(2, 1).values
        clear = (best[:, 0] - best[:, 1] > CLEAR_WINNER).numpy()
        wrong = (logits.argmax(1).numpy() != published) & clear
        report.same(f"{name} ({clear.mean():.2%} of pixels clear)", int(wrong.sum()), 0)
        report.seen.add(name)


def check_train(graph: Graph, fixture: Fixture, report: Report) -> None:
    """Compare everything of train mode, dropout off, and the losses on what it gives."""
    for module in graph.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = published_image(fixture.facts.get("train_input", fixture.facts["input"]))
    size = (images.shape[2], images.shape[3])
    with recorded_rows(graph) as rows:
        raw = graph(images)
    if "train_layers" in fixture.facts:
        with torch.no_grad():
            check_layers("train_layers", graph, rows, size, fixture, report)
    segment = _segment(graph)
    for name in sorted(fixture.arrays):
        check_train_array(name, graph, raw, segment, size, fixture, report)
    if "targets" in fixture.facts and "detect" in raw:
        check_assignment(_detect(graph), fixture, images.shape, report)
    losses: dict[str, Any] = dict(fixture.facts.get("losses", {}))
    pixels = losses.pop("segmentation", None)
    if pixels is not None and segment is not None:
        check_segmentation_losses(
            "segmentation ", pixels, list(raw[segment[0]]), segment[1].num_classes, images.shape, fixture, report
        )
    for variant, expected in losses.items():
        check_detection_losses(variant, expected, _detect(graph), raw["detect"], images.shape, fixture, report)


def check_train_array(
    name: str,
    graph: Graph,
    raw: dict[str, Any],
    segment: tuple[str, Head] | None,
    size: tuple[int, int],
    fixture: Fixture,
    report: Report,
) -> None:
    """Compare one array of train mode; a fixture keeps the first images of the batch only."""
    published, tolerance = fixture.arrays[name], fixture.tolerance("train_arrays")
    count = len(published)
    if match := re.fullmatch(r"train_raw_(\d+)", name):
        report.close(name, raw["detect"][int(match[1])][:count], published, tolerance)
    elif segment is not None and (match := re.fullmatch(r"train_seg(?:_aux(\d+))?_sub(\d+)", name)):
        output, step = int(match[1] or 0), int(match[2])
        full = published_outputs(graph.model[graph.head_rows[segment[0]]], raw[segment[0]], size)[output]
        report.close(name, full[:count, :, ::step, ::step], published, tolerance)
    elif match := re.match(r"(running_mean|running_var) of (\S+)", fixture.facts.get("outputs", {}).get(name, "")):
        module = graph.get_submodule(match[2])
        report.close(name, getattr(module, match[1]), published, tolerance)
