"""Messages reach standard output, whatever that can write."""

from __future__ import annotations

import io
import logging

import pytest

from utils.logging import start_logging


@pytest.mark.parametrize(("encoding", "written"), [("utf-8", "☃ \\udce9"), ("cp1252", "\\u2603 \\udce9")])
def test_letters_that_the_output_lacks_are_escaped(encoding: str, written: str, monkeypatch) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr("sys.stdout", output)
    start_logging()
    logging.getLogger("yolograph").warning("left out: %s.jpg", "☃ \udce9")
    assert output.buffer.getvalue().decode(encoding) == f"warning: left out: {written}.jpg\n"
