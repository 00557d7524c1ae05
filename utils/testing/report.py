"""What a test says at its end: all heads in one table, and everything in ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.report import DataReport
from utils.files import atomic_write
from utils.metrics import Evaluator
from utils.text_table import UNKNOWN, format_table
from utils.validation import HeadTest, measured

SHOWN = {
    **{name: name for name in ("P", "R", "AP50", "AP", "AP75")},
    **{"AP_small": "AP_S", "AP_medium": "AP_M", "AP_large": "AP_L"},
    **{name: name for name in ("AR", "AR100", "mIoU", "mIoU_inner", "accuracy")},
}
"""The metrics that the table shows, and their titles there; the file holds all of them."""

NETWORK = ("inference", "postprocess")
"""The stages that a model itself needs."""


def head_report(
    task: str, size: int, confidence: float | None, scan: DataReport, test: HeadTest, evaluator: Evaluator
) -> dict[str, Any]:
    """Return what a test that has just run says about a head, as plain values.

    Args:
        task: of the head.
        size: of its inputs as asked for, pixels.
        confidence: least confidence of objects; None for heads that find none.
        scan: what was found when its data were scanned.
        test: of the head.
        evaluator: that has seen its results.
    """
    shapes = test.inputs.most_common(1)
    return {
        "task": task,
        "size": size,
        "commonest_input": list(shapes[0][0]) if shapes else None,
        "images": test.speed.images,
        "images_left_out": {
            "unreadable": len(scan.corrupt) + len(test.loader.skipped),
            "missing": len(scan.missing_images),
            "without_mask": len(scan.missing_masks),
        },
        "conf_thres": confidence,
        "metrics": measured(evaluator.compute()),
        "per_class": [
            {key: None if value == -1 else value for key, value in row.items()} for row in evaluator.per_class()
        ],
        "ms_per_image": {stage: round(spent, 4) for stage, spent in test.speed.milliseconds().items()},
    }


def table_of_heads(heads: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all heads as an aligned text table; a dash stands for what a head does not have or no label tells.

    Args:
        heads: by name, see ``head_report``.
    """
    shown = [name for name in SHOWN if any(name in report["metrics"] for report in heads.values())]
    rows = [
        [
            *(name, report["task"], report["images"]),
            *(report["metrics"].get(metric, UNKNOWN) for metric in shown),
            f"{sum(report['ms_per_image'][stage] for stage in NETWORK):.1f}",
        ]
        for name, report in heads.items()
    ]
    return format_table(["head", "task", "images", *(SHOWN[name] for name in shown), "ms per image"], rows)


def table_of_speeds(models: Iterable[tuple[str, Mapping[str, Mapping[str, Any]]]]) -> str:
    """Return the time of every stage of every head of some models as an aligned text table.

    Args:
        models: name of each, and its heads, see ``head_report``.
    """
    header, rows = [], []
    for model, heads in models:
        for name, report in heads.items():
            spent = report["ms_per_image"]
            total = sum(spent.values())
            header = ["model", "head", "input", "images", *(f"{stage} ms" for stage in spent), "sum ms", "images/s"]
            cells = [f"{value:.2f}" for value in (*spent.values(), total)]
            shape = "x".join(map(str, report["commonest_input"]))
            rows.append([model, name, shape, report["images"], *cells, f"{1000 / max(total, 1e-9):.1f}"])
    return format_table(header, rows)


def write_results(path: Path, results: Mapping[str, Any]) -> Path:
    """Write plain values as JSON, whole or not at all, and return the path."""
    atomic_write(path, (json.dumps(results, indent=2) + "\n").encode())
    return path
