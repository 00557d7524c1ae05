"""What a format of object labels offers; ``data.formats.registry`` lists the formats by name.

A ``PictureFormat`` has one label file per picture, a ``SplitFormat`` one file for all pictures of a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from data.annotations import AnnotatedPicture, ClassList, Objects


class PictureFormat(Protocol):
    """One label file per picture.

    Attributes:
        name: what a data YAML and the command line call the format.
        names_inside: whether the files hold class names; otherwise they hold indices into the set's list of names.
    """

    name: str
    names_inside: bool

    def label_file(self, image: Path, images: Path, labels: Path) -> Path:
        """Return where the labels of ``image`` lie, a file below ``images``, with labels below ``labels``."""
        ...

    def read(self, path: Path, size: tuple[int, int], classes: ClassList) -> Objects:
        """Read one label file of a picture with ``size`` (height, width).

        Raises:
            DataError: the file is malformed; the message names the file, the place in it and the mend.
        """
        ...

    def write(self, path: Path, picture: AnnotatedPicture, classes: ClassList) -> None:
        """Write one label file; its folder must exist.

        Raises:
            DataError: something cannot be said in this format.
        """
        ...


class SplitFormat(Protocol):
    """One file for all pictures of a split.

    Attributes:
        name: what a data YAML and the command line call the format.
    """

    name: str

    def read(self, path: Path, images: Sequence[Path]) -> tuple[ClassList, list[AnnotatedPicture]]:
        """Read the file of a split whose pictures lie below one of the folders ``images``.

        Raises:
            DataError: the file is malformed; the message names the file, the place in it and the mend.
        """
        ...

    def write(self, path: Path, pictures: Sequence[AnnotatedPicture], classes: ClassList) -> None:
        """Write the file of a split."""
        ...
