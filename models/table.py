"""The table of a model's rows: ``python -m models.graph CFG [--imgsz 640] [--json]``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from models.graph import build_rows, name_heads
from models.heads.base import Head
from models.spec import ModelSpec, load_spec
from models.trace import trace_rows
from utils.errors import UsageError


@dataclass(frozen=True)
class TableRow:
    """One line of the table; ``n`` is the number of repeats after scaling, ``flops`` per image."""

    index: int
    source: Any
    n: int
    params: int
    flops: int
    shape: list[list[int]]
    stride: int
    module: str
    args: list[Any]
    name: str | None


def tabulate_model(spec: ModelSpec, image_size: tuple[int, int] = (640, 640)) -> list[TableRow]:
    """Return one entry per row of a model, measured without allocating memory.

    Args:
        spec: the model.
        image_size: height and width in pixels.
    """
    with torch.device("meta"):
        built = build_rows(spec)
    heads = {index: name for name, index in name_heads(spec, built).items()}
    traces = trace_rows(spec, [made.module for made in built], image_size)
    return [
        TableRow(
            index=row.index,
            source=row.written,
            n=spec.scale.repeats(row.number),
            params=trace.parameters,
            flops=trace.flops,
            shape=[list(shape[1:]) for shape in trace.shapes],
            stride=trace.stride,
            module=row.module,
            args=_shown_args(made.module, row.args),
            name=heads.get(row.index, row.name),
        )
        for row, made, trace in zip(spec.rows, built, traces, strict=True)
    ]


def _shown_args(module: nn.Module, args: list[Any]) -> list[Any]:
    """Return the arguments as shown: a head's anchors are long, so only their number is given."""
    if not isinstance(module, Head):
        return args
    return [f"{len(arg)} levels" if isinstance(arg, list) and len(arg) > 1 else arg for arg in args]


def format_table(rows: list[TableRow], image_size: tuple[int, int]) -> str:
    """Return the table as text, totals last."""
    header = ["row", "from", "n", "params", "GFLOPs", "output", "stride", "module", "args", "name"]
    lines = [header]
    for row in rows:
        shape = " ".join("x".join(str(side) for side in output) for output in row.shape)
        cells = [row.index, row.source, row.n, f"{row.params:,}", f"{row.flops / 1e9:.3f}", shape]
        lines.append([str(c) for c in (*cells, f"1/{row.stride}", row.module, row.args, row.name or "")])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numeric = {0, 2, 3, 4, 6}
    text = [
        "  ".join(c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    params, flops = sum(row.params for row in rows), sum(row.flops for row in rows)
    height, width = image_size
    total = f"{len(rows)} rows, {params:,} parameters, {flops / 1e9:.2f} GFLOPs at {height}x{width}"
    return "\n".join([*(line.rstrip() for line in text), total])


def main() -> None:
    """Print the table of the model that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph", description="Print a model's rows: shapes, strides, parameters, operations."
    )
    parser.add_argument("cfg", help="model YAML: a path, or the name of a file below models/configs")
    parser.add_argument(
        "--imgsz", nargs="+", type=int, default=[640], help="input size in pixels: one, or height width"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args()
    if len(args.imgsz) > 2 or min(args.imgsz) < 32:
        raise UsageError("--imgsz takes one size or a height and a width, each 32 or more")
    size = (args.imgsz[0], args.imgsz[-1])
    spec = load_spec(args.cfg)
    rows = tabulate_model(spec, size)
    if args.json:
        totals = {"parameters": sum(row.params for row in rows), "flops": sum(row.flops for row in rows)}
        print(json.dumps({"model": spec.source, "image_size": size, **totals, "rows": [asdict(row) for row in rows]}))
    else:
        print(format_table(rows, size))
