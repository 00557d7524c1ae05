"""Messages of the commands: plain lines on standard output, warnings marked as such."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm


class _BarFriendlyHandler(logging.StreamHandler):
    """Writes lines above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


class _MarkedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


def start_logging(level: int = logging.INFO) -> None:
    """Send the project's messages to standard output; calling it again changes nothing."""
    logger = logging.getLogger("yolograph")
    logger.setLevel(level)
    if not logger.handlers:
        handler = _BarFriendlyHandler()
        handler.setFormatter(_MarkedFormatter())
        logger.addHandler(handler)
        logger.propagate = False
