"""``python -m utils.plots labels | batches | results``: see ``utils.plots.options``."""

from __future__ import annotations

from collections.abc import Sequence

from utils.errors import run_command
from utils.logging import start_logging
from utils.plots.batches_command import draw_batches_of
from utils.plots.labels_command import draw_labels_of
from utils.plots.options import BATCHES, LABELS, RESULTS, parse_options
from utils.plots.results_command import draw_results_of

COMMANDS = {LABELS: draw_labels_of, BATCHES: draw_batches_of, RESULTS: draw_results_of}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    COMMANDS[options.command](options)


if __name__ == "__main__":
    run_command(main)
