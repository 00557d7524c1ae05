"""Where the label file or mask of an image lies, for formats that have one per picture in a folder of their own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.formats.contract import MaskFormat, PictureFormat
from data.formats.mask_png import png_files

FOLDERS = {"voc": ("JPEGImages", "Annotations"), "cityscapes": ("leftImg8bit", "gtFine")}
"""The folders of pictures and of labels in the layout of a format."""


class ImageFolders:
    """Tells below which folder of pictures an image lies: one of the split's, else the last that is called like one.

    Args:
        entries: of the split; files among them do not count.
        name: what the format's layout calls such a folder, besides ``images``.
    """

    def __init__(self, entries: Iterable[Path], name: str = "images"):
        self._folders = [entry for entry in entries if entry.is_dir()]
        self._names = {name, "images"}
        self._known: dict[Path, Path] = {}

    def of(self, image: Path) -> Path:
        """Return the folder; that of the image itself where nothing else is known."""
        parent = image.parent
        if parent not in self._known:
            self._known[parent] = self._find(parent)
        return self._known[parent]

    def _find(self, parent: Path) -> Path:
        above = (parent, *parent.parents)
        given = next((folder for folder in above if folder in self._folders), None)
        return given or next((folder for folder in above if folder.name in self._names), parent)


def beside(images: Path, folder: str, other: str) -> Path:
    """Return a folder of pictures with its last part called ``folder`` replaced by ``other``, or as it is."""
    parts = list(images.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] == folder:
            return Path(*parts[:i], other, *parts[i + 1 :])
    return images


def label_places(form: PictureFormat, images: Sequence[str], entries: Sequence[Path], labels: Path | None) -> list[str]:
    """Return where the label file of every image lies.

    Args:
        form: of the labels.
        images: files.
        entries: of the split that they are from.
        labels: the folder of label files, or of folders of them that are called as those of the pictures (``train``).
            None takes the layout's own for VOC and Cityscapes (``Annotations`` beside ``JPEGImages``, ``gtFine`` beside
            ``leftImg8bit``), the picture's for labelme, else ``labels`` beside ``images``.
    """
    there, here = FOLDERS.get(form.name, ("images", "labels"))
    folders = ImageFolders(entries, there)

    @functools.cache
    def labels_of(folder: Path) -> Path:
        if labels is not None:
            return labels / folder.name if (labels / folder.name).is_dir() else labels
        return folder if form.name == "labelme" else _own_labels(folder, there, here)

    def place(image: Path) -> Path:
        folder = folders.of(image)
        return form.label_file(image, folder, labels_of(folder))

    return [str(place(Path(image))) for image in images]


def _own_labels(folder: Path, there: str, here: str) -> Path:
    own = beside(folder, there, here)
    return own if own != folder else beside(folder, "images", "labels")


class FormatMaskFinder:
    """Finds the mask of an image of one split by the rules of its format; the counterpart of ``MaskFinder``.

    Args:
        form: of the masks.
        entries: of the split.
        masks: folder of masks. None takes ``gtFine`` beside ``leftImg8bit`` for Cityscapes, else ``masks`` beside
            ``images``.
    """

    def __init__(self, form: MaskFormat, entries: Sequence[Path], masks: Path | None):
        self.form, self.masks = form, masks
        self._there, self._here = FOLDERS.get(form.name, ("images", "masks"))
        self._folders = ImageFolders(entries, self._there)
        self._existing: dict[Path, frozenset[Path]] = {}

    def candidates(self, image: Path) -> list[Path]:
        """Return where the mask of ``image`` may lie, best first."""
        folder = self._folders.of(image)
        return self.form.mask_files(image, folder, self._masks(folder))

    def find(self, image: Path) -> Path | None:
        """Return the mask of ``image``, or None when there is none."""
        masks = self._masks(self._folders.of(image))
        if masks not in self._existing:
            self._existing[masks] = png_files(masks)
        return next((path for path in self.candidates(image) if path in self._existing[masks]), None)

    def _masks(self, folder: Path) -> Path:
        return self.masks or beside(folder, self._there, self._here)
