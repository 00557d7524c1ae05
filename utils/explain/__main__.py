"""``python -m utils.explain attention | tokens``: see ``utils.explain``."""

from __future__ import annotations

from collections.abc import Sequence

from utils.errors import run_command
from utils.explain.attention_command import explain_attention
from utils.explain.options import ATTENTION, parse_options
from utils.explain.tokens_command import explain_tokens
from utils.logging import start_logging


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    start_logging()
    options = parse_options(arguments)
    explain = explain_attention if options.command == ATTENTION else explain_tokens
    explain(options)


if __name__ == "__main__":
    run_command(main)
