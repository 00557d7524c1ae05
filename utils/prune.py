"""Set weights of a trained model to zero: ``python -m utils.prune --weights FILE --amount 0.3``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.task_data import SPLITS
from models.checkpoint import Checkpoint, save_checkpoint
from models.graph import Graph
from models.weights import build_model, load_weights, require_trained_form
from utils.command_lines.inference import require_at_least
from utils.devices import select_device
from utils.errors import ModelError, UsageError, did_you_mean, run_command
from utils.files import atomic_write
from utils.image_size import require_possible_sizes
from utils.logging import start_logging
from utils.pruning.accuracy import Accuracy, accuracy_table
from utils.pruning.methods import LAYER, MODEL, SCOPES, prune_channels, prune_values
from utils.pruning.prunable import prunable_weights
from utils.pruning.sparsity import Sparsity, sparsity_by_row, sparsity_table
from utils.training.named_rows import row_names, rows_named

LOGGER = logging.getLogger("yolograph")
STALE = ("options", "ema_updates", "exported")
"""What a checkpoint knows for going on with its run, and of its check, which is no longer true of a pruned model."""
STRUCTURED = "structured"
METHODS = {
    LAYER: "values by magnitude, the same share of every layer",
    MODEL: "values by magnitude, wherever they are",
    STRUCTURED: "channels by L2 norm, the same share of every layer",
}
"""What a checkpoint says of how it was pruned."""

EPILOG = """examples:
  python -m utils.prune --weights best.safetensors
  python -m utils.prune --weights best.safetensors --amount 0.3 --data my_data.yaml
  python -m utils.prune --weights yolov5n.pt --amount 0.3 --scope model --output sparse.safetensors
  python -m utils.prune --weights best.safetensors --amount 0.1 --structured --rows backbone --json pruned.json

Zeros stay at their places in the file, so a pruned model is as large and as fast as before; what packs files or skips
zeros gains from it. Training begins with it as with any weights, and fills the zeros again.

exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 the data are at fault, 4 the model is at fault"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.prune",
        description="Set the smallest weights of a model's convolutions and linear layers to zero for good, and say "
        "how many zeros every row has. Without --amount only that is said, and nothing is written.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("pruning").add_argument
    add("--weights", required=True, help="checkpoint, ours or an official one")
    add("--amount", type=float, help="share of the weights that become zero, above 0 and below 1")
    add(
        "--scope",
        choices=SCOPES,
        help="whether every layer loses this share of its weights, or the model the smallest of all its weights, "
        f"wherever they are (default: {LAYER})",
    )
    add(
        "--structured",
        action="store_true",
        help="take out whole output channels of every layer, those with the smallest L2 norms, in place of single "
        "weights; the last layers of heads, whose channels are the answers, keep all",
    )
    add(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="only these rows: numbers, ranges such as 0-9, names of rows and heads, backbone, neck or head",
    )
    add("--output", metavar="FILE", help="where to (default: NAME_pruned.safetensors beside the weights)")
    add("--json", metavar="FILE", help="write the zeros of every row and the metrics to this file, too")
    add = parser.add_argument_group("AP and mIoU before and after").add_argument
    add("--data", help="data YAML: a path or a name in data/configs; without it nothing is measured")
    add("--segdata", help="segmentation data in place of the YAML's: a root folder or another data YAML")
    add("--split", default="val", choices=SPLITS, help="of the data (default %(default)s)")
    add("--heads", nargs="+", help="measure only these heads (default: all that have data)")
    add("--img-size", "--imgsz", type=int, default=640, help="of inputs for objects, pixels (default %(default)s)")
    add("--base-size", type=int, help="of inputs for labelled pixels (default: --img-size)")
    add("--batch-size", type=int, default=16, help="images per batch (default %(default)s)")
    add("--workers", type=int, default=8, help="worker processes, at most one per core (default %(default)s)")
    add("--device", default="", help="cpu, or the number of a GPU (default: the first GPU, else the CPU)")
    return parser


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or two options do not go together.
    """
    options = build_parser().parse_args(arguments)
    if options.amount is None:
        _refuse(options, ("structured", "scope", "rows", "output", "data"), "is about pruning, and needs --amount")
    elif not 0 < options.amount < 1:
        raise UsageError(f"--amount must be above 0 and below 1, but is {options.amount:g}")
    if options.data is None:
        _refuse(options, ("segdata", "heads"), "is about measuring, and needs --data")
    if options.structured and options.scope == MODEL:
        raise UsageError("--scope model compares single weights of all layers; leave it or --structured out")
    require_possible_sizes("--img-size", [options.img_size])
    if options.base_size is None:
        options.base_size = options.img_size
    require_possible_sizes("--base-size", [options.base_size])
    require_at_least(options, batch_size=1, workers=0)
    options.scope = options.scope or LAYER
    # What the data of a test may be counted as; here they are what they are.
    options.single_cls = False
    if options.amount is not None:
        options.output = _output_path(options)
    _require_place("--json", options.json)
    return options


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(options, name):
            raise UsageError(f"--{name} {reason}; give both or leave it out")


def _output_path(options: argparse.Namespace) -> Path:
    """Return where the pruned model goes.

    Raises:
        UsageError: it is no place for it.
    """
    weights = Path(options.weights)
    path = Path(options.output or weights.parent / f"{weights.stem}_pruned.safetensors")
    if path.suffix != ".safetensors":
        raise UsageError(f"--output {path}: checkpoints are .safetensors files; give it that ending")
    if path.resolve() == weights.resolve():
        raise UsageError(f"--output {path}: is the file of --weights, which is kept; choose another name")
    _require_place("--output", path)
    return path


def _require_place(option: str, path: str | Path | None) -> None:
    """Make sure that a file can be written.

    Raises:
        UsageError: it is a folder, or in none.
    """
    if path is not None and Path(path).is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")
    if path is not None and not Path(path).resolve().parent.is_dir():
        raise UsageError(f"{option} {path}: its folder does not exist; make it first")


def require_finite(graph: Graph, path: str) -> None:
    """Refuse weights that have no order of magnitude.

    Raises:
        ModelError: a weight is not finite.
    """
    bad = next((weight.name for weight in prunable_weights(graph) if not weight.value.isfinite().all()), None)
    if bad is not None:
        raise ModelError(f"{path}: the weight {bad} is not finite; take the file of an earlier epoch")


def chosen_rows(graph: Graph, entries: Sequence[str]) -> list[int]:
    """Return the rows that ``--rows`` means.

    Raises:
        UsageError: there is no such row.
    """
    rows: list[int] = []
    for entry in entries:
        try:
            found = rows_named(graph, entry)
        except ValueError as error:
            raise UsageError(f"--rows {entry}: {error}") from None
        if found is None:
            raise UsageError(f"--rows {entry}: no row has that name.{did_you_mean(entry, row_names(graph))}")
        rows += found
    return rows


def prune_graph(graph: Graph, options: argparse.Namespace) -> None:
    """Prune a model in place as the options say.

    Raises:
        UsageError: the chosen rows have nothing that could be pruned.
    """
    rows = None if options.rows is None else chosen_rows(graph, options.rows)
    weights = prunable_weights(graph, rows)
    if options.structured:
        weights = prune_channels(weights, options.amount)
    elif weights:
        prune_values(weights, options.amount, options.scope)
    if not weights:
        where = f"--rows {' '.join(options.rows)}" if options.rows else graph.spec.source
        what = "channels that may be missing" if options.structured else "convolutions or linear layers"
        raise UsageError(f"{where}: has no {what}, so there is nothing to prune; choose other rows")


def pruned_checkpoint(checkpoint: Checkpoint, graph: Graph, options: argparse.Namespace) -> Checkpoint:
    """Return a checkpoint with the weights of a pruned graph, for use and not for going on with its run."""
    kind = STRUCTURED if options.structured else options.scope
    said = {"amount": options.amount, "method": METHODS[kind], "from": Path(options.weights).name}
    if options.rows is not None:
        said["rows"] = " ".join(options.rows)
    kept = {key: value for key, value in checkpoint.progress.items() if key not in STALE}
    return replace(checkpoint, tensors={"model": graph.state_dict()}, progress={**kept, "pruned": said})


def show_sparsity(graph: Graph) -> dict[str, Any]:
    """Print how many zeros a model has, and return it as plain values."""
    rows, total = sparsity_by_row(graph), Sparsity.of(prunable_weights(graph))
    LOGGER.info("%s", sparsity_table(graph, rows, total))
    parameters = sum(parameter.numel() for parameter in graph.parameters())
    LOGGER.info("that is %.1f %% of all %s parameters", 100 * total.zeros / parameters, f"{parameters:,}")
    dead = [row for row, found in rows.items() if found.zeros == found.weights]
    if dead:
        LOGGER.warning("nothing but zeros is left in the rows %s", ", ".join(map(str, dead)))
    plain = [{"row": row, "module": graph.spec.rows[row].module, **found.to_plain()} for row, found in rows.items()]
    return {"parameters": parameters, **total.to_plain(), "rows": plain}


@torch.no_grad()
def prune_model(options: argparse.Namespace) -> dict[str, Any]:
    """Prune, print the zeros and the metrics, write the model, and return what was found as plain values."""
    checkpoint = load_weights(options.weights)
    graph = build_model(checkpoint, options.weights)
    require_finite(graph, options.weights)
    if options.structured:
        # Norms that are folded into biases would give any constant for an empty channel.
        require_trained_form(checkpoint, options.weights)
    found: dict[str, Any] = {"weights": str(options.weights), "amount": options.amount}
    if options.amount is None:
        return {**found, "sparsity": show_sparsity(graph)}
    accuracy = Accuracy(graph, options, select_device(options.device)) if options.data else None
    before = accuracy.of(graph) if accuracy else {}
    prune_graph(graph, options)
    pruned = pruned_checkpoint(checkpoint, graph, options)
    found |= pruned.progress["pruned"] | {"sparsity": show_sparsity(graph)}
    if accuracy:
        after = accuracy.of(graph)
        found["metrics"] = {"before": before, "after": after}
        LOGGER.info("\n%s", accuracy_table(before, after))
    save_checkpoint(options.output, pruned)
    LOGGER.info("\nwrote %s (%.1f MB)", options.output, options.output.stat().st_size / 1e6)
    return {**found, "output": str(options.output)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    found = prune_model(options)
    if options.json is not None:
        atomic_write(options.json, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
