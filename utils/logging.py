"""Messages of the commands: plain lines on standard output, warnings marked as such."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from tqdm import tqdm


class _BarFriendlyHandler(logging.StreamHandler):
    """Writes lines above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(writable(self.format(record), sys.stdout), file=sys.stdout)
        sys.stdout.flush()


def writable(text: str, stream: TextIO) -> str:
    """Return a text with escapes for what a stream cannot write: names of files can have letters that it lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


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
