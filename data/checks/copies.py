"""Pictures that are there more than once: within a split, and in two splits (leakage)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.checks.finding import Finding
from data.checks.pictures import Picture
from data.scan import in_threads

_SHOWN = 3


def content_ids(pictures: Mapping[str, Picture]) -> dict[str, str]:
    """Return a text for every readable file that two files share exactly if they hold the same bytes.

    Only files of equal length can be equal, so others are not read.
    """
    by_length: dict[int, list[str]] = defaultdict(list)
    for file, picture in pictures.items():
        if not picture.fault:
            by_length[picture.bytes].append(file)
    alike = [file for files in by_length.values() if len(files) > 1 for file in files]
    ids = {files[0]: files[0] for files in by_length.values() if len(files) == 1}
    ids.update(zip(alike, in_threads(_content, alike, "comparing images"), strict=True))
    return ids


def _content(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError:
        # It could be read a moment ago; equal to nothing but itself.
        return file


def copies_within(images: Sequence[str], ids: Mapping[str, str], where: str) -> list[Finding]:
    """Return a finding for every content that several files of one split have."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in images:
        if file in ids:
            groups[ids[file]].append(file)
    return [
        Finding("image-duplicate", where, f"{_listed(files)} hold the same bytes", tuple(files), len(files) - 1)
        for files in groups.values()
        if len(files) > 1
    ]


def leaks(splits: Mapping[str, Sequence[str]], ids: Mapping[str, str], key: str) -> list[Finding]:
    """Return a finding for every content that two splits share.

    Args:
        splits: images of each split of one task.
        ids: from ``content_ids``.
        key: of the task.
    """
    found = []
    for first, second in _pairs(splits):
        known = {ids[file]: file for file in reversed(splits[first]) if file in ids}
        where = f"{key} {first} and {second}"
        for file in splits[second]:
            other = known.get(ids.get(file, ""))
            if other is not None:
                found.append(Finding("split-leak", where, _leak(file, other, first, second), (file,)))
    return found


def _leak(file: str, other: str, first: str, second: str) -> str:
    if Path(file).absolute() == Path(other).absolute():
        return f"{file}: is in {first} and in {second}"
    return f"{file}: {second} has it, and {first} has it as {other}"


def _pairs(splits: Iterable[str]) -> list[tuple[str, str]]:
    names = list(splits)
    return [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more
