"""Failures a user can mend are one line and an exit code; others keep their traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from utils.errors import DataError, ExportError, ModelError, RunError, UsageError, did_you_mean, run_command


def failing(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RunError("a"), 1, "error: a"),
        (UsageError("b"), 2, "error: b"),
        (DataError("c"), 3, "error: c"),
        (ModelError("d"), 4, "error: d"),
        (ExportError("e"), 5, "error: e"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "free some space or choose another folder"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs"), 1, "cannot write at /runs"),
        (MemoryError(), 1, "smaller --batch-size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "smaller --batch-size"),
    ],
)
def test_one_line_and_the_code_of_its_kind(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(failing(error))
    assert ended.value.code == code
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("bug"), RuntimeError("bug"), OSError(errno.EIO, "bug")])
def test_what_nobody_can_mend_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="bug"):
        run_command(failing(error))


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("Detct", ["Detect", "Conv"]) == " Did you mean 'Detect'?"
    assert did_you_mean("x", ["Detect", "Conv"]) == ""
