"""``python -m utils.plots labels | batches | results``: see ``utils.plots.options``."""

from __future__ import annotations

from collections.abc import Sequence

from utils.errors import run_command
from utils.logging import start_logging
from utils.plots.options import BATCHES, LABELS, parse_options


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    # Imported when it is asked for: only batches need models, which take seconds.
    if options.command == BATCHES:
        from utils.plots.batches_command import draw_batches_of as draw
    elif options.command == LABELS:
        from utils.plots.labels_command import draw_labels_of as draw
    else:
        from utils.plots.results_command import draw_results_of as draw
    draw(options)


if __name__ == "__main__":
    run_command(main)
