"""Errors meant for a person: one sentence each, an exit code by kind, caught once at a command's edge."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory object",
)
"""What messages say that are about memory; the last two are oneDNN's, which computes convolutions on CPUs."""


class YolographError(Exception):
    """A job cannot go on for a reason the user can mend; the message is one sentence with the file and the mend."""

    exit_code = 1


class RunError(YolographError):
    """Something failed while a valid job was running (exit code 1)."""

    exit_code = 1


class UsageError(YolographError):
    """A command was called with arguments that do not fit (exit code 2)."""

    exit_code = 2


class DataError(YolographError):
    """A data file or a data YAML is missing or wrong (exit code 3)."""

    exit_code = 3


class ModelError(YolographError):
    """A model YAML, a recipe or a checkpoint is missing or wrong (exit code 4)."""

    exit_code = 4


class ExportError(YolographError):
    """An exported file is not what the model computes, or cannot be made (exit code 5)."""

    exit_code = 5


class DivergedError(YolographError):
    """A training run met values that are not finite again and again, also from its last good state (exit code 6)."""

    exit_code = 6


class StoppedRun(YolographError):
    """A signal ended a run; its state is saved (exit code 130, as for any interrupted command)."""

    exit_code = 130


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the choice nearest to ``name``, or an empty string when none is near."""
    near = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def run_command(main: Callable[[], None]) -> None:
    """Run a command's ``main`` and turn every failure a user can mend into one line on stderr and an exit code.

    The installation is checked first, so that a broken one does not end a long run half-way.

    Exit codes: 1 run, 2 usage, 3 data, 4 model, 5 export, 6 diverged, 130 interrupted.
    """
    # Imported here because utils.environment reports in the errors of this file.
    from utils.environment import check_environment

    try:
        check_environment()
        main()
    except YolographError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("error: there is not enough memory; take a smaller --batch-size or --img-size", file=sys.stderr)
        sys.exit(RunError.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"error: cannot write{where}: {error.strerror}; free some space or choose another folder",
            file=sys.stderr,
        )
        sys.exit(RunError.exit_code)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, PyTorch or one of its libraries could not get the memory that it asked for."""
    # PyTorch has an error class of its own for GPUs only.
    # What oneDNN says of a computation that it does not know would look like its words for too little memory.
    text = str(error).lower().replace("could not create a primitive descriptor", "")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in NO_MEMORY)
    )
