"""Names of pictures inside label files: they lead to a place below the folder of images, or are refused."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")


def leads_outside(name: str) -> bool:
    """Return whether a name is no way down from a folder, on any system: absolute, with a drive, or with ``..``.

    Label files come from elsewhere; one of them must not choose which file of this machine is read or written.

    Example:
        >>> leads_outside("city/a.jpg"), leads_outside("../a.jpg"), leads_outside("/a.jpg"), leads_outside("a..b.jpg")
        (False, True, True, False)
    """
    if name[:1] in ("/", "\\") or _DRIVE.match(name):
        return True
    return ".." in name and ".." in _SEPARATORS.split(name)


def may_be_a_path(name: str) -> bool:
    """Return whether the system can be asked for a file of this name."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return bool(name) and "\0" not in name
