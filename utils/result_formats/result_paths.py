"""Where result files go, so that no two sources of a run write to one file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import UniqueNames, short_name
from utils.result_formats.found_picture import FoundPicture

_NUMBER = re.compile(r"_\d+(?=_|\Z)")


class ResultPaths:
    """Gives every source a stem of its own, and every result file of a picture a name of its own in its folder.

    Files about frames of ``clip`` are called ``clip_7.txt`` or ``clip_7_colour.png``. Their names are not remembered,
    because a stream has no last frame. They are those of no other source, because its own frames have its own stem
    before their numbers, and because of ``clip.mp4`` and ``clip_1.png`` the video becomes ``clip_2``: still images are
    named before videos and streams.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stems = UniqueNames()
        self._beginnings: set[str] = set()
        self._files: dict[str, UniqueNames] = defaultdict(UniqueNames)

    def take_still(self, stem: str) -> str:
        """Return and reserve the stem of a still image."""
        taken = self._stems.take(short_name(stem))
        self._beginnings |= _beginnings(taken)
        return taken

    def take_moving(self, stem: str) -> str:
        """Return and reserve the stem of a video or stream."""
        stem = short_name(stem)
        taken = self._stems.take(stem)
        while taken.casefold() in self._beginnings:
            taken = self._stems.take(stem)
        return taken

    def path(self, below: str, name: str, picture: FoundPicture) -> Path:
        """Return the path of a file of one picture; its folder is made.

        Args:
            below: folder within that of the run.
            name: of the file, which gets a number if that of another still image is called so.
            picture: that the file is about.
        """
        (self.folder / below).mkdir(parents=True, exist_ok=True)
        if picture.frame is None:
            name = self._files[below.casefold()].take(name)
        return self.folder / below / name


def folder_name(kind: str, head: str, heads: Mapping[str, Any]) -> str:
    """Return ``labels``, or ``labels_HEAD`` where several heads give the same kind of result."""
    return kind if len(heads) == 1 else f"{kind}_{head}"


def _beginnings(stem: str) -> set[str]:
    """Return what stands before a number in a stem, in lower case: of ``a_1_2`` that is ``a`` and ``a_1``."""
    return {stem[: match.start()].casefold() for match in _NUMBER.finditer(stem)}
