"""Pictures that are there more than once: within a split, and in two splits (leakage)."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data.checks.finding import Finding
from data.checks.pictures import Picture
from data.scan import in_threads

_SHOWN = 3
_END = 4096


def content_ids(pictures: Mapping[str, Picture]) -> dict[str, str]:
    """Return a text for every readable file that two files share exactly if they hold the same bytes.

    Files are told apart by their length, then by both of their ends, and only those that are alike so far are read.
    """
    groups = [[file for file, picture in pictures.items() if not picture.fault]]
    groups = _divided(groups, lambda file: str(pictures[file].bytes))
    groups = _divided(groups, _ends)
    groups = _divided(groups, _content)
    return {file: group[0] for group in groups for file in group}


def _divided(groups: Iterable[list[str]], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups parted by a key; a file that is alone is not asked for it."""
    divided = [group for group in groups if len(group) == 1]
    crowded = [group for group in groups if len(group) > 1]
    keys = iter(in_threads(key, [file for group in crowded for file in group], "comparing images"))
    for group in crowded:
        parts: dict[str, list[str]] = defaultdict(list)
        for file in group:
            parts[next(keys)].append(file)
        divided += parts.values()
    return divided


def _ends(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            first = opened.read(_END)
            opened.seek(-min(_END, os.fstat(opened.fileno()).st_size), os.SEEK_END)
            return hashlib.blake2b(first + opened.read(_END), digest_size=20).hexdigest()
    except OSError:
        # It could be read a moment ago; equal to nothing but itself.
        return file


def _content(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError:
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
