"""What a format of labels offers; ``data.formats.registry`` lists the formats by name.

Of objects, a ``PictureFormat`` has one label file per picture, a ``SplitFormat`` one file for all pictures of a split.
A ``MaskFormat`` has one mask per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, MaskClasses, Objects


class PictureFormat(Protocol):
    """One label file per picture.

    Attributes:
        name: what a data YAML and the command line call the format.
        names_inside: whether the files hold class names; otherwise they hold indices into the set's list of names.
        names: classes that the format brings along, by index; empty where the set has its own.
        keeps: which of the fields ``outlines``, ``keypoints``, ``crowd``, ``difficult`` and ``areas`` of ``Objects``
            its files can say; the others are lost when objects are written.
    """

    name: str
    names_inside: bool
    names: tuple[str, ...]
    keeps: frozenset[str]

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
        names: classes that the format brings along, by index; empty where the file has its own.
        keeps: as of a ``PictureFormat``.
    """

    name: str
    names: tuple[str, ...]
    keeps: frozenset[str]

    def read(self, path: Path, images: Sequence[Path]) -> tuple[ClassList, list[AnnotatedPicture]]:
        """Read the file of a split whose pictures lie below one of the folders ``images``.

        Raises:
            DataError: the file is malformed; the message names the file, the place in it and the mend.
        """
        ...

    def write(self, path: Path, pictures: Sequence[AnnotatedPicture], classes: ClassList) -> None:
        """Write the file of a split."""
        ...


class MaskFormat(Protocol):
    """One mask per picture.

    Attributes:
        name: what a data YAML and the command line call the format.
        names: classes that the format brings along, by index; empty where the set has its own.
    """

    name: str
    names: tuple[str, ...]

    def mask_files(self, image: Path, images: Path, masks: Path) -> list[Path]:
        """Return where the mask of ``image``, a file below ``images``, may lie below ``masks``, best first."""
        ...

    def read(self, path: Path, classes: MaskClasses) -> np.ndarray:
        """Return (H, W) uint8 class indices, 255 where no class counts.

        Raises:
            DataError: the file cannot be read, or a pixel is neither a class nor ignored; the message names the file,
                the value or colour and the mend.
        """
        ...

    def write(self, path: Path, mask: np.ndarray, classes: MaskClasses) -> None:
        """Write one mask that ``read`` gives back; its folder must exist.

        Raises:
            DataError: a class cannot be said in this format.
        """
        ...
