"""One model at several input sizes: accuracy, time and cost of each, as a table, as files and as a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.inference import Inference
from models.row_building import build_rows
from models.row_kinds import Kind
from models.row_use import needed_rows, runs_of_rows
from models.trace import trace_rows
from utils.files import atomic_write
from utils.plots.sizes import plot_sizes, plot_trade_off
from utils.text_table import format_table
from utils.validation import HeadTest, measured

TABLE_METRICS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP_small": "AP_S",
    "AP_medium": "AP_M",
    "AP_large": "AP_L",
    "AR": "AR",
    "mIoU": "mIoU",
    "mIoU_inner": "mIoU_inner",
    "accuracy": "accuracy",
}
"""The metrics that the table and the picture show, by their names there; the files hold all of them."""
UNKNOWN = "-"


@dataclass(frozen=True)
class Cost:
    """What a head's answer for one input costs.

    Attributes:
        tokens: length of the longest sequence of tokens, or None for networks without any.
        gflops: operations in billions, a multiply-add counting as two; None where several passes or models answer.
    """

    tokens: int | None = None
    gflops: float | None = None


@dataclass(frozen=True)
class SizeRow:
    """One head at one size.

    Attributes:
        head: its name.
        size: as asked for, pixels.
        shape: (height, width) of the commonest input at that size, which the cost is about.
        images: number of images.
        cost: of that input.
        milliseconds: per image, by stage, over all images.
        metrics: as the head's evaluator reports them, without those that no label can tell.
        model: name of the model where several are studied, else empty.
    """

    head: str
    size: int
    shape: tuple[int, int]
    images: int
    cost: Cost
    milliseconds: dict[str, float]
    metrics: dict[str, float]
    model: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return one flat record: sizes in pixels, times in milliseconds per image, metrics 0..1."""
        return {
            **({"model": self.model} if self.model else {}),
            "head": self.head,
            "size": self.size,
            "input_height": self.shape[0],
            "input_width": self.shape[1],
            "images": self.images,
            "tokens": self.cost.tokens,
            "gflops": None if self.cost.gflops is None else round(self.cost.gflops, 4),
            **{f"{stage}_ms": round(spent, 4) for stage, spent in self.milliseconds.items()},
            **self.metrics,
        }


def row_of(model: Inference, name: str, size: int, test: HeadTest, evaluator: Any, model_name: str = "") -> SizeRow:
    """Return what a test that has just run says about a size.

    Args:
        model: what was tested.
        name: of the head.
        size: as asked for, pixels.
        test: of the head; knows its speed and the inputs.
        evaluator: that has seen its results.
        model_name: where several models are studied.
    """
    shape, _ = test.inputs.most_common(1)[0]
    spent = test.speed.milliseconds()
    milliseconds = {stage: spent[stage] for stage in ("inference", "postprocess")}
    return SizeRow(
        name,
        size,
        shape,
        test.speed.images,
        cost_of(model, name, shape),
        milliseconds,
        measured(evaluator.compute()),
        model_name,
    )


def cost_of(model: Inference, name: str, shape: tuple[int, int]) -> Cost:
    """Return the cost of one head's answer for one input, without running it.

    Args:
        model: what answers; of several models together, the tokens are those of the first.
        name: of the head.
        shape: (height, width) of the input, multiples of the stride.
    """
    graph = model.graphs[0]
    with torch.device("meta"):
        modules = [made.module for made in build_rows(graph.spec)]
    traces = trace_rows(graph.spec, modules, shape)
    rows = needed_rows(graph.spec, [graph.head_rows[name]])
    lengths = [traces[row].shapes[0][1] for row in rows if traces[row].kind in (Kind.TOKENS, Kind.MEMORY)]
    tokens = max(lengths, default=None)
    if len(model.graphs) > 1 or any(not each.plain for each in model.passes):
        return Cost(tokens)
    # A row that every head runs for itself is counted for each of them; here is one.
    runs = runs_of_rows(graph.spec, graph.head_rows)
    return Cost(tokens, sum(traces[row].flops / runs[row] for row in rows) / 1e9)


def progress_of(row: SizeRow) -> str:
    """Return a size in one line, for whoever waits for the next one."""
    metrics = "  ".join(f"{TABLE_METRICS[name]} {row.metrics[name]:.4f}" for name in _shown_metrics([row]))
    name = f"{row.model}: {row.head}" if row.model else row.head
    return f"{name} at {row.size}: {metrics}  {sum(row.milliseconds.values()):.1f} ms per image"


def table_of(rows: Sequence[SizeRow]) -> str:
    """Return the sizes of one head of one model as an aligned text table; what is not known is a dash.

    Args:
        rows: of one head.
    """
    shown = _shown_metrics(rows)
    has_tokens = any(row.cost.tokens is not None for row in rows)
    has_operations = any(row.cost.gflops is not None for row in rows)
    stages = list(rows[0].milliseconds)
    header = ["size", "input", *["tokens"] * has_tokens, *["GFLOPs"] * has_operations]
    header += [TABLE_METRICS[name] for name in shown] + [f"{stage} ms" for stage in stages]
    lines = []
    for row in rows:
        line: list[Any] = [str(row.size), "x".join(map(str, row.shape))]
        line += [row.cost.tokens if row.cost.tokens is not None else UNKNOWN] * has_tokens
        line += [f"{row.cost.gflops:.4g}" if row.cost.gflops is not None else UNKNOWN] * has_operations
        line += [row.metrics.get(name, UNKNOWN) for name in shown]
        lines.append(line + [f"{row.milliseconds[stage]:.1f}" for stage in stages])
    return format_table(header, lines)


def write_sizes(rows: Sequence[SizeRow], folder: Path, conditions: Mapping[str, Any], picture: bool) -> list[Path]:
    """Write ``sizes.csv``, ``sizes.json``, ``sizes.png`` and, of a study, ``study.png``, each whole or not at all.

    Args:
        rows: of all heads and models.
        folder: where to; must exist.
        conditions: what was measured and how, as plain values; they go into the JSON.
        picture: whether to draw.

    Returns:
        The files.
    """
    plain = [row.to_plain() for row in rows]
    columns = list(dict.fromkeys(name for record in plain for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in record.items()} for record in plain)
    files = [folder / "sizes.csv", folder / "sizes.json"]
    atomic_write(files[0], text.getvalue().encode())
    atomic_write(files[1], json.dumps({**conditions, "sizes": plain}, indent=2).encode())
    if picture:
        shown = {name: TABLE_METRICS[name] for name in _shown_metrics(rows)}
        files.append(plot_sizes(plain, shown, folder))
        if any(row.model for row in rows):
            files.append(plot_trade_off(plain, shown, folder))
    return files


def _shown_metrics(rows: Sequence[SizeRow]) -> list[str]:
    return [name for name in TABLE_METRICS if any(name in row.metrics for row in rows)]
