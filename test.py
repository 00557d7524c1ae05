"""Test a trained model: ``python test.py --weights best.safetensors --data DATA.yaml``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from utils.command_lines.testing import parse_options
from utils.errors import run_command
from utils.logging import start_logging
from utils.size_study import SizeRow, progress_of, row_of, table_of, write_sizes
from utils.testing.coco_ids import coco_ids
from utils.testing.report import head_report, table_of_heads, table_of_speeds, write_results
from utils.testing.result_writer import ResultWriter
from utils.testing.session import Session

LOGGER = logging.getLogger("yolograph")


def test(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Test, print the tables, write the files, and return the metrics of every head."""
    session = Session(options)
    folder = session.folder
    keypoints = {name: head.keypoints for name, head in session.model.heads.items()}
    writer = ResultWriter(session.names, keypoints, folder, options)
    # Before the test, so that images whose names are at fault are told at once.
    ids = coco_ids(session.datasets, options.split) if options.save_json else {}
    reports: dict[str, dict[str, Any]] = {}
    for name, head_test, evaluator in session.measure(session.options.img_size, session.options.base_size, writer):
        reports[name] = report_of(session, name, head_test, evaluator)
        # Written anew after every head, so that a run that ends early leaves what it has measured.
        write_results(folder / "results.json", {**session.conditions(), "heads": reports})
        summary = "  ".join(f"{metric} {value:.4f}" for metric, value in reports[name]["metrics"].items())
        LOGGER.info("\n%s (%s): %s", name, options.split, summary)
        LOGGER.info("%s", evaluator.table(options.verbose))
        LOGGER.info("speed of %s: %s", name, head_test.speed)
        head_test.report(head_test.loader.skipped)
        if not options.noplots:
            pictures = folder / name
            pictures.mkdir(exist_ok=True)
            evaluator.plot(pictures)
        if name in ids:
            evaluator.coco_json(folder / f"{name}_predictions.json", ids[name])
    LOGGER.info("\nall heads (%s):\n%s", options.split, table_of_heads(reports))
    LOGGER.info("\nresults in %s", folder)
    return {name: report["metrics"] for name, report in reports.items()}


def test_speed(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Time every model of ``--weights`` by itself, stage by stage, at thresholds of use; return what was measured."""
    models: dict[str, dict[str, Any]] = {}
    folder = None
    for model, weights in options.models.items():
        session = Session(options, [weights], folder)
        folder = session.folder
        reports: dict[str, dict[str, Any]] = {}
        for name, head_test, evaluator in session.measure(
            session.options.img_size, session.options.base_size, alone=True
        ):
            reports[name] = report_of(session, name, head_test, evaluator)
            head_test.report(head_test.loader.skipped)
        models[model] = {**session.conditions(), "heads": reports}
        write_results(folder / "results.json", {"task": options.task, "models": models})
    LOGGER.info("\n%s", table_of_speeds((model, found["heads"]) for model, found in models.items()))
    LOGGER.info("\nresults in %s", folder)
    return {model: found["heads"] for model, found in models.items()}


def test_sizes(options: argparse.Namespace) -> list[SizeRow]:
    """Test at every one of ``--sizes``, print a table per model and head, and return their lines.

    The files are written anew after every size, so that a run that ends early leaves what it has measured.
    """
    # A study takes every model by itself; elsewhere several of them answer together.
    models = options.models.items() if options.task == "study" else [("", options.weights)]
    rows: list[SizeRow] = []
    folder = None
    for model, weights in models:
        session = Session(options, [weights] if model else weights, folder)
        folder = session.folder
        conditions = {**session.conditions(), "weights": [str(path) for path in options.weights]}
        for size in options.sizes:
            for name, head_test, evaluator in session.measure(size, size, alone=True):
                rows.append(row_of(session.model, name, size, head_test, evaluator, model))
                # The same images at every size.
                head_test.report(head_test.loader.skipped if size == options.sizes[0] else ())
                LOGGER.info("%s", progress_of(rows[-1]))
                if options.verbose:
                    LOGGER.info("%s", evaluator.table(verbose=True))
            write_sizes(rows, folder, conditions, picture=not options.noplots)
        for name in session.datasets:
            own = [row for row in rows if (row.model, row.head) == (model, name)]
            LOGGER.info("\n%s (%s):\n%s", f"{model}: {name}" if model else name, options.split, table_of(own))
    LOGGER.info("\nresults in %s", folder)
    return rows


def report_of(session: Session, name: str, head_test: Any, evaluator: Any) -> dict[str, Any]:
    """Return what has been measured of a head at the sizes of the command line, as plain values."""
    head, options = session.model.heads[name], session.options
    labels_pixels = "masks" in head.targets
    confidence = None if labels_pixels else session.thresholds(name).conf
    size = options.base_size if labels_pixels else options.img_size
    return head_report(head.task, size, confidence, session.datasets[name].report, head_test, evaluator)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    if options.task == "speed":
        test_speed(options)
    elif options.sizes:
        test_sizes(options)
    else:
        test(options)


if __name__ == "__main__":
    run_command(main)
