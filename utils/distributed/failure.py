"""How a run of several processes ends when one of them fails: all end, and one of them says why.

The first process that fails leaves a note where all processes look; only it may speak. What the others then see, mostly
a broken connection, is a consequence: they end in silence with the same exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import torch.distributed as dist

from utils.errors import RunError, YolographError, is_out_of_memory

NOTE = "failure"
INTERRUPTED = 130


class LostProcess(RunError):
    """The connection to another process of the run broke, or it did not answer in time (exit code 1)."""


class FailureNote:
    """The note that the first failing process of a run leaves for the others.

    Args:
        store: shared by the processes of this start of the run, and by nobody else.
        rank: of this process.
    """

    def __init__(self, store: dist.Store, rank: int) -> None:
        self._store, self._rank = store, rank

    def leave(self, exit_code: int) -> tuple[bool, int]:
        """Leave the note, unless there is one already.

        Returns:
            Whether this process is the first that failed, and the exit code of the first.
        """
        own = json.dumps([self._rank, exit_code])
        try:
            found = self._store.compare_set(NOTE, "", own)
        except RuntimeError:
            # The store went down with the process that hosts it, so nobody else can speak.
            return True, exit_code
        rank, code = json.loads(found)
        return rank == self._rank, int(code)

    def raise_if_left(self) -> None:
        """End this process if another one has failed.

        Raises:
            LostProcess: it has, or where the processes meet is gone.
        """
        try:
            left = self._store.check([NOTE])
        except RuntimeError:
            left = True
        if left:
            raise _lost()


_LOST = (
    "another process of this run ended before its work was done and left no word; torchrun's own lines below tell "
    "which, and a kill by the system (-9) is most often a lack of memory"
)


def _lost() -> LostProcess:
    """Return the error, and let nothing but a kill end this process before it has spoken.

    As soon as torchrun sees one process gone it sends SIGTERM to the others, which end by themselves now.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return LostProcess(_LOST)


@contextmanager
def told_when_broken() -> Iterator[None]:
    """Let a broken connection to another process appear as what it is.

    Raises:
        LostProcess: an exchange between processes failed within this context.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            # This process's own trouble: the exchange needs room for all gradients.
            raise
        raise _lost() from error


@contextmanager
def one_voice(note: FailureNote) -> Iterator[None]:
    """Let whatever ends this process end all of them, with one voice.

    The first failure goes on to whoever reports it. In every other process it becomes a silent ``SystemExit`` with the
    same exit code.
    """
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        is_first, code = note.leave(_exit_code(error))
        if is_first:
            _tell_torchrun(error)
            raise
        raise SystemExit(code) from None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, YolographError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return RunError.exit_code


def _tell_torchrun(error: BaseException) -> None:
    """Write the sentence where torchrun's summary of failures takes it from."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return
    is_sentence = isinstance(error, YolographError)
    text = str(error) if is_sentence else "".join(traceback.format_exception(error))
    message = {"message": text, "extraInfo": {"py_callstack": text, "timestamp": str(int(time.time()))}}
    with suppress(OSError):
        Path(path).write_text(json.dumps({"message": message}), encoding="utf-8")


@contextmanager
def spoken_once() -> Iterator[None]:
    """Within this context, which is for what all processes do alike before ``start_world``, only the first one speaks.

    A mistake in the command line would otherwise be printed once per process.
    """
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except YolographError as error:
            sys.exit(error.exit_code)
