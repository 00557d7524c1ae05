"""The table of a model's rows: ``python -m models.graph CFG [--imgsz 640] [--deploy] [--json]``."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from models.fusing import reparameterise
from models.heads.base import Head
from models.operations import count_mac_based
from models.row_building import build_rows, name_heads
from models.spec import ModelSpec, load_spec
from models.trace import input_stride, require_fitting_stride, trace_rows
from utils.errors import UsageError
from utils.image_size import round_up_to_stride

CONVENTIONS = (
    "GFLOPs are counted as in the tables of YOLOv5: a multiply-accumulate is two operations. Tables of MMDetection's "
    "family, YOLO-MS among them, give the other number: a multiply-accumulate of convolutions and linear layers is 1; "
    "a value of a BatchNorm counts two, one of an enlargement one, one that goes into a global pooling one, and a "
    "prediction whose distances are distributions 4 x bins; always of the re-parameterised model, its other BatchNorms "
    "not folded."
)
WIDTH = 120
"""Columns of the text below the table."""


@dataclass(frozen=True)
class TableRow:
    """One line of the table.

    Attributes:
        n: repeats after scaling.
        params: parameters.
        flops: operations per image as YOLOv5's tables count them.
        mac_based: operations per image as those of MMDetection's family count them, after re-parameterisation.
        shape: shapes of the outputs without the batch.
        stride: input pixels per output pixel or patch.
        tokens: the layout of a row that gives no map, such as ``1+16x16+100 tokens of 192``; else None.
    """

    index: int
    source: Any
    n: int
    params: int
    flops: int
    mac_based: int
    shape: list[list[int]]
    stride: int
    module: str
    args: list[Any]
    name: str | None
    tokens: str | None = None


def tabulate_model(spec: ModelSpec, image_size: tuple[int, int] = (640, 640), deploy: bool = False) -> list[TableRow]:
    """Return one entry per row of a model, measured without allocating memory.

    Args:
        spec: the model.
        image_size: height and width in pixels.
        deploy: whether parameters and operations are those of the re-parameterised model, its BatchNorms not folded.
    """
    with torch.device("meta"):
        built = build_rows(spec)
        deployed = [reparameterise(made.module) for made in build_rows(spec)]
    heads = {index: name for name, index in name_heads(spec, built).items()}
    traces = trace_rows(spec, deployed if deploy else [made.module for made in built], image_size)
    mac_based = trace_rows(spec, deployed, image_size, count_mac_based)
    return [
        TableRow(
            index=row.index,
            source=row.written,
            n=spec.scale.repeats(row.number),
            params=trace.parameters,
            flops=trace.flops,
            mac_based=other.flops,
            shape=[list(shape[1:]) for shape in trace.shapes],
            stride=trace.stride,
            module=row.module,
            args=_shown_args(made.module, row.args),
            name=heads.get(row.index, row.name),
            tokens=trace.layout,
        )
        for row, made, trace, other in zip(spec.rows, built, traces, mac_based, strict=True)
    ]


def _shown_args(module: nn.Module, args: list[Any]) -> list[Any]:
    """Return the arguments as shown: a head's anchors are long, so only their number is given."""
    if isinstance(module, Head):
        args = [f"{len(arg)} levels" if isinstance(arg, list) and len(arg) > 1 else arg for arg in args]
    if args and isinstance(args[-1], dict):
        args = [*args[:-1], {key: _shown_option(value) for key, value in args[-1].items()}]
    return args


def _shown_option(value: Any) -> Any:
    return f"{len(value)} entries" if isinstance(value, list) and len(value) > 4 else value


def format_table(rows: list[TableRow], image_size: tuple[int, int], deploy: bool = False) -> str:
    """Return the table as text, totals last, and how operations are counted."""
    header = ["row", "from", "n", "params", "GFLOPs", "output", "stride", "module", "args", "name"]
    lines = [header]
    for row in rows:
        shape = row.tokens or " ".join("x".join(str(side) for side in output) for output in row.shape)
        cells = [row.index, row.source, row.n, f"{row.params:,}", f"{row.flops / 1e9:.3f}", shape]
        lines.append([str(c) for c in (*cells, f"1/{row.stride}", row.module, row.args, row.name or "")])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numeric = {0, 2, 3, 4, 6}
    text = [
        "  ".join(c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    totals = totals_of(rows)
    height, width = image_size
    total = (
        f"{len(rows)} rows, {totals['parameters']:,} parameters{' after re-parameterisation' if deploy else ''}, "
        f"{totals['flops'] / 1e9:.2f} GFLOPs at {height}x{width}; "
        f"{totals['mac_based'] / 1e9:.2f} G ({totals['mac_based']:,}) as tables of MMDetection's family count"
    )
    return "\n".join([*(line.rstrip() for line in text), total, *textwrap.wrap(CONVENTIONS, WIDTH)])


def totals_of(rows: list[TableRow]) -> dict[str, int]:
    """Return parameters and operations, counted in both ways, of all rows together."""
    return {
        "parameters": sum(row.params for row in rows),
        "flops": sum(row.flops for row in rows),
        "mac_based": sum(row.mac_based for row in rows),
    }


def require_multiples(spec: ModelSpec, image_size: tuple[int, int]) -> None:
    """Refuse a size at which the model's levels would not fit together.

    Raises:
        UsageError: height or width is no multiple of its largest stride.
    """
    with torch.device("meta"):
        modules = [made.module for made in build_rows(spec)]
    traces = trace_rows(spec, modules)
    require_fitting_stride(spec, modules, traces)
    stride = input_stride(spec, traces)
    for side in image_size:
        if side % stride:
            fitting = round_up_to_stride(side, stride)
            raise UsageError(f"--imgsz {side}: {spec.source} takes multiples of {stride} pixels, such as {fitting}")


def main() -> None:
    """Print the table of the model that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph", description="Print a model's rows: shapes, strides, parameters, operations."
    )
    parser.add_argument("cfg", help="model YAML: a path, or the name of a file below models/configs")
    parser.add_argument(
        "--imgsz", nargs="+", type=int, default=[640], help="input size in pixels: one, or height width"
    )
    parser.add_argument("--deploy", action="store_true", help="parameters and operations of the re-parameterised model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args()
    if len(args.imgsz) > 2 or min(args.imgsz) < 32:
        raise UsageError("--imgsz takes one size or a height and a width, each 32 or more")
    size = (args.imgsz[0], args.imgsz[-1])
    spec = load_spec(args.cfg)
    require_multiples(spec, size)
    rows = tabulate_model(spec, size, args.deploy)
    if args.json:
        found = {"model": spec.source, "image_size": size, "deploy": args.deploy, **totals_of(rows)}
        print(json.dumps({**found, "conventions": CONVENTIONS, "rows": [asdict(row) for row in rows]}))
    else:
        print(format_table(rows, size, args.deploy))
