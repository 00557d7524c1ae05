"""The end of a run: without a result it has failed, unless the user has ended it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from utils.detecting.report import plural, report
from utils.errors import DataError


def test_no_result_is_an_error_unless_the_user_has_ended_the_run() -> None:
    run = SimpleNamespace(images=0, videos=0, streams=0, inputs=2, interrupted=True)
    report(run, "photos")
    run.interrupted = False
    with pytest.raises(DataError, match="photos: not one of the 2 inputs can be read"):
        report(run, "photos")


def test_numbers_of_things() -> None:
    assert [plural(count, "frame") for count in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
