"""The folder of a prepared set: it appears when all of it is written, and shares the pictures of its source."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UsageError


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write into, which is named ``out`` when the block has ended well and removed when it has not.

    Args:
        out: the folder to make; it may exist if it is empty.

    Yields:
        The folder that holds the result meanwhile, beside ``out``.

    Raises:
        UsageError: ``out`` holds files already, or a file stands where a folder is needed.
    """
    if out.name in ("", ".."):
        raise UsageError(f"--out {out} has no name of its own; give a new folder, such as {out / 'set'}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is there already; remove it or choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--out {out} lies below a file; choose another folder") from None
    partial = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        yield partial
        if out.exists():
            out.rmdir()
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` another name of the file ``source``, or a copy where the file system refuses that."""
    # The file itself: another name of a symbolic link would point elsewhere from another folder.
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
