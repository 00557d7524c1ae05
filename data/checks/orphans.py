"""Labels and masks without an image, and images that share a label file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from data.checks.finding import Finding
from data.images import IMAGE_SUFFIXES

_NO_LABELS = frozenset({"classes.txt", "readme.txt", "train.txt", "val.txt", "test.txt"})
"""What tools leave beside label files."""


def shared_labels(images: Sequence[str], labels: Sequence[str | None], where: str) -> list[Finding]:
    """Return a finding for every label file that several images of a split have."""
    owners: dict[str, list[str]] = defaultdict(list)
    for image, label in zip(images, labels, strict=True):
        if label is not None:
            owners[label].append(image)
    return [
        Finding("label-shared", where, f"{label}: holds the labels of {' and of '.join(own)}", tuple(own))
        for label, own in owners.items()
        if len(own) > 1 and os.path.isfile(label)
    ]


def orphans(check: str, where: str, pairs: Iterable[tuple[str, str]]) -> list[Finding]:
    """Return a finding for every label file or mask beside the known ones that no image has.

    Args:
        check: ``label-orphan`` or ``mask-orphan``.
        where: the task.
        pairs: image and label file or mask of all listed images of a set; label files need not exist. A label whose
            image lies beside the others but is not listed is no orphan.
    """
    pairs = list(pairs)
    known = {label for _, label in pairs}
    suffixes = {os.path.splitext(label)[1] for label in known}
    image_folders: dict[str, set[str]] = defaultdict(set)
    for image, label in pairs:
        image_folders[os.path.dirname(label)].add(os.path.dirname(image))
    found = []
    for folder in sorted(image_folders):
        stems = {stem for images in image_folders[folder] for stem in _image_stems(images)}
        for name in _files(folder):
            file = os.path.join(folder, name)
            stem, suffix = os.path.splitext(name)
            if suffix in suffixes and file not in known and name.lower() not in _NO_LABELS and stem not in stems:
                found.append(Finding(check, where, f"{file}: no image belongs to it"))
    return found


def _image_stems(folder: str) -> set[str]:
    parts = [os.path.splitext(name) for name in _files(folder)]
    return {stem for stem, suffix in parts if suffix.lower() in IMAGE_SUFFIXES}


def _files(folder: str) -> list[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    except OSError:
        return []
