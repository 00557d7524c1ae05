"""A missing permission in one sentence, wherever a look at the files of a data set meets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from utils.errors import DataError


@contextmanager
def permissions_named(source: object) -> Iterator[None]:
    """Raise DataError where the system refuses to look at a file or a folder.

    Args:
        source: what asks for it, such as a data YAML; it begins the message.
    """
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{source}: no access to {error.filename} ({error.strerror}); mend its permissions") from None
